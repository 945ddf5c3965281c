"""Settings: every source counts in its order, and a mistake is one line that names it."""

import pickle
from pathlib import Path

import pytest

from config import SettingsError, load
from config.overview_settings import OverviewSettings
from config.part import make_whole


def test_defaults_alone_make_complete_settings(tmp_path: Path) -> None:
    settings = load(tmp_path)
    assert settings.source == "sim"
    assert settings.port == 8080
    assert settings.data == tmp_path
    assert "BTCUSDT" in settings.exchanges["binance"].symbols


def test_file_then_environment_then_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "settings.yaml").write_text("shards: 3\nport: 1001\ntls_port: 2001\n")
    monkeypatch.setenv("RAYFEED_PORT", "1002")
    monkeypatch.setenv("RAYFEED_TLS_PORT", "2002")
    settings = load(tmp_path, {"tls_port": 2003, "port": None})
    assert (settings.shards, settings.port, settings.tls_port) == (3, 1002, 2003)


def test_one_value_deep_inside_can_be_changed_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYFEED_EXCHANGES__COINBASE__SYMBOLS", '["BTC-USD"]')
    settings = load(tmp_path, {"exchanges": {"binance": {"enabled": False}}})
    assert settings.exchanges["coinbase"].symbols == ["BTC-USD"]
    assert settings.exchanges["coinbase"].rest.startswith("https://")
    assert not settings.exchanges["binance"].enabled
    assert settings.exchanges["binance"].symbols


def test_a_fee_of_one_exchange_is_changed_alone_and_a_currency_set_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(tmp_path).arbitrage
    monkeypatch.setenv("RAYFEED_ARBITRAGE__FEES__OKX__SPOT", "0.0008")
    (tmp_path / "settings.yaml").write_text("arbitrage: {same: {USDT: USDT}}\n")
    changed = load(tmp_path).arbitrage
    assert changed.fees == {**before.fees, "okx": {**before.fees["okx"], "spot": 0.0008}}
    assert changed.same == {**before.same, "USDT": "USDT"}


def test_how_long_one_table_is_kept_is_changed_alone_and_may_be_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load(tmp_path).retention
    monkeypatch.setenv("RAYFEED_RETENTION__TRADES", "90")
    (tmp_path / "settings.yaml").write_text("retention: {quotes: null}\n")
    assert load(tmp_path).retention == {**before, "trades": 90, "quotes": None}


def test_well_known_names_are_taken_without_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLICKHOUSE_URL", "clickhouse://host/market")
    monkeypatch.setenv("REDIS_URL", "redis://host")
    monkeypatch.setenv("RAY_ADDRESS", "host:6380")
    settings = load(tmp_path)
    assert settings.clickhouse_url == "clickhouse://host/market"
    assert settings.redis_url == "redis://host"
    assert settings.ray_address == "host:6380"


