"""Reads everything that a backup names, and says what is wrong: what is missing, cut off or changed, tables that should
be there and are not, and rows that do not add up."""

from collections import Counter
from collections.abc import Collection, Iterator

from storage.backup import Progress
from storage.backup_manifest import BackupError, Listing, Manifest, Packed, Rows, Section
from storage.backup_store import BackupStore
from storage.backup_tables import rows_in, tables_made_by
from storage.in_threads import in_threads


class Verifying:
    """Checks backups one after another; objects that several of them name are read once."""

    def __init__(self, store: BackupStore) -> None:
        self._store = store
        self._good: set[bytes] = set()
        self.progress = Progress()

    def run(self, name: str) -> list[str]:
        """What is wrong with a backup, a line each; empty when it is whole. BackupError only when its place cannot be
        read at all."""
        try:
            manifest = self._store.manifest(name)
        except BackupError as error:
            return [str(error)]
        self.progress.sections += len(manifest.sections)
        wrong = [f"table {table} is missing" for table in sorted(missing_tables(manifest))]
        wrong += [f"not in it: {line}" for line in manifest.lacks]
        wrong += [f"{name} is named twice" for name in _doubled(manifest.files)]
        wrong += [f"table {name} is named twice" for name in _doubled(manifest.tables)]
        for found in in_threads(self._section, manifest.sections):
            wrong += found
            self.progress.done += 1
        return [f"backup {name}: {line}" for line in wrong]

    def _section(self, section: Section) -> list[str]:
        what = section.name if section.rows is None else f"table {section.name}"
        self.progress.doing = what
        return [f"{what}: {line}" for line in self._wrong(section)]

    def _wrong(self, section: Section) -> Iterator[str]:
        try:
            listing = self._store.listing(section.listing)
        except BackupError as error:
            yield f"its listing: {error}"
            return
        yield from _sums(section, listing)
        for files in listing.files:
            for packed in files.objects:
                yield from self._object(packed, None, f"{files.folder}/{files.files[0].name}".lstrip("/"))
        for part in listing.rows:
            for packed, rows in zip(part.objects, part.rows, strict=True):
                yield from self._object(packed, rows, f"partition {part.partition}")

    def _object(self, packed: Packed, rows: int | None, where: str) -> Iterator[str]:
        digest = bytes.fromhex(packed.checksum)
        if rows is None and digest in self._good:
            return
        try:
            content = self._store.checked(packed)
            self.progress.read += packed.unpacked or packed.size
            if rows is not None and (there := rows_in(content)) != rows:
                yield f"{where}: object {packed.checksum} has {there:,} rows, not {rows:,}"
        except BackupError as error:
            yield f"{where}: {error}"
        else:
            self._good.add(digest)


def missing_tables(manifest: Manifest) -> set[str]:
    """Tables that the migrations made and the backup has not."""
    return tables_made_by(manifest.migrations) - {table.name for table in manifest.tables}


def _sums(section: Section, listing: Listing) -> Iterator[str]:
    if section.rows is None:
        files = sum(len(files.files) for files in listing.files)
        size = sum(file.size for files in listing.files for file in files.files)
        if (files, size) != (section.files, section.size) or listing.rows:
            yield f"has {files} files of {size} bytes, not {section.files} of {section.size}"
        return
    rows = _rows(listing.rows)
    if rows != section.rows or len(listing.rows) != section.files or listing.files:
        yield f"has {rows:,} rows in {len(listing.rows)} partitions, not {section.rows:,} in {section.files}"


def _rows(parts: Collection[Rows]) -> int:
    return sum(sum(part.rows) for part in parts)


def _doubled(sections: list[Section]) -> list[str]:
    return sorted(name for name, times in Counter(section.name for section in sections).items() if times > 1)
