"""Where backups are: manifests and the objects they name, on any file system that pyarrow knows.

An object is written once, under its checksum; those that are there are not written again, whoever names them. A
manifest comes last, so whatever is cut off before leaves objects that the next backup finds, or `prune` takes away.
"""

import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import fs

from storage.backup_manifest import (
    BackupError,
    Listing,
    Manifest,
    Packed,
    checksum_of,
    decoded_listing,
    decoded_manifest,
    encoded_manifest,
)
from storage.backup_retention import is_backup
from storage.file_operations import sync_file, sync_folder

#: So much of the disk is left alone: whoever collects data needs it more.
LEAST_FREE: Final = 0.05
_ZSTD: Final = pa.Codec("zstd", 1)
_SUFFIX: Final = ".json"
_SECRETS_IN_URI: Final = re.compile(r"(?<=//)[^/@\s]*@|\?\S*")


class BackupStore:
    """Backups in a folder of a file system. Threads may share it. BackupError for whatever goes wrong there."""

    def __init__(self, files: fs.FileSystem, folder: str, shown: str) -> None:
        self._files = files
        self._folder = folder.rstrip("/")
        #: Names it in messages, without credentials.
        self.shown = shown
        self._local = Path(folder) if isinstance(files, fs.LocalFileSystem) else None
        #: Objects that are there, with their sizes; None until they were looked for.
        self._there: dict[str, int] | None = None

    def __repr__(self) -> str:
        return f"BackupStore({self.shown})"

    def names(self) -> list[str]:
        """Every backup there is, oldest first."""
        found = (path.rpartition("/")[2] for path in self._listed("backups"))
        return sorted(name.removesuffix(_SUFFIX) for name in found if is_backup(name.removesuffix(_SUFFIX)))

    def manifest(self, name: str) -> Manifest:
        """BackupError where there is none, or a damaged one."""
        if not is_backup(name):
            raise BackupError(f"{name[:100]!r} is no backup: they are called as 20260131T020000Z")
        try:
            return decoded_manifest(self._read(f"backups/{name}{_SUFFIX}", None))
        except FileNotFoundError:
            raise BackupError(f"there is no backup {name} in {self.shown}") from None
        except BackupError as error:
            raise BackupError(f"backup {name}: {error}") from None

    def write_manifest(self, name: str, manifest: Manifest) -> None:
        """Under another name first, so that none is ever half there."""
        path = f"backups/{name}{_SUFFIX}"
        self._write(f"{path}.new", encoded_manifest(manifest))
        try:
            self._files.move(self._path(f"{path}.new"), self._path(path))
        except OSError as error:
            raise self._failed(error) from None
        if self._local is not None:
            sync_folder(Path(self._path("backups")))

    def remove_manifest(self, name: str) -> None:
        self._remove(f"backups/{name}{_SUFFIX}")

    def find_objects(self) -> None:
        """Look for what is there: from now on that is not written again."""
        self._there = self._listed("objects")

    def has(self, packed: Packed) -> bool:
        """Whether that object was found, or written since; of the right size, so that a torn one does not count."""
        assert self._there is not None, "find_objects comes first"
        return self._there.get(_object(packed.checksum)) == packed.size

    def put(self, content: pa.Buffer | bytes | bytearray | memoryview, pack: bool = True) -> tuple[Packed, int]:
        """Store an object; what names it, and how many bytes had to be written."""
        stored = _ZSTD.compress(content) if pack else content
        view = memoryview(stored)
        packed = Packed(checksum_of(view), view.nbytes, memoryview(content).nbytes if pack else 0)
        if self.has(packed):
            return packed, 0
        self._check_room(packed.size)
        self._write(_object(packed.checksum), stored)
        assert self._there is not None
        self._there[_object(packed.checksum)] = packed.size
        return packed, packed.size

    def get(self, packed: Packed) -> pa.Buffer:
        """What was stored; BackupError, naming the object, when it is missing or was changed."""
        content = self.checked(packed)
        if not packed.unpacked:
            return pa.py_buffer(content)
        try:
            unpacked = _ZSTD.decompress(content, packed.unpacked)
        except (OSError, ValueError) as error:
            raise BackupError(f"object {packed.checksum} cannot be unpacked: {error}") from None
        if unpacked.size != packed.unpacked:
            raise BackupError(f"object {packed.checksum} unpacks to {unpacked.size} bytes, not {packed.unpacked}")
        return unpacked

    def checked(self, packed: Packed) -> bytes:
        """Its bytes as they are stored; raises as `get`."""
        try:
            content = self._read(_object(packed.checksum), packed.size)
        except FileNotFoundError:
            raise BackupError(f"object {packed.checksum} is missing") from None
        if len(content) != packed.size:
            more = "longer than" if len(content) > packed.size else f"cut off: {len(content)} bytes of"
            raise BackupError(f"object {packed.checksum} is {more} {packed.size}")
        if checksum_of(content) != packed.checksum:
            raise BackupError(f"object {packed.checksum} was changed: its checksum is another one")
        return content

    def listing(self, packed: Packed) -> Listing:
        return decoded_listing(self.get(packed).to_pybytes())

    def sweep(self, needed: Iterable[Packed]) -> int:
        """Remove the objects that are not needed; how many bytes those had."""
        keep = {_object(packed.checksum) for packed in needed}
        gone = 0
        for path, size in self._listed("objects").items():
            if path not in keep:
                self._remove(path)
                gone += size
        self._there = None
        return gone

    def _path(self, path: str) -> str:
        return f"{self._folder}/{path}" if self._folder else path

    def _listed(self, folder: str) -> dict[str, int]:
        """Path below the root and size of every file in a folder."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
        try:
            found = self._files.get_file_info(selector)
        except OSError as error:
            raise self._failed(error) from None
        start = len(self._path(""))
        return {info.path[start:]: info.size for info in found if info.type == fs.FileType.File}

    def _read(self, path: str, size: int | None) -> bytes:
        """All of it, or a byte more than `size` at most; FileNotFoundError."""
        try:
            with self._files.open_input_file(self._path(path)) as file:
                return bytes(file.read() if size is None else file.read(size + 1))
        except FileNotFoundError:
            raise
        except OSError as error:
            raise self._failed(error) from None

    def _write(self, path: str, content: pa.Buffer | bytes | bytearray | memoryview) -> None:
        whole = self._path(path)
        try:
            try:
                file = self._files.open_output_stream(whole)
            except FileNotFoundError:
                self._make_folder(path.rpartition("/")[0])
                file = self._files.open_output_stream(whole)
            with file:
                file.write(content)
            if self._local is not None:
                # What a manifest names has to survive a power cut when that does.
                sync_file(Path(whole))
                sync_folder(Path(whole).parent)
        except OSError as error:
            raise self._failed(error) from None

    def _make_folder(self, folder: str) -> None:
        if self._local is None:
            self._files.create_dir(self._path(folder))
            return
        # Nobody but the owner may read a backup: it holds settings, and whom alerts are for.
        for missing in (*reversed(Path(folder).parents), Path(folder)):
            (self._local / missing).mkdir(mode=0o700, parents=True, exist_ok=True)

    def _remove(self, path: str) -> None:
        try:
            self._files.delete_file(self._path(path))
        except FileNotFoundError:
            pass
        except OSError as error:
            raise self._failed(error) from None

    def _check_room(self, size: int) -> None:
        if self._local is not None:
            place = next(folder for folder in (self._local, *self._local.parents) if folder.exists())
            disk = shutil.disk_usage(place)
            if disk.free - size < LEAST_FREE * disk.total:
                raise BackupError(
                    f"{self.shown} has less than {LEAST_FREE:.0%} of its disk free: make room, or back up to another "
                    "place (--to, or the setting backup.to)"
                )

    def _failed(self, error: OSError) -> BackupError:
        return BackupError(f"{self.shown}: {_without_secrets(' '.join(str(error).split()))[:300]}")


def open_store(target: str) -> BackupStore:
    """Of a URI (`s3://bucket/folder`, `file:///folder`) or a path. BackupError for what leads nowhere."""
    shown = _without_secrets(target) if "://" in target else target
    try:
        files, folder = fs.FileSystem.from_uri(target if "://" in target else str(Path(target).absolute()))
    except (OSError, ValueError, pa.ArrowException) as error:
        said = " ".join(str(error).split()).replace(target, shown)
        raise BackupError(f"{shown} is no place for backups: {said[:300]}") from None
    return BackupStore(files, folder, shown)


def _without_secrets(text: str) -> str:
    return _SECRETS_IN_URI.sub("", text)


def _object(checksum: str) -> str:
    return f"objects/{checksum[:2]}/{checksum}"
