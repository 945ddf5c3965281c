"""What is said of the whole by what its parts say, and of symbols that no exchange lists."""

from typing import Any

import pytest

from config import load
from serve_apps.health import HEALTH, HealthApp, report
from serve_apps.market import MarketApp, Resource
from serve_apps.shared_answer import NoAnswer
from serve_apps.symbols_v1 import Listing, polled_symbols
from tests.serve_apps.asgi_client import ask

WELL: dict[str, dict[str, Any]] = {
    "shard:0": {"answers": True, "age_s": 0.1, "failure": "", "blocked": ""},
    "collector:okx": {"answers": True, "age_s": 0.1, "exchange": "okx", "state": "streaming", "data_s": 0.5},
    "database": {"answers": True, "age_s": 0.1, "available": True, "last_error": None},
}


@pytest.mark.parametrize(
    ("part", "says", "status", "reason"),
    [
        ("shard:0", {}, "healthy", ""),
        ("collector:okx", {"state": "waiting", "last_error": "refused"}, "degraded", "okx: refused"),
        ("collector:okx", {"answers": False, "failure": ""}, "degraded", "collector:okx: does not answer"),
        ("database", {"available": False, "last_error": "no route"}, "degraded", "database: no route"),
        ("database", {"available": None}, "healthy", ""),
        ("shard:0", {"answers": False}, "unhealthy", "shard:0: does not answer"),
        ("shard:0", {"blocked": "cannot write column files: disk full"}, "unhealthy", "disk full"),
    ],
)
def test_one_word_for_all_and_the_reason_by_name(part: str, says: dict[str, Any], status: str, reason: str) -> None:
    said = report(WELL | {part: WELL[part] | says})
    assert said["status"] == status
    assert reason in " ".join(said["reasons"])
    assert bool(said["reasons"]) == bool(reason)
    assert said["feeds"]["okx"]["data_s"] == 0.5


async def test_while_nobody_answers_nothing_is_called_well() -> None:
    async def nobody() -> Any:
        raise NoAnswer("nobody answers")

    async def nothing() -> Any:
        return {}

    for status in (nobody, nothing):
        answer = await ask(MarketApp([Resource(HEALTH, ("GET",), HealthApp(status))]), HEALTH)
        assert (answer.status, answer.json["status"], answer.headers["retry-after"]) == (503, "unhealthy", "1")
        assert answer.json["reasons"]


async def test_symbols_of_providers_of_bars_are_listed_too(tmp_path: Any) -> None:
    async def collected() -> list[dict[str, Any]]:
        return []

    async def instruments() -> dict[str, Any]:
        return {}

    settings = load(tmp_path, {"pollers": {"yahoo": {"enabled": True, "symbols": ["MSFT", "AAPL"]}}})
    assert polled_symbols(settings) == {"yahoo": ["AAPL", "MSFT"]}
    rows = await Listing(collected, instruments, dict, polled_symbols(settings)).rows(short=True)
    assert [(row["symbol"], row["kind"], row["collected"]) for row in rows["yahoo"]] == [
        ("AAPL", "stock", True),
        ("MSFT", "stock", True),
    ]
