"""`rayfeed symbols`: what a running instance collects, and changing that without a restart."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cluster import completion
from cluster.asking import supervisor
from cluster.options import AsJson, Data, Exchange
from cluster.terminal import terminal

app = typer.Typer(no_args_is_help=True, help="What is collected: list it, add to it, remove from it.")

Names = Annotated[
    list[str],
    typer.Argument(metavar="SYMBOL...", help="As the exchange names them.", autocompletion=completion.symbols),
]


@app.command("list")
def list_symbols(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every symbol: whether the exchange granted it, and the state of its order book."""
    with supervisor(data) as ask:
        rows: list[dict[str, Any]] = ask("symbols")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("exchange", "symbol", "state", "book", "gaps", "remarks"):
        table.add_column(heading, justify="right" if heading == "gaps" else "left")
    for row in sorted(rows, key=lambda row: (row["exchange"], row["symbol"])):
        book, gaps = row["book"] or "", "" if row["gaps"] is None else str(row["gaps"])
        style = "red" if row["state"] == "refused" else "yellow" if book == "gapped" else None
        table.add_row(row["exchange"], row["symbol"], row["state"], book, gaps, row["reason"], style=style)
    terminal().print(table)


@app.command()
def add(exchange: Exchange, symbols: Names, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Collect further symbols, from now on and after a restart; exit status 1 when one is refused."""
    with supervisor(data) as ask:
        said: dict[str, str] = ask("add_symbols", exchange, symbols)
    if as_json:
        typer.echo(json.dumps(said))
    else:
        for symbol, reason in said.items():
            typer.echo(f"{exchange} {symbol}: {reason or 'added'}")
    if any(said.values()):
        raise typer.Exit(1)


@app.command()
def remove(exchange: Exchange, symbols: Names, data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Stop collecting symbols; what is stored of them stays. Exit status 1 when one was not collected."""
    with supervisor(data) as ask:
        removed: list[str] = ask("remove_symbols", exchange, symbols)
    if as_json:
        typer.echo(json.dumps({symbol: symbol in removed for symbol in symbols}))
    else:
        for symbol in symbols:
            typer.echo(f"{exchange} {symbol}: {'removed' if symbol in removed else 'was not collected'}")
    if set(symbols) - set(removed):
        raise typer.Exit(1)
