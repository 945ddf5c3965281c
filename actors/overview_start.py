"""How the overview of the market comes to an instance: its actor, with what it asks and tells."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import ray

from actors.directory import MARKET_OVERVIEW
from actors.market_overview import MarketOverview
from actors.overview.providers import Keys
from actors.own_market import OwnShards
from actors.own_process import TOLD
from config import Settings

#: A live hub that is away is not waited for.
_TELL_S: Final = 1.0


def add_overview(add: Callable[..., Any], settings: Settings, redis_url: str | None, hub: Any) -> None:
    """Where it is switched on; `add` is `Supervisor._add`, `hub` the handle of the live hub. Of simulations and
    recordings nobody on the internet is asked, unless the settings say so."""
    own = settings.overview
    if not own.enabled:
        return
    outside = settings.source == "live" if own.outside is None else own.outside
    keys = Keys(
        coinmarketcap=_revealed(settings.cmc_api_key),
        taapi=_revealed(settings.taapi_secret),
        finnhub=_revealed(settings.finnhub_api_key),
    )
    tell = partial(_tell, hub)
    given = (own, keys, OwnShards(), redis_url, settings.redis.prefix, tell, outside)
    add(MARKET_OVERVIEW, MarketOverview, *given, settings.replay_folder is not None, gives_way=TOLD)


async def _tell(hub: Any, topic: str, rows: Sequence[dict[str, Any]]) -> None:
    with suppress(TimeoutError, ray.exceptions.RayError):
        await asyncio.wait_for(hub.tell.remote(topic, rows), _TELL_S)


def _revealed(secret: Any) -> str | None:
    return None if secret is None else secret.get_secret_value() or None
