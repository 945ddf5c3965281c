import shutil
import socket
import ssl
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cluster.certificate import LIFETIME, CertificateError, read_certificate, self_signed, your_own

NOW = datetime.now(UTC)


def test_it_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = self_signed(tmp_path, "host.example", NOW)
    made = path.read_bytes()
    assert path == tmp_path / "tls" / "edge.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    assert self_signed(tmp_path, "host.example", NOW + timedelta(days=800)).read_bytes() == made
    assert list(path.parent.iterdir()) == [path]


def test_it_is_made_anew_within_seven_days_of_its_end(tmp_path: Path) -> None:
    made = self_signed(tmp_path, "host.example", NOW).read_bytes()
    later = NOW + LIFETIME - timedelta(days=6)
    path = self_signed(tmp_path, "host.example", later)
    assert path.read_bytes() != made
    assert read_certificate(path).not_valid_after_utc > later + timedelta(days=800)


def test_a_damaged_one_is_made_anew(tmp_path: Path) -> None:
    path = self_signed(tmp_path, "host.example", NOW)
    path.write_bytes(path.read_bytes()[:200])
    read_certificate(self_signed(tmp_path, "host.example", NOW))


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1", "host.example"])
def test_a_client_that_trusts_it_verifies_every_name(tmp_path: Path, name: str) -> None:
    path = self_signed(tmp_path, "host.example", NOW)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(path)
    client = ssl.create_default_context(cafile=path)
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with server.wrap_socket(theirs, server_side=True):
            pass

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with client.wrap_socket(ours, server_hostname=name) as connection:
            assert connection.version() == "TLSv1.3"
    finally:
        thread.join(5)


def test_a_host_name_that_is_none_does_not_stop_the_start(tmp_path: Path) -> None:
    read_certificate(self_signed(tmp_path, "a_" + "b" * 80, NOW))


def test_what_is_wrong_with_an_own_file_is_one_line(tmp_path: Path) -> None:
    good = self_signed(tmp_path, "host.example", NOW)
    certificate, _, key = good.read_text().partition("-----BEGIN PRIVATE KEY-----")
    key = "-----BEGIN PRIVATE KEY-----" + key
    other = ec.generate_private_key(ec.SECP256R1())

    def pem(encryption: serialization.KeySerializationEncryption) -> str:
        return other.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()

    cases = {
        "holds no readable PEM certificate": key,
        "holds no readable PEM private key": certificate,
        "does not belong": certificate + pem(serialization.NoEncryption()),
        "is encrypted": certificate + pem(serialization.BestAvailableEncryption(b"secret")),
    }
    own = tmp_path / "own.pem"
    for said, content in cases.items():
        own.write_text(content)
        with pytest.raises(CertificateError, match=said) as caught:
            read_certificate(own)
        assert "\n" not in str(caught.value)
    with pytest.raises(CertificateError, match="cannot be read: No such file"):
        read_certificate(tmp_path / "absent.pem")
    shutil.copy(good, own)
    assert read_certificate(own) == read_certificate(good)


def test_your_own_certificate_may_have_its_key_beside_it(tmp_path: Path) -> None:
    certificate, _, key = (
        self_signed(tmp_path, "host.example", NOW).read_text().partition("-----BEGIN PRIVATE KEY-----")
    )
    fullchain, private = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    fullchain.write_text(certificate)
    private.write_text("-----BEGIN PRIVATE KEY-----" + key)
    path = your_own(fullchain, private, tmp_path, NOW)
    assert path == tmp_path / "tls" / "own.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(path)
    with pytest.raises(CertificateError, match="name its file"):
        your_own(fullchain, None, tmp_path, NOW)


def test_your_own_certificate_that_has_expired_is_refused_and_the_last_good_one_stays(tmp_path: Path) -> None:
    signed = self_signed(tmp_path, "host.example", NOW)
    good = your_own(signed, None, tmp_path, NOW).read_bytes()
    with pytest.raises(CertificateError, match=r"expired on \d{4}-\d\d-\d\d"):
        your_own(signed, None, tmp_path, NOW + LIFETIME)
    assert (tmp_path / "tls" / "own.pem").read_bytes() == good


def test_a_chain_that_no_server_can_read_is_refused_and_the_last_good_one_stays(tmp_path: Path) -> None:
    signed = self_signed(tmp_path, "host.example", NOW)
    own = your_own(signed, None, tmp_path, NOW)
    good = own.read_bytes()
    renewed = tmp_path / "renewed.pem"
    renewed.write_bytes(good + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    with pytest.raises(CertificateError, match=r"^a server cannot read .*renewed\.pem"):
        your_own(renewed, None, tmp_path, NOW)
    assert own.read_bytes() == good
    assert not own.with_suffix(".new").exists()
