"""Users, passwords, sessions and keys: the actor itself on a real log, and on the real tables."""

import asyncio
import json
import pickle
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from argon2 import PasswordHasher
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ray.exceptions import RayError, RayTaskError

from actors.account_book import AccountError, NotNow, Refused, UnknownAccount
from actors.account_tokens import SECOND
from actors.accounts import Accounts, digest
from actors.database import Database
from actors.own_process import in_own_process
from config import load
from tests.actors.test_chronicle import Handle
from tests.polling import until

NOW = 1_769_860_800 * SECOND
HOUR = 3600 * SECOND
PASSWORD = "Correct-horse-7"
#: As argon2id, but quick.
QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
CLIENT = "192.0.2.1"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def made(data: Path, clock: Clock, database: Any = None, **security: Any) -> Accounts:
    settings = load(data, {"security": security} if security else None)
    return Accounts(settings, "redis://nowhere", database, clock, QUICK)


@pytest.fixture
async def accounts(tmp_path: Path, clock: Clock) -> AsyncIterator[Accounts]:
    running = made(tmp_path, clock)
    await running.add_user({"name": "ann", "role": "user", "email": "ann@example.org"}, PASSWORD, "test")
    yield running
    await running.stop()


async def test_who_has_the_password_gets_tokens_and_nobody_else(accounts: Accounts) -> None:
    tokens = await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert (tokens["token_type"], tokens["expires_in"], tokens["refresh_expires_in"]) == ("bearer", 3600, 604800)
    assert tokens["access_token"] != tokens["refresh_token"]
    for name, password in (("ann", PASSWORD + "x"), ("ann", ""), ("bob", PASSWORD), ("", "")):
        with pytest.raises(Refused, match="The name or the password is wrong"):
            await accounts.sign_in(name, password, "192.0.2.2")
    assert (await accounts.sign_in("ANN", PASSWORD, CLIENT))["access_token"]


async def test_a_name_that_is_not_there_costs_as_much_as_a_wrong_password(tmp_path: Path, clock: Clock) -> None:
    asked: list[str] = []

    class Counting(PasswordHasher):
        def verify(self, hash: str | bytes, password: str | bytes) -> Any:  # noqa: A002 - as it is called there
            asked.append(str(hash).rpartition("$")[0].rpartition("$")[0])
            return super().verify(hash, password)

    accounts = Accounts(load(tmp_path), clock=clock, hasher=Counting(time_cost=1, memory_cost=8, parallelism=1))
    await accounts.add_user({"name": "ann", "role": "user"}, PASSWORD, "test")
    for name in ("ann", "nobody"):
        with pytest.raises(Refused):
            await accounts.sign_in(name, "Wrong-horse-7", CLIENT)
    await accounts.stop()
    # The same work with the same parameters.
    assert len(asked) == 2
    assert asked[0] == asked[1]


def test_passwords_are_hashed_as_rfc_9106_wants_it(tmp_path: Path) -> None:
    async def run() -> str:
        accounts = Accounts(load(tmp_path))
        await accounts.add_user({"name": "ann", "role": "user"}, PASSWORD, "test")
        await accounts.stop()
        return (tmp_path / "accounts" / "accounts.log").read_text()

    written = asyncio.run(run())
    assert "$argon2id$v=19$m=65536,t=3,p=4$" in written
    assert PASSWORD not in written
    assert (tmp_path / "accounts").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize(
    ("password", "says"),
    [
        ("Ab1!", "8 to 256 signs"),
        ("A1!" + "a" * 254, "8 to 256 signs"),
        ("lower-case-7", "an upper-case letter"),
        ("UPPER-CASE-7", "a lower-case letter"),
        ("No-digit-here", "a digit"),
        ("NoOtherSign7", "another sign"),
        ("Ann-is-the-1", "must not hold the name"),
        (None, "must be a text"),
    ],
)
async def test_a_weak_password_is_refused_with_what_it_lacks(accounts: Accounts, password: Any, says: str) -> None:
    with pytest.raises(AccountError, match=says) as raised:
        await accounts.set_password("ann", password, "test")
    assert str(password) not in str(raised.value)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"name": "ab"}, "3 to 64"),
        ({"name": "../etc"}, "3 to 64"),
        ({"name": "a\nb c"}, "3 to 64"),
        ({"name": 7}, "3 to 64"),
        ({"name": "Instance"}, "own token"),
        ({"name": "ANN"}, "already"),
        ({"role": "root"}, "role must be one of"),
        ({"role": None}, "role must be one of"),
        ({"email": "nobody"}, "email"),
        ({"email": "a@b\r\nBcc: c"}, "email"),
    ],
)
async def test_a_user_that_cannot_be_is_refused(accounts: Accounts, changed: dict[str, Any], says: str) -> None:
    with pytest.raises(AccountError, match=says):
        await accounts.add_user({"name": "bob", "role": "user", **changed}, PASSWORD, "test")
    assert [user["name"] for user in await accounts.users()] == ["ann"]


