"""Arrow schemas of what no exchange said: what the instance and the people who use it leave in the database. Those of
events are in `storage.schema`.
"""

from typing import Any, Final

import pyarrow as pa

#: One row per alert that fired (`storage.alert_log.Firing`).
_ALERT_FIELDS: Final[list[Any]] = [
    pa.field("alert_id", pa.string(), nullable=False),
    pa.field("exchange", pa.string(), nullable=False),
    pa.field("symbol", pa.string(), nullable=False),
    pa.field("timeframe", pa.string()),
    pa.field("condition", pa.string(), nullable=False),
    pa.field("threshold", pa.float64()),
    pa.field("value", pa.float64(), nullable=False),
    pa.field("price", pa.float64()),
    pa.field("ts_event", pa.int64(), nullable=False),
    pa.field("fired_at", pa.int64(), nullable=False),
    pa.field("message", pa.string(), nullable=False),
    pa.field("note", pa.string(), nullable=False),
]
ALERTS: Final = pa.schema(_ALERT_FIELDS)

#: One row per thing that somebody changed, or that happened to an instance. `user` is "" where nobody has signed in,
#: `exchange` and `symbol` where it is about none; `details` is a JSON object.
_AUDIT_FIELDS: Final[list[Any]] = [
    pa.field("time", pa.int64(), nullable=False),
    *(
        pa.field(name, pa.string(), nullable=False)
        for name in ("id", "event", "severity", "component", "exchange", "symbol", "user", "message", "details")
    ),
]
AUDIT_LOG: Final = pa.schema(_AUDIT_FIELDS)

#: One row per published report: its pages, in English null where there is no translation. `revision` counts how often
#: it was published, `active` is false for one that was removed, whose pages are empty.
_REPORT_FIELDS: Final[list[Any]] = [
    pa.field("id", pa.int64(), nullable=False),
    pa.field("created_at", pa.int64(), nullable=False),
    pa.field("html_content", pa.string(), nullable=False),
    pa.field("css_content", pa.string()),
    pa.field("js_content", pa.string()),
    pa.field("html_content_en", pa.string()),
    pa.field("js_content_en", pa.string()),
    *(pa.field(name, pa.string(), nullable=False) for name in ("title", "title_en", "summary", "summary_en", "author")),
    pa.field("revision", pa.int64(), nullable=False),
    pa.field("active", pa.bool_(), nullable=False),
]
REPORTS: Final = pa.schema(_REPORT_FIELDS)

#: One row per user. What they sign in with is kept elsewhere.
_USER_FIELDS: Final[list[Any]] = [
    pa.field("user_id", pa.string(), nullable=False),
    pa.field("name", pa.string(), nullable=False),
    pa.field("email", pa.string()),
    pa.field("role", pa.string(), nullable=False),
    pa.field("active", pa.bool_(), nullable=False),
    pa.field("created_at", pa.int64(), nullable=False),
]
USERS: Final = pa.schema(_USER_FIELDS)
