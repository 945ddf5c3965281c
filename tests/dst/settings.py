"""The settings of a run, made once, and what is compiled before the first."""

from functools import cache
from pathlib import Path

from actors import kernels
from config import Settings, load
from tests.dst.faults import Plan


@cache
def _defaults() -> Settings:
    kernels.warm_up()
    return load("/nowhere", {
        "source": "live",
        "collector": {"flush_interval_ms": 150, "max_batches_in_flight": 16},
        "shard": {"commit_interval_ms": 250, "share_interval_ms": 1500},
        "features": {"timeframes": []},
        "quality": {"quarantine": 10},
    })  # fmt: skip


def settings_of(planned: Plan, data: Path) -> Settings:
    """As the plan says, with intervals that are longer than in life."""
    known = _defaults()
    shard = known.shard.model_copy(update={"recent_bars": planned.recent_bars, "sync_interval_s": planned.flush_s})
    return known.model_copy(update={"data": data, "shards": planned.shards, "shard": shard})


def warm_up() -> None:
    """Compile what is compiled, once for all runs of this process."""
    _defaults()
