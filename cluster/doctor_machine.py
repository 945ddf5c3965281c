"""What `rayfeed doctor` finds out about the machine: ports, disk, clock, limits.

Each check reads something and judges it in a function of its own that takes what was read: those are pure.
"""

import ctypes
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import psutil

from cluster.doctor_findings import Finding, ok, warning, wrong
from cluster.instance import InstanceError, check_port_free, holder
from config import Settings

MIB: Final = 1 << 20
GIB: Final = 1 << 30
#: Below the first nothing can be written for long, below the second it is time to look.
LEAST_DISK: Final = 200 * MIB
LITTLE_DISK: Final = 2 * GIB
LITTLE_INODES: Final = 10_000
#: An instance of two shards with everything embedded takes about this.
LITTLE_MEMORY: Final = 2 * GIB
#: Of the front door's 10,000 connections, with two sides each.
WANTED_FILES: Final = 20_200
FEW_FILES: Final = 4096
LEAST_FILES: Final = 1024
LEAST_PROCESSES: Final = 1024
SLOW_SYNC_MS: Final = 50.0
CLOCK_ERROR_MS: Final = 500.0
#: Ports others are fond of, and who wants them here.
TRAPS: Final = {
    6379: "a Redis of yours, and `ray start --head` unless told otherwise",
    8265: "the dashboard of a Ray of yours",
    8404: "the statistics of Serve's proxy on a Ray of yours",
    9101: "the metrics of Serve's proxy on a Ray of yours",
}
_SYNCS: Final = 8
_STA_UNSYNC: Final = 0x40


# ---- ports


def ports(settings: Settings) -> Iterator[Finding]:
    """Whether an instance that does not run yet could listen."""
    wanted = [("HTTP", settings.port, "--port")]
    if settings.edge.tls:
        wanted.append(("HTTPS", settings.tls_port, "--tls-port"))
    for purpose, port, option in wanted:
        try:
            check_port_free(settings.host, port, purpose, option)
        except InstanceError as error:
            found, _, remedy = str(error).partition("; ")
            yield wrong("ports", f"{purpose} {port}", found, f"{remedy}, or stop who has it")
        else:
            yield ok("ports", f"{purpose} {port}", "free")
    yield known_ports({port: holder(port) for port in TRAPS}, joined=settings.ray_address is not None)


def known_ports(taken: Mapping[int, str], joined: bool) -> Finding:
    """`taken`: by port, who has it (`redis-server (pid 7)`), "" for nobody. rayfeed itself takes none of them."""
    told = [f"{port} {who}" for port, who in taken.items() if who]
    name = "well-known ports"
    if not told:
        return ok("ports", name, f"{', '.join(map(str, TRAPS))} are free")
    found = f"taken: {'; '.join(told)}"
    if not joined:
        return ok("ports", name, f"{found} (rayfeed takes free ports of its own)")
    uses = "; ".join(f"{port} is for {TRAPS[port]}" for port, who in taken.items() if who)
    return warning("ports", name, found, f"make sure that your Ray has those it wants: {uses}")


# ---- disk


def disk(data: Path) -> Iterator[Finding]:
    place = existing(data)
    usage, inodes = shutil.disk_usage(place), os.statvfs(place)
    room = space(str(data), usage.free, usage.total)
    yield room
    # File systems that make inodes as needed say 0 of 0.
    if inodes.f_files:
        yield inodes_left(inodes.f_favail, inodes.f_files)
    if not data.is_dir():
        writable = os.access(place, os.W_OK | os.X_OK)
        if writable:
            yield ok("disk", "data folder", f"{data} will be made")
        else:
            yield wrong("disk", "data folder", f"{data} cannot be made: {place} is not writable", _CHOOSE)
        return
    if room.state == "wrong":
        return
    try:
        yield speed(*write_speed(data))
    except OSError as error:
        yield wrong("disk", "data folder", f"{data} cannot be written: {error.strerror}", unwritable(error.strerror))


_CHOOSE: Final = "give the user that runs rayfeed the right to write there, or choose another folder with --data"


def existing(path: Path) -> Path:
    """The folder itself, or the nearest one above it that there is."""
    return next(one for one in (path, *path.parents) if one.exists())


def unwritable(said: str | None) -> str:
    return MAKE_ROOM if said == os.strerror(28) else _CHOOSE


MAKE_ROOM: Final = (
    "make room on that disk (old journals, backups and archived days may go elsewhere); rayfeed goes on by itself"
)


def space(place: str, free: int, total: int) -> Finding:
    found = f"{size(free)} of {size(total)} free for {place}"
    if free < LEAST_DISK:
        return wrong("disk", "space", f"the disk is full: {found}", MAKE_ROOM)
    if free < LITTLE_DISK or free < total // 50:
        return warning("disk", "space", f"little room: {found}", MAKE_ROOM)
    return ok("disk", "space", found)


def inodes_left(free: int, total: int) -> Finding:
    found = f"{free:,} of {total:,} free"
    if free < LITTLE_INODES:
        state = wrong if free < LITTLE_INODES // 100 else warning
        return state("disk", "inodes", found, "remove small files: each day of a symbol takes about 15 of them")
    return ok("disk", "inodes", found)


