"""`rayfeed alerts`: be told when something happens on the market, and see who was told."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cluster import completion
from cluster.asking import supervisor
from cluster.moments import text_of
from cluster.options import AsJson, Data, Exchange
from cluster.terminal import terminal

app = typer.Typer(no_args_is_help=True, help="Be told when a price or an indicator does something.")


@app.command("list")
def list_alerts(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Every alert, the newest first; whom it tells only with --json."""
    with supervisor(data) as ask:
        rows: list[dict[str, Any]] = ask("alerts")
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("no alerts")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "exchange", "symbol", "condition", "threshold", "bars", "channels", "fired", "last (UTC)"):
        table.add_column(heading, justify="right" if heading in ("threshold", "fired") else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["alert_id"],
            row["exchange"],
            row["symbol"],
            row["condition"],
            "" if row["threshold"] is None else f"{row['threshold']:.12g}",
            row["timeframe"],
            ", ".join(row["channels"]),
            str(row["trigger_count"]),
            "" if row["last_triggered_at"] is None else text_of(row["last_triggered_at"]),
            style=None if row["is_active"] else "dim",
        )
    terminal().print(table)


# A threshold below 0 is refused for what it is, not for a dash.
@app.command(context_settings={"ignore_unknown_options": True})
def add(
    exchange: Exchange,
    symbol: Annotated[str, typer.Argument(help="As the exchange names it.", autocompletion=completion.symbols)],
    condition: Annotated[str, typer.Argument(help="price_above, rsi_below, ...; see docs/alerts.md.")],
    threshold: Annotated[float | None, typer.Argument()] = None,
    timeframe: Annotated[str | None, typer.Option(help="Of the bars, for indicators; 1m where none is said.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Post JSON to this URL.")] = None,
    slack: Annotated[str | None, typer.Option(help="Post to this incoming webhook of Slack.")] = None,
    email: Annotated[str | None, typer.Option(help="Mail to this address.")] = None,
    cooldown: Annotated[int, typer.Option(help="Seconds in which it does not fire again.")] = 300,
    once: Annotated[bool, typer.Option("--once", help="Fire once, then be inactive.")] = False,
    note: Annotated[str, typer.Option(help="A line that is told along.")] = "",
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Be told on the live feed, and on what else is named, whenever the condition begins to hold."""
    targets = {"webhook_url": webhook, "slack_webhook_url": slack, "email": email}
    channels = {"webhook": webhook, "slack": slack, "email": email}
    given = {
        "exchange": exchange,
        "symbol": symbol,
        "condition": condition,
        "threshold": threshold,
        "timeframe": timeframe,
        "channels": ["websocket", *(channel for channel, target in channels.items() if target)],
        "metadata": {name: target for name, target in targets.items() if target},
        "cooldown_seconds": cooldown,
        "one_time": once,
        "note": note,
    }
    with supervisor(data) as ask:
        alert: dict[str, Any] = ask("add_alert", given)
    typer.echo(json.dumps(alert) if as_json else alert["alert_id"])


@app.command()
def remove(
    alert_ids: Annotated[list[str], typer.Argument(metavar="ID...")],
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Remove alerts; what fired and is not told yet is not told either."""
    with supervisor(data) as ask:
        for alert_id in alert_ids:
            ask("remove_alert", alert_id)
            if not as_json:
                typer.echo(f"{alert_id}: removed")
    if as_json:
        typer.echo(json.dumps({"removed": alert_ids}))


@app.command("log")
def show_log(
    alert_id: Annotated[str | None, typer.Argument(help="Of this alert only.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="So many, the newest.")] = 100,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """The attempts to tell somebody, the newest first."""
    with supervisor(data) as ask:
        rows: list[dict[str, Any]] = ask("deliveries", alert_id, limit)
    if as_json:
        typer.echo(json.dumps(rows))
        return
    if not rows:
        typer.echo("nobody was told yet")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("began (UTC)", "alert", "channel", "attempt", "status", "answer"):
        table.add_column(heading, no_wrap=heading != "answer")
    for row in rows:
        style = {"failed": "red", "retrying": "yellow"}.get(row["status"])
        answer = row["error"] or str(row["code"] or "")
        attempt = str(row["attempt"])
        table.add_row(
            text_of(row["began"]), row["alert_id"], row["channel"], attempt, row["status"], answer, style=style
        )
    terminal().print(table)