async def test_there_are_only_so_many_users_and_keys(tmp_path: Path, clock: Clock) -> None:
    accounts = made(tmp_path, clock, max_users=1, max_keys_per_user=1)
    await accounts.add_user({"name": "ann", "role": "user"}, PASSWORD, "test")
    with pytest.raises(AccountError, match=r"security\.max_users"):
        await accounts.add_user({"name": "bob", "role": "user"}, PASSWORD, "test")
    await accounts.add_key("ann", "one", None, None, "test")
    with pytest.raises(AccountError, match=r"security\.max_keys_per_user"):
        await accounts.add_key("ann", "two", None, None, "test")
    await accounts.stop()


async def test_a_refresh_token_is_good_for_one_use_and_a_copy_ends_the_session(accounts: Accounts) -> None:
    first = await accounts.sign_in("ann", PASSWORD, CLIENT)
    second = await accounts.refresh(first["refresh_token"], CLIENT)
    third = await accounts.refresh(second["refresh_token"], CLIENT)
    before = await accounts.known()
    assert before is not None
    assert not before.ended
    with pytest.raises(Refused, match="was used before"):
        await accounts.refresh(first["refresh_token"], CLIENT)
    # Whoever has the newest may be the thief.
    with pytest.raises(Refused, match="session has ended"):
        await accounts.refresh(third["refresh_token"], CLIENT)
    after = await accounts.known()
    assert after is not None
    assert len(after.ended) == 1
    with pytest.raises(Refused, match="no refresh token"):
        await accounts.refresh(first["access_token"], CLIENT)


async def test_of_many_that_use_a_refresh_token_at_once_one_gets_the_next(accounts: Accounts) -> None:
    token = (await accounts.sign_in("ann", PASSWORD, CLIENT))["refresh_token"]
    said = await asyncio.gather(*(accounts.refresh(token, CLIENT) for _ in range(10)), return_exceptions=True)
    assert sum(isinstance(one, dict) for one in said) == 1
    assert sum(isinstance(one, Refused) for one in said) == 9


async def test_a_session_is_over_when_nobody_refreshed_it(accounts: Accounts, clock: Clock) -> None:
    token = (await accounts.sign_in("ann", PASSWORD, CLIENT))["refresh_token"]
    clock.now += 7 * 24 * HOUR
    with pytest.raises(Refused, match="expired"):
        await accounts.refresh(token, CLIENT)


async def test_a_new_password_ends_all_sessions(accounts: Accounts) -> None:
    tokens = [await accounts.sign_in("ann", PASSWORD, CLIENT) for _ in range(3)]
    user_id = (await accounts.users())[0]["user_id"]
    with pytest.raises(Refused):
        await accounts.change_password(user_id, "Wrong-horse-7", "New-horse-77", CLIENT)
    await accounts.change_password(user_id, PASSWORD, "New-horse-77", CLIENT)
    for one in tokens:
        with pytest.raises(Refused):
            await accounts.refresh(one["refresh_token"], CLIENT)
    with pytest.raises(Refused):
        await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert await accounts.sign_in("ann", "New-horse-77", CLIENT)
    known = await accounts.known()
    assert known is not None
    assert len(known.ended) == 3


async def test_a_hash_that_is_weaker_than_those_of_today_is_made_anew(tmp_path: Path, clock: Clock) -> None:
    weak = Accounts(load(tmp_path), clock=clock, hasher=PasswordHasher(time_cost=1, memory_cost=16, parallelism=1))
    await weak.add_user({"name": "ann", "role": "user"}, PASSWORD, "test")
    await weak.stop()
    accounts = made(tmp_path, clock)
    for _ in range(2):
        assert await accounts.sign_in("ann", PASSWORD, CLIENT)
    await accounts.stop()
    written = (tmp_path / "accounts" / "accounts.log").read_text()
    assert (written.count("$m=16,"), written.count("$m=8,")) == (1, 1)


