"""Every version of what was changed in the settings of an instance while it ran, kept in its data folder, so that the
newest still holds after a restart and any of them can be had back.
"""

from pathlib import Path
from typing import Any, Final

import msgspec

from storage.record_log import RecordLog

#: Versions that are kept, the newest.
MOST_VERSIONS: Final = 1000


class Version(msgspec.Struct, frozen=True, kw_only=True):
    """`values` is the whole tree of what may change, as it was from then on. `time` is ns since the epoch, `user` ""
    where nobody has signed in, `undoes` the version that was gone back to."""

    number: int
    time: int
    user: str
    note: str
    values: dict[str, Any]
    undoes: int | None = None


class ConfigurationLog:
    """The versions of an instance in the file `path`; one process writes them. OSError when the disk fails."""

    def __init__(self, path: Path) -> None:
        self._log: RecordLog[Version] = RecordLog(path, msgspec.json.encode, _decoded)
        self._versions = list(self._log.read())
        if len(self._versions) > 2 * MOST_VERSIONS:
            self._versions = self._versions[-MOST_VERSIONS:]
            size = self._log.size
            self._log.prepare(self._versions)
            self._log.swap(size)

    @property
    def newest(self) -> Version | None:
        return self._versions[-1] if self._versions else None

    def versions(self) -> list[Version]:
        """The newest first."""
        return self._versions[: -MOST_VERSIONS - 1 : -1]

    def append(self, version: Version) -> None:
        """Keep a further one; it survives a power cut."""
        self._log.append([version])
        self._log.sync()
        self._versions.append(version)

    def close(self) -> None:
        self._log.close()


def _decoded(content: bytes) -> Version | None:
    try:
        return msgspec.json.decode(content, type=Version)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
