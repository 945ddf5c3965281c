"""MarketOverview: I know the numbers a dashboard begins with: prices of our own feed, and of the internet what we have
not. I ask each provider as often as it allows, and tell what is known, of when, and by whom. I own no data: when I die,
I ask again, and what was told last is in Redis. I survive providers that are down, slow, wrong or refuse, and a Redis
that is away. Where several instances share a Redis one of us asks for all.
"""

import asyncio
import os
import random
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Literal

import aiohttp
import msgspec
import structlog

from actors.buckets import Buckets
from actors.overview import binance, own_feed
from actors.overview.fields import FIELDS
from actors.overview.knowledge import Knowledge
from actors.overview.own_feed import DAY_BARS, DAY_BARS_LIMIT, RSI_DAYS, Market, Trade
from actors.overview.providers import Keys, providers
from actors.overview.question import shown
from actors.overview.schedule import Asking, Schedule
from actors.overview.summary import is_known, restored, summary
from actors.overview_redis import Away, OverviewRedis
from actors.overview_requests import ask, session
from actors.own_market import OwnMarket
from actors.polling.provider import Failed, Limited, Refused
from config.overview_settings import OverviewSettings

#: Bars of five minutes and of days are asked for this often: they change no quicker.
BARS_S: Final = 60.0
#: However many answers come, the whole is told no more often.
LEAST_S: Final = 0.1
#: So many refreshes at once, and as many again in so many seconds: of everybody together.
REFRESHES: Final = 3
REFRESHES_PER_S: Final = 30.0

#: Is told (topic, rows) what has changed.
Tell = Callable[[str, Sequence[dict[str, Any]]], Awaitable[Any]]
Role = Literal["leader", "follower", "alone"]

log = structlog.get_logger(__name__)


