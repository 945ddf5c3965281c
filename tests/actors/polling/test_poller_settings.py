"""Settings of the pollers, and where the key comes from."""

import re
from pathlib import Path
from typing import Any

import pytest

from config.settings import SettingsError, load
from tests.actors.polling.pollers import KEY


def test_by_default_both_providers_are_off_and_there_is_no_key(tmp_path: Path) -> None:
    own = load(tmp_path)
    assert not own.pollers.yahoo.enabled
    assert not own.pollers.polygon.enabled
    assert own.polygon_api_key is None


def test_the_key_is_taken_from_where_everybody_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLYGON_API_KEY", f" {KEY}\n")
    own = load(tmp_path)
    assert own.polygon_api_key is not None
    assert own.polygon_api_key.get_secret_value() == KEY
    assert KEY not in f"{own} {own!r} {own.model_dump()} {own.model_dump_json()}"


@pytest.mark.parametrize(
    ("poller", "named"),
    [
        ({"symbols": []}, "pollers.yahoo.symbols"),
        ({"symbols": ["../x"]}, "pollers.yahoo.symbols.0"),
        ({"url": "ftp://x"}, "pollers.yahoo.url"),
        ({"open_interval_s": 0}, "pollers.yahoo.open_interval_s"),
        ({"user_agent": "two\nlines"}, "pollers.yahoo.user_agent"),
        ({"breaker": {"tries": 1}}, "pollers.yahoo.breaker.tries"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(tmp_path: Path, poller: dict[str, Any], named: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(named)):
        load(tmp_path, {"pollers": {"yahoo": poller}})
