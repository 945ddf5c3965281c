"""An instance is its data folder: who runs on it, where it listens, and how it is stopped.

A lock on `instance.lock`, held for the life of the process, decides whether something runs; the kernel frees
it however the process ends. `instance.json` only tells the details, so a file left by a crash means nothing.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import signal
import socket
import tempfile
import time
from importlib import metadata
from pathlib import Path

import msgspec
import psutil

#: Below the system's own (from 32768) and those of Serve's replicas (30000 to 31000).
OUR_PORTS = range(20_000, 30_000)
_LOCK = "instance.lock"
_DETAILS = "instance.json"
_POLL_S = 0.02
# A reader holds the lock for microseconds, and details follow the lock within milliseconds.
_PATIENCE_S = 0.5


class InstanceError(Exception):
    """The instance cannot be started, found or stopped; the message is one line for the user."""


class Details(msgspec.Struct, frozen=True):
    """Where the parts of a running instance are. `ports` are loopback ports by what they are for."""

    host: str
    port: int
    tls_port: int
    source: str = "sim"
    ray_address: str | None = None
    #: What Ray asks of clients; None where a Ray that is not ours asks for nothing we know.
    ray_token_file: str | None = None
    ray_dashboard: str | None = None
    redis_url: str | None = None
    clickhouse_url: str | None = None
    ports: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Address of the plain front door as seen from this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(self.host, self.host)  # noqa: S104
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


class RunningInstance(msgspec.Struct, frozen=True):
    """Who runs on a data folder. `details` is None while it still starts.

    `process_started` is the start of the process in seconds since the machine's boot: with the pid it names
    one process, also after the clock was set.
    """

    pid: int
    process_started: float
    version: str
    details: Details | None = None

    def __str__(self) -> str:
        where = f"at {self.details.url}" if self.details else "(still starting)"
        return f"rayfeed pid {self.pid} {where}"


class Instance:
    """The claim of this process on a data folder."""

    def __init__(self, data: Path, lock: int) -> None:
        self.data = data
        self._lock = lock
        self._me = RunningInstance(os.getpid(), _process_started(os.getpid()), metadata.version("rayfeed"))

    @classmethod
    def claim(cls, data: Path) -> "Instance":
        """Create the folder if need be and take it for the life of this process.

        Raises InstanceError when it is no folder, not writable, or another process has it.
        """
        _make_writable(data)
        try:
            lock = os.open(data / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise InstanceError(f"{data / _LOCK} cannot be opened: {error.strerror}") from None
        try:
            if not _locked(lock, fcntl.LOCK_EX, _PATIENCE_S):
                other = cls.read(data)
                raise InstanceError(
                    f"{data} is already in use by {other or 'another process'}; "
                    f"stop it with: rayfeed down --data {data}"
                )
            instance = cls(data, lock)
            instance._publish(instance._me)
        except BaseException:
            os.close(lock)
            raise
        return instance

    @staticmethod
    def read(data: Path) -> RunningInstance | None:
        """Who runs on the folder, or None. Raises InstanceError when somebody does but does not say who."""
        if _is_free(data):
            return None
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                running = msgspec.json.decode((data / _DETAILS).read_bytes(), type=RunningInstance)
            except (FileNotFoundError, msgspec.DecodeError):
                running = None
            except OSError as error:
                raise InstanceError(f"{data / _DETAILS} cannot be read: {error.strerror}") from None
            if running and _process_started(running.pid) == running.process_started:
                return running
            if _is_free(data):
                return None
            if time.monotonic() > deadline:
                raise InstanceError(f"{data} is in use by a process that does not say which it is")
            time.sleep(_POLL_S)

    def write(self, details: Details) -> None:
        """Tell other commands where everything is."""
        self._publish(msgspec.structs.replace(self._me, details=details))

    def release(self) -> None:
        """Give the folder back. Further calls do nothing."""
        if self._lock >= 0:
            (self.data / _DETAILS).unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = -1

    def _publish(self, running: RunningInstance) -> None:
        # Addresses may hold passwords: mkstemp makes a file that only its owner reads.
        handle, name = tempfile.mkstemp(dir=self.data, prefix=".instance-")
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(running)))
        Path(name).replace(self.data / _DETAILS)


def stop_running(data: Path, timeout_s: float) -> RunningInstance | None:
    """Ask whoever runs on the folder to stop and wait until it is gone; None when nothing runs.

    Raises InstanceError when it is not ours to stop or still runs after `timeout_s` seconds.
    """
    running = Instance.read(data)
    if running is None:
        return None
    try:
        # The handle fixes the process: the pid cannot pass to another between the check and the signal.
        handle = os.pidfd_open(running.pid)
        try:
            if _process_started(running.pid) == running.process_started:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
        finally:
            os.close(handle)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise InstanceError(f"{running} belongs to another user; stop it as that user") from None
    deadline = time.monotonic() + timeout_s
    while not _is_free(data):
        if time.monotonic() > deadline:
            raise InstanceError(f"{running} did not stop within {timeout_s:g} s")
        time.sleep(_POLL_S)
    return running


def free_ports(count: int) -> list[int]:
    """That many different TCP ports nobody listens on now.

    They are used seconds later, and meanwhile other processes (Ray's are many) are given ports by the system: so
    these are from where the system takes none, and by chance, as another instance may be starting too.
    """
    found: list[int] = []
    while len(found) < count:
        port = OUR_PORTS.start + secrets.randbelow(len(OUR_PORTS))
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            if port not in found:
                found.append(port)
    return found


def check_port_free(host: str, port: int, purpose: str, option: str) -> None:
    """Raise InstanceError when nobody could listen on that address now.

    `purpose` says what the port is for, `option` what changes it (`--port`); both end up in the message.
    """
    what = f"port {port} for {purpose}"
    try:
        family, kind, _, _, address = socket.getaddrinfo(
            None if host == "*" else host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror:
        raise InstanceError(f"{what}: {host!r} is no address of this machine; change the setting host") from None
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            # Two sockets may be bound with this option, only one may listen.
            probe.listen()
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                who = f" by {name}" if (name := holder(port)) else ""
                raise InstanceError(f"{what} is taken{who}; choose another with {option}") from None
            if error.errno == errno.EACCES:
                raise InstanceError(f"{what} needs more rights; choose one above 1023 with {option}") from None
            raise InstanceError(f"{what}: {host} is no address of this machine; change the setting host") from None


def holder(port: int) -> str:
    """Who listens on a TCP port of this machine, as `name (pid 7)`; "" for nobody, or for who is not to be seen."""
    try:
        for connection in psutil.net_connections("tcp"):
            listening = connection.status == psutil.CONN_LISTEN and connection.laddr
            if listening and listening.port == port and connection.pid:
                return f"{psutil.Process(connection.pid).name()} (pid {connection.pid})"
    except (psutil.Error, OSError):
        pass
    return ""


def _make_writable(data: Path) -> None:
    try:
        data.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InstanceError(f"data folder {data} is a file, or lies below one; choose another") from None
    except OSError as error:
        raise InstanceError(f"data folder {data} cannot be created: {error.strerror}") from None
    # Root may write where the mode says nobody may; a file system that is read-only says so only on writing.
    try:
        if not os.access(data, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with tempfile.TemporaryFile(dir=data) as probe:
            probe.write(b"x")
            probe.flush()
    except OSError as error:
        raise InstanceError(f"data folder {data} is not writable: {error.strerror}") from None


def _process_started(pid: int) -> float:
    """Seconds since boot, to the hundredth; -1.0 when there is no such process."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return -1.0
        return round(process.create_time() - psutil.boot_time(), 2)
    except psutil.NoSuchProcess:
        return -1.0


def _is_free(data: Path) -> bool:
    try:
        lock = os.open(data / _LOCK, os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError as error:
        raise InstanceError(f"{data / _LOCK} cannot be read: {error.strerror}") from None
    try:
        return _locked(lock, fcntl.LOCK_SH, 0.0)
    finally:
        os.close(lock)


def _locked(lock: int, kind: int, patience: float) -> bool:
    deadline = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL_S)
