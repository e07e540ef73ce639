"""What tasks share, and what is kept of it."""

from __future__ import annotations

import asyncio
import gc
from typing import Any
from weakref import ref

import pytest

from asm_store.waiting import Ask, Watch
from asm_store.waiting.sharing import read_once


def test_a_closed_event_loop_is_forgotten() -> None:
    loops = []

    async def ask() -> None:
        loops.append(ref(asyncio.get_running_loop()))
        await read_once(Ask(object, "key"), Watch("ses_1"))

    for _ in range(3):
        asyncio.run(ask())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None, None]


def asked_by(count: int, ask: Ask) -> list[Any]:
    async def main() -> list[Any]:
        return await asyncio.gather(*(read_once(ask, Watch("ses_1")) for _ in range(count)))

    return asyncio.run(main())


@pytest.mark.parametrize(("count", "copies"), [(1, 0), (3, 3)])
def test_only_what_is_shared_is_copied(count: int, copies: int) -> None:
    read: list[int] = []
    copied: list[Any] = []

    def copy(answer: list[Any]) -> list[Any]:
        copied.append(answer)
        return [*answer]

    def answer() -> list[int]:
        read.append(1)
        return [1]

    found = asked_by(count, Ask(answer, "key", copy=copy))
    assert (len(read), len(copied)) == (1, copies)
    assert len(set(map(id, found))) == count


@pytest.mark.parametrize(("is_kept", "readings"), [(True, 1), (False, 2)])
def test_pages_are_not_kept(is_kept: bool, readings: int) -> None:
    read: list[int] = []

    async def main() -> None:
        ask = Ask(lambda: read.append(1), "key", is_kept=is_kept)
        watches = Watch("ses_1"), Watch("ses_1")
        for watch in watches:
            await read_once(ask, watch)

    asyncio.run(main())
    assert len(read) == readings


def test_a_failure_that_all_left_is_told_nobody(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        asked = asyncio.ensure_future(read_once(Ask(fail, "key"), Watch("ses_1")))
        await asyncio.sleep(0)
        asked.cancel()
        while len(asyncio.all_tasks()) > 1:
            await asyncio.sleep(0)
        gc.collect()

    asyncio.run(main())
    assert caplog.records == []
