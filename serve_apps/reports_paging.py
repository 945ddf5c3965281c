"""Which reports are on which page of the list, and which numbers lead to other pages. Pure."""

from dataclasses import dataclass
from typing import Final

PER_PAGE: Final = 10
#: So many pages are all named.
_ALL: Final = 10
_AROUND: Final = 2


@dataclass(frozen=True, slots=True)
class Paging:
    """Page `page` (from 1) of a list of `total`; a page behind the last is the last."""

    total: int
    asked: int
    per_page: int = PER_PAGE

    @property
    def pages(self) -> int:
        return max(1, -(-self.total // self.per_page))

    @property
    def page(self) -> int:
        return min(self.asked, self.pages)

    @property
    def skip(self) -> int:
        """How many come before this page."""
        return (self.page - 1) * self.per_page

    @property
    def first(self) -> int:
        """The number of the first on this page, from 1; 0 where there is none."""
        return min(self.skip + 1, self.total)

    @property
    def last(self) -> int:
        return min(self.skip + self.per_page, self.total)

    @property
    def newer(self) -> int | None:
        return self.page - 1 if self.page > 1 else None

    @property
    def older(self) -> int | None:
        return self.page + 1 if self.page < self.pages else None

    @property
    def numbers(self) -> list[int | None]:
        """All of a few; else the first and last two and those around this one, None where some are left out."""
        if self.pages <= _ALL:
            return list(range(1, self.pages + 1))
        around = range(self.page - _AROUND, self.page + _AROUND + 1)
        wanted = {1, 2, *around, self.pages - 1, self.pages}
        shown = sorted(number for number in wanted if 1 <= number <= self.pages)
        numbers: list[int | None] = []
        for number in shown:
            if numbers and numbers[-1] is not None and number > numbers[-1] + 1:
                numbers.append(None)
            numbers.append(number)
        return numbers
