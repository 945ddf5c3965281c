"""`rayfeed sim`: what goes wrong on purpose at the simulated exchanges of a running instance."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from actors.simulator.fault_kinds import KINDS, Fault, FaultError, Option
from cluster import completion
from cluster.asking import simulator
from cluster.options import AsJson, Data, Exchange
from cluster.terminal import terminal
from config import SettingsError

app = typer.Typer(
    no_args_is_help=True,
    help="Faults of the simulated exchanges: inject one, list them, stop the market; further symbols.",
)

AnyExchange = Annotated[str | None, typer.Argument(help="All without it.", autocompletion=completion.exchanges)]


@app.command()
def fault(
    exchange: Exchange,
    kind: Annotated[
        str,
        typer.Argument(help="What goes wrong; `rayfeed sim kinds` lists them.", autocompletion=completion.faults),
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]...", help="What the fault takes.")
    ] = None,
    seconds: Annotated[str | None, typer.Option("--for", metavar="SECONDS", help="End it after this long.")] = None,
    symbol: Annotated[str | None, typer.Option(help="Only this symbol.", autocompletion=completion.symbols)] = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Let something go wrong, as it does at real exchanges."""
    try:
        wanted = Fault(kind, {"seconds": seconds, "symbol": symbol, **given(options or [])})
    except FaultError as error:
        raise SettingsError(str(error)) from None
    with simulator(data) as ask:
        ask("fault", exchange, kind, **wanted.options)
    if as_json:
        typer.echo(json.dumps({"exchange": exchange, "kind": kind, "options": wanted.options}))
    else:
        typer.echo(f"{exchange}: {wanted}")


@app.command()
def kinds(as_json: AsJson = False) -> None:
    """What can go wrong, and with which options."""
    if as_json:
        said = {
            name: {"does": kind.does, "options": {option: one.meaning for option, one in kind.options.items()}}
            for name, kind in KINDS.items()
        }
        typer.echo(json.dumps(said))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("kind", "what it does", "options"):
        table.add_column(heading, no_wrap=heading == "kind")
    for name, kind in KINDS.items():
        table.add_row(name, kind.does, " ".join(_possible(option, one) for option, one in kind.options.items()))
    terminal().print(table)


@app.command()
def faults(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """What goes wrong now."""
    with simulator(data) as ask:
        rows: list[dict[str, Any]] = ask("faults")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no faults")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("exchange", "kind", "options", "left", "done"):
        table.add_column(heading, justify="right" if heading in ("left", "done") else "left")
    for row in rows:
        left = "for good" if row["left"] is None else f"{row['left']:.1f} s"
        chosen = " ".join(f"{name}={value}" for name, value in row["options"].items())
        table.add_row(row["exchange"], row["kind"], chosen, left, f"{row['done']:,}")
    terminal().print(table)


@app.command()
def halt(exchange: AnyExchange = None, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """No new trades and no changes; heartbeats and REST go on."""
    _market(data, exchange, True, as_json)


@app.command()
def go(exchange: AnyExchange = None, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Let the market go on."""
    _market(data, exchange, False, as_json)


@app.command("list")
def list_symbol(
    exchange: Exchange,
    symbol: Annotated[str, typer.Argument(help="As the exchange names it.")],
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """The exchange lists a further symbol, after a restart too; nobody collects it yet."""
    with simulator(data) as ask:
        ask("list_symbol", exchange, symbol)
    if as_json:
        typer.echo(json.dumps({"exchange": exchange, "symbol": symbol, "listed": True}))
        return
    collect = f"rayfeed symbols add {exchange} {symbol} --data {data}"
    typer.echo(f"{exchange} lists {symbol}; within a minute it can be collected with: {collect}")


def given(options: list[str]) -> dict[str, str]:
    """`name=value` by name. SettingsError for what is not of this form."""
    pairs = [option.partition("=") for option in options]
    if wrong := next((name for name, equals, _ in pairs if not equals), None):
        raise SettingsError(f"{wrong!r} is no option of a fault: expected NAME=VALUE")
    return {name: value for name, _, value in pairs}


def _market(data: Path, exchange: str | None, halted: bool, as_json: bool) -> None:
    with simulator(data) as ask:
        ask("halt", exchange, halted)
    if as_json:
        typer.echo(json.dumps({"exchange": exchange, "halted": halted}))
        return
    typer.echo(f"{exchange or 'all exchanges'}: {'halted' if halted else 'trading'}")


def _possible(name: str, option: Option) -> str:
    """As it is given, with what it is when it is not."""
    if option.choices:
        return f"{name}={'|'.join(option.choices)}"
    if option.default is not None:
        return f"{name}={option.default}"
    return f"{name}={'...' if option.required else ''}"
