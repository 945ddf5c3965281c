"""What a shard knows of the quality of its trades, in files that are written as memory is: a killed shard goes on with
every count as it was. A trade that was stored but not judged when it was killed is judged when it is sent again.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from actors.aggregation import quality as quality_kernels
from actors.aggregation.quality import SYMBOLS, Quality
from actors.aggregation.quality_kernels import LEVEL_SHIFT, SILENCE, STATE, Rules
from actors.quarantine import Quarantine
from config.settings import QualitySettings, Settings
from storage.mapped_rows import MappedRows, read_rows

#: Changed counts are told this often, and at the end.
TELL_INTERVAL_S: Final = 60.0
#: Of each symbol a report has so many of the newest failures, level shifts and silences.
RECENT: Final = 10
_SHOWN: Final = ("check_type", "error_message", "trade_id", "price", "size")


class Handed(NamedTuple):
    """One symbol: its state, and what was found amiss in its trades."""

    state: Any
    flagged: Any
    events: Any


class StoredQuality:
    """Of the symbols `mine` (exchange, symbol), in `settings.quality_folder`; `name` (`shard-0`) says which shard it
    is. Files of other shards are read for what they knew. OSError when the disk fails."""

    def __init__(self, settings: Settings, name: str, mine: Callable[[str, str], bool]) -> None:
        self._folder = settings.quality_folder
        self._name = name
        self._mine = mine
        self._rules = rules_of(settings.quality)
        self._quality: dict[str, Quality] = {}
        self._files: list[MappedRows] = []
        self._due = time.monotonic() + TELL_INTERVAL_S
        self.flagged = 0
        quality_kernels.warm_up()
        self._quarantine = Quarantine(self._folder, name, settings.quality.quarantine)
        for path in self._folder.glob("*.states"):
            self._of(path.name.partition(".")[0])

    def judge_by(self, settings: QualitySettings) -> None:
        """Other limits for trades that come from now on."""
        self._rules = rules_of(settings)
        for quality in self._quality.values():
            quality.judge_by(self._rules)

    def judge(self, exchange: str, trades: pa.RecordBatch) -> None:
        """Judge trades (`storage.schema.TRADES`) that are stored and were not judged before. OSError when there is no
        room for further symbols: nothing is judged then."""
        judgement = self._of(exchange).judge(trades)
        self.flagged += int(np.count_nonzero(judgement.verdicts))
        self._quarantine.add(exchange, trades, judgement, self._rules)

    def unjudged(self, exchange: str, symbol: str, trades: pa.RecordBatch, new: pa.RecordBatch) -> pa.RecordBatch:
        """Of trades of a symbol that came, `new` of which were not stored before, those to judge: the new ones, and
        those newer than any that was judged, which a shard had stored that was killed then."""
        quality = self._of(exchange)
        ids, ts_event, ts_recv = (np.asarray(trades.column(name)) for name in ("trade_id", "ts_event", "ts_recv"))
        quality.count_duplicates(symbol, int(ts_recv[-1]), trades.num_rows - new.num_rows)
        wanted = np.isin(ids, np.asarray(new.column("trade_id"))) | quality.are_newer(symbol, ts_event, ids)
        first = np.zeros(len(ids), bool)
        first[np.unique(ids, return_index=True)[1]] = True
        return trades.filter(pa.array(wanted & first))

    def reports(
        self,
        exchange: str | None,
        symbol: str | None,
        hours: int,
        now_ns: Callable[[str], int],
        integrity: Iterable[Mapping[str, Any]],
    ) -> list[dict[str, Any]]:
        """A row per symbol (`Quality.reports`), of one exchange or of all. That of a single symbol (also named as its
        folder is) has the newest of its failures, level shifts and silences, as far as they are at hand. `completeness`
        comes from `integrity` (`Ledger.integrity`): how much of what the exchange counted since the promise began is
        stored, None where ids prove nothing."""
        kept = {(row["exchange"], row["symbol"]): row for row in integrity}
        rows = []
        for name, quality in self._quality.items():
            if exchange in (None, name):
                wanted = [one for one in quality.symbols if symbol in (None, one, one.replace("/", "_"))]
                rows += [
                    {"exchange": name, **row, "completeness": _completeness(kept.get((name, row["symbol"])))}
                    for row in quality.reports(wanted, hours, now_ns(name))
                ]
        if symbol is not None:
            rows = [{**row, **self._recent(row["exchange"], row["symbol"])} for row in rows]
        return rows

    def quarantine(self, exchange: str, symbol: str) -> pa.RecordBatch:
        """See `Quarantine.trades`."""
        return self._quarantine.trades(exchange, symbol)

    def clear_quarantine(self, exchange: str, symbol: str) -> int:
        """See `Quarantine.clear`."""
        return self._quarantine.clear(exchange, symbol)

    def changed(self, last: bool) -> Iterator[tuple[str, pa.RecordBatch]]:
        """Exchanges and what is new of them (`storage.schema.QUALITY`); nothing until it is time, but at the last."""
        if last or time.monotonic() >= self._due:
            self._due = time.monotonic() + TELL_INTERVAL_S
            for exchange, quality in self._quality.items():
                told = quality.changed()
                if told.num_rows:
                    yield exchange, told

    def untold(self, exchange: str, told: pa.RecordBatch) -> None:
        """What `changed` gave did not arrive: it is given again."""
        self._quality[exchange].untold(told)

    def handed(self, exchange: str, symbol: str) -> "Handed":
        """What is known of a symbol, for `adopt` elsewhere."""
        return Handed(self._of(exchange).state(symbol), *self._quarantine.rows(exchange, symbol))

    def adopt(self, exchange: str, symbol: str, handed: "Handed") -> None:
        """Go on with what another shard knew of a symbol. OSError."""
        quality = self._of(exchange)
        quality.adopt(handed.state, lambda one: one == symbol)
        self._quarantine.forget(exchange, symbol)
        self._quarantine.adopt(handed.flagged, handed.events)

    def forget(self, exchange: str, symbol: str) -> None:
        """Let go of a symbol."""
        self._of(exchange).forget(symbol)
        self._quarantine.forget(exchange, symbol)

    def close(self) -> None:
        self._quarantine.close()
        for file in self._files:
            file.close()

    def _recent(self, exchange: str, symbol: str) -> dict[str, Any]:
        flagged = self.quarantine(exchange, symbol)
        newest = [
            {"time": row["ts_recv"], **{name: row[name] for name in _SHOWN}}
            for row in flagged.slice(max(flagged.num_rows - RECENT, 0)).to_pylist()[::-1]
        ]
        shifts, silences = (
            self._quarantine.events(exchange, symbol, kind)[-RECENT:][::-1] for kind in (LEVEL_SHIFT, SILENCE)
        )
        return {"recent_failures": newest, "recent_level_shifts": shifts, "recent_silences": silences}

    def _of(self, exchange: str) -> Quality:
        if exchange not in self._quality:
            file = MappedRows(self._folder / f"{exchange}.{self._name}.states", STATE, SYMBOLS)
            self._files.append(file)
            quality = Quality(self._rules, file.rows, file.grow, partial(self._mine, exchange))
            self._quality[exchange] = quality
            for path in self._folder.glob(f"{exchange}.*.states"):
                quality.adopt(read_rows(path, STATE), partial(self._mine, exchange))
        return self._quality[exchange]


def rules_of(settings: QualitySettings) -> Rules:
    return Rules(
        late_ns=int(settings.late_s * 1e9),
        early_ns=int(settings.early_s * 1e9),
        deviations=settings.deviations,
        change=settings.price_change,
        ratio=settings.volume_ratio,
        level_shift_trades=settings.level_shift_trades,
        silence_ns=int(settings.silence_s * 1e9),
    )


def _completeness(kept: Mapping[str, Any] | None) -> float | None:
    if kept is None or kept["missing"] is None or kept["first_id"] is None:
        return None
    return 1.0 - float(kept["missing"] / (kept["last_id"] - kept["first_id"] + 1))
