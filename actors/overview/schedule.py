"""Which questions may be asked now: a pure machine of their intervals, each provider's request budget and circuit
breaker, and how the last requests went. Who failed is left alone for a while that doubles, and is not asked meanwhile
whoever wants to know (a negative cache); who asks for a rest (Retry-After) gets it. Waits are lengthened by chance, so
that many who lost the same provider do not come back at once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from actors.metering.breakers import changes_of
from actors.overview.question import Question
from actors.polling.breaker import Breaker
from actors.request_budget import RequestBudget
from config.overview_settings import OverviewSettings

#: What the provider refuses is asked for this often: a plan may change.
REFUSED_RETRY_S: Final = 3600.0
#: A refresh asks for nothing that is younger than this part of its interval, nor than so many seconds.
_REFRESHED_PART: Final = 0.1
_REFRESHED_S: Final = 10.0


@dataclass(slots=True, eq=False)
class Asking:
    """One question, and how it goes."""

    question: Question
    next_at: float = 0.0
    failures: int = 0
    asked_at: float | None = None
    answered_at: float | None = None
    #: Of the last request, in seconds.
    took_s: float = 0.0
    on_its_way: bool = False
    #: Why the last request brought nothing, empty when it did.
    error: str = ""
    ticket: int = 0


@dataclass(slots=True, eq=False)
class _Provider:
    breaker: Breaker
    budget: RequestBudget
    resting_until: float = 0.0
    limits: int = 0
    counts: Counter[str] = field(default_factory=Counter)


class Schedule:
    """Each question that `due` gives is ended by one of `answered`, `failed`, `refused` and `limited`. `chance` gives
    numbers from 0 to 1."""

    def __init__(
        self,
        questions: Iterable[Question],
        per_minute: Callable[[str], float],
        settings: OverviewSettings,
        chance: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._chance = chance
        self._asking = {question.name: Asking(question) for question in questions}
        breaker = settings.breaker
        limits = (breaker.failures, breaker.successes, breaker.first_wait_s, breaker.longest_wait_s)
        self._providers = {
            name: _Provider(Breaker(name, *limits, changes_of(f"overview:{name}")), RequestBudget(per_minute(name)))
            for name in dict.fromkeys(asking.question.provider for asking in self._asking.values())
        }

    def due(self, now: float, wanted: Callable[[Question], bool]) -> list[Asking]:
        """Those to ask now, the longest overdue first; one request of its budget is spent for each."""
        found = []
        for asking in sorted(self._asking.values(), key=lambda one: one.next_at):
            if asking.on_its_way or now < asking.next_at or not wanted(asking.question):
                continue
            provider = self._of(asking)
            if provider.breaker.retry_after(now) > 0 or provider.budget.take(1.0, now) > 0:
                continue
            asking.ticket = provider.breaker.admit(now)
            asking.on_its_way, asking.asked_at = True, now
            provider.counts["requests"] += 1
            found.append(asking)
        return found

    def next_at(self, now: float) -> float:
        """When something will be due that is not yet; infinite for nothing."""
        return min((one.next_at for one in self._asking.values() if one.next_at > now), default=float("inf"))

    def resting(self, now: float) -> list[Question]:
        """Those whose provider is left alone now, because it failed or asked for it."""
        return [
            asking.question
            for asking in self._asking.values()
            if (own := self._of(asking)).resting_until > now or own.breaker.retry_after(now) > 0
        ]

    def answered(self, asking: Asking, now: float, in_doubt: bool) -> None:
        """It said what can be used. `in_doubt`: some of it is to be said once more, soon."""
        provider = self._end(asking, now, "answered", "")
        provider.breaker.succeeded(asking.ticket)
        provider.limits = asking.failures = 0
        asking.answered_at = now
        interval = asking.question.interval_s
        asking.next_at = now + self._longer(min(interval, self._settings.first_retry_s) if in_doubt else interval)

    def failed(self, asking: Asking, now: float, why: str) -> None:
        """No usable answer."""
        self._end(asking, now, "failed", why).breaker.failed(asking.ticket, now)
        self._put_off(asking, now)

    def refused(self, asking: Asking, now: float, why: str) -> None:
        """The provider is well and does not want to say this."""
        self._end(asking, now, "refused", why).breaker.succeeded(asking.ticket)
        asking.next_at = now + self._longer(REFUSED_RETRY_S)

    def limited(self, asking: Asking, now: float, retry_after_s: float | None) -> float:
        """The provider asks for a rest; gives its seconds. Nothing at all is asked of it meanwhile."""
        provider = self._of(asking)
        rest = self._longer(self._backoff(provider.limits) if retry_after_s is None else retry_after_s)
        provider.limits += 1
        provider.budget.pause(rest, now)
        provider.resting_until = max(provider.resting_until, now + rest)
        provider.breaker.abandoned(asking.ticket)
        self._end(asking, now, "limited", f"too many requests, resting for {rest:.0f} s")
        asking.next_at = now + rest
        return rest

    def refresh(self, now: float) -> None:
        """Ask soon for what was answered a while ago; who failed or rests is left alone."""
        for asking in self._asking.values():
            age = max(_REFRESHED_S, _REFRESHED_PART * asking.question.interval_s)
            if not asking.error and asking.answered_at is not None and now - asking.answered_at >= age:
                asking.next_at = min(asking.next_at, now)

    def slowest_s(self) -> float:
        """What the slowest of the last requests took."""
        return max((asking.took_s for asking in self._asking.values()), default=0.0)

    def breaker_is_open(self, provider: str) -> bool:
        """Whether it is left alone because it failed."""
        return self._providers[provider].breaker.state != "closed"

    def status(self, now: float) -> dict[str, dict[str, Any]]:
        """By provider: its breaker, how many requests it may get now and how long it rests, what became of the
        requests, and its questions. Seconds are from now on, or ago."""
        return {name: self._said_of(name, provider, now) for name, provider in self._providers.items()}

    def _said_of(self, name: str, provider: _Provider, now: float) -> dict[str, Any]:
        own = [asking for asking in self._asking.values() if asking.question.provider == name]
        breaker = asdict(provider.breaker.stats(now))
        # A time of the steady clock says nothing to anybody else.
        del breaker["component"], breaker["opened_at"]
        resting = max(0.0, provider.resting_until - now)
        return {
            "breaker": breaker,
            "requests_per_minute": provider.budget.per_minute,
            "resting_s": resting,
            "can_ask_now": resting == 0 and provider.breaker.retry_after(now) == 0,
            **{name: provider.counts[name] for name in ("requests", "answered", "failed", "refused", "limited")},
            "questions": {
                asking.question.name: {
                    "asked_s": None if asking.asked_at is None else now - asking.asked_at,
                    "answered_s": None if asking.answered_at is None else now - asking.answered_at,
                    "next_s": max(0.0, asking.next_at - now),
                    "took_s": asking.took_s,
                    "error": asking.error,
                }
                for asking in own
            },
        }

    def _of(self, asking: Asking) -> _Provider:
        return self._providers[asking.question.provider]

    def _end(self, asking: Asking, now: float, how: str, error: str) -> _Provider:
        provider = self._of(asking)
        provider.counts[how] += 1
        asking.on_its_way, asking.error = False, error
        asking.took_s = now - (asking.asked_at or now)
        return provider

    def _put_off(self, asking: Asking, now: float) -> None:
        asking.next_at = now + self._longer(self._backoff(asking.failures))
        asking.failures += 1

    def _backoff(self, failures: int) -> float:
        return min(self._settings.first_retry_s * 2.0 ** min(failures, 30), self._settings.longest_retry_s)

    def _longer(self, wait_s: float) -> float:
        return wait_s * (1 + self._settings.jitter * self._chance())
