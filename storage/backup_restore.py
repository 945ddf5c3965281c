"""Puts a backup into a new data folder and an empty database. Everything goes into a folder beside the new one, which
gets its name once all of it is there and was checked: what was cut off before is never taken for a whole one.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa

from storage.backup import Progress
from storage.backup_manifest import SECRETS, BackupError, File, Manifest, Packed, Section
from storage.backup_store import BackupStore
from storage.backup_tables import count, filled, from_parquet, views_that_fill
from storage.backup_verify import missing_tables
from storage.clickhouse import ClickHouse, DatabaseUnavailable, QueryFailed
from storage.clickhouse_migrations import MIGRATIONS
from storage.file_operations import sync_folder
from storage.in_threads import in_threads

#: Nobody but the owner may read what is in these.
_PRIVATE: Final = frozenset((*SECRETS, "alerts", "settings.yaml"))
_UNKNOWN_DATABASE: Final = 81


class Restoring:
    """One backup of `store` into the folder `target`. `open_database` gets the folder with the restored settings."""

    def __init__(
        self, store: BackupStore, name: str, target: Path, open_database: Callable[[Path], ClickHouse]
    ) -> None:
        self._store = store
        self._name = name
        self._target = target
        self._open_database = open_database
        self.progress = Progress()

    def run(self) -> Manifest:
        """What was restored. BackupError, and then everything is as it was before."""
        manifest = self._store.manifest(self._name)
        _check_version(self._name, manifest)
        _check_empty(self._target)
        self.progress.sections = len(manifest.sections)
        try:
            self._target.parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{self._target.name}.restoring-", dir=self._target.parent))
            try:
                self._fill(aside, manifest)
                aside.chmod(0o755)
                os.sync()
                # Only an empty folder can be replaced by another.
                aside.rename(self._target)
            except BaseException:
                shutil.rmtree(aside, ignore_errors=True)
                raise
            sync_folder(self._target.parent)
        except OSError as error:
            raise BackupError(f"{error.filename or self._target} cannot be written: {error.strerror}") from None
        return manifest

    def _fill(self, aside: Path, manifest: Manifest) -> None:
        # Settings come first: they say which database it is.
        for section in (one for one in manifest.files if one.name == "settings"):
            self._files(aside, section)
        database = self._open_database(aside)
        try:
            _check_database(database)
            others = [one for one in manifest.files if one.name != "settings"]
            for _ in in_threads(lambda section: self._files(aside, section), others):
                pass
            if manifest.tables:
                self._tables(database, manifest)
        except (DatabaseUnavailable, QueryFailed) as error:
            raise BackupError(f"ClickHouse cannot be restored: {error}") from None
        finally:
            database.close()

    def _files(self, aside: Path, section: Section) -> None:
        self.progress.doing = section.name
        for files in self._store.listing(section.listing).files:
            private = (files.folder or files.files[0].name).split("/")[0] in _PRIVATE
            folder = aside / files.folder
            folder.mkdir(mode=0o700 if private else 0o777, parents=True, exist_ok=True)
            contents = _Stream(self._contents(files.objects))
            for file in files.files:
                _write(folder / file.name, file, contents, private)
        self.progress.done += 1

    def _contents(self, objects: list[Packed]) -> Iterator[pa.Buffer]:
        for packed in objects:
            content = self._store.get(packed)
            self.progress.read += content.size
            yield content

    def _tables(self, database: ClickHouse, manifest: Manifest) -> None:
        database.migrate()
        begun: list[Section] = []
        views = views_that_fill(database)
        try:
            for view in views:
                database.query(f"DETACH TABLE {view}")
            for section in manifest.tables:
                begun.append(section)
                self._table(database, section)
        except BaseException:
            # They were empty.
            for section in begun:
                database.query(f"TRUNCATE TABLE {section.name}")
            raise
        finally:
            for view in views:
                database.query(f"ATTACH TABLE {view}")

    def _table(self, database: ClickHouse, section: Section) -> None:
        self.progress.doing = f"table {section.name}"
        for part in self._store.listing(section.listing).rows:
            for packed, rows in zip(part.objects, part.rows, strict=True):
                table = from_parquet(self._store.get(packed))
                if table.num_rows != rows:
                    raise BackupError(f"table {section.name}: an object has {table.num_rows:,} rows, not {rows:,}")
                database.insert(section.name, table)
                self.progress.read += packed.size
        there = count(database, section.name)
        if there != section.rows:
            raise BackupError(f"table {section.name} has {there:,} rows after it was restored, not {section.rows:,}")
        self.progress.done += 1


class _Stream:
    """The bytes of objects, one behind the other."""

    def __init__(self, contents: Iterator[pa.Buffer]) -> None:
        self._contents = contents
        self._left = memoryview(b"")

    def take(self, most: int) -> memoryview:
        """Some bytes, `most` at most; there must be any."""
        while not len(self._left):
            self._left = memoryview(next(self._contents))
        taken, self._left = self._left[:most], self._left[most:]
        return taken


def _write(path: Path, file: File, contents: _Stream, private: bool) -> None:
    # Never through a link, nor over what is there: a backup has each file once.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        descriptor = os.open(path, flags, 0o600 if private else 0o644)
    except FileExistsError:
        raise BackupError(f"the backup has {path.name} of {path.parent.name} twice") from None
    try:
        left = file.size
        while left:
            taken = contents.take(left)
            written = 0
            while written < len(taken):
                written += os.write(descriptor, taken[written:])
            left -= len(taken)
        # What was derived from column files goes by their times.
        changed_ns = abs(file.changed_ns)
        os.utime(descriptor, ns=(changed_ns, changed_ns))
    finally:
        os.close(descriptor)


def _check_version(name: str, manifest: Manifest) -> None:
    if missing := missing_tables(manifest):
        raise BackupError(f"backup {name} is not whole: table {min(missing)} is missing")
    ours = {file.name for file in MIGRATIONS.glob("*.sql")}
    if unknown := [migration for migration in manifest.migrations if migration not in ours]:
        raise BackupError(
            f"backup {name} was made by rayfeed {manifest.version[:40]}, whose tables this version does not know "
            f"({unknown[0][:100]}); restore it with that version or a newer one"
        )


def _check_empty(target: Path) -> None:
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise BackupError(f"{target} is no folder; name a new one with --data")
    if target.is_dir() and any(target.iterdir()):
        raise BackupError(f"{target} is not empty; name a new folder with --data, nothing was changed")
    if target.is_mount():
        raise BackupError(f"{target} is where a disk is mounted; name a new folder in it with --data")


def _check_database(database: ClickHouse) -> None:
    try:
        table = filled(database)
    except QueryFailed as error:
        if error.code != _UNKNOWN_DATABASE:
            raise
        return
    if table is not None:
        raise BackupError(
            f"the database is not empty: table {table} has rows; set CLICKHOUSE_URL to an empty one, "
            "nothing was changed"
        )
