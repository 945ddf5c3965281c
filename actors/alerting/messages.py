"""What the channels are told of a firing."""

from email.message import EmailMessage
from typing import Any, Final

import msgspec

from actors.alerting.conditions import CONDITIONS
from storage.alert_log import Alert, Firing

_encode: Final = msgspec.json.Encoder().encode


def firing_of(alert: Alert, at: int, value: float, price: float, now_ns: int) -> Firing:
    """What an alert says that fires at an event; `price` may be NaN."""
    said = CONDITIONS[alert.condition].message(alert.threshold, value, alert.timeframe)
    return Firing(
        alert_id=alert.alert_id,
        exchange=alert.exchange,
        symbol=alert.symbol,
        timeframe=alert.timeframe,
        condition=alert.condition,
        threshold=alert.threshold,
        value=value,
        price=price if price == price else None,
        ts_event=at,
        fired_at=now_ns,
        message=f"{alert.exchange} {alert.symbol}: {said}",
        note=alert.note,
    )


def as_json(firing: Firing) -> bytes:
    """For webhooks and the live feed."""
    return _encode({**msgspec.structs.asdict(firing), "delivery_id": firing.delivery_id})


def for_slack(firing: Firing) -> bytes:
    """As a message of Slack's incoming webhooks; nothing in it is read as a mention or a link."""
    lines = [firing.message, *([firing.note] if firing.note else [])]
    text = "\n".join(lines)
    details = f"{firing.condition}, {firing.delivery_id}"
    blocks: list[dict[str, Any]] = [
        {"type": "section", "text": {"type": "plain_text", "text": text, "emoji": False}},
        {"type": "context", "elements": [{"type": "plain_text", "text": details, "emoji": False}]},
    ]
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _encode({"text": escaped, "blocks": blocks})


def as_mail(firing: Firing, sender: str, to: str) -> EmailMessage:
    """The same firing has the same Message-ID. ValueError for addresses that would be more than a header."""
    mail = EmailMessage()
    mail["From"], mail["To"] = sender, to
    mail["Subject"] = f"rayfeed: {firing.message}"
    mail["Message-ID"] = f"<{firing.delivery_id.replace(':', '.')}@{sender.rpartition('@')[2]}>"
    mail["Auto-Submitted"] = "auto-generated"
    details = msgspec.structs.asdict(firing) | {"delivery_id": firing.delivery_id}
    body = [firing.message, firing.note, "", *(f"{name}: {value}" for name, value in details.items() if name != "note")]
    mail.set_content("\n".join(body))
    return mail
