"""What a backup says of itself: a manifest that names sections, each with a listing of what is in it, and in the end
the objects that hold it. Everything is named by its SHA-256, so that nothing can be missing or changed unseen.

Manifests and listings are hostile input when they are read: no name of theirs may lead out of where it belongs.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Final

import msgspec

FORMAT: Final = 1

#: Before compression; the last object of a stream is shorter.
OBJECT_BYTES: Final = 8 * 1024 * 1024
#: No listing or manifest is longer, unpacked.
_MOST_UNPACKED: Final = 1 << 30

#: What a backup may put into a data folder. Whatever else lies there belongs to a machine or a process.
FOLDERS: Final = (
    *("columns", "ledger", "bars", "quality", "backfill", "spool", "alerts", "archive", "reports", "configuration"),
)
FILES: Final = ("settings.yaml", "symbols.json")
#: Only when they are asked for.
JOURNAL: Final = "journal"
SECRETS: Final = ("secrets", "tls", "accounts")
_KNOWN: Final = frozenset((*FOLDERS, *FILES, JOURNAL, *SECRETS))

_CHECKSUM: Final = re.compile(r"[0-9a-f]{64}")
_TABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


class BackupError(Exception):
    """A backup cannot be made, is not whole, or cannot be restored; one line for the user."""


class Packed(msgspec.Struct, frozen=True, array_like=True):
    """An object: the SHA-256 of its bytes, how many they are, and how many they become when they are unpacked (zstd;
    0: they are as they are)."""

    checksum: str
    size: int
    unpacked: int


class File(msgspec.Struct, frozen=True, array_like=True):
    """A file as it was when it was copied; the first `size` bytes of it were."""

    name: str
    size: int
    #: Its time of change and its inode: a column file that still has both, and that size, is still the same.
    changed_ns: int
    inode: int


class Files(msgspec.Struct, frozen=True):
    """Files of one folder (relative to the data folder, "" for itself), one behind the other in the objects."""

    folder: str
    files: list[File]
    objects: list[Packed]


class Rows(msgspec.Struct, frozen=True):
    """A partition of a table: each object is a Parquet file with so many rows. `stamp` changes when the partition may
    have."""

    partition: str
    stamp: str
    objects: list[Packed]
    rows: list[int]


class Listing(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is in a section."""

    files: list[Files] = []
    rows: list[Rows] = []

    def objects(self) -> Iterator[Packed]:
        for files in self.files:
            yield from files.objects
        for rows in self.rows:
            yield from rows.objects


class Section(msgspec.Struct, frozen=True):
    """Column files of a symbol, a folder, or a table. `files` counts files, or partitions of a table; `rows` is None
    where there are none to be counted. `size` is that of all that is in it, before compression."""

    name: str
    listing: Packed
    files: int
    rows: int | None
    size: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """A whole backup. Times are ns since the epoch, UTC."""

    format: int = FORMAT
    version: str
    began: int
    ended: int
    files: list[Section]
    tables: list[Section]
    #: Those that were applied to the database.
    migrations: list[str]
    #: Bytes written for this backup, those of others not counted.
    written: int
    #: Whose data is not in it though it should be, a line each.
    lacks: list[str] = []

    @property
    def sections(self) -> list[Section]:
        return [*self.files, *self.tables]

    @property
    def size(self) -> int:
        """Before compression."""
        return sum(section.size for section in self.sections)

    @property
    def rows(self) -> int:
        """Of all tables."""
        return sum(section.rows or 0 for section in self.tables)


class _Sealed(msgspec.Struct, frozen=True):
    checksum: str
    manifest: msgspec.Raw


_encode: Final = msgspec.json.Encoder().encode
_sealed: Final = msgspec.json.Decoder(_Sealed).decode
_manifest: Final = msgspec.json.Decoder(Manifest).decode
_listing: Final = msgspec.json.Decoder(Listing).decode


def checksum_of(content: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(content).hexdigest()


def encoded_manifest(manifest: Manifest) -> bytes:
    content = _encode(manifest)
    return _encode(_Sealed(checksum_of(content), msgspec.Raw(content)))


def decoded_manifest(content: bytes) -> Manifest:
    """BackupError for what is damaged, cut off, of another format, or leads where it must not."""
    try:
        sealed = _sealed(content)
        if checksum_of(bytes(sealed.manifest)) != sealed.checksum:
            raise BackupError("the manifest is damaged: its checksum is another one")
        manifest = _manifest(sealed.manifest)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BackupError(f"the manifest is damaged: {error}") from None
    if manifest.format != FORMAT:
        raise BackupError(f"the manifest has format {manifest.format}, and this version knows {FORMAT}")
    for section in manifest.sections:
        _check_packed(section.listing)
    for table in manifest.tables:
        if not _TABLE.fullmatch(table.name):
            raise BackupError(f"{table.name[:100]!r} is no name of a table")
    return manifest


def described(name: str, manifest: Manifest) -> dict[str, Any]:
    """What users are told of a backup."""
    return {
        "backup": name,
        "began": manifest.began,
        "ended": manifest.ended,
        "version": manifest.version,
        "files": sum(section.files for section in manifest.files),
        "tables": {section.name: section.rows for section in manifest.tables},
        "rows": manifest.rows,
        "size": manifest.size,
        "written": manifest.written,
        "lacks": manifest.lacks,
    }


def encoded_listing(listing: Listing) -> bytes:
    return _encode(listing)


def decoded_listing(content: bytes) -> Listing:
    """As `decoded_manifest`."""
    try:
        listing = _listing(content)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise BackupError(f"a listing is damaged: {error}") from None
    for packed in listing.objects():
        _check_packed(packed)
    for part in listing.files:
        if not part.files:
            raise BackupError("a listing is damaged: it has a folder without files")
        for file in part.files:
            _check_path(part.folder, file.name)
            if file.size < 0:
                raise BackupError(f"{part.folder}/{file.name} has a size below zero")
        unpacked = sum(packed.unpacked or packed.size for packed in part.objects)
        if unpacked != sum(file.size for file in part.files):
            raise BackupError(f"the objects of {part.folder} have other sizes than its files")
    for rows in listing.rows:
        if len(rows.rows) != len(rows.objects):
            raise BackupError(f"partition {rows.partition[:100]!r} does not say how many rows its objects have")
    return listing


def _check_packed(packed: Packed) -> None:
    if not _CHECKSUM.fullmatch(packed.checksum) or packed.size < 0 or not 0 <= packed.unpacked <= _MOST_UNPACKED:
        raise BackupError(f"an object has a name or size that none has: {packed.checksum[:70]!r}")


def _check_path(folder: str, name: str) -> None:
    parts = (*folder.split("/"), name) if folder else (name,)
    wrong = any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts)
    if wrong or parts[0] not in _KNOWN or (parts[0] in FILES) != (not folder):
        raise BackupError(f"{'/'.join(parts)[:200]!r} is not what a backup may hold")
