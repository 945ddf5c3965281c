"""`rayfeed status`: what runs, once, or again and again."""

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from cluster.asking import Ask, supervisor
from cluster.instance import Details, Instance, InstanceError, RunningInstance
from cluster.options import AsJson, Data
from cluster.status import table
from cluster.terminal import terminal

#: Replicas come and go seldom, and asking Serve takes longer than the rest.
_REPLICAS_S: Final = 5.0
_SECRET: Final = ("redis_url", "clickhouse_url")


def status(
    data: Data = Path("data"),
    watch: Annotated[bool, typer.Option("--watch", help="A screen that follows it, until q.")] = False,
    every: Annotated[float, typer.Option(min=0.2, max=3600, help="Seconds between two looks of --watch.")] = 1.0,
    as_json: AsJson = False,
) -> None:
    """What runs: actors, symbols, integrity, lag; with --watch --json a line of JSON each time."""
    running = Instance.read(data.absolute())
    if running is None:
        if as_json:
            typer.echo(json.dumps({"running": False}))
        else:
            typer.echo(f"nothing runs on {data}; start it with: rayfeed up --data {data}")
        raise typer.Exit(1)
    if running.details is None:
        raise InstanceError(f"{running}; ask again in a moment")
    if watch and as_json:
        _tell_forever(data, running, running.details, every)
    elif watch:
        from cluster.status_watch import watch as follow

        follow(data, every)
    else:
        with supervisor(data) as ask:
            if as_json:
                typer.echo(json.dumps(_said(ask, running, running.details, _replicas())))
            else:
                if len(hosts := _hosts()) > 1:
                    shown = (host["address"] + ("" if host["alive"] else " (gone)") for host in hosts)
                    terminal().print("hosts", *shown)
                said, symbols = ask("status"), ask("integrity")
                terminal().print(table(running.details, said, symbols))
                if not _well(said, symbols):
                    terminal().print(
                        f"\nwhat to do about it: rayfeed doctor --data {data}", style="dim", highlight=False
                    )


def _well(said: Mapping[str, Mapping[str, Any]], symbols: Sequence[Mapping[str, Any]]) -> bool:
    actors = all(one["answers"] and not one.get("failure") and one.get("available", True) for one in said.values())
    return actors and all(one["state"] == "synced" for one in symbols)


def _tell_forever(data: Path, running: RunningInstance, details: Details, every_s: float) -> None:
    with supervisor(data) as ask:
        replicas, asked_at = _replicas(), time.monotonic()
        while True:
            began = time.monotonic()
            if began - asked_at > _REPLICAS_S:
                replicas, asked_at = _replicas(), began
            try:
                print(json.dumps(_said(ask, running, details, replicas)), flush=True)  # noqa: T201
            except BrokenPipeError:
                # Who read it has gone; so would what Python writes at its end.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                return
            time.sleep(max(0.0, every_s - (time.monotonic() - began)))


def _said(ask: Ask, running: RunningInstance, details: Details, replicas: Any) -> dict[str, Any]:
    shown = {key: value for key, value in msgspec.to_builtins(details).items() if key not in _SECRET}
    return {
        "running": True,
        "pid": running.pid,
        "url": details.url,
        **shown,
        "nodes": _hosts(),
        "actors": ask("status"),
        "integrity": ask("integrity"),
        "replicas": replicas,
    }


def _hosts() -> list[dict[str, Any]]:
    from cluster.ray_head import nodes

    return nodes()


def _replicas() -> Any:
    from cluster.serving import replicas

    return replicas()
