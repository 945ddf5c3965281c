"""Changes of the symbols that hold after a restart."""

from pathlib import Path

import pytest

from storage.symbol_changes import SymbolChanges


def test_changes_hold_for_whoever_opens_the_file_next(tmp_path: Path) -> None:
    changes = SymbolChanges(tmp_path / "data" / "symbols.json")
    changes.add("kraken", ["SOL/USD", "XRP/USD"])
    changes.remove("kraken", ["BTC/USD", "XRP/USD"])
    again = SymbolChanges(tmp_path / "data" / "symbols.json")
    assert again.applied_to("kraken", ["BTC/USD", "ETH/USD"]) == ("ETH/USD", "SOL/USD")
    assert again.applied_to("binance", ["BTCUSDT"]) == ("BTCUSDT",)


def test_what_was_removed_can_be_added_again(tmp_path: Path) -> None:
    changes = SymbolChanges(tmp_path / "symbols.json")
    changes.remove("okx", ["BTC-USDT"])
    changes.add("okx", ["BTC-USDT"])
    assert changes.applied_to("okx", ["BTC-USDT", "ETH-USDT"]) == ("BTC-USDT", "ETH-USDT")


def test_a_file_that_is_not_ours_is_named(tmp_path: Path) -> None:
    (tmp_path / "symbols.json").write_text("[1]")
    with pytest.raises(ValueError, match=r"symbols\.json cannot be read"):
        SymbolChanges(tmp_path / "symbols.json")
