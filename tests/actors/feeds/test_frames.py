import msgspec

from actors.feeds.frames import decode_each, positions_by_type, without_blanks

decode = msgspec.json.Decoder(int).decode


def test_a_frame_that_does_not_decode_keeps_its_place_and_says_why() -> None:
    events, reasons = decode_each(decode, decode, [b"1", b"", b"3", b'"x"', b"5"])
    assert events == [1, None, 3, None, 5]
    assert list(reasons) == [1, 3]
    assert "truncated" in reasons[1]
    assert "Expected `int`" in reasons[3]


def test_a_refused_frame_gets_a_second_look() -> None:
    assert decode_each(decode, len, [b"1", b"no", b"3"]) == ([1, 2, 3], {})


def test_bad_frames_at_both_ends_and_alone_are_found() -> None:
    assert decode_each(decode, decode, [b"", b"2", b""])[0] == [None, 2, None]
    assert decode_each(decode, decode, [b""])[0] == [None]
    assert decode_each(decode, decode, []) == ([], {})


def test_two_values_in_one_frame_are_not_two_events() -> None:
    events, reasons = decode_each(decode, decode, [b"1\n2", b"3"])
    assert events == [None, 3]
    assert list(reasons) == [0]


def test_nesting_too_deep_to_follow_is_a_bad_frame() -> None:
    deep = msgspec.json.Decoder(dict[str, object]).decode
    events, reasons = decode_each(deep, deep, [b'{"a":' * 100_000, b"{}"])
    assert events == [None, {}]
    assert "recursion" in reasons[0]


def test_a_text_that_is_no_unicode_is_a_bad_frame() -> None:
    text = msgspec.json.Decoder(str).decode
    events, reasons = decode_each(text, text, [b'"\xff"', b'"a"'])
    assert events == [None, "a"]
    assert list(reasons) == [0]


def test_events_are_found_by_their_type_in_order() -> None:
    assert positions_by_type([1, "a", 2, None, "b"]) == {int: [0, 2], str: [1, 4], type(None): [3]}
    assert positions_by_type([]) == {}


def test_blanks_say_nothing_and_zero_does() -> None:
    assert without_blanks({"a": "", "b": None, "c": 0, "d": False, "e": "0", "f": []}) == {
        "c": 0,
        "d": False,
        "e": "0",
        "f": [],
    }
