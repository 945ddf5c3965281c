"""`rayfeed alerts`, without an instance."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

from cluster import alerts
from cluster.frames import alert_frame, delivery_frame

NOW = 1_769_860_800_000_000_000
ALERT = {
    "alert_id": "3f0c",
    "exchange": "kraken",
    "symbol": "BTC/USD",
    "timeframe": "1h",
    "condition": "rsi_above",
    "threshold": 70.0,
    "channels": ["websocket", "slack"],
    "metadata": {"slack_webhook_url": "https://example.org/secret"},
    "cooldown_seconds": 300,
    "one_time": False,
    "note": "",
    "created_at": NOW,
    "is_active": True,
    "last_triggered_at": NOW,
    "trigger_count": 12,
    "holds": True,
}
ATTEMPT = {
    "delivery_id": f"3f0c:{NOW}",
    "alert_id": "3f0c",
    "channel": "slack",
    "attempt": 2,
    "status": "retrying",
    "code": 503,
    "error": "answered 503",
    "began": NOW,
    "ended": NOW,
    "next_at": None,
}


class Supervisor:
    """Answers with what it has, and notes what it was asked."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.asked: list[Any] = []

    @contextmanager
    def __call__(self, _data: Path) -> Iterator[Any]:
        def ask(method: str, *arguments: Any) -> Any:
            self.asked.append((method, *arguments))
            return self.answers[method]

        yield ask


def invoke(monkeypatch: pytest.MonkeyPatch, supervisor: Supervisor, *arguments: str) -> str:
    monkeypatch.setattr(alerts, "supervisor", supervisor)
    done = CliRunner().invoke(alerts.app, list(arguments), env={"COLUMNS": "200"})
    assert done.exit_code == 0, done.output
    return done.stdout


def test_alerts_are_listed_without_their_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Supervisor(alerts=[ALERT, {**ALERT, "timeframe": None, "threshold": None, "last_triggered_at": None}])
    shown = invoke(monkeypatch, asked, "list")
    assert "secret" not in shown
    assert [" ".join(line.split()) for line in shown.splitlines()] == [
        "id exchange symbol condition threshold bars channels fired last (UTC)",
        "3f0c kraken BTC/USD rsi_above 70 1h websocket, slack 12 2026-01-31 12:00:00",
        "3f0c kraken BTC/USD rsi_above websocket, slack 12",
    ]
    assert json.loads(invoke(monkeypatch, asked, "list", "--json"))[0] == ALERT
    assert invoke(monkeypatch, Supervisor(alerts=[]), "list") == "no alerts\n"


def test_one_that_is_added_tells_the_live_feed_and_what_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Supervisor(add_alert=ALERT)
    arguments = ["kraken", "BTC/USD", "rsi_above", "70", "--timeframe", "1h", "--slack", "https://s", "--once"]
    assert invoke(monkeypatch, asked, "add", *arguments, "--cooldown", "60") == "3f0c\n"
    [(method, given)] = asked.asked
    assert method == "add_alert"
    assert given == {
        "exchange": "kraken",
        "symbol": "BTC/USD",
        "condition": "rsi_above",
        "threshold": 70.0,
        "timeframe": "1h",
        "channels": ["websocket", "slack"],
        "metadata": {"slack_webhook_url": "https://s"},
        "cooldown_seconds": 60,
        "one_time": True,
        "note": "",
    }


def test_a_threshold_below_zero_is_told_to_those_who_know_what_is_wrong_with_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = Supervisor(add_alert=ALERT)
    invoke(monkeypatch, asked, "add", "kraken", "BTC/USD", "price_above", "-5")
    assert asked.asked[0][1]["threshold"] == -5


def test_several_are_removed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Supervisor(remove_alert=None)
    assert invoke(monkeypatch, asked, "remove", "a", "b") == "a: removed\nb: removed\n"
    assert asked.asked == [("remove_alert", "a"), ("remove_alert", "b")]


def test_the_log_says_who_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Supervisor(deliveries=[ATTEMPT, {**ATTEMPT, "status": "delivered", "code": 200, "error": ""}])
    shown = invoke(monkeypatch, asked, "log", "3f0c", "--limit", "5")
    assert asked.asked == [("deliveries", "3f0c", 5)]
    assert [" ".join(line.split()) for line in shown.splitlines()] == [
        "began (UTC) alert channel attempt status answer",
        "2026-01-31 12:00:00 3f0c slack 2 retrying answered 503",
        "2026-01-31 12:00:00 3f0c slack 2 delivered 200",
    ]
    assert invoke(monkeypatch, Supervisor(deliveries=[]), "log") == "nobody was told yet\n"


@pytest.mark.parametrize(
    "command", [["list"], ["add", "kraken", "BTC/USD", "price_above", "1"], ["remove", "a"], ["log"]]
)
def test_without_an_instance_it_says_how_to_start_one(tmp_path: Path, command: list[str]) -> None:
    result = CliRunner().invoke(alerts.app, [*command, "--data", str(tmp_path)])
    assert str(result.exception) == f"nothing runs on {tmp_path}; start it with: rayfeed up --data {tmp_path}"


def test_notebooks_get_tables_with_times_and_without_addresses() -> None:
    frame = alert_frame([ALERT, {**ALERT, "alert_id": "b", "last_triggered_at": None}])
    assert frame.loc["3f0c", "last_triggered_at"] == pd.Timestamp(NOW, tz="UTC")
    assert pd.isna(frame.loc["b", "last_triggered_at"])
    assert "metadata" not in frame.columns
    assert alert_frame([]).empty
    told = delivery_frame([ATTEMPT])
    assert (told.loc[0, "began"].value, told.loc[0, "code"]) == (NOW, 503)
    assert delivery_frame([]).empty
