"""What an answer means, whatever its body."""

import pytest

from actors.polling.provider import (
    LONGEST_REST_S,
    Failed,
    Limited,
    Refused,
    Request,
    check,
    one_line,
    rest_asked_for,
)

#: Fri, 05 Jul 2024 13:30:00 GMT
CLOCK = 1_720_186_200_000_000_000


@pytest.mark.parametrize("status", [400, 403, 404, 410, 422])
def test_some_answers_are_about_the_symbol(status: int) -> None:
    with pytest.raises(Refused, match=f"{status} not in your plan"):
        check(status, None, "not in your plan", CLOCK)


@pytest.mark.parametrize("status", [204, 301, 302, 407, 408, 500, 502, 503, 504, 999])
def test_others_are_about_the_provider(status: int) -> None:
    with pytest.raises(Failed, match=str(status)):
        check(status, None, "", CLOCK)


def test_refused_credentials_are_called_so() -> None:
    with pytest.raises(Failed, match="credentials were refused: 401 Unknown API Key"):
        check(401, None, "Unknown API Key", CLOCK)


def test_too_many_requests_say_how_long_to_rest() -> None:
    with pytest.raises(Limited) as limited:
        check(429, "17", "", CLOCK)
    assert limited.value.retry_after == 17
    check(200, None, "", CLOCK)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("0", 0),
        (" 120 ", 120),
        ("999999999", LONGEST_REST_S),
        ("Fri, 05 Jul 2024 13:31:30 GMT", 90),
        ("Fri, 05 Jul 2024 13:00:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_REST_S),
        ("-5", None),
        ("1e9", None),
        ("٣", None),
        ("9" * 400, None),
        ("soon", None),
        ("", None),
    ],
)
def test_a_rest_is_asked_for_in_seconds_or_by_date(header: str | None, seconds: float | None) -> None:
    assert rest_asked_for(header, CLOCK) == seconds


def test_what_is_shown_is_one_short_line_without_secrets() -> None:
    assert one_line("a\n b\x00\x1b[31m  c") == "a b [31m c"
    assert one_line("key sesame is unknown, sesame!", "sesame") == "key *** is unknown, ***!"
    assert len(one_line("x" * 10_000)) == 200


def test_a_request_does_not_show_its_headers() -> None:
    assert "sesame" not in repr(Request("/path", {"Authorization": "Bearer sesame"}))
