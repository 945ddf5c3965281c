"""`rayfeed user` and `rayfeed key`, on a data folder where nothing runs."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from actors.account_book import Refused
from actors.accounts import Accounts, digest
from cluster import asking, users
from cluster.instance import Instance, InstanceError
from cluster.options import operator
from config import SettingsError, load

PASSWORD = "Correct-horse-7"


def invoke(*arguments: str, app: Any = users.app, typed: str = "") -> str:
    done = CliRunner().invoke(app, list(arguments), input=typed, env={"COLUMNS": "200"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.stdout


def signs_in(data: Path, name: str, password: str) -> bool:
    async def run() -> bool:
        accounts = Accounts(load(data))
        try:
            await accounts.sign_in(name, password, "127.0.0.1")
        except Refused:
            return False
        finally:
            await accounts.stop()
        return True

    return asyncio.run(run())


def test_a_user_is_added_listed_changed_and_removed(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    assert invoke("list", *data) == "no users; add one with: rayfeed user add NAME\n"
    assert invoke("add", "ann", "--role", "admin", *data, typed=PASSWORD + "\n") == "ann (admin) can sign in\n"
    made = json.loads(invoke("add", "bob", "--email", "bob@example.org", "--json", *data, typed=PASSWORD + "\n"))
    assert (made["name"], made["role"], made["email"]) == ("bob", "user", "bob@example.org")
    assert [line.split()[:2] for line in invoke("list", *data).splitlines()[1:]] == [["ann", "admin"], ["bob", "user"]]
    assert signs_in(tmp_path, "bob", PASSWORD)
    assert invoke("passwd", "bob", *data, typed="New-horse-77\n") == "bob: has a new password\n"
    assert not signs_in(tmp_path, "bob", PASSWORD)
    assert signs_in(tmp_path, "bob", "New-horse-77")
    assert invoke("role", "bob", "readonly", *data) == "bob: readonly\n"
    assert invoke("remove", "ann", *data) == "ann: removed\n"
    assert [(user["name"], user["role"]) for user in json.loads(invoke("list", "--json", *data))] == [
        ("bob", "readonly")
    ]


def test_a_key_is_printed_once_listed_and_removed(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    assert invoke("list", *data, app=users.keys) == "no keys; add one with: rayfeed key add USER\n"
    invoke("add", "ann", *data, typed=PASSWORD + "\n")
    key = invoke("add", "ann", "--name", "bot", "--role", "readonly", *data, app=users.keys).strip()
    forever = json.loads(invoke("add", "ann", "--days", "0", "--json", *data, app=users.keys))
    assert forever["expires_at"] is None
    shown = invoke("list", *data, app=users.keys)
    assert ("bot" in shown, "readonly" in shown, key in shown) == (True, True, False)
    rows = json.loads(invoke("list", "--json", *data, app=users.keys))
    assert digest(key) not in str(rows)
    ids = [row["key_id"] for row in rows]
    assert invoke("remove", *ids, *data, app=users.keys).splitlines() == [f"{one}: removed" for one in ids]
    assert json.loads(invoke("list", "--json", *data, app=users.keys)) == []


def test_tokens_get_a_new_key(tmp_path: Path) -> None:
    data = ("--data", str(tmp_path))
    first, second = (
        json.loads(invoke("rotate", "--json", *data, *more, app=users.keys))["kid"] for more in ((), ("--revoke",))
    )
    assert first != second
    assert "from now on" in invoke("rotate", *data, app=users.keys)


@pytest.mark.parametrize(
    ("arguments", "typed", "says"),
    [
        (("add", "x"), PASSWORD, "3 to 64"),
        (("add", "ann", "--role", "root"), PASSWORD, "role must be one of"),
        (("add", "ann"), "weak", "the password needs"),
        (("add", "ann"), "", "the password needs"),
        (("remove", "nobody"), "", "no user called 'nobody'"),
        (("passwd", "nobody"), PASSWORD, "no user called 'nobody'"),
        (("role", "nobody", "user"), "", "no user called 'nobody'"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: tuple[str, ...], typed: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says) as raised:
        invoke(*arguments, "--data", str(tmp_path), typed=typed + "\n")
    assert "\n" not in str(raised.value)
    # The folder is free again.
    Instance.claim(tmp_path).release()


def test_nothing_is_made_where_there_is_no_data_folder(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no data folder"):
        invoke("list", "--data", str(tmp_path / "typo"))
    assert not (tmp_path / "typo").exists()


def test_an_instance_that_runs_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    @contextmanager
    def running(_data: Path, name: str) -> Iterator[Any]:
        yield lambda method, *arguments: asked.append((name, method, *arguments)) or []

    instance = Instance.claim(tmp_path)
    try:
        with pytest.raises(InstanceError, match="still starting"):
            invoke("list", "--data", str(tmp_path))
        monkeypatch.setattr(asking, "running_actor", running)
        invoke("list", "--data", str(tmp_path))
    finally:
        instance.release()
    assert asked == [("accounts", "users")]
    assert not (tmp_path / "accounts").exists()


def test_who_has_a_number_and_no_name_gives_commands_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    # No account of the system has it.
    monkeypatch.setattr("os.getuid", lambda: 3_000_000_017)
    assert operator() == "uid 3000000017"
    invoke("add", "ann", "--data", str(tmp_path), typed=PASSWORD + "\n")