@pytest.mark.parametrize(
    ("variable", "value", "named"),
    [
        ("RAYFEED_SHARDZ", "3", "shardz"),
        ("RAYFEED_SHARDS", "many", "shards"),
        ("RAYFEED_SHARDS", "0", "shards"),
        ("RAYFEED_PORT", "70000", "port"),
        ("RAYFEED_SOURCE", "tape", "source"),
        ("RAYFEED_SOURCE", "replay:", "source"),
        ("RAYFEED_EXCHANGES__NASDAQ__SYMBOLS", '["A"]', "exchanges.nasdaq"),
        ("RAYFEED_EXCHANGES__BINANCE__SYMBOLS", "[]", "exchanges.binance.symbols"),
        ("RAYFEED_EXCHANGES__BINANCE__SYMBOLS", '["../etc"]', "exchanges.binance.symbols.0"),
        ("RAYFEED_EXCHANGES__BINANCE__SYMBOLS", "BTCUSDT", "exchanges"),
        ("RAYFEED_EXCHANGES__BINANCE__SPEED", "9", "exchanges.binance.speed"),
        ("RAYFEED_EXCHANGES__BINANCE__WEBSOCKET", "ftp://x", "exchanges.binance.websocket"),
        ("RAYFEED_REPLAY__SPEED", "-1", "replay.speed"),
        ("RAYFEED_QUALITY__LATE_S", "-60", "quality.late_s"),
        ("RAYFEED_QUALITY__LATE_S", "nan", "quality.late_s"),
        ("RAYFEED_QUALITY__EARLY_S", "0", "quality.early_s"),
        ("RAYFEED_QUALITY__DEVIATIONS", "-3", "quality.deviations"),
        ("RAYFEED_QUALITY__DEVIATIONS", "inf", "quality.deviations"),
        ("RAYFEED_QUALITY__PRICE_CHANGE", "-0.1", "quality.price_change"),
        ("RAYFEED_QUALITY__PRICE_CHANGE", "11", "quality.price_change"),
        ("RAYFEED_QUALITY__VOLUME_RATIO", "0.5", "quality.volume_ratio"),
        ("RAYFEED_QUALITY__LEVEL_SHIFT_TRADES", "9", "quality.level_shift_trades"),
        ("RAYFEED_QUALITY__LEVEL_SHIFT_TRADES", "101", "quality.level_shift_trades"),
        ("RAYFEED_QUALITY__SILENCE_S", "-1", "quality.silence_s"),
        ("RAYFEED_QUALITY__QUARANTINE", "0", "quality.quarantine"),
        ("RAYFEED_QUALITY__QUARANTINE", "1000000", "quality.quarantine"),
        ("RAYFEED_QUALITY__Z_SCORE", "3", "quality.z_score"),
        ("RAYFEED_REDIS__NAMESPACE", "a b", "redis.namespace"),
        ("RAYFEED_REDIS__STREAM_BYTES", "0", "redis.stream_bytes"),
        ("RAYFEED_CONSOLIDATED__MAX_AGE_S", "0", "consolidated.max_age_s"),
        ("RAYFEED_ARBITRAGE__FEES__NASDAQ__SPOT", "0.001", "arbitrage.fees.nasdaq"),
        ("RAYFEED_ARBITRAGE__FEES__OKX__OPTION", "0.001", "arbitrage.fees.okx.option"),
        ("RAYFEED_ARBITRAGE__FEES__OKX__SPOT", "-0.001", "arbitrage.fees.okx.spot"),
        ("RAYFEED_ARBITRAGE__FEES__OKX__SPOT", "1", "arbitrage.fees.okx.spot"),
        ("RAYFEED_ARBITRAGE__FEES__OKX__SPOT", "nan", "arbitrage.fees.okx.spot"),
        ("RAYFEED_ARBITRAGE__MIN_SPREAD", "-0.1", "arbitrage.min_spread"),
        ("RAYFEED_ARBITRAGE__MIN_PROFIT", "-1", "arbitrage.min_profit"),
        ("RAYFEED_ARBITRAGE__MIN_PROFIT", "inf", "arbitrage.min_profit"),
        ("RAYFEED_ARBITRAGE__SAME", '{"USD": "USDT"}', "arbitrage.same"),
        ("RAYFEED_ARBITRAGE__SAME", '{"usdt": "USD"}', "arbitrage.same.usdt"),
        ("RAYFEED_ALERTS__MAX_ALERTS", "0", "alerts.max_alerts"),
        ("RAYFEED_RETENTION__TRADES", "0", "retention.trades"),
        ("RAYFEED_RETENTION__TRADES", "40000", "retention.trades"),
        ("RAYFEED_RETENTION__TRADES", "-1", "retention.trades"),
        ("RAYFEED_RETENTION__REPORTS", "5", "retention.reports"),
        ("RAYFEED_SINKS__QUOTES", "some", "sinks.quotes"),
        ("RAYFEED_CLICKHOUSE_CLUSTER", "c'; DROP", "clickhouse_cluster"),
        ("RAYFEED_CLICKHOUSE_CLUSTER", "nodes", "clickhouse_cluster needs CLICKHOUSE_URL"),
        ("RAYFEED_ALERTS__SMTP__HOST", "mail.example.org", "alerts.smtp.from_address"),
        ("RAYFEED_ALERTS__SMTP", '{"host": "h", "from_address": "a@b.c, d@e.f"}', "alerts.smtp.from_address"),
        ("RAYFEED_ALERTS__SMTP", '{"host": "h", "from_address": "a@b.c", "user": "me"}', "user and password"),
    ],
)
def test_a_wrong_key_or_value_is_one_line_that_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, named: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError) as error:
        load(tmp_path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("shardz: 3", "shardz"),
        ("collector:\n  max_framez: 3", "collector.max_framez"),
        ("- a list", "settings.yaml"),
        ("shards: [", "settings.yaml line"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_that_names_it(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "settings.yaml").write_text(text)
    with pytest.raises(SettingsError) as error:
        load(tmp_path)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_the_password_of_the_mail_server_is_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    smtp = '{"host": "h", "from_address": "a@b.c", "user": "me", "password": "hunter2"}'
    monkeypatch.setenv("RAYFEED_ALERTS__SMTP", smtp)
    settings = load(tmp_path)
    assert settings.alerts.smtp is not None and settings.alerts.smtp.password is not None
    assert settings.alerts.smtp.password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{settings!r} {settings}"
    monkeypatch.setenv("RAYFEED_ALERTS__SMTP", smtp.replace('"user": "me", ', ""))
    with pytest.raises(SettingsError) as error:
        load(tmp_path)
    assert "hunter2" not in str(error.value)


def test_settings_travel_to_other_processes(tmp_path: Path) -> None:
    settings = load(tmp_path, {"shards": 5})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_settings_of_other_code_are_made_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(tmp_path, {"shards": 7, "collector": {"flush_interval_ms": 77}})
    sent = load(tmp_path, {"shards": 7, "collector": {"flush_interval_ms": 77}})
    for part, name in ((sent, "edge"), (sent.shard, "max_open_files"), (sent.exchange("okx"), "channels")):
        del part.__dict__[name]
    for part in (sent, sent.shard):
        part.__dict__["of_yesterday"] = 1
    # What the environment says now was not said when the settings were made.
    monkeypatch.setenv("RAYFEED_EDGE__COMPRESSION", "false")
    received = pickle.loads(pickle.dumps(sent))
    assert received == settings
    assert received.edge.compression


def test_an_exchange_without_a_default_gets_what_its_class_says(tmp_path: Path) -> None:
    settings = load(tmp_path)
    part = settings.exchange("okx").model_copy()
    del part.__dict__["channels"]
    make_whole(part, None)
    assert part == settings.exchange("okx")


def test_keys_of_providers_keep_their_usual_names_and_are_not_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("FINNHUB_API_KEY", "CMC_API_KEY", "TAAPI_SECRET"):
        monkeypatch.setenv(name, f"sesame-{name}")
    settings = load(tmp_path)
    keys = (settings.finnhub_api_key, settings.cmc_api_key, settings.taapi_secret)
    assert [key.get_secret_value() for key in keys if key is not None] == [
        "sesame-FINNHUB_API_KEY",
        "sesame-CMC_API_KEY",
        "sesame-TAAPI_SECRET",
    ]
    assert "sesame" not in repr(settings)


def test_defaults_of_the_overview_are_those_its_file_shows_and_one_value_is_changed_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(tmp_path).overview == OverviewSettings()
    monkeypatch.setenv("RAYFEED_OVERVIEW__FINNHUB__URL", "http://127.0.0.1:1")
    (tmp_path / "settings.yaml").write_text('overview: {coins: {btc: ["kraken:BTC/USD"]}}\n')
    overview = load(tmp_path).overview
    assert (overview.finnhub.url, overview.finnhub.interval_s) == ("http://127.0.0.1:1", 300)
    assert (overview.coins["btc"], overview.coins["bnb"]) == (["kraken:BTC/USD"], ["binance:BNBUSDT"])