async def test_who_is_changed_while_the_password_is_checked_does_not_get_in(accounts: Accounts) -> None:
    began, go_on = threading.Event(), threading.Event()
    check = accounts._is_password

    def slow(hashed: str, password: str) -> bool:
        began.set()
        assert go_on.wait(10)
        return check(hashed, password)

    accounts._is_password = slow  # type: ignore[method-assign]
    signing_in = asyncio.create_task(accounts.sign_in("ann", PASSWORD, CLIENT))
    await asyncio.to_thread(began.wait, 10)
    await accounts.set_password("ann", "New-horse-77", "test")
    go_on.set()
    with pytest.raises(Refused):
        await signing_in
    known = await accounts.known()
    assert known is not None
    assert "redis" not in repr(known)


async def test_guessing_is_slowed_down_for_a_name_and_an_address_but_not_for_others(accounts: Accounts) -> None:
    async def wrong(name: str, client: str) -> type[Exception]:
        with pytest.raises((Refused, NotNow)) as raised:
            await accounts.sign_in(name, "Wrong-horse-7", client)
        return raised.type

    assert [await wrong("ann", CLIENT) for _ in range(7)] == [Refused] * 5 + [NotNow] * 2
    with pytest.raises(NotNow) as raised:
        await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert raised.value.too_many
    assert 1 <= raised.value.retry_after_s <= 60
    # Who sits elsewhere is not locked out, and who knows the password is not counted.
    for _ in range(10):
        assert await accounts.sign_in("ann", PASSWORD, "192.0.2.9")
    # One address trying many names is stopped too: 5 for ann were counted already.
    kinds = [await wrong(f"user{number}", CLIENT) for number in range(20)]
    assert kinds == [Refused] * 15 + [NotNow] * 5
    # And so are many addresses trying one name.
    kinds = [await wrong("bob", f"198.51.100.{number}") for number in range(60)]
    assert kinds == [Refused] * 50 + [NotNow] * 10


async def test_too_many_at_the_same_moment_are_told_so(tmp_path: Path, clock: Clock) -> None:
    accounts = made(tmp_path, clock)
    said = await asyncio.gather(
        *(accounts.sign_in(f"user{n}", PASSWORD, f"192.0.2.{n}") for n in range(100)), return_exceptions=True
    )
    assert {type(one) for one in said} == {Refused, NotNow}
    assert sum(isinstance(one, Refused) for one in said) >= 32
    await accounts.stop()


async def test_a_key_is_shown_once_and_good_until_it_is_removed(accounts: Accounts, tmp_path: Path) -> None:
    added = await accounts.add_key("ann", "research", "readonly", 30, "test")
    assert added["key"].startswith("rfk_")
    assert "key" not in (await accounts.keys())[0]
    assert added["key"] not in (tmp_path / "accounts" / "accounts.log").read_text()
    known = await accounts.known()
    assert known is not None
    key = known.keys[digest(added["key"])]
    assert (key.key_id, key.role, key.expires_at) == (added["key_id"], "readonly", NOW + 30 * 24 * HOUR)
    with pytest.raises(AccountError, match="cannot allow more"):
        await accounts.add_key("ann", "more", "admin", 30, "test")
    with pytest.raises(UnknownAccount):
        await accounts.remove_key(added["key_id"], "test", owner="somebody")
    await accounts.remove_key(added["key_id"], "test")
    assert await accounts.keys() == []


async def test_everything_is_there_again_after_a_restart(tmp_path: Path, clock: Clock) -> None:
    accounts = made(tmp_path, clock)
    await accounts.add_user({"name": "ann", "role": "admin"}, PASSWORD, "test")
    await accounts.add_user({"name": "bob", "role": "user"}, PASSWORD, "test")
    await accounts.add_key("ann", "one", None, None, "test")
    tokens = await accounts.sign_in("ann", PASSWORD, CLIENT)
    used = await accounts.refresh(tokens["refresh_token"], CLIENT)
    await accounts.set_role("ann", "user", "test")
    await accounts.remove_user("bob", "test")
    users, keys, before = await accounts.users(), await accounts.keys(), await accounts.known()
    # Killed: nothing is closed.
    again = made(tmp_path, clock)
    assert (await again.users(), await again.keys()) == (users, keys)
    after = await again.known()
    assert before is not None
    assert after is not None
    assert (after.public_keys, after.users, after.keys) == (before.public_keys, before.users, before.keys)
    assert [user["role"] for user in users] == ["user"]
    assert (await again.refresh(used["refresh_token"], CLIENT))["access_token"]
    await again.stop()


