"""The `rayfeed` command."""

import asyncio
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from cluster import (
    alerts,
    audit,
    backfilling,
    backing_up,
    completion,
    doctor,
    front_door,
    recording,
    reports,
    scaling,
    simulating,
    status_command,
    symbols,
    upgrading,
    users,
)
from cluster.instance import Instance, InstanceError, stop_running
from cluster.options import AsJson, Data
from cluster.terminal import terminal
from config import SettingsError, load
from storage.backup_manifest import BackupError

DETACH_TIMEOUT_S = 180.0
DOWN_TIMEOUT_S = 20.0

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Market data on Ray: collect, store, serve.",
)
notes = terminal(stderr=True)

app.add_typer(symbols.app, name="symbols")
app.add_typer(alerts.app, name="alerts")
app.add_typer(simulating.app, name="sim")
app.add_typer(users.app, name="user")
app.add_typer(users.keys, name="key")
app.add_typer(backing_up.app, name="backup")
app.add_typer(front_door.app, name="edge")
app.add_typer(reports.app, name="report")
app.command()(status_command.status)
app.command()(doctor.doctor)
app.command()(recording.record)
app.command()(audit.audit)
app.command()(backfilling.backfill)
app.command()(backing_up.verify)
app.command()(backing_up.restore)
app.command()(scaling.scale)
app.command()(upgrading.upgrade)


def main() -> None:
    """Run the command; what the user can mend is one line on stderr and exit status 1."""
    try:
        app()
    except (SettingsError, InstanceError, BackupError) as error:
        print(f"rayfeed: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)


@app.command()
def up(
    data: Data = Path("data"),
    source: Annotated[str | None, typer.Option(help="sim, live or replay:DIR")] = None,
    exchanges: Annotated[
        str | None, typer.Option(help="Only these, separated by commas.", autocompletion=completion.exchanges)
    ] = None,
    port: Annotated[int | None, typer.Option(help="HTTP port of the front door.")] = None,
    tls_port: Annotated[int | None, typer.Option(help="HTTPS port of the front door.")] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Return when it is ready and leave it running.")] = False,
    as_json: AsJson = False,
) -> None:
    """Start everything; Ctrl-C stops it."""
    chosen: dict[str, Any] = {"source": source, "port": port, "tls_port": tls_port}
    settings = load(data, {**chosen, "exchanges": _only(exchanges, data) if exchanges else None})
    if detach:
        _ready(_detach(settings.data), as_json)
        return
    # Read when Ray is imported: a call after Ray has gone fails, instead of starting another Ray.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    from cluster.up import run

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    began = time.monotonic()

    def progress(what: str) -> None:
        notes.print(Text.assemble((f"{time.monotonic() - began:5.1f} s", "dim"), f"  {what}"))

    asyncio.run(run(settings, progress, lambda url: _ready(url, as_json)))


@app.command()
def down(data: Data = Path("data"), as_json: AsJson = False) -> None:
    """Stop the instance of that data folder."""
    stopped = stop_running(data.absolute(), DOWN_TIMEOUT_S) is not None
    if as_json:
        typer.echo(json.dumps({"stopped": stopped}))
    else:
        typer.echo("stopped" if stopped else f"nothing runs on {data}")


@app.command()
def replay(
    sources: Annotated[list[Path], typer.Argument(metavar="FOLDER|FILE...", help="Captures and journals.")],
    speed: Annotated[float, typer.Option(min=0.0, help="1 as recorded, 10 ten times as fast, 0 all at once.")] = 1.0,
    exchanges: Annotated[str | None, typer.Option(help="Only these, separated by commas.")] = None,
    until_sent: Annotated[bool, typer.Option("--exit", help="End when clients have got everything.")] = False,
    as_json: AsJson = False,
) -> None:
    """Play recordings through local servers in the exchanges' own protocol, until Ctrl-C; needs no instance."""
    from cluster.replaying import run

    run(sources, exchanges, speed, until_sent, as_json)


def _only(names: str, data: Path) -> dict[str, Any]:
    """Every known exchange switched on or off."""
    wanted = {name.strip() for name in names.split(",") if name.strip()}
    known = set(load(data).exchanges)
    if not wanted or wanted - known:
        unknown = ", ".join(sorted(wanted - known)) or names
        raise SettingsError(f"--exchanges: no exchange called {unknown}; there are {', '.join(sorted(known))}")
    return {name: {"enabled": name in wanted} for name in known}


def _ready(url: str, as_json: bool) -> None:
    print(json.dumps({"ready": url}) if as_json else f"ready {url}", flush=True)  # noqa: T201


def _detach(data: Path) -> str:
    """Run the same command in the background and wait until it is ready or has failed; its address."""
    # Who runs there already goes on writing its lines.
    Instance.claim(data).release()
    log = data / "rayfeed.log"
    arguments = [argument for argument in sys.argv[1:] if argument not in ("--detach", "--json")]
    with log.open("wb") as output:
        process = subprocess.Popen(  # noqa: S603 - our own command line again
            [sys.executable, "-m", "cluster.cli", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    deadline = time.monotonic() + DETACH_TIMEOUT_S
    while time.monotonic() < deadline:
        lines = log.read_text(errors="replace").splitlines()
        if ready := next((line for line in lines if line.startswith("ready ")), None):
            return ready.removeprefix("ready ")
        if process.poll() is not None:
            reason = lines[-1].removeprefix("rayfeed: ") if lines else f"exit status {process.returncode}"
            raise InstanceError(reason)
        time.sleep(0.1)
    process.terminate()
    raise InstanceError(f"not ready after {DETACH_TIMEOUT_S:g} s; see {log}")


if __name__ == "__main__":
    main()
