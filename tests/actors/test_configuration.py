"""What changes in the settings while an instance runs: validated, kept, and taken back."""

from pathlib import Path
from typing import Any

import pytest

from actors.aggregation.arbitrage import Arbitrage, Rules
from actors.configuration import Configuration, OutdatedVersion, UnknownVersion
from actors.database import Database
from config import Settings, SettingsError, load
from storage.configuration_log import MOST_VERSIONS, ConfigurationLog, Version
from tests.actors.aggregation.plain_quality import SECOND, Trade, batch
from tests.actors.batches import NOON
from tests.actors.shards import Shard


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load(tmp_path, {"shards": 1, "shard": {"commit_interval_ms": 5}})


def change(configuration: Configuration, values: Any, expected: int | None = None) -> Any:
    return configuration.change(values, "because", "ann", expected)


def test_a_change_holds_at_once_and_after_a_restart(settings: Settings) -> None:
    configuration = Configuration(settings, lambda: 7)
    assert configuration.now()["version"] == 0
    assert change(configuration, {"quality": {"late_s": 30}}) == {"quality": {"late_s": [60.0, 30.0]}}
    assert change(configuration, {"arbitrage": {"min_profit": 5}, "retention": {"trades": 90}}) == {
        "arbitrage": {"min_profit": [10.0, 5.0]},
        "retention": {"trades": [None, 90]},
    }
    configuration.close()
    again = Configuration(settings)
    assert (again.settings.quality.late_s, again.settings.quality.early_s) == (30.0, settings.quality.early_s)
    assert again.settings.arbitrage.min_profit == 5.0
    assert again.settings.arbitrage.fees == settings.arbitrage.fees
    assert [(row["version"], row["user"], row["time"]) for row in again.versions()] == [(2, "ann", 7), (1, "ann", 7)]
    assert again.versions()[1]["changed"] == {"quality": {"late_s": [60.0, 30.0]}}
    again.close()


def test_going_back_is_a_further_version(settings: Settings) -> None:
    configuration = Configuration(settings)
    change(configuration, {"quality": {"late_s": 30}})
    change(configuration, {"quality": {"late_s": 20}, "features": {"timeframes": ["1m"]}})
    assert configuration.rollback(1, "too strict", "bob")["quality"] == {"late_s": [20.0, 30.0]}
    assert configuration.settings.features.timeframes == settings.features.timeframes
    assert configuration.rollback(0, "", "bob") == {"quality": {"late_s": [30.0, 60.0]}}
    assert [(row["version"], row["undoes"]) for row in configuration.versions()] == [
        (4, 0),
        (3, 1),
        (2, None),
        (1, None),
    ]
    with pytest.raises(UnknownVersion, match="no version 99"):
        configuration.rollback(99, "", "")
    configuration.close()


def test_who_has_seen_an_older_version_changes_nothing(settings: Settings) -> None:
    configuration = Configuration(settings)
    change(configuration, {"quality": {"late_s": 30}}, expected=0)
    with pytest.raises(OutdatedVersion, match="version 1 by now, not 0"):
        change(configuration, {"quality": {"late_s": 20}}, expected=0)
    assert configuration.settings.quality.late_s == 30.0
    configuration.close()


def test_what_changes_nothing_is_no_version(settings: Settings) -> None:
    configuration = Configuration(settings)
    assert change(configuration, {"quality": {"late_s": 60}}) == change(configuration, {}) == {}
    assert configuration.versions() == []
    configuration.close()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"quality": {"late_s": -1}}, "'quality.late_s'"),
        ({"quality": {"late_s": "soon"}}, "'quality.late_s'"),
        ({"quality": {"level_shift_trades": 9}}, "'quality.level_shift_trades'"),
        ({"quality": {"quarantine": 5}}, "'quality.quarantine' cannot change while it runs"),
        ({"quality": 5}, "'quality' must have values by name"),
        ({"arbitrage": {"min_profit": float("inf")}}, "'arbitrage.min_profit'"),
        ({"arbitrage": {"fees": {}}}, "'arbitrage.fees' cannot change"),
        ({"features": {"timeframes": ["7m"]}}, "'features.timeframes.0'"),
        ({"retention": {"trades": 0}}, "'retention.trades'"),
        ({"retention": {"secrets": 1}}, "'retention.secrets' cannot change"),
        ({"port": 1}, "'port' cannot change while it runs; what can: quality"),
    ],
)
def test_what_does_not_fit_changes_nothing_and_names_the_key(settings: Settings, values: Any, says: str) -> None:
    configuration = Configuration(settings)
    with pytest.raises(SettingsError) as raised:
        change(configuration, {"arbitrage": {"min_spread": 0.5}, **values})
    assert says in str(raised.value)
    assert "\n" not in str(raised.value)
    assert configuration.settings == settings
    assert configuration.versions() == []
    configuration.close()


