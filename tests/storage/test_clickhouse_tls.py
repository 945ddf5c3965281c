"""ClickHouse over TLS: a server whose certificate is known is spoken to, any other is not."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.certificate import self_signed
from storage.clickhouse import DatabaseUnavailable, open_clickhouse
from tests.servers import PASSWORD, ClickHouseServer, needs_clickhouse_server

pytestmark = needs_clickhouse_server


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return self_signed(tmp_path_factory.mktemp("tls"), "localhost", datetime.now(UTC))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[ClickHouseServer]:
    with ClickHouseServer(tmp_path_factory.mktemp("clickhouse-server"), certificate) as running:
        yield running


def test_tables_are_made_and_asked_over_tls(server: ClickHouseServer, certificate: Path, tmp_path: Path) -> None:
    opened = open_clickhouse(f"{server.secure_url}?ca_certs={certificate}", tmp_path)
    opened.migrate()
    assert opened.query("SELECT count() AS rows FROM trades")["rows"].to_pylist() == [0]
    opened.close()


def test_a_server_whose_certificate_nobody_knows_is_not_spoken_to(server: ClickHouseServer, tmp_path: Path) -> None:
    opened = open_clickhouse(server.secure_url, tmp_path)
    with pytest.raises(DatabaseUnavailable, match="certificate") as failure:
        opened.query("SELECT 1")
    assert PASSWORD not in str(failure.value)
    opened.close()


def test_without_tls_the_port_of_tls_says_nothing_and_the_error_names_both_ports(
    server: ClickHouseServer, tmp_path: Path
) -> None:
    opened = open_clickhouse(server.secure_url.replace("clickhouses", "clickhouse"), tmp_path)
    with pytest.raises(DatabaseUnavailable, match="9000, with TLS 9440"):
        opened.query("SELECT 1")
    opened.close()
