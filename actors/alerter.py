"""Alerter: I look at what the shards share, fire alerts and tell who wants to know. I own the alerts' log: what fired
is in it before anybody is told, and who was told is in it afterwards, so that a restart forgets nothing and tells
nobody twice but who was told in the moment I died. I survive receivers that are slow, refuse or are away, each channel
for itself; a full disk makes me wait, and shards that cannot reach me go on and count what I missed.
"""

import asyncio
import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

import msgspec
import pyarrow as pa
import structlog

from actors.alert_channels.channel import Channel
from actors.alert_channels.live_feed import LiveFeed
from actors.alert_channels.mail import Mail
from actors.alert_channels.webhooks import Webhooks
from actors.alerting.book import AlertBook
from actors.alerting.definitions import CHANNELS, NotWritten, Rules, shown
from actors.alerting.messages import as_json, for_slack
from actors.alerting.retries import Outcome, wait_after
from actors.parcels import Parcel, unpacked
from config import Settings
from storage.alert_log import Alert, AlertLog, Attempt, Fired, Firing, Record
from storage.record_schema import ALERTS

#: An attempt that takes longer has failed.
ATTEMPT_S: Final = 10.0
#: Attempts at the same time, of each channel.
IN_FLIGHT: Final = 8
#: Who changes an alert waits this long for the disk.
WRITE_S: Final = 5.0
#: A write that failed (no space) is tried again this often.
RETRY_S: Final = 1.0
#: What fired and is not stored yet; and who stops waits so long for that.
MOST_UNSTORED: Final = 10_000
STORE_S: Final = 1.0
#: The log is made short when it has grown by this.
COMPACT_BYTES: Final = 1 << 20

log = structlog.get_logger(__name__)