async def test_a_replica_hears_at_once_what_changed(accounts: Accounts) -> None:
    known = await accounts.known()
    assert known is not None
    waiting = asyncio.create_task(accounts.known(known.version))
    await asyncio.sleep(0)
    await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert not waiting.done()
    await accounts.set_role("ann", "admin", "test")
    news = await asyncio.wait_for(waiting, 5)
    assert news is not None
    assert [user.role for user in news.users.values()] == ["admin"]


async def test_tokens_are_signed_with_a_new_key_by_age_and_by_hand(accounts: Accounts, clock: Clock) -> None:
    async def kids() -> set[str]:
        known = await accounts.known()
        assert known is not None
        return set(known.public_keys)

    first = await kids()
    tokens = await accounts.sign_in("ann", PASSWORD, CLIENT)
    kid = await accounts.rotate(False, "test")
    assert await kids() == first | {kid}
    tokens = await accounts.refresh(tokens["refresh_token"], CLIENT)
    clock.now += 91 * 24 * HOUR
    await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert len(await kids() - first) == 2
    tokens = await accounts.sign_in("ann", PASSWORD, CLIENT)
    last = await accounts.rotate(True, "test")
    assert await kids() == {last}
    with pytest.raises(Refused, match="not known"):
        await accounts.refresh(tokens["refresh_token"], CLIENT)


async def test_sessions_of_one_user_do_not_pile_up(accounts: Accounts) -> None:
    first = await accounts.sign_in("ann", PASSWORD, CLIENT)
    for _ in range(50):
        last = await accounts.sign_in("ann", PASSWORD, CLIENT)
    assert (await accounts.status())["sessions"] == 50
    with pytest.raises(Refused):
        await accounts.refresh(first["refresh_token"], CLIENT)
    assert await accounts.refresh(last["refresh_token"], CLIENT)


