"""What `rayfeed doctor` finds out about what is installed and what is secret: versions, built pages, permissions, the
certificate.
"""

import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from cluster.certificate import RENEW_BEFORE, CertificateError, read_certificate
from cluster.doctor_findings import Finding, ok, warning, wrong
from config import Settings

PROJECT: Final = Path(__file__).parents[1]
CERTIFICATE_DAYS: Final = 14


def installed(settings: Settings) -> Iterator[Finding]:
    yield from versions()
    yield pages()
    yield secrets(settings.data)
    yield certificate(settings, datetime.now(UTC))


def versions() -> Iterator[Finding]:
    lock = PROJECT / "uv.lock"
    yield python_version(sys.version_info[:3])
    if not lock.is_file():
        yield ok("versions", "packages", "installed without a lock")
        return
    locked = {one["name"]: one.get("version", "") for one in tomllib.loads(lock.read_text("utf-8"))["package"]}
    # `foo; extra == "x"` is not wanted without that extra.
    wanted = [text for text in metadata.requires("rayfeed") or () if "extra ==" not in text]
    names = {_normal(_name(text)) for text in wanted}
    # The first on the path is the one that is imported.
    found: dict[str, str] = {}
    for one in metadata.distributions():
        found.setdefault(_normal(one.metadata["Name"]), one.version)
    yield packages(locked, names, found)


def python_version(version: Sequence[int]) -> Finding:
    text = ".".join(map(str, version))
    if tuple(version[:2]) == (3, 12):
        return ok("versions", "Python", text)
    return wrong(
        "versions", "Python", f"{text}; rayfeed needs 3.12", "run it as .venv/bin/rayfeed, after: make install"
    )


def packages(locked: Mapping[str, str], wanted: set[str], found: Mapping[str, str]) -> Finding:
    """Versions by name: of the lock, and of what is installed; `wanted` must be."""
    missing = sorted(wanted - found.keys())
    other = [
        f"{name} {found[name]} instead of {locked[name]}"
        for name in sorted(locked.keys() & found.keys())
        if locked[name] != found[name] and name != "rayfeed"
    ]
    remedy = "install what uv.lock says: make install"
    if missing:
        return wrong("versions", "packages", f"missing: {', '.join(missing)}", remedy)
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        return warning("versions", "packages", f"not as locked: {', '.join(other[:3])}{more}", remedy)
    return ok("versions", "packages", f"{len(locked.keys() & found.keys())} as uv.lock says")


def pages() -> Finding:
    built = PROJECT / "serve_apps" / "web" / "dist" / "index.html"
    if built.is_file():
        return ok("versions", "pages", "built")
    return wrong("versions", "pages", f"{built} is missing", "build them: make web")


def _name(requirement: str) -> str:
    return next(
        (requirement[:at] for at, sign in enumerate(requirement) if not (sign.isalnum() or sign in "-_.")), requirement
    )


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def secrets(data: Path) -> Finding:
    """Files that only their owner may read."""
    private = [data / "instance.json", *(data / name for name in ("secrets", "tls", "accounts"))]
    opened = []
    for place in private:
        for path in (place, *(sorted(place.iterdir()) if place.is_dir() else ())):
            # Below a folder nobody else may enter, a file's own mode does not matter.
            closed = place.is_dir() and path != place and not place.stat().st_mode & 0o077
            if path.exists() and path.stat().st_mode & 0o077 and not closed:
                opened.append(path)
    if not opened:
        return ok("secrets", "permissions", "for their owner alone")
    names = " ".join(str(path) for path in opened[:5])
    return wrong("secrets", "permissions", f"others can read {names}", f"chmod -R go= {names}")


def certificate(settings: Settings, now: datetime) -> Finding:
    own = settings.edge.certificate
    path = own or settings.data / "tls" / "edge.pem"
    if not settings.edge.tls:
        return ok("secrets", "certificate", "none is needed: edge.tls is off")
    if own is None and not path.exists():
        return ok("secrets", "certificate", "a self-signed one is made at the first start")
    if settings.edge.certificate_key is not None:
        path = settings.data / "tls" / "own.pem"
        if not path.exists():
            return ok("secrets", "certificate", "yours is read at the next start")
    try:
        return expiry(read_certificate(path).not_valid_after_utc, now, yours=own is not None)
    except CertificateError as error:
        return wrong("secrets", "certificate", str(error), "mend the file, then: rayfeed edge reload")


def expiry(end: datetime, now: datetime, yours: bool) -> Finding:
    days = (end - now).days
    remedy = "renew it, then: rayfeed edge reload" if yours else "it is made anew by: rayfeed edge reload"
    if end <= now:
        return wrong("secrets", "certificate", f"expired on {end:%Y-%m-%d}", remedy)
    # A self-signed one is made anew only that late.
    if days < (CERTIFICATE_DAYS if yours else RENEW_BEFORE.days):
        return warning("secrets", "certificate", f"expires in {days} days, on {end:%Y-%m-%d}", remedy)
    return ok("secrets", "certificate", f"good until {end:%Y-%m-%d}")
