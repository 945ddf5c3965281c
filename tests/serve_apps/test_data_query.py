"""The query string of `/api/data`."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serve_apps.data_query import MAX_COLUMNS, BadRequest, DataQuery, parse, parse_again, parse_u32
from storage.schema import COLUMNS

GOOD = "symbol=BTC-USD&type=TRADES&start=1&end=2&columns=time,price"


def refused(query: str) -> str:
    with pytest.raises(BadRequest) as error:
        parse(query.encode())
    return str(error.value)


# In the order of the checks; each case still has every later fault.
@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("", "Missing query string"),
        ("&", "Missing symbol"),
        ("x=1", "Missing symbol"),
        ("Symbol=a", "Missing symbol"),
        ("symbol=a", "Missing type"),
        ("symbol=a&type=b", "Missing start"),
        ("symbol=a&type=b&start=x", "Invalid start: invalid digit found in string"),
        ("symbol=a&type=b&start=", "Invalid start: cannot parse integer from empty string"),
        ("symbol=a&type=b&start", "Invalid start: cannot parse integer from empty string"),
        ("symbol=a&type=b&start=4294967296", "Invalid start: number too large to fit in target type"),
        ("symbol=a&type=b&start=1", "Missing end"),
        ("symbol=a&type=b&start=1&end=-1", "Invalid end: invalid digit found in string"),
        ("symbol=a&type=b&start=1&end=", "Invalid end: cannot parse integer from empty string"),
        ("symbol=a&type=b&start=1&end=99999999999", "Invalid end: number too large to fit in target type"),
        ("symbol=a&type=b&start=1&end=2", "Missing columns"),
        ("symbol=a&type=TRADES&start=1&end=2&columns=volume", "Unknown column: volume"),
        ("symbol=a&type=MD&start=1&end=2&columns=time,size", "Unknown column: size"),
        ("symbol=a&type=MD&start=1&end=2&columns=", "Unknown column: (empty)"),
        ("symbol=a&type=MD&start=1&end=2&columns=time,,price", "Unknown column: (empty)"),
        ("symbol=a&type=ORDERS&start=1&end=2&columns=maker", "Unknown column: maker"),
        ("symbol=a&type=MD&start=1&end=2&columns=Time", "Unknown column: Time"),
    ],
)
def test_the_first_failing_check_names_itself(query: str, text: str) -> None:
    assert refused(query) == text


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        ("+5", "invalid digit found in string"),  # a plus in a query string is a space
        ("%2B", "invalid digit found in string"),
        ("%2B%2B5", "invalid digit found in string"),
        ("-1", "invalid digit found in string"),
        ("-", "invalid digit found in string"),
        ("1.5", "invalid digit found in string"),
        ("5%20", "invalid digit found in string"),
        ("1e3", "invalid digit found in string"),
        ("1_000", "invalid digit found in string"),
        ("%D9%A3", "invalid digit found in string"),  # an Arabic-Indic digit
        ("5%00", "invalid digit found in string"),
        ("", "cannot parse integer from empty string"),
        ("4294967296", "number too large to fit in target type"),
        ("%2B4294967296", "number too large to fit in target type"),
        ("4294967296x", "number too large to fit in target type"),
        ("429496729x", "invalid digit found in string"),
        ("4294967295x", "invalid digit found in string"),
        ("9" * 10_000, "number too large to fit in target type"),
    ],
)
def test_start_and_end_fail_as_an_unsigned_integer_of_rust_does(sent: str, reason: str) -> None:
    assert refused(GOOD.replace("start=1", f"start={sent}")) == f"Invalid start: {reason}"
    assert refused(GOOD.replace("end=2", f"end={sent}")) == f"Invalid end: {reason}"


@pytest.mark.parametrize(
    ("sent", "seconds"),
    [("%2B5", 5), ("0", 0), ("007", 7), ("0" * 10_000 + "7", 7), ("4294967295", 2**32 - 1), ("%31", 1)],
)
def test_start_and_end_are_decimal_seconds(sent: str, seconds: int) -> None:
    assert parse(GOOD.replace("start=1", f"start={sent}").encode()).start_ns == seconds * 10**9


def test_the_range_holds_the_whole_last_second() -> None:
    query = parse(GOOD.encode())
    assert (query.start_ns, query.end_ns) == (1_000_000_000, 2_999_999_999)


def rust_u32(text: str) -> int | str:
    """`u32::from_str`, step by step."""
    if text == "":
        return "cannot parse integer from empty string"
    if text in ("+", "-"):
        return "invalid digit found in string"
    result = 0
    for character in text.removeprefix("+"):
        grown = result * 10
        if character not in "0123456789":
            return "invalid digit found in string"
        if grown >= 2**32 or grown + int(character) >= 2**32:
            return "number too large to fit in target type"
        result = grown + int(character)
    return result


@given(st.text("+-0123456789 x.٣", max_size=14) | st.integers(2**32 - 100, 2**32 + 100).map(str))
def test_integers_are_read_as_rust_reads_them(text: str) -> None:
    try:
        number: int | str = parse_u32(text)
    except ValueError as error:
        number = str(error)
    assert number == rust_u32(text)


def test_the_last_duplicate_of_a_key_wins() -> None:
    query = parse(f"symbol=X&exchange=a&{GOOD}&exchange=kraken&%65nd=7".encode())
    assert (query.symbol, query.exchange, query.end_ns // 10**9) == ("BTC-USD", "kraken", 7)


def test_values_are_form_urlencoded() -> None:
    query = parse(b"symbol=a+b%2Fc%C3%A9&type=%zz%4&start=1&end=2&columns=+time+%2C%20price&exchange=%FF")
    assert (query.symbol, query.row_type, query.columns) == ("a b/cé", "%zz%4", ("time", "price"))
    assert query.exchange == "\ufffd"


def test_the_exchange_is_coinbase_unless_said() -> None:
    assert parse(GOOD.encode()).exchange == "coinbase"
    assert parse(f"{GOOD}&exchange=".encode()).exchange == ""


@pytest.mark.parametrize("sent", ["0", "-1", "1.5", "many", "", "4294967296", "99999999999999999999", "+5"])
def test_a_max_points_that_is_not_a_positive_integer_is_ignored(sent: str) -> None:
    assert parse(f"{GOOD}&max_points={sent}".encode()).max_points is None


def test_max_points_is_a_positive_integer() -> None:
    assert parse(f"{GOOD}&max_points=%2B12".encode()).max_points == 12


def test_columns_keep_their_order_and_their_duplicates() -> None:
    query = parse(b"symbol=a&type=TRADES&start=1&end=2&columns=price,id,time,price")
    assert query.columns == ("price", "id", "time", "price")
    assert query.record_sizes == (4, 8, 4, 4)


@pytest.mark.parametrize("row_type", ["MD", "TRADES"])
def test_every_stored_column_can_be_asked_for_with_its_true_size(row_type: str) -> None:
    columns = next(columns for name, columns in COLUMNS.items() if name == row_type)
    query = parse(f"symbol=a&type={row_type}&start=1&end=2&columns={','.join(columns)}".encode())
    assert query.record_sizes == tuple(kind.itemsize for kind in columns.values())


def test_a_type_nobody_writes_knows_the_columns_of_all_types() -> None:
    assert parse(b"symbol=a&type=trades&start=1&end=2&columns=volume,id").record_sizes == (4, 8)


def test_the_number_of_columns_is_limited() -> None:
    many = ",".join(["time"] * MAX_COLUMNS)
    assert len(parse(f"symbol=a&type=MD&start=1&end=2&columns={many}".encode()).columns) == MAX_COLUMNS
    assert refused(f"symbol=a&type=MD&start=1&end=2&columns={many},time") == "Too many columns: at most 64"


def test_the_name_of_an_unknown_column_is_shown_short_and_without_markup() -> None:
    text = refused("symbol=a&type=MD&start=1&end=2&columns=<b>%0d%0a%22é" + "x" * 5000)
    assert text == "Unknown column: ?b?????" + "x" * 33 + "..."


@given(st.binary(max_size=200))
def test_any_bytes_are_a_query_or_a_bad_request(query: bytes) -> None:
    try:
        parse(query)
    except BadRequest as error:
        assert str(error).isprintable()


def said_by(read: Callable[[bytes], DataQuery], query: bytes) -> DataQuery | str:
    try:
        return read(query)
    except BadRequest as error:
        return str(error)


PAIRS = [
    *("start=1", "start=1755475200", "start=4294967295", "start=4294967296", "start=0000000001", "start=9999999999"),
    *("end=2", "end=1755475300", "end=", "end=x", "%65nd=7", "start_ns=5", "end_ns=9", "start", "start=+1", "=end"),
    *("symbol=BTC-USD", "symbol=XBT%2FUSD", "symbol=render", "type=TRADES", "type=MD", "columns=time,price"),
    *(
        "columns=time_ns",
        "columns=nothing",
        "exchange=kraken",
        "max_points=5",
        "decimate=last",
        "format=csv",
        "x=1",
        "",
    ),
]


@given(st.lists(st.sampled_from(PAIRS), max_size=8), st.booleans())
def test_the_quick_way_reads_what_the_plain_one_does(pairs: list[str], complete: bool) -> None:
    query = "&".join(["symbol=a", "type=MD", "columns=time", *pairs] if complete else pairs).encode()
    for _ in range(2):
        assert said_by(parse_again, query) == said_by(parse, query)
