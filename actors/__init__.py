"""Ray actors, one per file, as plain classes; the supervisor turns them into actors."""
