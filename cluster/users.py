"""`rayfeed user` and `rayfeed key`: who may sign in, with what. While the instance runs its actor is asked, otherwise
the same is done on the data folder, which nobody can start meanwhile.
"""

import getpass
import json
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.table import Table

from cluster.asking import Ask, wherever
from cluster.moments import text_of
from cluster.options import AsJson, Data, operator
from cluster.terminal import terminal
from config import SettingsError

app = typer.Typer(no_args_is_help=True, help="Who may sign in: list users, add, change and remove them.")
keys = typer.Typer(no_args_is_help=True, help="API keys of users, and the keys that tokens are signed with.")

_ASKED: Final = "The password is asked for, or read from standard input."
Name = Annotated[str, typer.Argument(help="3 to 64 letters, digits or . _ @ + -; upper and lower case are the same.")]
Role = Annotated[str, typer.Option(help="admin, user or readonly.")]


@app.command("add", help=f"Add a user. {_ASKED}")
def add_user(
    name: Name,
    role: Role = "user",
    email: Annotated[str | None, typer.Option(help="Of the user.")] = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    password = _new_password()
    with _accounts(data) as ask:
        user: dict[str, Any] = ask("add_user", {"name": name, "role": role, "email": email}, password, _operator())
    typer.echo(json.dumps(user) if as_json else f"{name} ({role}) can sign in")


@app.command("list")
def list_users(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every user, by name."""
    with _accounts(data) as ask:
        rows: list[dict[str, Any]] = ask("users")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no users; add one with: rayfeed user add NAME")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("name", "role", "email", "since (UTC)"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        table.add_row(row["name"], row["role"], row["email"] or "", text_of(row["created_at"]))
    terminal().print(table)


@app.command()
def remove(name: Name, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Remove a user with all sessions and keys, at once."""
    with _accounts(data) as ask:
        ask("remove_user", name, _operator())
    typer.echo(json.dumps({"removed": name}) if as_json else f"{name}: removed")


@app.command(help=f"Give a user a new password; all sessions of that user end. {_ASKED}")
def passwd(name: Name, data: Data = Path("data"), as_json: AsJson = False) -> None:
    password = _new_password()
    with _accounts(data) as ask:
        ask("set_password", name, password, _operator())
    typer.echo(json.dumps({"changed": name}) if as_json else f"{name}: has a new password")


@app.command("role")
def set_role(
    name: Name,
    role: Annotated[str, typer.Argument(help="admin, user or readonly.")],
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Change what a user may do, at once."""
    with _accounts(data) as ask:
        user: dict[str, Any] = ask("set_role", name, role, _operator())
    typer.echo(json.dumps(user) if as_json else f"{name}: {role}")


@keys.command("add")
def add_key(
    user: Annotated[str, typer.Argument(help="Whose key it is.")],
    name: Annotated[str, typer.Option(help="What it is for.")] = "key",
    role: Annotated[str | None, typer.Option(help="No more than that of the user, which it is by default.")] = None,
    days: Annotated[int, typer.Option(min=0, help="For how many days it is good; 0: until it is removed.")] = 90,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Make an API key and print it; it is not kept and cannot be shown again."""
    with _accounts(data) as ask:
        key: dict[str, Any] = ask("add_key", user, name, role, days or None, _operator())
    typer.echo(json.dumps(key) if as_json else key["key"])


@keys.command("list")
def list_keys(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every API key, the oldest first, without what is secret."""
    with _accounts(data) as ask:
        rows: list[dict[str, Any]] = ask("keys")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no keys; add one with: rayfeed key add USER")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "user", "name", "role", "since (UTC)", "until (UTC)"):
        table.add_column(heading, no_wrap=True)
    for row in rows:
        until = "" if row["expires_at"] is None else text_of(row["expires_at"])
        table.add_row(row["key_id"], row["user"], row["name"], row["role"], text_of(row["created_at"]), until)
    terminal().print(table)


@keys.command("remove")
def remove_keys(
    key_ids: Annotated[list[str], typer.Argument(metavar="ID...")], data: Data = Path("data"), as_json: AsJson = False
) -> None:
    """Remove API keys; they are good for nothing at once."""
    with _accounts(data) as ask:
        for key_id in key_ids:
            ask("remove_key", key_id, _operator())
            if not as_json:
                typer.echo(f"{key_id}: removed")
    if as_json:
        typer.echo(json.dumps({"removed": key_ids}))


@keys.command()
def rotate(
    revoke: Annotated[bool, typer.Option("--revoke", help="All tokens end at once: everybody signs in anew.")] = False,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Sign tokens with a new key from now on; those there are stay good until they expire."""
    with _accounts(data) as ask:
        kid: str = ask("rotate", revoke, _operator())
    typer.echo(json.dumps({"kid": kid}) if as_json else f"tokens are signed with {kid} from now on")


def _accounts(data: Path) -> AbstractContextManager[Ask]:
    from actors.accounts import Accounts
    from actors.directory import ACCOUNTS

    return wherever(data, ACCOUNTS, Accounts)


def _new_password() -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    password = getpass.getpass("New password: ")
    if getpass.getpass("Again: ") != password:
        raise SettingsError("the two passwords differ")
    return password


def _operator() -> str:
    """Who does it, for the audit log."""
    return f"{operator()} (command)"