class Alerter:
    """An actor: one per instance. With `recorded` the events are replayed ones. `database` is the handle of the actor
    that is told what fired, `live` that of the live hub."""

    def __init__(
        self,
        settings: Settings,
        redis_url: str,
        recorded: bool,
        database: Any = None,
        clock: Callable[[], int] = time.time_ns,
        live: Any = None,
    ) -> None:
        alerts = settings.alerts
        self._live = live
        self._clock = clock
        self._log = AlertLog(settings.data / "alerts")
        rules = Rules(
            most=alerts.max_alerts,
            log_rows=alerts.delivery_log,
            mail=alerts.smtp is not None,
            private_targets=alerts.allow_private_targets,
            recorded=recorded,
        )
        self._book = AlertBook(rules, self._log.read(), clock())
        self._compact_above = self._log.size + COMPACT_BYTES
        private = alerts.allow_private_targets
        self._channels: dict[str, Channel] = {
            "websocket": LiveFeed(redis_url, settings.redis.prefix),
            "webhook": Webhooks(lambda targets: targets.webhook_url, as_json, private),
            "slack": Webhooks(lambda targets: targets.slack_webhook_url, for_slack, private),
        }
        if alerts.smtp is not None:
            self._channels["email"] = Mail(alerts.smtp, IN_FLIGHT)
        self._slots = {channel: asyncio.Semaphore(IN_FLIGHT) for channel in CHANNELS}
        self._telling: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._database = database
        #: What fired and is not in the database yet, the newest; whoever reads the log knows all.
        self._unstored: deque[Firing] = deque(maxlen=MOST_UNSTORED)
        self._storing: asyncio.Task[None] | None = None
        #: One, and none that anybody else keeps busy.
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="alerts-log")
        self._unwritten: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._arrived = asyncio.Event()
        #: Notified when alerts may have changed.
        self._changed = asyncio.Condition()
        self._writer: asyncio.Task[None] | None = None
        self._stopped = False
        self._counts: Counter[str] = Counter()
        self._blocked = ""
        self._failure = ""

    def __repr__(self) -> str:
        return f"Alerter({len(self._book.alerts)} alerts, {len(self._book.waiting)} to be told)"

    async def take(self, parcel: Parcel, missed: int = 0) -> None:
        """Look at rows of `storage.schema`; returns when what fired is in the log. `missed`: parcels that the sender
        could not give me since the last one."""
        self._start()
        self._counts["missed"] += missed
        records: list[Record] = []
        for kind, exchange, table in unpacked(parcel, self._book.wanted.__contains__):
            try:
                records += self._book.take(kind, exchange, table, self._clock())
            except Exception as error:  # noqa: BLE001 - the next table may be better; the status tells
                self._counts["missed"] += 1
                self._failure = f"{kind} of {exchange}: {error!r}"
                log.error("alerts could not look at a table", kind=kind, exchange=exchange, error=repr(error))
        if records:
            await self._commit(records)

    async def wants(self, known: frozenset[tuple[str, str]] | None) -> frozenset[tuple[str, str]]:
        """Kind and exchange of the tables I look at: others need not be sent. Answers once that is not `known`."""
        self._start()
        async with self._changed:
            await self._changed.wait_for(lambda: self._book.wanted != known)
        return self._book.wanted

    async def add(self, alert_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        """Make an alert of what a user said (docs/alerts.md); gives it as it is, also when the call comes again after
        a restart. `AlertError` for what cannot be one, here and below, `UnknownAlert` for an id that nobody has,
        `NotWritten` when the disk does not take it."""
        if alert_id not in self._book.alerts:
            await self._change(self._book.add(given, alert_id, self._clock()))
        return shown(self._book.alert(alert_id))

    async def change(self, alert_id: str, given: Mapping[str, Any]) -> dict[str, Any]:
        await self._change(self._book.change(alert_id, given, self._clock()))
        return shown(self._book.alert(alert_id))

    async def remove(self, alert_id: str) -> None:
        """What fired and is not told yet is not told either."""
        await self._change(self._book.remove(alert_id))

    async def alerts(self) -> list[dict[str, Any]]:
        """All of them, the newest first."""
        self._start()
        newest = sorted(self._book.alerts.values(), key=lambda alert: alert.created_at, reverse=True)
        return [shown(alert) for alert in newest]

    async def alert(self, alert_id: str) -> dict[str, Any]:
        return shown(self._book.alert(alert_id))

    async def deliveries(self, alert_id: str | None, limit: int) -> list[dict[str, Any]]:
        """The newest attempts to tell somebody (`storage.alert_log.Attempt`), of one alert or of all."""
        found = self._book.attempts(alert_id, limit)
        if not found and alert_id is not None:
            self._book.alert(alert_id)
        return [msgspec.structs.asdict(attempt) for attempt in found]

    async def status(self) -> dict[str, Any]:
        """`missed` counts tables that nobody looked at, `waiting` what fired and somebody is to be told of, or was and
        that is not in the log yet."""
        self._start()
        alerts = self._book.alerts.values()
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "failure": self._blocked or self._failure,
            "alerts": len(alerts),
            "active": sum(alert.is_active for alert in alerts),
            "waiting": len(self._book.waiting.keys() | {delivery_id for delivery_id, _ in self._telling}),
            "damaged": self._log.damaged,
            **{name: self._counts[name] for name in ("fired", "delivered", "retrying", "failed", "missed")},
        }

    async def stop(self) -> None:
        """Write down how far the alerts are; what is not told yet waits for the next start."""
        self._start()
        self._stopped = True
        for task in self._telling.values():
            task.cancel()
        await asyncio.gather(*self._telling.values(), return_exceptions=True)
        if not self._blocked:
            await self._commit([])
            await self._compact()
        if self._writer is not None:
            self._writer.cancel()
            await asyncio.wait([self._writer])
        if self._storing is not None:
            await asyncio.wait([self._storing], timeout=STORE_S)
            self._storing.cancel()
        for channel in self._channels.values():
            await channel.close()
        self._disk.shutdown()
        self._log.close()

    def _start(self) -> None:
        if self._stopped:
            raise RuntimeError("the alerter has stopped")
        if self._writer is None:
            self._writer = asyncio.get_running_loop().create_task(self._write_for_ever(), name="alerts-writer")
            # Who died may not have stored them.
            self._store([waiting.firing for waiting in self._book.waiting.values()])
            for delivery_id in self._book.waiting:
                self._tell(delivery_id)
        elif self._writer.done():
            self._writer.result()

    # ---- the log

    async def _change(self, records: Sequence[Record]) -> None:
        self._start()
        try:
            await asyncio.wait_for(self._commit(records), WRITE_S)
        except TimeoutError:
            raise NotWritten(f"it holds now, but not after a restart: {self._blocked or 'the disk is slow'}") from None

    async def _commit(self, records: Sequence[Record]) -> None:
        """Returns when the records, and all before them, survive a power cut."""
        written = asyncio.get_running_loop().create_future()
        self._unwritten.append((records, written))
        self._arrived.set()
        await written

    async def _write_for_ever(self) -> None:
        while True:
            await self._arrived.wait()
            self._arrived.clear()
            batch, self._unwritten = self._unwritten, []
            await self._write([record for records, _ in batch for record in records])
            async with self._changed:
                self._changed.notify_all()
            self._store([record.firing for records, _ in batch for record in records if isinstance(record, Fired)])
            for records, written in batch:
                if not written.done():
                    written.set_result(None)
                for record in records:
                    if isinstance(record, Fired):
                        self._counts["fired"] += 1
                        self._tell_live(record.firing)
                        self._tell(record.firing.delivery_id)
            # Only now is everything the book says in the log.
            if self._log.size > self._compact_above and not self._unwritten:
                await self._compact()

    async def _write(self, records: Sequence[Record]) -> None:
        def append() -> None:
            self._log.append(records)
            self._log.sync()

        while records:
            try:
                await asyncio.get_running_loop().run_in_executor(self._disk, append)
            except OSError as error:
                self._blocked = f"cannot write alerts: {error.strerror}"
                await asyncio.sleep(RETRY_S)
            else:
                self._blocked = ""
                return

    async def _compact(self) -> None:
        records = self._book.records()

        def replace() -> None:
            self._log.prepare(records)
            self._log.swap(self._log.size)

        try:
            await asyncio.get_running_loop().run_in_executor(self._disk, replace)
        except OSError as error:
            # The longer log is as good.
            log.warning("the log of alerts stays long", error=error.strerror)
        self._compact_above = self._log.size + COMPACT_BYTES

    # ---- the database

    def _store(self, fired: Sequence[Firing]) -> None:
        if self._database is None or not fired:
            return
        self._unstored.extend(fired)
        if self._storing is None or self._storing.done():
            self._storing = asyncio.get_running_loop().create_task(self._store_all(), name="alerts-store")

    async def _store_all(self) -> None:
        while self._unstored:
            fired = [msgspec.structs.asdict(self._unstored.popleft()) for _ in range(len(self._unstored))]
            try:
                await self._database.insert.remote("alerts", None, pa.Table.from_pylist(fired, schema=ALERTS))
            except Exception as error:  # noqa: BLE001 - who is to be told is told all the same
                log.warning("what fired was not stored", alerts=len(fired), error=repr(error))

    # ---- telling

    def _tell_live(self, firing: Firing) -> None:
        """Whoever listens now; who must not miss it has other channels."""
        waiting = self._book.waiting.get(firing.delivery_id)
        if self._live is not None and waiting is not None and "websocket" in waiting.left:
            self._live.tell.remote("alerts", [{**msgspec.structs.asdict(firing), "delivery_id": firing.delivery_id}])

    def _tell(self, delivery_id: str) -> None:
        """Begin with the channels of something that fired."""
        if self._stopped or (waiting := self._book.waiting.get(delivery_id)) is None:
            return
        for channel in waiting.left:
            if (delivery_id, channel) not in self._telling:
                task = asyncio.get_running_loop().create_task(self._tell_channel(waiting.firing, channel))
                self._telling[delivery_id, channel] = task
                task.add_done_callback(partial(self._told, (delivery_id, channel)))

    def _told(self, key: tuple[str, str], task: asyncio.Task[None]) -> None:
        del self._telling[key]
        if not task.cancelled() and (error := task.exception()) is not None:
            # What it says may be an address or a password.
            self._failure = f"channel {key[1]}: {type(error).__name__}"

    async def _tell_channel(self, firing: Firing, channel: str) -> None:
        """Until it is told, or given up."""
        while (left := self._left(firing, channel)) is not None:
            alert, tried = left
            async with self._slots[channel]:
                began = self._clock()
                outcome = await self._try(alert, firing, channel)
            wait = wait_after(tried + 1, outcome, random.random())  # noqa: S311 - spreads attempts, no secret
            ended = self._clock()
            attempt = Attempt(
                delivery_id=firing.delivery_id,
                alert_id=firing.alert_id,
                channel=channel,
                attempt=tried + 1,
                status="delivered" if outcome.status == "delivered" else "failed" if wait is None else "retrying",
                code=outcome.code,
                error=outcome.error,
                began=began,
                ended=ended,
                next_at=None if wait is None else ended + int(wait * 1e9),
            )
            self._counts[attempt.status] += 1
            if attempt.status == "failed":
                log.warning("an alert could not be told", alert=firing.alert_id, channel=channel, error=outcome.error)
            await self._commit(self._book.attempted(attempt))
            if wait is None:
                return
            await asyncio.sleep(wait)

    def _left(self, firing: Firing, channel: str) -> tuple[Alert, int] | None:
        """The alert and how often the channel was tried; None when nobody is to be told any more."""
        alert, waiting = self._book.alerts.get(firing.alert_id), self._book.waiting.get(firing.delivery_id)
        if alert is None or waiting is None or channel not in waiting.left:
            return None
        return alert, waiting.left[channel]

    async def _try(self, alert: Alert, firing: Firing, channel: str) -> Outcome:
        if channel not in alert.channels or channel not in self._channels:
            return Outcome("final", error="the alert or the settings do not have this channel any more")
        try:
            async with asyncio.timeout(ATTEMPT_S):
                return await self._channels[channel].send(alert.metadata, firing)
        except TimeoutError:
            return Outcome("passing", error=f"no answer within {ATTEMPT_S:g} s")
