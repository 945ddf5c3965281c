"""MarketPoller: I ask one provider of stock prices (Yahoo, Polygon) for bars, symbol by symbol, as often as its market
hours and its limits allow, and hand on what is new or changed. I own no data: what I remember only saves work, and
after a restart I hand the bars of the day on once more, which changes nothing. I survive a provider that is down,
refuses, limits or talks nonsense; what nobody took is asked for again.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, Final, Literal

import aiohttp
import structlog
from yarl import URL

from actors.answer_body import TooLarge, bounded_body
from actors.parcels import Sink
from actors.polling import market_hours
from actors.polling.bars import to_arrow, with_newest_open
from actors.polling.market_hours import DAY_NS, MarketHours, Session, UnknownCalendar
from actors.polling.polygon import Polygon
from actors.polling.provider import Failed, Limited, Provider, Reading, Refused, Request, check
from actors.polling.schedule import Plan, Task, market
from actors.polling.yahoo import Yahoo
from config.settings import PollerSettings, Settings
from storage.timeframes import MINUTE

#: A day of minutes has a tenth of it.
MAX_BODY_BYTES: Final = 4 << 20
#: Pages of one answer that are followed.
MAX_PAGES: Final = 10
SINK_TIMEOUT_S: Final = 30.0
#: The clock is looked at this often: it may have been set, and a machine may have slept.
LONGEST_SLEEP_S: Final = 30.0
#: A calendar is read anew this often, as it knows no more than a year ahead.
CALENDAR_AGE_NS: Final = 30 * DAY_NS
#: Different reasons for unusable rows counted apart; further ones share a name.
MAX_REASONS: Final = 50

log = structlog.get_logger(__name__)


class MarketPoller:
    """Polls `provider` with what `settings.pollers` says about it.

    `sink` gets tables of kind bars (`storage.schema.BARS`) with the provider as exchange; it returns when they are
    taken. `clock` gives ns UTC.
    """

    def __init__(
        self,
        provider: Literal["yahoo", "polygon"],
        settings: Settings,
        sink: Sink,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.name = provider
        self._all_settings = settings
        self._settings: PollerSettings = getattr(settings.pollers, provider)
        self._sink = sink
        self._clock = clock
        self._provider: Provider | None = None
        self._plan: Plan | None = None
        self._hours: MarketHours | None = None
        self._hours_read_at = 0
        self._task: asyncio.Task[None] | None = None
        self._counts: Counter[str] = Counter()
        self._unusable: Counter[str] = Counter()
        self._last_success: int | None = None
        self._last_error = ""
        self._failure = ""

    def __repr__(self) -> str:
        return f"MarketPoller({self.name}, {len(self._settings.symbols)} symbols)"

    async def start(self) -> None:
        """Begin polling; does nothing when it polls already. What prevents it stands in the status."""
        if self._task is None or self._task.done():
            self._failure = ""
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop; a request that is on its way is forgotten."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def status(self) -> dict[str, Any]:
        """Times are ns UTC, null where there is none; `stale` names the symbols whose newest poll is overdue."""
        now, clock_ns = time.monotonic(), self._clock()
        plan, hours = self._plan, self._hours
        symbols = [] if plan is None else [self._said_of(plan, task, now, clock_ns) for task in plan.tasks]
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "provider": self.name,
            "running": self._task is not None and not self._task.done(),
            "failure": self._failure,
            "market": None if hours is None else market(hours, clock_ns),
            "next_open": None if hours is None else hours.next_open(clock_ns),
            "next_close": None if hours is None else hours.next_close(clock_ns),
            "breaker": None if plan is None else asdict(plan.breaker.stats(now)),
            "last_success": self._last_success,
            "last_error": self._last_error,
            "symbols": symbols,
            "stale": sorted({said["symbol"] for said in symbols if said["stale"]}),
            "unusable": dict(self._unusable),
            **{
                name: self._counts[name]
                for name in ("requests", "answered", "refused", "limited", "failed", "undelivered", "bars")
            },
        }

    async def _run(self) -> None:
        try:
            plan = await self._prepared()
            timeout = aiohttp.ClientTimeout(total=self._settings.timeout_s)
            # Compressed answers are not asked for, and not read: nothing may grow in our memory.
            async with aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar()
            ) as session:
                while True:
                    await self._read_hours(plan)
                    step = plan.next(time.monotonic(), self._clock())
                    if isinstance(step, Task):
                        await self._poll(plan, session, step)
                    else:
                        await asyncio.sleep(min(step, LONGEST_SLEEP_S))
        except (_Off, UnknownCalendar) as error:
            self._failure = str(error)
        except Exception as error:  # noqa: BLE001 - nobody waits for this task; the supervisor reads the status
            self._failure = self._shown(repr(error))
            log.error("the poller failed", provider=self.name, error=self._failure)

    async def _prepared(self) -> Plan:
        """The plan, made when it is needed first: what it knows outlives a failure of the work."""
        if self._provider is None:
            self._provider = self._make_provider()
        if self._plan is None or self._hours is None:
            await self._load_hours()
            assert self._hours is not None
            symbols = dict.fromkeys(self._settings.symbols)
            timeframes = dict.fromkeys(self._provider.timeframes)
            tasks = [Task(symbol, timeframe) for symbol in symbols for timeframe in timeframes]
            self._plan = Plan(self.name, tasks, self._settings, self._hours)
        return self._plan

    def _make_provider(self) -> Provider:
        pollers = self._all_settings.pollers
        if self.name == "yahoo":
            return Yahoo(pollers.yahoo.user_agent)
        key = self._all_settings.polygon_api_key
        if key is None or not key.get_secret_value():
            raise _Off("polygon is off: it needs an API key, set POLYGON_API_KEY")
        try:
            return Polygon(key.get_secret_value(), tuple(pollers.polygon.timeframes))
        except ValueError as error:
            raise _Off(f"polygon is off: {error}") from None

    async def _read_hours(self, plan: Plan) -> None:
        if abs(self._clock() - self._hours_read_at) > CALENDAR_AGE_NS:
            await self._load_hours()
            assert self._hours is not None
            plan.hours = self._hours

    async def _load_hours(self) -> None:
        clock_ns = self._clock()
        self._hours = await asyncio.to_thread(market_hours.load, self._settings.calendar, clock_ns)
        self._hours_read_at = clock_ns

    async def _poll(self, plan: Plan, session: aiohttp.ClientSession, task: Task) -> None:
        """Ask for one symbol and tell the plan how it went."""
        where = f"{task.symbol} {task.timeframe}"
        breaker_before = plan.breaker.state
        try:
            reading = await self._ask(plan, session, task)
        except Limited as error:
            rest = plan.limited(task, time.monotonic(), error.retry_after)
            self._note("limited", where, f"too many requests, resting for {rest:.0f} s")
        except Refused as error:
            why = self._shown(str(error))
            plan.refused(task, time.monotonic(), why)
            self._note("refused", where, why)
        except Failed as error:
            why = self._shown(str(error))
            plan.failed(task, time.monotonic(), why)
            self._note("failed", where, why)
        else:
            await self._hand_on(plan, task, reading)
        if (state := plan.breaker.state) != breaker_before:
            log.info("the breaker changed", provider=self.name, state=state, last_error=self._last_error)

    async def _hand_on(self, plan: Plan, task: Task, reading: Reading) -> None:
        clock_ns = self._clock()
        for reason, rows in reading.unusable.items():
            known = reason in self._unusable or len(self._unusable) < MAX_REASONS
            self._unusable[reason if known else "other"] += rows
        bars = reading.bars
        if task.timeframe == MINUTE:
            bars = with_newest_open(bars, clock_ns, self._settings.settle_s)
        changes = task.series.compare(bars)
        if changes:
            try:
                async with asyncio.timeout(SINK_TIMEOUT_S):
                    await self._sink({("bars", self.name): to_arrow(task.symbol, task.timeframe, changes)})
            except Exception as error:  # noqa: BLE001 - whatever became of the others, we try again
                why = self._shown(f"the bars were not taken: {str(error) or type(error).__name__}")
                plan.undelivered(task, time.monotonic(), why)
                self._note("undelivered", f"{task.symbol} {task.timeframe}", why)
                return
        task.series.keep(changes)
        task.price = reading.price or task.price
        plan.answered(task, time.monotonic(), clock_ns)
        self._last_success = clock_ns
        self._counts["answered"] += 1
        self._counts["bars"] += len(changes)

    async def _ask(self, plan: Plan, session: aiohttp.ClientSession, task: Task) -> Reading:
        """The whole answer, page by page."""
        assert self._provider is not None
        clock_ns = self._clock()
        on = plan.hours.session(clock_ns) or Session(clock_ns - DAY_NS, clock_ns)
        # A market that never closes has no beginning either.
        on = Session(max(on.open, min(on.close, clock_ns) - DAY_NS), on.close)
        request: Request | None = self._provider.request(task.symbol, task.timeframe, on)
        whole = Reading()
        for page in range(MAX_PAGES):
            assert request is not None
            if page:
                await _until_permitted(plan)
            body = await self._get(session, request)
            reading = self._provider.read(task.symbol, task.timeframe, body, clock_ns)
            whole.extend(reading)
            request = reading.more
            if request is None:
                return whole
        raise Failed(f"an answer of more than {MAX_PAGES} pages")

    async def _get(self, session: aiohttp.ClientSession, request: Request) -> bytes:
        assert self._provider is not None
        self._counts["requests"] += 1
        url = URL(self._settings.url.rstrip("/") + request.path, encoded=True)
        try:
            # A redirect is not followed: it would take our key elsewhere.
            async with session.get(url, headers=request.headers, allow_redirects=False) as answer:
                body = await bounded_body(answer, MAX_BODY_BYTES)
                status, retry_after = answer.status, answer.headers.get("Retry-After")
        except TooLarge as error:
            raise Failed(str(error)) from None
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Failed(f"no answer: {str(error) or type(error).__name__}") from None
        check(status, retry_after, self._provider.complaint(body) if status != 200 else "", self._clock())
        return body

    def _note(self, what: str, where: str, why: str) -> None:
        self._counts[what] += 1
        if self._last_error != (said := f"{where}: {why}"):
            log.warning("a poll brought nothing", provider=self.name, what=what, error=said)
        self._last_error = said

    def _shown(self, text: str) -> str:
        return text if self._provider is None else self._provider.shown(text)

    def _said_of(self, plan: Plan, task: Task, now: float, clock_ns: int) -> dict[str, Any]:
        return {
            "symbol": task.symbol,
            "timeframe": task.timeframe,
            "price": None if task.price is None else task.price.price,
            "price_time": None if task.price is None else task.price.time,
            "last_success": task.polled_clock,
            "bars": len(task.series),
            "error": task.error,
            "refused": task.refused,
            "stale": plan.stale(task, now, clock_ns),
        }


class _Off(Exception):
    """What the settings lack; the message is for the user."""


async def _until_permitted(plan: Plan) -> None:
    """Wait until the next page may be asked for."""
    wait = plan.page(time.monotonic())
    while wait > 0:
        await asyncio.sleep(wait)
        wait = plan.page(time.monotonic())