def test_no_secret_is_shown(tmp_path: Path) -> None:
    smtp = {"host": "mail", "user": "u", "password": "hidden-1", "from_address": "a@b.c"}
    own = {
        "alerts": {"smtp": smtp},
        "clickhouse_url": "clickhouse://u:hidden-2@h/d",
        "redis_url": "redis://:hidden-3@h",
    }
    configuration = Configuration(load(tmp_path, {**own, "backup": {"to": "s3://hidden-4@bucket"}}))
    assert "hidden" not in repr(configuration.now())
    configuration.close()


def test_the_log_keeps_the_newest_versions_and_survives_a_torn_end(tmp_path: Path) -> None:
    path = tmp_path / "versions.log"
    log = ConfigurationLog(path)
    for number in range(2 * MOST_VERSIONS + 5):
        log._versions.append(Version(number=number, time=0, user="", note="", values={}))
    log._log.append(log._versions)
    log.close()
    with path.open("ab") as file:
        file.write(b'deadbeef {"number":')
    log = ConfigurationLog(path)
    assert [log.versions()[0].number, log.versions()[-1].number] == [2 * MOST_VERSIONS + 4, MOST_VERSIONS + 5]
    log.append(Version(number=9999, time=0, user="", note="", values={}))
    log.close()
    again = ConfigurationLog(path)
    assert again.newest is not None
    assert (again.newest.number, len(again.versions())) == (9999, MOST_VERSIONS)
    again.close()


async def test_trades_are_judged_by_the_limits_that_hold_when_they_come(settings: Settings) -> None:
    shard = Shard(settings)
    late = [Trade("BTC/USD", NOON + n, NOON + n + 45 * SECOND, n, 100.0, 1.0) for n in range(1, 5)]
    await shard.send("kraken", {"trades": batch(late[:2])}, NOON + 60 * SECOND)
    configuration = Configuration(settings)
    change(configuration, {"quality": {"late_s": 30}})
    await shard.configure(configuration.settings)
    await shard.send("kraken", {"trades": batch(late[2:])}, NOON + 60 * SECOND)
    (row,) = await shard.quality("kraken", "BTC/USD", 1)
    assert (row["passed_checks"], row["failed"]["data_freshness"]) == (2, 2)
    configuration.close()
    await shard.stop()


def test_arbitrage_has_its_other_limits_and_the_same_fees() -> None:
    arbitrage = Arbitrage(Rules({"okx": {"spot": 0.1}}, 0.5, 10.0, {}), 5)
    arbitrage.limit(0.25, 3.0)
    assert arbitrage._rules == Rules({"okx": {"spot": 0.1}}, 0.25, 3.0, {})


async def test_the_database_keeps_rows_for_as_long_as_was_changed(settings: Settings) -> None:
    database = Database(settings.model_copy(update={"clickhouse_url": None}))
    await database.query("SELECT 1")
    assert (await database.status())["retention"] == {"quotes": 30, "features": 365}
    configuration = Configuration(settings)
    change(configuration, {"retention": {"quotes": 7, "gaps": 40}})
    await database.configure(configuration.settings)
    made = "SELECT create_table_query AS made FROM system.tables WHERE name = 'quotes' AND database = currentDatabase()"
    assert "toIntervalDay(7)" in (await database.query(made))["made"][0].as_py()
    assert (await database.status())["retention"] == {"quotes": 7, "features": 365, "gaps": 40}
    configuration.close()
    await database.stop()
