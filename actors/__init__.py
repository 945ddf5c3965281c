"""Ray actors, one per file, as plain classes; the supervisor turns them into actors."""

import storage.without_pandas  # noqa: F401 - before any of them makes an array
