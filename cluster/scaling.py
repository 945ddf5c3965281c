"""`rayfeed scale`: how many shards there are, while everything runs."""

import json
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from cluster.asking import Ask, supervisor
from cluster.instance import InstanceError
from cluster.options import AsJson, Data
from cluster.terminal import terminal

_LOOK_S: Final = 0.1
#: No symbol has moved for so long: nothing is lost, but somebody has to look.
_STUCK_S: Final = 300.0


def scale(
    shards: Annotated[int, typer.Option(min=1, max=256, help="How many shards there are to be.")],
    without: Annotated[
        list[str] | None, typer.Option(help="Leave this host free, by its address: before it is taken away.")
    ] = None,
    data: Data = Path("data"),
    as_json: AsJson = False,
) -> None:
    """Change the number of shards; symbols move one after another, and nothing is lost. It goes on when this ends."""
    with supervisor(data) as ask:
        said: dict[str, Any] = ask("scale", shards, without or [])
        said = _followed(ask, said) if as_json else _shown(ask, said)
    if as_json:
        typer.echo(json.dumps(said))
        return
    typer.echo(
        f"{shards} shards; {said['moved']} symbols have moved"
        + (f", each without a shard for {said['held_mean_s']:.2f} s" if said["moved"] else "")
    )


def _shown(ask: Ask, said: dict[str, Any]) -> dict[str, Any]:
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, console=terminal(stderr=True)) as bar:
        task = bar.add_task("symbols", total=said["symbols"])

        def show(now: dict[str, Any]) -> None:
            # One that is older knows nothing of them.
            left = now.get("collectors")
            bar.update(task, completed=now["moved"], description=f"symbols, {left} collectors" if left else "symbols")

        return _followed(ask, said, show)


def _followed(ask: Ask, said: dict[str, Any], show: Any = lambda _: None) -> dict[str, Any]:
    seen, since = None, time.monotonic()
    while not said["done"]:
        if (said["moved"], said.get("collectors")) != seen:
            seen, since = (said["moved"], said.get("collectors")), time.monotonic()
        if time.monotonic() - since > _STUCK_S:
            raise InstanceError(f"symbols do not move: {said['error'] or 'a shard does not answer'}")
        time.sleep(_LOOK_S)
        said = ask("scaling")
        show(said)
    return said
