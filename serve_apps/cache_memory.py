"""The first tier of the cache: the newest answers in the memory of one replica, bounded in bytes. Pure: time is passed
in."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

#: About what an entry takes besides its key and body.
_OVERHEAD: Final = 200


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer; None where there is none, which is remembered too. Good until `fresh_until`, and until `stale_until`
    while a new one is made (seconds since 1970)."""

    body: bytes | None
    fresh_until: float
    stale_until: float


class Memory:
    """Answers by key, of which those not used for longest go when they are more than `most_bytes`."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self.nbytes = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: str, now: float) -> Kept | None:
        """What is kept and may still be given."""
        kept = self._kept.get(key)
        if kept is None:
            return None
        if now >= kept.stale_until:
            self.drop(key)
            return None
        self._kept.move_to_end(key)
        return kept

    def put(self, key: str, kept: Kept) -> None:
        """Keep it in the place of what was there; not one that is larger than everything together may be."""
        self.drop(key)
        size = _size(key, kept)
        if size > self._most_bytes:
            return
        self._kept[key] = kept
        self.nbytes += size
        while self.nbytes > self._most_bytes:
            oldest, gone = self._kept.popitem(last=False)
            self.nbytes -= _size(oldest, gone)
            self.evicted += 1

    def drop(self, key: str) -> None:
        """Forget one, if it is there."""
        if (gone := self._kept.pop(key, None)) is not None:
            self.nbytes -= _size(key, gone)

    def drop_below(self, prefix: str) -> None:
        """Forget all whose keys begin like that."""
        for key in [key for key in self._kept if key.startswith(prefix)]:
            self.drop(key)


def _size(key: str, kept: Kept) -> int:
    return _OVERHEAD + len(key) + len(kept.body or b"")
