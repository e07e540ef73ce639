"""What tasks share, and what is kept of it."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any
from weakref import ref

import pytest

from asm_store.waiting import Ask, Watch, watching
from asm_store.waiting.sharing import read_once
from asm_store.waiting.watching import wake_all


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


class Crowd:
    """Many tasks that wait; who has read, in that order."""

    def __init__(self, ask: Ask) -> None:
        self.ask = ask
        self.answers: list[Any] = []
        self.watches = [Watch("ses_1") for _ in range(watching.CROWD)]
        self.tasks = [asyncio.create_task(self._wait(watch)) for watch in self.watches]

    async def _wait(self, watch: Watch) -> None:
        with watch:
            await watch.asleep(3_600)
            self.answers.append(await read_once(self.ask, watch))
            if len(self.answers) == 1:
                watch.has_read()
                self.answers[0].append("the first reader's")

    async def woken(self) -> Crowd:
        await asyncio.sleep(0)  # all wait
        wake_all(self.watches, time.monotonic())
        return self


def test_of_a_crowd_the_first_reads_and_each_has_an_answer_of_his_own() -> None:
    read: list[int] = []

    def answer() -> list[Any]:
        read.append(1)
        return []

    async def main() -> Crowd:
        crowd = await Crowd(Ask(answer, "key", copy=list)).woken()
        await asyncio.gather(*crowd.tasks)
        return crowd

    crowd = asyncio.run(main())
    assert read == [1]
    assert crowd.answers == [["the first reader's"], *[[]] * (watching.CROWD - 1)]
    assert len(set(map(id, crowd.answers))) == watching.CROWD


def test_a_crowd_whose_first_reader_is_cancelled_is_woken() -> None:
    async def main() -> Crowd:
        crowd = await Crowd(Ask(list, "key", copy=list)).woken()
        while not crowd.watches[0].is_leading:
            await asyncio.sleep(0)
        crowd.tasks[0].cancel()
        await asyncio.gather(*crowd.tasks[1:])
        return crowd

    assert len(asyncio.run(main()).answers) == watching.CROWD - 1


def test_an_event_loop_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        call = loop.call_soon_threadsafe

        def counted(function: Any, *arguments: Any, **options: Any) -> Any:
            told.append(function)
            return call(function, *arguments, **options)

        watches = [Watch("ses_1") for _ in range(watching.CROWD - 1)]
        tasks = [asyncio.create_task(watch.asleep(3_600)) for watch in watches]
        await asyncio.sleep(0)
        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        wake_all(watches, time.monotonic())
        await asyncio.gather(*tasks)

    asyncio.run(main())
    assert len(told) == 1
