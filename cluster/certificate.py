"""The certificate of the front door: a self-signed one made at first start, or the user's own.

A self-signed certificate is kept and used again, so a browser's exception for it lasts until it expires.
"""

import contextlib
import ipaddress
import os
import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from cluster.instance import InstanceError

LIFETIME = timedelta(days=825)
RENEW_BEFORE = timedelta(days=7)


class CertificateError(InstanceError):
    """A PEM file without a usable certificate and key; the message is one line for the user."""


def self_signed(data: Path, hostname: str, now: datetime) -> Path:
    """`data/tls/edge.pem` (key and certificate, mode 0600), made when it is absent, unreadable or within
    seven days of its end. `now` is timezone-aware."""
    path = data / "tls" / "edge.pem"
    try:
        if read_certificate(path).not_valid_after_utc - RENEW_BEFORE > now:
            return path
    except CertificateError:
        pass
    _write(path, _generate(["localhost", "127.0.0.1", "::1", hostname], now), path)
    return path


def your_own(certificate: Path, key: Path | None, data: Path, now: datetime) -> Path:
    """`data/tls/own.pem` (mode 0600): your certificate, its chain and its key in one file, after a check; so one that
    is just being renewed is never read half. `key` is its file where `certificate` does not hold it.

    Raises CertificateError that says what is wrong; an expired one is.
    """
    pem = _read(certificate) + (b"" if key is None else b"\n" + _read(key))
    found = _checked(pem, certificate, key or certificate)
    if found.not_valid_after_utc <= now:
        raise CertificateError(f"the certificate in {certificate} expired on {found.not_valid_after_utc:%Y-%m-%d}")
    path = data / "tls" / "own.pem"
    _write(path, pem, certificate)
    return path


def read_certificate(path: Path) -> x509.Certificate:
    """The first certificate of a PEM file that also holds its private key, unencrypted.

    Raises CertificateError that says what is missing.
    """
    return _checked(_read(path), path, path)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertificateError(f"certificate {path} cannot be read: {error.strerror}") from None


def _checked(pem: bytes, path: Path, key_path: Path) -> x509.Certificate:
    try:
        certificate = x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise CertificateError(f"{path} holds no readable PEM certificate") from None
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise CertificateError(f"the private key in {key_path} is encrypted; store it without a password") from None
    except ValueError:
        raise CertificateError(
            f"{key_path} holds no readable PEM private key; append the key to the certificate, or name its file"
        ) from None
    if key.public_key() != certificate.public_key():
        raise CertificateError(f"the private key in {key_path} does not belong to the first certificate in {path}")
    return certificate


def _write(path: Path, pem: bytes, source: Path) -> None:
    """Replaces the file by one that a server can read whole, with its chain: without it the door could not start again.
    CertificateError for another."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # How strong it has to be, HAProxy says.
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    try:
        context.load_cert_chain(temporary)
    except ssl.SSLError:
        temporary.unlink()
        raise CertificateError(f"a server cannot read {source} whole: a certificate of its chain is damaged") from None
    temporary.replace(path)


def _generate(names: Sequence[str], now: datetime) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rayfeed self-signed")])
    # A clock a little behind ours must not find the certificate not yet valid.
    start = now.astimezone(UTC) - timedelta(minutes=5)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(start + LIFETIME)
        .add_extension(_alternatives(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _alternatives(names: Sequence[str]) -> x509.SubjectAlternativeName:
    alternatives: list[x509.GeneralName] = []
    for name in dict.fromkeys(names):
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            # A machine may be called what DNS does not allow; then nobody connects by that name.
            with contextlib.suppress(UnicodeError):
                alternatives.append(x509.DNSName(name.encode("idna").decode("ascii")))
    return x509.SubjectAlternativeName(alternatives)
