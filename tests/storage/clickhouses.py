"""Both engines, each with a database that nobody has used before."""

import itertools
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.clickhouse import ClickHouse, open_clickhouse
from tests.servers import CLICKHOUSE_SERVER, ClickHouseServer, needs_clickhouse_server

_numbers = itertools.count()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClickHouseServer | None]:
    if CLICKHOUSE_SERVER is None:
        yield None
    else:
        with ClickHouseServer(tmp_path_factory.mktemp("clickhouse-server")) as running:
            yield running


@pytest.fixture(params=["embedded", pytest.param("server", marks=needs_clickhouse_server)])
def empty(request: pytest.FixtureRequest, server: ClickHouseServer | None, tmp_path: Path) -> Iterator[ClickHouse]:
    """A database without tables."""
    url = None
    if server is not None and request.param == "server":
        url = f"{server.url}_{next(_numbers)}"
        creator = open_clickhouse(server.url.replace("/rayfeed", "/default"), tmp_path)
        creator.query(f"CREATE DATABASE {url.rpartition('/')[2]}")
        creator.close()
    opened = open_clickhouse(url, tmp_path / "clickhouse")
    yield opened
    opened.close()
