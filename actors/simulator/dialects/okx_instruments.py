"""What OKX says of its instruments: their terms, and of perpetual contracts what four channels tell.

https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments and #public-data-websocket-mark-price-channel with
its neighbours. Sizes of contracts count contracts; those in USD are settled in their coin.
"""

import math
from collections.abc import Callable
from typing import Final

import msgspec

from actors.simulator.dialect import Listing, Mark
from actors.simulator.dialects.decimals import fixed

_FUNDING_EVERY_MS: Final = 8 * 3_600_000
#: What a contract is worth (in the quote currency), so that it comes out as for the best known: 0.01 BTC, 0.1 ETH.
_CONTRACT_WORTH: Final = 300.0


def kind_of(listing: Listing) -> str:
    return "SPOT" if listing.kind == "spot" else "SWAP"


def is_inverse(listing: Listing) -> bool:
    return listing.quote == "USD"


def contract_value(listing: Listing) -> float:
    """In USD where the contract is settled in its coin, in coins otherwise."""
    if is_inverse(listing):
        return 100.0 if listing.base == "BTC" else 10.0
    return 10.0 ** round(math.log10(_CONTRACT_WORTH / listing.price))


def index_of(listing: Listing) -> str:
    return f"{listing.base}-{listing.quote}"


def instrument(listing: Listing) -> str:
    steps = {"lotSz": fixed(1, listing.size_decimals), "tickSz": fixed(1, listing.price_decimals)}
    terms = {"baseCcy": listing.base, "quoteCcy": listing.quote}
    if listing.kind == "perpetual":
        inverse, value = is_inverse(listing), contract_value(listing)
        terms = {
            "baseCcy": "",
            "quoteCcy": "",
            "settleCcy": listing.base if inverse else listing.quote,
            "ctMult": "1",
            "ctType": "inverse" if inverse else "linear",
            "ctVal": stripped(f"{value:.10f}"),
            "ctValCcy": "USD" if inverse else listing.base,
            "uly": index_of(listing),
            "instFamily": index_of(listing),
        }
    empty = dict.fromkeys(
        (
            "alias",
            "ctMult",
            "ctType",
            "ctVal",
            "ctValCcy",
            "expTime",
            "instFamily",
            "optType",
            "settleCcy",
            "stk",
            "uly",
        ),
        "",
    )
    said = {"instId": listing.symbol, "instType": kind_of(listing), "lever": "10", "listTime": "1548133413000"}
    return msgspec.json.encode(empty | said | terms | steps | {"minSz": steps["lotSz"], "state": "live"}).decode()


def stripped(text: str) -> str:
    return text.rstrip("0").removesuffix(".") if "." in text else text


def _mark_price(listing: Listing, mark: Mark) -> str:
    price = f"{mark.mark_price:.{listing.price_decimals}f}"
    return f'{{"instId":"{listing.symbol}","instType":"SWAP","markPx":"{price}","ts":"{mark.t_ns // 1_000_000}"}}'


def _index_ticker(listing: Listing, mark: Mark) -> str:
    price, usual_price = (f"{value:.{listing.price_decimals}f}" for value in (mark.index_price, listing.price))
    return (
        f'{{"instId":"{index_of(listing)}","idxPx":"{price}","high24h":"{usual_price}","low24h":"{usual_price}",'
        f'"open24h":"{usual_price}","sodUtc0":"{usual_price}","sodUtc8":"{usual_price}",'
        f'"ts":"{mark.t_ns // 1_000_000}"}}'
    )


def _open_interest(listing: Listing, mark: Mark) -> str:
    coins = mark.open_interest * contract_value(listing) / (mark.mark_price if is_inverse(listing) else 1)
    return (
        f'{{"instId":"{listing.symbol}","instType":"SWAP","oi":"{stripped(f"{mark.open_interest:.4f}")}",'
        f'"oiCcy":"{stripped(f"{coins:.4f}")}","ts":"{mark.t_ns // 1_000_000}"}}'
    )


def _funding_rate(listing: Listing, mark: Mark) -> str:
    rate, due = stripped(f"{mark.funding_rate:.16f}"), mark.next_funding_ns // 1_000_000
    return (
        f'{{"formulaType":"withRate","fundingRate":"{rate}","fundingTime":"{due}","impactValue":"10000",'
        f'"instId":"{listing.symbol}","instType":"SWAP","interestRate":"0.0001","maxFundingRate":"0.00375",'
        f'"method":"current_period","minFundingRate":"-0.00375","nextFundingRate":"",'
        f'"nextFundingTime":"{due + _FUNDING_EVERY_MS}","premium":"{rate}","settFundingRate":"{rate}",'
        f'"settState":"settled","ts":"{mark.t_ns // 1_000_000}"}}'
    )


#: The channels of contracts, and what they say.
DERIVATIVES: Final[dict[str, Callable[[Listing, Mark], str]]] = {
    "mark-price": _mark_price,
    "index-tickers": _index_ticker,
    "open-interest": _open_interest,
    "funding-rate": _funding_rate,
}
