"""The protocols that can be played, by exchange; where an exchange has spoken several, the path tells them apart."""

from typing import Final

from actors.simulator.binance import BinanceSession
from actors.simulator.bitfinex import BitfinexSession
from actors.simulator.bybit import BybitSession
from actors.simulator.coinbase import CoinbaseSession
from actors.simulator.deribit import DeribitSession
from actors.simulator.kraken import KrakenSession
from actors.simulator.kraken_v2 import KrakenV2Session
from actors.simulator.okx import OkxSession
from actors.simulator.session import Session, UnknownTarget

SESSIONS: Final[dict[str, tuple[type[Session], ...]]] = {
    "binance": (BinanceSession,),
    "bitfinex": (BitfinexSession,),
    "bybit": (BybitSession,),
    "coinbase": (CoinbaseSession,),
    "deribit": (DeribitSession,),
    "kraken": (KrakenSession, KrakenV2Session),
    "okx": (OkxSession,),
}


def session_at(exchange: str, target: str) -> type[Session]:
    """The protocol an exchange speaks at a path; raises `UnknownTarget`."""
    for session in SESSIONS[exchange]:
        if session.serves(target):
            return session
    raise UnknownTarget(f"{exchange} has nothing at {target.partition('?')[0]}")