def write_speed(folder: Path) -> tuple[float, float]:
    """MiB/s of a file of 8 MiB until it is on the disk, and the median time of a synced write of 4 KiB, ms."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        began = time.perf_counter()
        file.write(b"\xa5" * (8 * MIB))
        os.fsync(file.fileno())
        rate = 8 / (time.perf_counter() - began)
        times = []
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(b"\xa5" * 4096)
            os.fsync(file.fileno())
            times.append(1e3 * (time.perf_counter() - began))
    return rate, statistics.median(times)


def speed(rate: float, sync_ms: float) -> Finding:
    found = f"{rate:,.0f} MiB/s, a synced write takes {sync_ms:.1f} ms"
    if sync_ms > SLOW_SYNC_MS:
        remedy = "put the data folder on a local SSD; a network disk or a busy one makes every commit wait"
        return warning("disk", "write speed", found, remedy)
    return ok("disk", "write speed", found)


def size(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


# ---- clock


class _Timex(ctypes.Structure):
    """`struct timex` of Linux, up to what is read here."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


def clock() -> Finding:
    timex = _Timex()
    try:
        answer = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(timex))
    except AttributeError:
        answer = -1
    return kernel_clock(answer, timex.status, timex.maxerror / 1e3)


def kernel_clock(answer: int, status: int, error_ms: float) -> Finding:
    """What adjtimex(2) answered, its status bits, and how wrong the clock may be at most."""
    remedy = "let a time service keep the clock: apt install chrony, or timedatectl set-ntp true (of the host)"
    if answer < 0:
        return warning("clock", "time service", "the kernel does not say", remedy)
    if status & _STA_UNSYNC:
        return warning("clock", "time service", "nobody keeps this clock, says the kernel", remedy)
    if error_ms > CLOCK_ERROR_MS:
        return warning("clock", "time service", f"kept, but it may be wrong by {error_ms:,.0f} ms", remedy)
    return ok("clock", "time service", f"kept; wrong by {error_ms:,.0f} ms at most")


# ---- limits


def limits(settings: Settings, running: bool) -> Iterator[Finding]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield open_files(*(_infinite(one, resource.RLIM_INFINITY) for one in (soft, hard)))
    yield processes(
        _infinite(resource.getrlimit(resource.RLIMIT_NPROC)[0], resource.RLIM_INFINITY), _cgroup("pids.max")
    )
    yield memory(psutil.virtual_memory().available, _cgroup("memory.max"), _cgroup("memory.current") or 0, running)
    if not running:
        yield shared_memory(shutil.disk_usage("/dev/shm").free, settings.ray.object_store_mb * MIB)  # noqa: S108
    yield ok("limits", "processors", f"{os.cpu_count()}{_quota()}")


def open_files(soft: int | None, hard: int | None) -> Finding:
    """None: no limit."""
    found = f"{_many(soft)}, up to {_many(hard)}"
    remedy = f"allow more: ulimit -n {WANTED_FILES}, or LimitNOFILE={WANTED_FILES} in its systemd unit"
    if soft is not None and soft < LEAST_FILES:
        return wrong("limits", "open files", f"{found}; shards and the front door need {LEAST_FILES}", remedy)
    if hard is not None and hard < FEW_FILES:
        took = max(100, (hard - 200) // 2)
        return warning("limits", "open files", f"{found}: the front door takes {took:,} connections", remedy)
    return ok("limits", "open files", found)


def processes(user: int | None, group: int | None) -> Finding:
    """Of the user, and of the control group; None: no limit."""
    least = min((one for one in (user, group) if one is not None), default=None)
    if least is not None and least < LEAST_PROCESSES:
        remedy = f"allow {LEAST_PROCESSES} processes and threads: ulimit -u, TasksMax= or --pids-limit of the container"
        return wrong("limits", "processes", f"at most {least:,}: Ray starts hundreds of threads", remedy)
    return ok("limits", "processes", _many(least))


def memory(available: int, limit: int | None, used: int, running: bool) -> Finding:
    """`limit` and `used` are the control group's; None: no limit."""
    free = available if limit is None else min(available, max(0, limit - used))
    found = f"{size(free)} free" + (f" (limit {size(limit)})" if limit is not None else "")
    if free < (LITTLE_MEMORY // 8 if running else LITTLE_MEMORY):
        remedy = "give it more memory, or fewer symbols; Ray kills workers when a machine runs out of it"
        return warning("limits", "memory", found, remedy)
    return ok("limits", "memory", found)


def shared_memory(free: int, wanted: int) -> Finding:
    found = f"{size(free)} free, the object store takes {size(wanted)}"
    if free < wanted:
        remedy = "enlarge /dev/shm (docker: --shm-size=1g), or lower the setting ray.object_store_mb"
        return warning("limits", "shared memory", f"{found}: Ray would use slow files instead", remedy)
    return ok("limits", "shared memory", found)


def _many(limit: int | None) -> str:
    return "no limit" if limit is None else f"{limit:,}"


def _infinite(limit: int, infinity: int) -> int | None:
    return None if limit == infinity else limit


def _cgroup(name: str) -> int | None:
    try:
        text = Path("/sys/fs/cgroup", name).read_text("ascii").strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _quota() -> str:
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text("ascii").split()
    except (OSError, ValueError):
        return ""
    return "" if quota == "max" else f", limited to {int(quota) / int(period):g} of them"


# ---- all of them


def machine(settings: Settings, running: bool) -> Iterator[Finding]:
    """In the order in which they are shown. An instance that is `running` has its ports."""
    if not running:
        yield from ports(settings)
    yield from disk(settings.data)
    yield clock()
    yield from limits(settings, running)