class MarketOverview:
    """An actor: one per instance. `outside`: whether providers on the internet are asked; `recorded`: the time is that
    of our newest trade. `redis` None: nobody else is told."""

    def __init__(
        self,
        settings: OverviewSettings,
        keys: Keys,
        own: OwnMarket,
        redis_url: str | None = None,
        prefix: str = "",
        tell: Tell | None = None,
        outside: bool = False,
        recorded: bool = False,
        clock: Callable[[], int] = time.time_ns,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = settings
        self._providers = providers(settings, keys, outside)
        self._own = own
        self._tell = tell
        self._recorded = recorded
        self._outside = outside
        self._clock = clock
        self._knowledge = Knowledge(self._providers.sources(settings), settings.stale_after_s.model_dump())
        asked = self._providers.by_name
        self._schedule = Schedule(
            self._providers.questions, lambda name: asked[name].requests_per_minute, settings, chance
        )
        self._markets = {coin: [Market.of(text) for text in texts] for coin, texts in settings.coins.items()}
        self._redis: OverviewRedis | None = None
        if redis_url is not None:
            self._redis = OverviewRedis(redis_url, prefix, f"{os.getpid()}-{secrets.token_hex(8)}", settings.lease_s)
        self._role: Role = "alone"
        self._token = 0
        self._refreshes = Buckets(REFRESHES, REFRESHES_PER_S)
        #: By market the price a day before, and of when the bars were that it was found in.
        self._day_before: dict[Market, tuple[float, float | None]] = {}
        self._rsi_at = -BARS_S
        self._rsi: dict[str, Any] = {}
        self._newest_trade_ns = 0
        self._own_at = float("-inf")
        self._said: dict[str, Any] | None = None
        self._told: dict[str, Any] | None = None
        self._since = time.monotonic()
        self._woken = asyncio.Event()
        self._stepped = asyncio.Condition()
        #: Steps that have begun, and those that are done.
        self._begun = self._done = 0
        self._asked: set[asyncio.Task[None]] = set()
        #: Providers whose breaker is open, as it was logged.
        self._left_alone: set[str] = set()
        self._task: asyncio.Task[None] | None = None
        self._failure = ""
        self._last_error = ""

    def __repr__(self) -> str:
        return f"MarketOverview({len(self._providers.by_name)} providers)"

    async def start(self) -> None:
        """Begin; does nothing when it runs already."""
        if self._task is None or self._task.done():
            self._failure = ""
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stop and let another lead; requests on their way are forgotten."""
        tasks = [*self._asked, *([] if self._task is None else [self._task])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._redis is not None:
            with suppress(Away):
                await self._redis.release()
            await self._redis.close()

    async def summary(self) -> dict[str, Any] | None:
        """See `actors.overview.summary.summary`; None while nothing at all is known."""
        return self._said

    async def refresh(self) -> tuple[float, dict[str, Any] | None]:
        """Ask again now for what was heard a while ago, and then `summary`. With the seconds to wait, and without one,
        for who asks too often."""
        taken = self._refreshes.take("", time.monotonic())
        if not taken.allowed:
            return taken.retry_in_s, None
        self._schedule.refresh(time.monotonic())
        self._own_at = float("-inf")
        # The step that is under way may have begun without it.
        wanted = self._begun + 1
        self._woken.set()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._settings.timeout_s), self._stepped:
                await self._stepped.wait_for(lambda: self._done >= wanted and not self._asked)
        return 0.0, await self.summary()

    async def limits(self) -> dict[str, Any]:
        """How it stands with each provider; see `Schedule.status`."""
        now = time.monotonic()
        said = self._schedule.status(now)
        of_binance = said.get(binance.NAME, {"questions": {}, "can_ask_now": False})
        question = of_binance["questions"].get(binance.NAME, {"asked_s": None})
        return {
            "rate_limit_status": {
                # As clients of the path know it.
                "btc_api_circuit_breaker_open": binance.NAME in said and self._schedule.breaker_is_open(binance.NAME),
                "seconds_since_last_btc_fetch": None if question["asked_s"] is None else int(question["asked_s"]),
                "can_fetch_btc_now": of_binance["can_ask_now"],
            },
            "role": self._role,
            "providers": said,
            "off": dict(self._providers.off),
            "server_info": {
                "total_requests": sum(one["requests"] for one in said.values()),
                "uptime_seconds": int(now - self._since),
            },
        }

    async def status(self) -> dict[str, Any]:
        """`known` and `stale` count numbers of the overview."""
        origins = [] if self._said is None else list(self._said["fields"].values())
        known = [one for one in origins if one["source"] is not None]
        stale = sum(one["stale"] for one in known)
        said = self._schedule.status(time.monotonic())
        broken = [name for name in said if self._schedule.breaker_is_open(name)]
        remark = f"{self._role}, {len(known)} of {len(FIELDS)} known, {stale} stale"
        return {
            "actor": repr(self),
            "pid": os.getpid(),
            "running": self._task is not None and not self._task.done(),
            "failure": self._failure,
            "role": self._role,
            "known": len(known),
            "stale": stale,
            "remark": f"{remark}; left alone: {', '.join(broken)}" if broken else remark,
            "last_error": self._last_error,
            "requests": sum(one["requests"] for one in said.values()),
        }

    async def _run(self) -> None:
        try:
            async with session(self._settings.timeout_s) as client:
                while True:
                    await self._step(client)
                    now = time.monotonic()
                    until = min(self._own_at + self._settings.interval_s, self._schedule.next_at(now))
                    with suppress(TimeoutError):
                        async with asyncio.timeout(max(until - now, 0)):
                            await self._woken.wait()
                    self._woken.clear()
                    await asyncio.sleep(min(LEAST_S, self._settings.interval_s))
        except Exception as error:  # noqa: BLE001 - nobody waits for this task; the supervisor reads the status
            self._failure = self._shown(repr(error))
            log.error("the overview failed", error=self._failure)

    async def _step(self, client: aiohttp.ClientSession) -> None:
        self._begun += 1
        if time.monotonic() >= self._own_at + self._settings.interval_s:
            self._own_at = time.monotonic()
            await self._lead()
            if self._role != "follower":
                await self._look_at_own()
        if self._role != "follower":
            now = time.monotonic()
            for question in self._schedule.resting(now):
                self._knowledge.passed_over(question.name)
            for asking in self._schedule.due(now, lambda question: self._knowledge.wants(question.name, now)):
                task = asyncio.create_task(self._ask(client, asking))
                self._asked.add(task)
                task.add_done_callback(self._ended)
            await self._publish()
        if self._said is not None and self._said is not self._told and self._tell is not None:
            self._told = self._said
            await self._tell("dashboard", [{"symbol": "summary", "kind": "summary", "summary": self._said}])
        async with self._stepped:
            self._done = self._begun
            self._stepped.notify_all()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._asked.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = self._shown(repr(error))
        self._woken.set()

    # ---- who asks for all

    async def _lead(self) -> None:
        """Take or keep the lead, or follow who has it. Without Redis nobody can be in anybody's way."""
        before = self._role
        if self._redis is None:
            return
        try:
            self._token = await self._redis.hold()
            self._role = "leader" if self._token else "follower"
            if self._role != before or self._role == "follower":
                self._take_over(await self._redis.latest())
        except Away:
            self._role, self._token = "alone", 0
        if self._role != before:
            log.info("the overview has another role", role=self._role)

    def _take_over(self, said: dict[str, Any] | None) -> None:
        """What was told before we led, or is told by who leads: then it is what we know when Redis goes away."""
        if said is None:
            return
        if self._role == "follower":
            self._said = said
        if self._outside:
            # Of what is made up or recorded nothing is taken over.
            for name, known in restored(said):
                self._knowledge.restore(name, known, time.monotonic())

    async def _publish(self) -> None:
        now, clock_ns = time.monotonic(), self._now_ns()
        known = {name: self._knowledge.known(name, now, clock_ns) for name in FIELDS}
        said = summary(known, self._clock(), self._schedule.slowest_s())
        if not is_known(said):
            return
        if self._redis is not None and self._token:
            try:
                if not await self._redis.write(self._token, msgspec.json.encode(said)):
                    # Somebody else leads by now: what they say counts.
                    self._role, self._token = "follower", 0
                    return
            except Away:
                self._role, self._token = "alone", 0
        self._said = said

    # ---- our own feed

    async def _look_at_own(self) -> None:
        trades = await self._newest_trades()
        if not trades:
            self._knowledge.missed(own_feed.NAME)
            return
        day_before = {coin: await self._price_a_day_before(trade) for coin, trade in trades.items()}
        said = {**own_feed.readings(trades, day_before), **await self._own_rsi()}
        self._knowledge.hear(own_feed.NAME, said, time.monotonic(), self._now_ns())

    async def _newest_trades(self) -> dict[str, Trade]:
        """Of each coin the newest trade of the first market that is alive."""
        every = [market for markets in self._markets.values() for market in markets]
        seconds = await self._own.newest_seconds(every)
        trades = {market: own_feed.newest_trade(market, seconds.get(market)) for market in every}
        newest = max((trade.time for trade in trades.values() if trade is not None), default=0)
        self._newest_trade_ns = max(newest, self._newest_trade_ns)
        clock_ns = self._now_ns()
        found: dict[str, Trade] = {}
        for coin, markets in self._markets.items():
            for market in markets:
                trade = trades[market]
                if trade is not None and own_feed.is_fresh(trade, clock_ns):
                    found[coin] = trade
                    break
        return found

    async def _price_a_day_before(self, trade: Trade) -> float | None:
        looked_at, price = self._day_before.get(trade.market, (-BARS_S, None))
        if time.monotonic() - looked_at >= min(BARS_S, 12 * self._settings.interval_s):
            bars = await self._own.bars(trade.market, DAY_BARS, DAY_BARS_LIMIT)
            price = None if bars is None else own_feed.price_a_day_before(bars, trade.time)
            self._day_before[trade.market] = (time.monotonic(), price)
        return price

    async def _own_rsi(self) -> dict[str, Any]:
        if time.monotonic() - self._rsi_at >= min(BARS_S, 12 * self._settings.interval_s):
            self._rsi_at, self._rsi = time.monotonic(), {}
            for market in self._markets.get("btc", ()):
                bars = await self._own.bars(market, "1d", RSI_DAYS + 1)
                if bars is None or bars.num_rows < RSI_DAYS:
                    continue
                indicators = await self._own.indicators(market, "1d", 1)
                if indicators is not None and (found := own_feed.daily_rsi(market, bars, indicators)):
                    self._rsi = found
                    break
        return self._rsi

    def _now_ns(self) -> int:
        """In a replay the time is that of what is replayed."""
        return self._newest_trade_ns if self._recorded else self._clock()

    # ---- others

    async def _ask(self, client: aiohttp.ClientSession, asking: Asking) -> None:
        question, schedule = asking.question, self._schedule
        try:
            readings = await ask(client, self._providers.by_name[question.provider].url, question, self._clock)
        except (Limited, Refused, Failed) as error:
            self._knowledge.missed(question.name)
            why, now = self._shown(str(error)), time.monotonic()
            if isinstance(error, Limited):
                schedule.limited(asking, now, error.retry_after)
            elif isinstance(error, Refused):
                schedule.refused(asking, now, why)
            else:
                schedule.failed(asking, now, why)
        else:
            now = time.monotonic()
            wrong = self._knowledge.hear(question.name, readings, now, self._now_ns())
            said = ", ".join(f"{name}: {why}" for name, why in wrong.items())
            doubts = self._knowledge.doubts(question.name)
            if len(wrong) == len(readings) and not doubts:
                schedule.failed(asking, now, said)
            else:
                schedule.answered(asking, now, doubts)
                asking.error = said[:300]
        if asking.error:
            self._last_error = f"{question.name}: {asking.error}"
        elif self._last_error.startswith(f"{question.name}: "):
            self._last_error = ""
        # Each time it is tried again would be too much for a log.
        is_open = schedule.breaker_is_open(question.provider)
        if is_open != (question.provider in self._left_alone):
            self._left_alone ^= {question.provider}
            state = "is left alone for a while" if is_open else "answers again"
            log.info(f"a provider {state}", provider=question.provider, error=asking.error)

    def _shown(self, text: str) -> str:
        return shown(text, self._providers.secrets)
