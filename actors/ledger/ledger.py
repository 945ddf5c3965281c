"""The accounts of a shard's symbols, and the rows that changed since they were written down or shown."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa

from actors.feeds.feed import Proof
from actors.ledger.account import Account
from storage.ledger_log import Gap
from storage.schema import GAPS

#: Closed rows in memory and in the log, newest first to stay; ClickHouse has them all.
KEPT_CLOSED: Final = 10_000
#: Of one exchange, while no sink takes them; those in the log are shown again after the next start.
MOST_UNSHARED: Final = 20_000


class Ledger:
    """Every account of one shard, by exchange and symbol."""

    def __init__(self, kept_closed: int = KEPT_CLOSED) -> None:
        self._accounts: dict[str, dict[str, Account]] = {}
        self._open: Counter[str] = Counter()
        self._closed: deque[Gap] = deque(maxlen=kept_closed)
        #: Rows that are not in the log yet, and those no sink has had.
        self.unwritten: dict[tuple[str, str, int], Gap] = {}
        self._unshared: dict[str, dict[tuple[str, int], Gap]] = {}

    def __iter__(self) -> Iterator[Account]:
        return (account for accounts in self._accounts.values() for account in accounts.values())

    def of(self, exchange: str) -> dict[str, Account]:
        return self._accounts.get(exchange, {})

    def account(self, exchange: str, symbol: str, proof: Proof) -> Account:
        """The account of a symbol, a new one where there is none."""
        accounts = self._accounts.setdefault(exchange, {})
        account = accounts.get(symbol)
        if account is None:
            account = accounts[symbol] = Account(exchange, symbol, proof, self._changed)
        elif account.proof != proof:
            account.prove_by(proof)
        return account

    def forget(self, exchange: str, symbol: str) -> None:
        """Let go of an account; rows no sink has had stay to be shown."""
        account = self.of(exchange).get(symbol)
        if account is not None:
            self._open[exchange] -= len(account.open)
            del self._accounts[exchange][symbol]
        closed = [gap for gap in self._closed if (gap.exchange, gap.symbol) != (exchange, symbol)]
        self._closed.clear()
        self._closed.extend(closed)

    def remember(self, gaps: Iterable[Gap]) -> None:
        """Rows of the log: closed ones are kept, and all are shown again, in case they were not."""
        for gap in sorted(gaps, key=lambda gap: gap.closed or 0):
            if gap.closed is None:
                self._open[gap.exchange] += 1
            else:
                self._closed.append(gap)
            self.unshared([gap])

    def gaps(self, exchange: str | None, open_only: bool) -> list[Gap]:
        """Oldest first."""
        found = [gap for account in self for gap in account.open.values()]
        if not open_only:
            found.extend(self._closed)
        return sorted((gap for gap in found if exchange in (None, gap.exchange)), key=lambda gap: gap.gap_id)

    def open_gaps(self, exchange: str) -> int:
        return self._open[exchange]

    def kept(self) -> list[Gap]:
        """What a log must hold."""
        return self.gaps(None, open_only=False)

    def integrity(self, exchange: str | None) -> list[dict[str, Any]]:
        """Per symbol, as `SymbolShard.integrity` gives it."""
        return [account.integrity() for account in self if exchange in (None, account.exchange)]

    def unshared(self, gaps: Iterable[Gap]) -> None:
        """These rows are for the sinks, if none newer is."""
        for gap in gaps:
            waiting = self._unshared.setdefault(gap.exchange, {})
            key = (gap.symbol, gap.gap_id)
            if key not in waiting or waiting[key].revision < gap.revision:
                waiting[key] = gap
            while len(waiting) > MOST_UNSHARED:
                del waiting[next(iter(waiting))]

    def to_share(self) -> dict[str, list[Gap]]:
        """By exchange what changed since the last call."""
        changed, self._unshared = self._unshared, {}
        return {exchange: list(gaps.values()) for exchange, gaps in changed.items()}

    def _changed(self, gap: Gap) -> None:
        self.unwritten[gap.exchange, gap.symbol, gap.gap_id] = gap
        self.unshared([gap])
        if gap.closed is not None:
            self._open[gap.exchange] -= 1
            self._closed.append(gap)
        elif gap.revision == 0:
            self._open[gap.exchange] += 1


def gap_batch(gaps: list[Gap]) -> pa.RecordBatch:
    """Rows of one exchange as `storage.schema.GAPS`."""
    columns = {name: [getattr(gap, name) for gap in gaps] for name in GAPS.names}
    symbols = pa.array(columns.pop("symbol"), pa.string()).dictionary_encode()
    arrays = [pa.array(values, GAPS.field(name).type) for name, values in columns.items()]
    return pa.RecordBatch.from_arrays([symbols, *arrays], schema=GAPS)
