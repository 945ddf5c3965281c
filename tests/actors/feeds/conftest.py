import pytest

from tests.actors.feeds.recordings import Recording, read_recording


@pytest.fixture
def binance_recording() -> Recording:
    return read_recording("binance")


@pytest.fixture
def bitfinex_recording() -> Recording:
    return read_recording("bitfinex")


@pytest.fixture
def coinbase_recording() -> Recording:
    return read_recording("coinbase")


@pytest.fixture
def deribit_recording() -> Recording:
    return read_recording("deribit")


@pytest.fixture
def kraken_recording() -> Recording:
    return read_recording("kraken")


@pytest.fixture
def okx_recording() -> Recording:
    return read_recording("okx")
