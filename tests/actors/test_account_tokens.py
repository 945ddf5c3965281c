"""Tokens: what is signed is read back as it was until it expires, and nothing else is ever taken."""

import base64
import json
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.account_tokens import LEEWAY, SECOND, BadToken, Claims, ExpiredToken, Kind, Verifier, signed
from actors.signing_keys import SigningKey, new_key, read_keys, rotated, write_keys

NOW = 1_769_860_800 * SECOND
MINUTE = 60 * SECOND
KEY = new_key(NOW)
VERIFIER = Verifier({KEY.kid: KEY.public})


def claims(kind: Kind = "access", issued_at: int = NOW, lifetime: int = MINUTE) -> Claims:
    return Claims(
        kind=kind,
        user_id="u",
        session_id="s",
        token_id="t",
        issued_at=issued_at,
        expires_at=issued_at + lifetime,
    )


def forged(key: Any = None, algorithm: str = "EdDSA", header: dict[str, Any] | None = None, **changed: Any) -> str:
    """A token like ours, but for what is said."""
    said = {"iss": "rayfeed", "sub": "u", "sid": "s", "jti": "t", "use": "access"}
    said |= {"iat": NOW // SECOND, "exp": NOW // SECOND + 60, **changed}
    said = {name: value for name, value in said.items() if value is not None}
    head = {"kid": KEY.kid, "typ": "at+jwt", **(header or {})}
    return jwt.encode(said, KEY.private if key is None else key, algorithm=algorithm, headers=head)


@given(
    st.sampled_from(["access", "refresh"]),
    st.integers(1, 10**6),
    st.integers(-(10**6), 2 * 10**6),
)
def test_a_token_is_good_from_when_it_was_made_until_it_expires(kind: Kind, lifetime_s: int, later_s: int) -> None:
    made = claims(kind, NOW, lifetime_s * SECOND)
    token, at = signed(made, KEY), NOW + later_s * SECOND
    if -LEEWAY <= at - NOW < lifetime_s * SECOND:
        assert VERIFIER.claims(token, kind, at) == made
    else:
        with pytest.raises(ExpiredToken if at > NOW else BadToken):
            VERIFIER.claims(token, kind, at)


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_no_token_is_good_with_a_changed_sign(place: int, change: int) -> None:
    token = bytearray(signed(claims(), KEY).encode())
    place %= len(token)
    before = bytes(token)
    token[place] ^= change
    text = token.decode("latin-1")
    if _unpadded_equal(before, bytes(token)):
        return
    with pytest.raises(BadToken):
        VERIFIER.claims(text, "access", NOW)


def _unpadded_equal(one: bytes, other: bytes) -> bool:
    """The last sign of a part has bits that mean nothing."""

    def parts(token: bytes) -> list[bytes] | None:
        try:
            return [base64.urlsafe_b64decode(part + b"==") for part in token.split(b".")]
        except ValueError:
            return None

    return parts(one) == parts(other)


@given(st.text(max_size=300))
def test_any_other_text_is_no_token(text: str) -> None:
    with pytest.raises(BadToken):
        VERIFIER.claims(text, "access", NOW)


def test_a_refresh_token_is_no_access_token_and_the_other_way_round() -> None:
    for made, asked in (("refresh", "access"), ("access", "refresh")):
        with pytest.raises(BadToken, match=f"no {asked} token"):
            VERIFIER.claims(signed(claims(made), KEY), asked, NOW)


def test_hostile_tokens_are_refused() -> None:
    def part(said: Any) -> str:
        return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()

    good = forged()
    assert VERIFIER.claims(good, "access", NOW) == claims()
    head, body, signature = good.split(".")
    other = new_key(NOW)
    hostile = {
        "alg none": f"{part({'alg': 'none', 'kid': KEY.kid, 'typ': 'at+jwt'})}.{body}.",
        "alg none with a signature": f"{part({'alg': 'none', 'kid': KEY.kid, 'typ': 'at+jwt'})}.{body}.{signature}",
        "HMAC with the public key": forged(KEY.public, "HS256"),
        "HMAC with its text": forged(KEY.public.hex(), "HS256"),
        "another key under our kid": forged(other.private),
        "a kid nobody knows": forged(other.private, header={"kid": other.kid}),
        "a kid that leads to a file": forged(header={"kid": "../../secrets/api_token"}),
        "no kid": f"{part({'alg': 'EdDSA', 'typ': 'at+jwt'})}.{body}.{signature}",
        "another role put in": f"{head}.{part({'sub': 'admin', 'role': 'admin'})}.{signature}",
        "another issuer": forged(iss="somebody"),
        "no expiry": forged(exp=None),
        "no session": forged(sid=None),
        "an expiry that is no number": forged(exp="never"),
        "an expiry that is true": forged(exp=True),
        "an expiry between seconds": forged(exp=NOW / SECOND + 9.5),
        "a user that is no text": forged(sub=["u"]),
        "the type of another": forged(header={"typ": "rt+jwt"}),
        "the use of another": forged(use="refresh"),
        "something critical": forged(header={"crit": ["exp"]}),
        "a nested one": forged(header={"cty": "JWT"}) + ".x",
        "a long one": good + "A" * 5000,
    }
    for what, token in hostile.items():
        with pytest.raises(BadToken):
            VERIFIER.claims(token, "access", NOW)
            pytest.fail(f"taken: {what}")


@given(st.lists(st.integers(1, 100), min_size=1, max_size=8), st.integers(1, 60))
def test_a_token_is_good_however_often_keys_are_rotated_meanwhile(waits: list[int], kept: int) -> None:
    keys, at = [new_key(NOW)], NOW
    token = signed(claims("refresh", NOW, kept * MINUTE), keys[0])
    for wait in waits:
        at += wait * MINUTE
        keys = rotated(keys, at, kept * MINUTE)
        verifier = Verifier({key.kid: key.public for key in keys})
        if at < NOW + kept * MINUTE:
            assert verifier.claims(token, "refresh", at).user_id == "u"
        # Those that nobody needs do not pile up.
        assert all(key.retired_at is None or key.retired_at + kept * MINUTE > at for key in keys)
    assert [key.retired_at is None for key in keys] == [True, *[False] * (len(keys) - 1)]


def test_keys_are_kept_in_a_file_for_their_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "secrets" / "signing_keys.json"
    keys = read_keys(path, NOW)
    assert read_keys(path, NOW + 1) == keys
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    more = rotated(keys, NOW + 1, MINUTE)
    write_keys(path, more)
    assert read_keys(path, NOW) == more
    assert more[0].secret.hex() not in repr(more[0])


@pytest.mark.parametrize("content", [b"", b"{}", b'[{"secret":"AAAA","created_at":1}]', b"\xff", b"[]"])
def test_a_damaged_file_of_keys_is_set_aside(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "signing_keys.json"
    path.write_bytes(content)
    (made,) = read_keys(path, NOW)
    assert read_keys(path, NOW) == [made]
    assert isinstance(made, SigningKey)
    if content != b"[]":
        assert path.with_suffix(".damaged").read_bytes() == content
