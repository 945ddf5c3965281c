"""What an alert may be: every mistake is one `AlertError` that names it, and what would fit."""

import difflib
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from actors.alerting.addresses import checked_mailbox, checked_url
from actors.alerting.conditions import CONDITIONS
from config import SettingsError
from storage.alert_log import Alert, Place, Targets
from storage.timeframes import MINUTE, TIMEFRAMES

#: Channel -> what it needs to know of an alert.
CHANNELS: Final = {"websocket": None, "webhook": "webhook_url", "slack": "slack_webhook_url", "email": "email"}
LONGEST_NOTE: Final = 500
LONGEST_COOLDOWN_S: Final = 366 * 86_400
_SHOWN: Final = 60


class AlertError(SettingsError):
    """An alert that cannot be; the message is one line for the user."""


class UnknownAlert(AlertError):
    """There is no alert of that id."""


class NotWritten(AlertError):
    """The disk does not take what was changed now."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What an instance can do for alerts: at most so many of them (`most`), remember so many attempts (`log_rows`),
    send `mail`, and post to addresses that are not public (`private_targets`). With `recorded` its events are replayed
    ones, however long ago they were."""

    most: int
    log_rows: int
    mail: bool
    private_targets: bool
    recorded: bool


class _Definition(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    exchange: str
    symbol: str
    condition: str
    channels: list[str]
    threshold: float | None = None
    timeframe: str | None = None
    cooldown_seconds: int = 300
    one_time: bool = False
    metadata: Targets = Targets()
    note: str = ""


class _Changed(_Definition, kw_only=True, forbid_unknown_fields=True):
    is_active: bool


def placed(given: Mapping[str, Any], collected: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """A definition whose exchange and symbol are collected (symbols by exchange); the exchange may be left out where
    one alone has the symbol."""
    exchange, symbol = given.get("exchange"), given.get("symbol")
    if not isinstance(symbol, str):
        raise AlertError("symbol: expected a name, as its exchange has it")
    having = [name for name, symbols in collected.items() if symbol in symbols]
    if exchange is None:
        if len(having) > 1:
            raise AlertError(f"exchange: {symbol} is on {', '.join(sorted(having))}; say which one is meant")
        exchange = having[0] if having else None
    elif not isinstance(exchange, str) or exchange not in collected:
        raise AlertError(_unknown("exchange", exchange, sorted(collected)))
    if exchange not in having:
        known = sorted({one for name in ([exchange] if exchange else collected) for one in collected[name]})
        where = f" on {exchange}" if exchange else ""
        near = difflib.get_close_matches(symbol[:_SHOWN], known, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else "; see rayfeed symbols list"
        raise AlertError(f"symbol: {_short(symbol)} is not collected{where}{hint}")
    return {**given, "exchange": exchange}


def new_alert(given: Mapping[str, Any], alert_id: str, now_ns: int, since: Place, rules: Rules) -> Alert:
    """An alert made of what a user said (the fields of `_Definition`), which looks at events behind `since`."""
    said = _checked(given, _Definition, rules)
    return Alert(alert_id=alert_id, created_at=now_ns, seen=since, **_fields(said))


def changed_alert(alert: Alert, given: Mapping[str, Any], since: Place, rules: Rules) -> Alert:
    """The alert with some fields of its definition changed, or `is_active`; targets that are not named stay. With
    another condition it begins anew behind `since`, as it does when it is active again."""
    before = {name: getattr(alert, name) for name in _Changed.__struct_fields__}
    before |= {"channels": list(alert.channels), "metadata": msgspec.to_builtins(alert.metadata)}
    merged = {**before, **given}
    if isinstance(given.get("metadata"), Mapping):
        merged["metadata"] = {**before["metadata"], **given["metadata"]}
    said = _checked(merged, _Changed, rules)
    for fixed in ("exchange", "symbol"):
        if getattr(said, fixed) != getattr(alert, fixed):
            raise AlertError(f"{fixed}: that of an alert cannot be changed, make another one")
    changed = msgspec.structs.replace(alert, is_active=said.is_active, **_fields(said))
    asks = ("timeframe", "condition", "threshold")
    if any(getattr(changed, name) != getattr(alert, name) for name in asks) or changed.is_active > alert.is_active:
        changed.holds, changed.quiet_until, changed.seen = None, 0, max(since, alert.seen)
    return changed


def shown(alert: Alert) -> dict[str, Any]:
    """An alert as users see it; `metadata` is a secret."""
    said: dict[str, Any] = {**msgspec.to_builtins(alert), "channels": list(alert.channels)}
    return {name: said[name] for name in shown_fields()}


def shown_fields() -> list[str]:
    return [name for name in Alert.__struct_fields__ if name not in ("seen", "quiet_until")]


def _checked[Kind: _Definition](given: Mapping[str, Any], kind: type[Kind], rules: Rules) -> Kind:
    try:
        said = msgspec.convert(dict(given), kind)
    except (msgspec.ValidationError, OverflowError, RecursionError) as error:
        raise AlertError(f"no alert can be made of this: {error}") from None
    if said.condition not in CONDITIONS:
        raise AlertError(_unknown("condition", said.condition, CONDITIONS))
    if said.timeframe is not None and said.timeframe not in TIMEFRAMES:
        raise AlertError(_unknown("timeframe", said.timeframe, TIMEFRAMES))
    _check_threshold(said.condition, said.threshold)
    if not 0 <= said.cooldown_seconds <= LONGEST_COOLDOWN_S:
        raise AlertError(f"cooldown_seconds is {said.cooldown_seconds}: expected 0 to {LONGEST_COOLDOWN_S}")
    if len(said.note) > LONGEST_NOTE or not said.note.isprintable():
        raise AlertError(f"note: expected one line of at most {LONGEST_NOTE} printable characters")
    _check_channels(said, rules)
    return said


def _check_threshold(name: str, threshold: float | None) -> None:
    most = CONDITIONS[name].most
    if most is None:
        if threshold is not None:
            raise AlertError(f"threshold is {threshold:g}: {name} takes none, the bands are it")
        return
    fits = f"expected a number from 0 to {most:g}" if math.isfinite(most) else "expected a number, 0 or more"
    if name == "macd_crossover":
        fits += ": above 0 for a crossing upwards (bullish), 0 for one downwards (bearish)"
    if threshold is None:
        raise AlertError(f"threshold is missing: {fits}")
    if not (math.isfinite(threshold) and 0 <= threshold <= most):
        raise AlertError(f"threshold is {threshold:g}: {fits}")


def _check_channels(said: _Definition, rules: Rules) -> None:
    if not said.channels:
        raise AlertError(f"channels: expected one or more of {', '.join(CHANNELS)}")
    for channel in said.channels:
        if channel not in CHANNELS:
            raise AlertError(_unknown("channels", channel, CHANNELS))
        target = CHANNELS[channel]
        if target is not None and not getattr(said.metadata, target):
            raise AlertError(f"metadata.{target} is missing: channel {channel} sends there")
    if "email" in said.channels and not rules.mail:
        raise AlertError("channels: no e-mail can be sent, as the settings have no alerts.smtp")

    def check(field: str, rule: Callable[[str], object]) -> None:
        value = getattr(said.metadata, field)
        try:
            if value is not None:
                rule(value)
        except ValueError as error:
            raise AlertError(f"metadata.{field}: {error}") from None

    check("email", checked_mailbox)
    check("webhook_url", lambda url: checked_url(url, rules.private_targets))
    check("slack_webhook_url", lambda url: checked_url(url, rules.private_targets))


def _fields(said: _Definition) -> dict[str, Any]:
    timeframe = None if CONDITIONS[said.condition].of_trades else said.timeframe or MINUTE
    named = {name: getattr(said, name) for name in _Definition.__struct_fields__}
    return {**named, "channels": tuple(dict.fromkeys(said.channels)), "timeframe": timeframe}


def _unknown(field: str, value: object, known: Sequence[str] | Mapping[str, Any]) -> str:
    return f"{field}: there is no {_short(value)}, only {', '.join(known)}"


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
