"""Makes a backup: what has changed since the last one is copied, the rest is named again.

The order is that of a crash: ledgers come before column files, and those before ClickHouse. So what is restored never
claims to have a trade that it has not; what is newer in a later part is found again as after a killed process.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Final, NamedTuple

import pyarrow as pa

from storage.backup_disks import (
    FIRST,
    LAST,
    Disks,
    Elsewhere,
    Foreign,
    Named,
    SymbolsMoved,
    own_groups,
    section_name,
)
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
from storage.backup_sources import Begun, Source, column_sources, copied, files_source, folder_source, key_of
from storage.backup_store import BackupStore
from storage.backup_tables import Query, Table, migrations_of, partitions, pieces, tables_of, to_parquet
from storage.clickhouse import DatabaseUnavailable, QueryFailed
from storage.column_reader import ColumnReader
from storage.in_threads import in_threads

#: Written as memory is: their times do not always say that they have changed.
_MAPPED: Final = "quality"


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


class _Part(NamedTuple):
    """What becomes a section. `stream` gives its files, told those that were copied before by `key_of`."""

    name: str
    stream: Callable[[Mapping[tuple[str, ...], Files]], Iterator[Begun | bytes | bytearray]]


class Copying:
    """One backup of the folder `data` to `store`, read by threads; `progress` says how far it is. With `query`, of a
    database too, and with `disks` of those of other hosts. `cancelled` is asked again and again."""

    def __init__(
        self,
        store: BackupStore,
        data: Path,
        query: Query | None,
        extras: Extras = Extras(),
        cancelled: Callable[[], bool] = lambda: False,
        disks: Disks | None = None,
    ) -> None:
        self._store = store
        self._data = data
        self._query = query
        self._extras = extras
        self._cancelled = cancelled
        self._disks = disks or Disks()
        self._lock = Lock()
        self.progress = Progress()

    def run(self, clock: Callable[[], int]) -> tuple[str, Manifest]:
        """The name of the backup and what is in it, once it is whole. BackupError, `BackupCancelled`; `SymbolsMoved`
        when symbols went from disk to disk meanwhile: the next one goes on from there."""
        began = clock()
        before = self._newest()
        self._store.find_objects()
        columns, foreign = list(column_sources(self._data)), self._disks.foreign(self._symbols)
        mine = foreign[self._disks.mine]
        first = [self._local(source, mine) for source in self._first()]
        all_columns = [self._local(source, mine) for source in columns]
        # A day that is archived meanwhile is still in one of them.
        last = [self._local(folder_source(self._data, LAST), mine)]
        for other in self._disks.others:
            far = partial(self._far, other, foreign[other.disk])
            first += map(far, FIRST)
            all_columns += map(far, other.sections())
            last.append(far(LAST))
        tables = self._tables()
        self.progress.sections = len(first) + len(all_columns) + len(last) + len(tables)
        known = {section.name: section for section in before.files} if before else {}
        files = [
            *(self._files(part, known.get(part.name)) for part in first),
            *in_threads(lambda part: self._files(part, known.get(part.name)), all_columns),
            *(self._files(part, known.get(part.name)) for part in last),
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
            lacks=self._disks.lacks,
        )
        if self._disks.version() != self._disks.began:
            raise SymbolsMoved("symbols went from disk to disk meanwhile; try again, it goes on from there")
        name = self._name(began)
        self._store.write_manifest(name, manifest)
        return name, manifest

    def _first(self) -> Iterator[Source]:
        yield files_source(self._data, FILES)
        folders = [*FOLDERS, *([JOURNAL] if self._extras.journal else []), *(SECRETS if self._extras.secrets else ())]
        yield from (folder_source(self._data, name) for name in folders if name not in ("columns", LAST))

    def _symbols(self) -> list[Named]:
        stored = ColumnReader(self._data / "columns").symbols()
        return [(exchange, symbol) for exchange, symbols in stored.items() for symbol in symbols]

    def _local(self, source: Source, foreign: Foreign) -> "_Part":
        return _Part(source.name, lambda known: copied(own_groups(source, foreign), known))

    def _far(self, other: Elsewhere, foreign: Foreign, section: str) -> "_Part":
        return _Part(
            section_name(section, other.disk), lambda known: other.copied(section, foreign, list(known.values()))
        )

    def _files(self, part: "_Part", before: Section | None) -> Section:
        self.progress.doing = part.name
        listed = [] if part.name.startswith(_MAPPED) else self._listing(before).files
        known = {key_of(one.folder, one.files): one for one in listed if all(map(self._store.has, one.objects))}
        found: list[Files] = []
        for one in part.stream(known):
            if not isinstance(one, Begun):
                found[-1].objects.append(self._put(one, True))
            elif one.same:
                found.append(known[key_of(one.folder, one.files)])
                self._count(sum(file.size for file in one.files), 0)
            else:
                found.append(Files(one.folder, one.files, []))
        size = sum(file.size for one in found for file in one.files)
        return self._section(part.name, Listing(files=found), sum(len(one.files) for one in found), None, size)

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

    def _put(self, content: bytes | bytearray | pa.Buffer, pack: bool) -> Packed:
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
    """Remove the backups that need not be kept, then the objects that no other names; which backups those were. The
    newest that lacks no host's data stays. Nobody may make one there meanwhile. BackupError; when a manifest cannot be
    read, no object is removed."""
    names = store.names()
    keep = kept(names, daily, weekly, monthly)
    # What a host has that was lost since may be nowhere else.
    keep.update(next(([name] for name in sorted(names, reverse=True) if not store.manifest(name).lacks), []))
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
