"""The alerts of an instance, what fired and is not told yet, and who was told: events in, records out.

Every method that changes something returns the records that must be in the log before anybody is told; a book made of
the records of a log is as the one that returned them was, wherever the log ends.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np
import pyarrow as pa
from msgspec.structs import replace

from actors.alerting.conditions import CONDITIONS, Columns
from actors.alerting.definitions import AlertError, Rules, UnknownAlert, changed_alert, new_alert
from actors.alerting.edges import firings
from actors.alerting.messages import firing_of
from actors.alerting.series import ClosedBars, Events, SeriesName, trades
from storage.alert_log import Alert, Attempt, Fired, Place, Record, Removed, Waiting

#: After a start events are looked at that are not older than this: what happened while nobody looked does not fire.
RECALL_NS: Final = 60 * 1_000_000_000
#: Firings that wait for a channel; what fires above it is not told, and the delivery log says so.
MOST_WAITING: Final = 10_000


class AlertBook:
    """What `records` lead to at `now_ns`."""

    def __init__(self, rules: Rules, records: Iterable[Record], now_ns: int) -> None:
        self._rules = rules
        self.alerts: dict[str, Alert] = {}
        #: By delivery id, oldest first.
        self.waiting: dict[str, Waiting] = {}
        #: The newest attempts, oldest first.
        self._attempts: dict[tuple[str, str, int], Attempt] = {}
        #: The active ones, by exchange and what they look at there.
        self._of_trades: dict[str, dict[str, list[Alert]]] = {}
        self._of_bars: dict[str, dict[SeriesName, list[Alert]]] = {}
        self._closed: dict[str, ClosedBars] = {}
        for record in records:
            self._remember(record)
        for alert in self.alerts.values():
            alert.seen = max(alert.seen, self._since(now_ns - RECALL_NS))
            self._watch(alert)

    @property
    def wanted(self) -> frozenset[tuple[str, str]]:
        """Kind and exchange of the tables that some alert looks at."""
        looks: list[tuple[str, dict[str, Any]]] = [
            ("trades", self._of_trades),
            ("bars", self._of_bars),
            ("indicators", self._of_bars),
        ]
        return frozenset((kind, exchange) for kind, index in looks for exchange, own in index.items() if own)

    def alert(self, alert_id: str) -> Alert:
        """`UnknownAlert` where there is none of that id."""
        if alert_id not in self.alerts:
            raise UnknownAlert(f"there is no alert {alert_id[:40]!r}")
        return self.alerts[alert_id]

    def attempts(self, alert_id: str | None, limit: int) -> list[Attempt]:
        """The newest, those first; of one alert or of all."""
        found = (one for one in reversed(self._attempts.values()) if alert_id in (None, one.alert_id))
        return [one for one, _ in zip(found, range(limit), strict=False)]

    def add(self, given: Mapping[str, Any], alert_id: str, now_ns: int) -> list[Record]:
        """A new alert; `AlertError` for what cannot be one."""
        if len(self.alerts) >= self._rules.most:
            raise AlertError(f"there are {self._rules.most} alerts already (setting alerts.max_alerts)")
        alert = new_alert(given, alert_id, now_ns, self._since(now_ns), self._rules)
        self.alerts[alert_id] = alert
        self._watch(alert)
        return [replace(alert)]

    def change(self, alert_id: str, given: Mapping[str, Any], now_ns: int) -> list[Record]:
        """Change some of what was said of an alert; `AlertError` for what cannot be."""
        before = self.alert(alert_id)
        alert = changed_alert(before, given, self._since(now_ns), self._rules)
        self._unwatch(before)
        self.alerts[alert_id] = alert
        self._watch(alert)
        return [replace(alert)]

    def remove(self, alert_id: str) -> list[Record]:
        """Nobody is told any more, not of what fired already either."""
        self._unwatch(self.alert(alert_id))
        removed = Removed(alert_id)
        self._remember(removed)
        return [removed]

    def take(self, kind: str, exchange: str, table: pa.Table, now_ns: int) -> list[Record]:
        """Look at trades, bars and indicators (`storage.schema`); other kinds say nothing."""
        records: list[Record] = []
        if kind == "trades" and (wanted := self._of_trades.get(exchange)):
            for symbol, events in trades(table, wanted):
                last, extremes = events.place(len(events) - 1), events.extremes
                for alert in list(wanted[symbol]):
                    if _stays(alert, extremes):
                        alert.seen = max(alert.seen, last)
                    else:
                        records += self._look(alert, events, now_ns)
        elif kind == "bars" and (series := self._of_bars.get(exchange)):
            self._closed.setdefault(exchange, ClosedBars()).add(table, series)
        elif kind == "indicators" and (series := self._of_bars.get(exchange)):
            closed = self._closed.setdefault(exchange, ClosedBars())
            for name, events in closed.with_indicators(table, series):
                for alert in list(series[name]):
                    records += self._look(alert, events, now_ns)
        return records

    def attempted(self, attempt: Attempt) -> list[Record]:
        """A channel was tried."""
        self._remember(attempt)
        return [attempt]

    def records(self) -> list[Record]:
        """The shortest log that leads here."""
        waiting = (Waiting(one.firing, dict(one.left)) for one in self.waiting.values())
        return [*map(replace, self.alerts.values()), *waiting, *self._attempts.values()]

    def _look(self, alert: Alert, events: Events, now_ns: int) -> list[Record]:
        condition = CONDITIONS[alert.condition]
        known = ~np.any([np.isnan(events.columns[name]) for name in condition.columns], axis=0)
        if not known.all():
            events = events.where(known)
        holds, values = condition.judge(events.columns, alert.threshold or 0.0)
        written, records = alert.holds, list[Record]()
        for place in firings(alert, events, holds):
            at, written = int(events.at[place]), True
            firing = firing_of(alert, at, float(values[place]), float(events.price[place]), now_ns)
            waits = len(self.waiting) < MOST_WAITING
            fired = Fired(replace(alert), firing, alert.channels if waits else ())
            self._wait(fired)
            records.append(fired)
            if not waits:
                records += self._give_up(fired, alert.channels, now_ns)
        if alert.holds != written:
            records.append(replace(alert))
        if not alert.is_active:
            self._unwatch(alert)
        return records

    def _give_up(self, fired: Fired, channels: Iterable[str], now_ns: int) -> Iterable[Record]:
        for channel in channels:
            yield from self.attempted(
                Attempt(
                    delivery_id=fired.firing.delivery_id,
                    alert_id=fired.alert.alert_id,
                    channel=channel,
                    attempt=0,
                    status="failed",
                    code=None,
                    error=f"not tried: {MOST_WAITING} wait already",
                    began=now_ns,
                    ended=now_ns,
                )
            )

    def _since(self, now_ns: int) -> Place:
        return (0, 0) if self._rules.recorded else (now_ns, 0)

    def _watch(self, alert: Alert) -> None:
        if alert.is_active:
            index, name = self._watched(alert)
            index.setdefault(name, []).append(alert)

    def _unwatch(self, alert: Alert) -> None:
        index, name = self._watched(alert)
        if others := [one for one in index.get(name, ()) if one is not alert]:
            index[name] = others
        else:
            index.pop(name, None)

    def _watched(self, alert: Alert) -> tuple[dict[Any, list[Alert]], Any]:
        """The active alerts of its exchange by what they look at, and what this one looks at."""
        if alert.timeframe is None:
            return self._of_trades.setdefault(alert.exchange, {}), alert.symbol
        return self._of_bars.setdefault(alert.exchange, {}), (alert.symbol, alert.timeframe)

    def _remember(self, record: Record) -> None:
        match record:
            case Alert():
                self.alerts[record.alert_id] = record
            case Fired():
                self.alerts[record.alert.alert_id] = record.alert
                self._wait(record)
            case Waiting():
                self.waiting[record.firing.delivery_id] = record
            case Attempt():
                self._attempts[record.delivery_id, record.channel, record.attempt] = record
                while len(self._attempts) > self._rules.log_rows:
                    del self._attempts[next(iter(self._attempts))]
                self._tried(record)
            case Removed():
                self.alerts.pop(record.alert_id, None)
                for one in [one for one in self.waiting.values() if one.firing.alert_id == record.alert_id]:
                    del self.waiting[one.firing.delivery_id]

    def _wait(self, fired: Fired) -> None:
        if fired.channels:
            self.waiting[fired.firing.delivery_id] = Waiting(fired.firing, dict.fromkeys(fired.channels, 0))

    def _tried(self, attempt: Attempt) -> None:
        if (waiting := self.waiting.get(attempt.delivery_id)) is None:
            return
        if attempt.status == "retrying":
            waiting.left[attempt.channel] = attempt.attempt
        else:
            waiting.left.pop(attempt.channel, None)
            if not waiting.left:
                del self.waiting[attempt.delivery_id]


def _stays(alert: Alert, extremes: Columns) -> bool:
    """Whether its condition, one about prices, is at every price as it was before."""
    holds, _ = CONDITIONS[alert.condition].judge(extremes, alert.threshold or 0.0)
    return bool(holds[0] == holds[1] == alert.holds)