async def test_the_log_stays_short(accounts: Accounts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("actors.accounts.COMPACT_BYTES", 5000)
    accounts._compact_above = 5000
    tokens = await accounts.sign_in("ann", PASSWORD, CLIENT)
    sizes = []
    for _ in range(100):
        tokens = await accounts.refresh(tokens["refresh_token"], CLIENT)
        sizes.append((tmp_path / "accounts" / "accounts.log").stat().st_size)
    assert max(sizes) < 12_000
    assert sizes != sorted(sizes)
    again = made(tmp_path, Clock())
    assert (await again.status())["sessions"] == 1
    await again.stop()


async def test_nobody_registers_unless_the_operator_wants_it(tmp_path: Path, clock: Clock) -> None:
    given_user = {"name": "eve", "email": None, "password": PASSWORD, "role": "admin"}
    closed = made(tmp_path / "closed", clock)
    with pytest.raises(Refused, match="operator"):
        await closed.register(given_user, CLIENT)
    opened = made(tmp_path / "open", clock, register=True)
    assert (await opened.register(given_user, CLIENT))["role"] == "readonly"
    for number in range(4):
        await opened.register({**given_user, "name": f"eve{number}"}, CLIENT)
    with pytest.raises(NotNow):
        await opened.register({**given_user, "name": "eve9"}, CLIENT)
    await closed.stop()
    await opened.stop()


async def test_who_was_removed_while_nothing_ran_is_no_longer_active_in_the_table(tmp_path: Path, clock: Clock) -> None:
    alone = made(tmp_path, clock)
    for name in ("ann", "bob"):
        await alone.add_user({"name": name, "role": "user"}, PASSWORD, "root")
    await alone.remove_user("bob", "root")
    await alone.stop()
    told: dict[str, bool] = {}

    class Written:
        async def insert(self, table: str, exchange: str | None, rows: pa.Table) -> None:
            told.update(zip(rows["name"].to_pylist(), rows["active"].to_pylist(), strict=True))

    accounts = made(tmp_path, clock, Handle(Written()))
    await accounts.status()
    await accounts.stop()
    assert told == {"ann": True, "bob": False}


async def test_who_signed_in_and_what_changed_is_in_the_tables_without_secrets(tmp_path: Path, clock: Clock) -> None:
    database = Database(load(tmp_path).model_copy(update={"clickhouse_url": None}))
    accounts = made(tmp_path, clock, Handle(database))
    await accounts.add_user({"name": "ann", "role": "user", "email": "ann@example.org"}, PASSWORD, "root")
    await accounts.add_user({"name": "bob", "role": "user"}, PASSWORD, "root")
    await accounts.sign_in("ann", PASSWORD, CLIENT)
    with pytest.raises(Refused):
        await accounts.sign_in("ann", "Wrong-horse-7", CLIENT)
    clock.now += 1
    key = await accounts.add_key("ann", "one", None, 1, "root")
    await accounts.remove_key(key["key_id"], "root")
    await accounts.set_role("ann", "admin", "root")
    await accounts.remove_user("bob", "root")

    async def arrived() -> bool:
        await database.flush()
        rows = await database.query("SELECT name FROM users FINAL WHERE active = 0")
        return rows.num_rows == 1

    await until(arrived)
    users = (await database.query("SELECT name, email, role, active FROM users FINAL ORDER BY name")).to_pylist()
    assert [tuple(user.values()) for user in users] == [
        ("ann", "ann@example.org", "admin", 1),
        ("bob", None, "user", 0),
    ]
    rows = (await database.query("SELECT * FROM audit_log FINAL ORDER BY time, event")).to_pylist()
    events = sorted((row["event"], row["user"], row["severity"]) for row in rows)
    assert events == [
        ("key_added", "root", "info"),
        ("key_removed", "root", "info"),
        ("login", "ann", "info"),
        ("login_failed", "ann", "warning"),
        ("user_added", "root", "info"),
        ("user_added", "root", "info"),
        ("user_removed", "root", "info"),
        ("user_role_changed", "root", "info"),
    ]
    failed = next(row for row in rows if row["event"] == "login_failed")
    assert json.loads(failed["details"])["client"] == CLIENT
    everything = json.dumps(rows) + json.dumps(users)
    for secret in (PASSWORD, "Wrong-horse", key["key"], "argon2"):
        assert secret not in everything
    await accounts.stop()
    await database.stop()


async def test_failures_that_are_written_down_are_few(tmp_path: Path, clock: Clock) -> None:
    noted: list[str] = []

    class Insert:
        @staticmethod
        async def remote(table: str, _exchange: Any, rows: Any) -> None:
            noted.extend(rows["event"].to_pylist())

    class Gateway:
        insert = Insert

    accounts = made(tmp_path, clock, Gateway())
    for number in range(150):
        with pytest.raises(Refused):
            await accounts.sign_in(f"user{number}", PASSWORD, f"10.0.{number}.1")
    await accounts.stop()
    assert 100 <= len(noted) < 150
    assert (await accounts.status())["failures"] == 150


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(steps=st.lists(st.tuples(st.sampled_from("siroq"), st.integers(0, 3)), max_size=12))
async def test_only_the_newest_refresh_token_of_a_living_session_is_good(
    accounts: Accounts, steps: list[tuple[str, int]]
) -> None:
    """Sign in, refresh with the newest token of a session, or with an old one, sign out: against a plain model."""
    sessions: list[list[str]] = []
    alive: list[bool] = []
    for what, which in steps:
        if what == "s" or not sessions:
            sessions.append([(await accounts.sign_in("ann", PASSWORD, CLIENT))["refresh_token"]])
            alive.append(True)
            continue
        at = which % len(sessions)
        if what in "ri":
            if alive[at]:
                sessions[at].append((await accounts.refresh(sessions[at][-1], CLIENT))["refresh_token"])
            else:
                with pytest.raises(Refused):
                    await accounts.refresh(sessions[at][-1], CLIENT)
        elif what == "o" and len(sessions[at]) > 1:
            with pytest.raises(Refused):
                await accounts.refresh(sessions[at][-2], CLIENT)
            alive[at] = False
        elif what == "q":
            await accounts.change_password((await accounts.users())[0]["user_id"], PASSWORD, PASSWORD, CLIENT)
            alive = [False] * len(alive)


async def test_what_goes_to_other_processes_arrives_as_it_was(tmp_path: Path, clock: Clock) -> None:
    process = in_own_process(Accounts, 0)(load(tmp_path), "redis://:secret@nowhere", None, clock, QUICK)
    await process.add_user({"name": "ann", "role": "user"}, PASSWORD, by="test", client=CLIENT)
    await process.sign_in("ann", PASSWORD, CLIENT)
    known = await process.known(None)
    assert pickle.loads(pickle.dumps(known)) == known
    with pytest.raises(Refused) as refused:
        await process.sign_in("ann", "Wrong-horse-7", CLIENT)
    for error in (refused.value, NotNow("later", 7, True), UnknownAccount("who")):
        there: Any = RayError.from_bytes(RayTaskError("sign_in", "", error).to_bytes()).cause
        assert (type(there), str(there)) == (type(error), str(error))
        if isinstance(error, NotNow):
            assert (there.retry_after_s, there.too_many) == (7, True)
    await process.stop()
