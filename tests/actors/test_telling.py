"""Rows for the sinks go on together, and nobody waits for sinks that take nothing."""

import asyncio
from collections.abc import Mapping

import pyarrow as pa

from actors.parcels import Key
from actors.telling import Telling
from tests.polling import until


def rows(*numbers: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pydict({"number": list(numbers)})


class Slow:
    """A sink that takes nothing until it is told to, or that it refuses."""

    def __init__(self) -> None:
        self.answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.given: list[dict[Key, list[int]]] = []

    async def __call__(self, tables: Mapping[Key, pa.Table]) -> None:
        self.given.append({key: table["number"].to_pylist() for key, table in tables.items()})
        await self.answer


async def test_what_gathered_goes_on_together_by_kind_and_exchange() -> None:
    sink = Slow()
    telling = Telling(sink, 10, lambda count: None)
    telling.send([])
    telling.add("trades", "okx", rows(1), rows(2))
    telling.add("trades", "okx", rows(3))
    telling.add("bars", "okx", rows(4))
    telling.send([])
    await until(lambda: bool(sink.given))
    assert sink.given == [{("trades", "okx"): [1, 2, 3], ("bars", "okx"): [4]}]
    assert telling.pending == 2
    sink.answer.set_result(None)
    await telling.finish()
    await until(lambda: telling.pending == 0)


async def test_what_is_refused_or_too_much_is_counted_and_told_again_by_who_gave_it() -> None:
    sink, untold, again = Slow(), list[int](), list[str]()
    telling = Telling(sink, 1, untold.append)
    telling.add("gaps", "okx", rows(1, 2))
    telling.send([lambda: again.append("refused")])
    telling.add("gaps", "okx", rows(3))
    telling.send([lambda: again.append("too much")])
    assert (untold, again) == ([1], ["too much"])
    await until(lambda: bool(sink.given))
    sink.answer.set_exception(OSError("away"))
    await telling.finish()
    await until(lambda: telling.pending == 0)
    assert (untold, again) == ([1, 2], ["too much", "refused"])
    assert len(sink.given) == 1
