"""Reports over the API: to list and read them by programs, to publish and to remove them. Publishing is for admins, and
for a program that knows `AUTO_UPDATE_SECRET_KEY`.
"""

import hmac
from typing import Any, Final

import msgspec

from actors.report_book import Given, NotWritten, ReportError, TooLarge, UnknownReport, keyed
from actors.reports import Found, Listed, shown
from serve_apps.asgi import BadRequest, Receive, Scope, Send, header_of, last_segment, read_body, send_whole
from serve_apps.auth_identity import identity_of
from serve_apps.bodies import HEADERS, send_json
from serve_apps.parameters import Parameter, Route, number, text
from serve_apps.reports_publishing import KEY_HEADER, MOST_BODY_BYTES, REPORTS
from serve_apps.reports_source import AskReports
from serve_apps.shared_answer import NoAnswer
from serve_apps.token import check_token

METHODS: Final = ("GET", "HEAD", "POST", "DELETE")
#: Who published with that key.
AUTO_UPDATE: Final = "auto-update"
_NO_STORE: Final = ((b"cache-control", b"no-store"),)

LIMIT: Final = number("limit", "Reports of a page at most.", 20, 100)
CURSOR: Final[Parameter[str | None]] = text("cursor", "next_cursor of the page before.")
_ID: Final = {"id": "The number of a report; -1 is the latest."}
_EXAMPLE: Final = {
    "id": 1,
    "version": 1,
    "created_at": 1769860800000000000,
    "updated_at": 1769860800000000000,
    "author": "ada",
    "key": "daily-2026-01-31",
    "title_vi": "Báo cáo ngày 31/01/2026",
    "title_en": "Report of 31 January 2026",
    "summary_vi": "",
    "summary_en": "",
    "has_english": True,
}
_GIVEN: Final = {
    "title_vi": "Báo cáo ngày 31/01/2026",
    "title_en": "Report of 31 January 2026",
    "html_vi": "<section><h2>Giá</h2></section>",
    "html_en": "<section><h2>Prices</h2></section>",
    "key": "daily-2026-01-31",
}
ROUTES: Final = (
    Route(
        REPORTS,
        "All reports, the newest first, without their pages",
        (LIMIT, CURSOR),
        example={"reports": [_EXAMPLE], "total": 1, "next_cursor": None},
        errors=(400, 503),
    ),
    Route(
        REPORTS,
        "Publish a report",
        method="POST",
        about="With a `key` that was given before it takes the place of that report, as its next version. Its HTML is "
        "sanitised when it is shown; its scripts run in a sandbox. All pages together may have 5 MiB. Besides by an "
        "admin it can be done with `X-Auto-Update-Key`; 503 where AUTO_UPDATE_SECRET_KEY is not set.",
        body=next(iter(msgspec.json.schema_components([Given])[1].values())),
        body_example=_GIVEN,
        example={**_EXAMPLE, "warnings": []},
        status=201,
        errors=(400, 401, 403, 413, 415, 503),
        needs_token=True,
    ),
    Route(REPORTS + "/{id}", "One report with its pages, as they were given", segments=_ID, example=_EXAMPLE),
    Route(
        REPORTS + "/{id}",
        "Remove a report",
        method="DELETE",
        segments={"id": "The number of a report."},
        status=204,
        errors=(400, 401, 403, 404, 503),
        needs_token=True,
    ),
)


class ReportsApi:
    """ASGI application that answers `ROUTES`. `token` is the instance's own, `key` the one that lets a program publish;
    None: none does."""

    def __init__(self, ask: AskReports, token: str, key: str | None) -> None:
        self._ask = ask
        self._token = token
        self._key = key

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method = "GET" if scope["method"] == "HEAD" else scope["method"]
        try:
            match method, last_segment(scope, REPORTS).strip("/"):
                case "GET", "":
                    await send_json(send, await self._list(scope))
                case "POST", "":
                    await self._publish(scope, receive, send)
                case "GET", number:
                    found: Found = await self._ask("report", _id(number))
                    await send_json(send, shown(found.report) | {"pages": found.pages}, headers=HEADERS)
                case "DELETE", number:
                    check_token(scope, self._token, "Removing reports")
                    await self._ask("remove", _id(number))
                    await send_whole(send, 204, _NO_STORE, b"")
                case _:
                    raise BadRequest(404, f"There is nothing here; {REPORTS} lists the reports.")
        except UnknownReport as error:
            raise BadRequest(404, f"{error}; {REPORTS} lists them.") from None
        except TooLarge as error:
            raise BadRequest(413, f"{error}.") from None
        except NotWritten as error:
            raise NoAnswer(f"{error}.") from None
        except ReportError as error:
            raise BadRequest(400, f"{error}.") from None

    async def _list(self, scope: Scope) -> dict[str, Any]:
        query = ROUTES[0].query(scope)
        limit, cursor = LIMIT.of(query), CURSOR.of(query)
        if cursor is not None and not (cursor.isascii() and cursor.isdigit() and len(cursor) <= 15):
            raise BadRequest(400, "cursor must be next_cursor of the page before, as it was.")
        listed: Listed = await self._ask("newest", limit + 1, None if cursor is None else int(cursor))
        more = len(listed.reports) > limit
        reports = listed.reports[:limit]
        return {
            "reports": [shown(report) for report in reports],
            "total": listed.total,
            "next_cursor": str(reports[-1].id) if more else None,
        }

    async def _publish(self, scope: Scope, receive: Receive, send: Send) -> None:
        author = self._author(scope)
        kind = (header_of(scope, b"content-type") or b"").partition(b";")[0].strip().lower()
        # A page of another origin cannot send this type without being asked first whether it may.
        if kind != b"application/json":
            raise BadRequest(415, "The body must be JSON: Content-Type: application/json.")
        try:
            given = msgspec.json.decode(await read_body(receive, MOST_BODY_BYTES), type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise BadRequest(400, f"The body must be a JSON object: {error}.") from None
        report = await self._ask("publish", keyed(given), author)
        where = (b"location", f"{REPORTS}/{report['id']}".encode())
        await send_json(send, report, 201, (*_NO_STORE, where))

    def _author(self, scope: Scope) -> str:
        """Who publishes; `BadRequest` for who may not."""
        given = header_of(scope, KEY_HEADER)
        if given is None:
            check_token(scope, self._token, "Publishing reports")
            identity = identity_of(scope)
            return identity.name if identity is not None else ""
        if not self._key:
            raise BadRequest(503, "Publishing with a key is off here: AUTO_UPDATE_SECRET_KEY is not set.")
        if not hmac.compare_digest(given, self._key.encode()):
            raise BadRequest(403, "This is not the key that publishes here.")
        return AUTO_UPDATE


def _id(number: str) -> int:
    digits = number.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 15):
        raise BadRequest(400, "A report is named by a whole number; -1 is the latest.")
    return int(number)
