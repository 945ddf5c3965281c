"""Which batches of a collector a shard has: one that is sent again is known, and one that never came is noticed."""

from typing import Final

#: Batches that never came and still may; far more than a collector has on its way.
_MOST_ABSENT: Final = 4096


class Sequences:
    """The batches of one collector, by (epoch, sequence)."""

    def __init__(self) -> None:
        self._epoch = -1
        #: Had are `_first` up to `_next`, but for `_absent`. What was before `_first` nobody here can tell.
        self._first = 0
        self._next = 0
        self._absent: set[int] = set()
        #: How often a sequence was not the next one, and batches dropped because they came before.
        self.jumps = 0
        self.repeated = 0

    def take(self, epoch: int, sequence: int) -> bool:
        """Whether this batch is to be stored; False: it was taken before."""
        if epoch < self._epoch:
            # Of a collector that is gone: nobody can tell any more, and the files drop what they have.
            return True
        if epoch > self._epoch:
            # The first batch of all may be any: this shard may have been restarted.
            self._first = self._next = 0 if self._epoch >= 0 else sequence
            self._epoch = epoch
            self._absent.clear()
        if sequence < self._next:
            if sequence < self._first:
                return True
            if sequence in self._absent:
                self._absent.remove(sequence)
                return True
            self.repeated += 1
            return False
        if sequence > self._next:
            self.jumps += 1
            self._absent.update(range(max(self._next, sequence - _MOST_ABSENT), sequence))
            # Storing what was stored does no harm, so what is forgotten here counts as never seen.
            for oldest in sorted(self._absent)[:-_MOST_ABSENT]:
                self._absent.remove(oldest)
                self._first = oldest + 1
        self._next = sequence + 1
        return True
