"""Makes a backup: what has changed since the last one is copied, the rest is named again.

The order is that of a crash: ledgers come before column files, and those before ClickHouse. So what is restored never
claims to have a trade that it has not; what is newer in a later part is found again as after a killed process.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Final

import pyarrow as pa

from storage.backup_manifest import (
    FILES,
    FOLDERS,
    JOURNAL,
    SECRETS,
    BackupError,
    Files,
    Listing,
    Manifest,
    Packed,
    Rows,
    Section,
    encoded_listing,
)
from storage.backup_retention import kept, name_at
from storage.backup_sources import Opened, Source, column_sources, files_source, folder_source
from storage.backup_store import BackupStore
from storage.backup_tables import Query, Table, migrations_of, partitions, pieces, tables_of, to_parquet
from storage.clickhouse import DatabaseUnavailable, QueryFailed
from storage.in_threads import in_threads

#: Written as memory is: their times do not always say that they have changed.
_MAPPED: Final = "quality"
#: Where days go whose column files are removed then.
_ARCHIVE: Final = "archive"


class BackupCancelled(Exception):
    """Somebody wanted it to end; the next backup goes on from there."""


@dataclass(slots=True)
class Progress:
    """How far a backup, a check or a restore is: of `sections` so many are `done`. Bytes `read` are those before
    compression, `written` those after it."""

    doing: str = ""
    sections: int = 0
    done: int = 0
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True)
class Extras:
    """What is in a backup only when it is asked for."""

    journal: bool = False
    secrets: bool = False


class Copying:
    """One backup of the folder `data` to `store`, read by threads; `progress` says how far it is. With `query`, of a
    database too. `cancelled` is asked again and again."""

    def __init__(
        self,
        store: BackupStore,
        data: Path,
        query: Query | None,
        extras: Extras = Extras(),
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._data = data
        self._query = query
        self._extras = extras
        self._cancelled = cancelled
        self._lock = Lock()
        self.progress = Progress()

    def run(self, clock: Callable[[], int]) -> tuple[str, Manifest]:
        """The name of the backup and what is in it, once it is whole. BackupError, `BackupCancelled`."""
        began = clock()
        before = self._newest()
        self._store.find_objects()
        first = list(self._first())
        columns = list(column_sources(self._data))
        tables = self._tables()
        # A day that is archived meanwhile is still in one of them.
        archive = folder_source(self._data, _ARCHIVE)
        self.progress.sections = len(first) + len(columns) + 1 + len(tables)
        known = {section.name: section for section in before.files} if before else {}
        files = [
            *(self._files(source, known.get(source.name)) for source in first),
            *in_threads(lambda source: self._files(source, known.get(source.name)), columns),
            self._files(archive, known.get(archive.name)),
        ]
        known = {section.name: section for section in before.tables} if before else {}
        manifest = Manifest(
            version=metadata.version("rayfeed"),
            began=began,
            files=[section for section in files if section.files],
            migrations=self._asked(migrations_of) or [],
            tables=[self._table(table, known.get(table.name)) for table in tables],
            ended=clock(),
            written=self.progress.written,
        )
        name = self._name(began)
        self._store.write_manifest(name, manifest)
        return name, manifest

    def _first(self) -> Iterator[Source]:
        yield files_source(self._data, FILES)
        folders = [*FOLDERS, *([JOURNAL] if self._extras.journal else []), *(SECRETS if self._extras.secrets else ())]
        yield from (folder_source(self._data, name) for name in folders if name not in ("columns", _ARCHIVE))

    def _files(self, source: Source, before: Section | None) -> Section:
        self.progress.doing = source.name
        copied = {} if source.name == _MAPPED else {_key(one): one for one in self._listing(before).files}
        found = []
        for group in source.groups():
            with group.opened() as opened:
                if opened.files:
                    found.append(self._group(opened, copied))
        size = sum(file.size for one in found for file in one.files)
        return self._section(source.name, Listing(files=found), sum(len(one.files) for one in found), None, size)

    def _group(self, opened: Opened, copied: dict[tuple[str, ...], Files]) -> Files:
        files = [file for _, file in opened.files]
        before = copied.get((opened.folder, *(file.name for file in files)))
        if before is not None and before.files == files and all(map(self._store.has, before.objects)):
            self._count(sum(file.size for file in files), 0)
            return before
        return Files(opened.folder, files, [self._put(piece, True) for piece in opened.pieces()])

    def _tables(self) -> list[Table]:
        return self._asked(tables_of) or []

    def _table(self, table: Table, before: Section | None) -> Section:
        self.progress.doing = f"table {table.name}"
        copied = {part.partition: part for part in self._listing(before).rows}
        found = self._asked(lambda query: list(self._partitions(query, table, copied))) or []
        rows = sum(count for part in found for count in part.rows)
        size = sum(packed.size for part in found for packed in part.objects)
        return self._section(table.name, Listing(rows=found), len(found), rows, size)

    def _partitions(self, query: Query, table: Table, copied: dict[str, Rows]) -> Iterator[Rows]:
        for partition, stamp in list(partitions(query, table)):
            before = copied.get(partition)
            if before is not None and before.stamp == stamp and all(map(self._store.has, before.objects)):
                self._count(sum(packed.size for packed in before.objects), 0)
                yield before
                continue
            part = Rows(partition, stamp, [], [])
            for rows in pieces(query, table, partition):
                part.objects.append(self._put(to_parquet(rows), False))
                part.rows.append(rows.num_rows)
            yield part

    def _section(self, name: str, listing: Listing, files: int, rows: int | None, size: int) -> Section:
        packed, written = self._store.put(encoded_listing(listing))
        with self._lock:
            self.progress.done += 1
            self.progress.written += written
        return Section(name, packed, files, rows, size)

    def _put(self, content: bytearray | pa.Buffer, pack: bool) -> Packed:
        if self._cancelled():
            raise BackupCancelled
        packed, written = self._store.put(content, pack)
        self._count(memoryview(content).nbytes, written)
        return packed

    def _count(self, read: int, written: int) -> None:
        with self._lock:
            self.progress.read += read
            self.progress.written += written

    def _listing(self, section: Section | None) -> Listing:
        """Nothing where it is damaged: then all of it is copied again."""
        if section is not None:
            with suppress(BackupError):
                return self._store.listing(section.listing)
        return Listing()

    def _newest(self) -> Manifest | None:
        for name in reversed(self._store.names()):
            with suppress(BackupError):
                return self._store.manifest(name)
        return None

    def _name(self, began: int) -> str:
        taken = set(self._store.names())
        while (name := name_at(began)) in taken:
            began += 1_000_000_000
        return name

    def _asked[Answer](self, ask: Callable[[Query], Answer]) -> Answer | None:
        """What the database says; None where there is none."""
        if self._query is None:
            return None
        try:
            return ask(self._query)
        except (DatabaseUnavailable, QueryFailed) as error:
            raise BackupError(f"ClickHouse cannot be backed up: {error}") from None


def prune(store: BackupStore, daily: int, weekly: int, monthly: int) -> list[str]:
    """Remove the backups that need not be kept, then the objects that no other names; which backups those were. Nobody
    may make one there meanwhile. BackupError; when a manifest cannot be read, no object is removed."""
    names = store.names()
    keep = kept(names, daily, weekly, monthly)
    gone = [name for name in names if name not in keep]
    for name in gone:
        store.remove_manifest(name)
    store.sweep(objects_of(store, [store.manifest(name) for name in sorted(keep)]))
    return gone


def objects_of(store: BackupStore, manifests: Iterable[Manifest]) -> Iterator[Packed]:
    """Everything they name, listings too; what several name comes once for each listing."""
    seen: set[str] = set()
    for manifest in manifests:
        for section in manifest.sections:
            if section.listing.checksum not in seen:
                seen.add(section.listing.checksum)
                yield section.listing
                yield from store.listing(section.listing).objects()


def found_backup(store: BackupStore, name: str) -> str:
    """The name, where `latest` stands for the newest. BackupError when there is none at all."""
    names = store.names()
    if not names:
        raise BackupError(f"there are no backups in {store.shown}")
    return names[-1] if name == "latest" else name


def _key(one: Files) -> tuple[str, ...]:
    return (one.folder, *(file.name for file in one.files))
