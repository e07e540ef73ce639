"""What tasks share, and what is kept of it."""

from __future__ import annotations

import asyncio
import gc
from weakref import ref

from asm_store.waiting import Watch
from asm_store.waiting.sharing import read_once


def test_a_closed_event_loop_is_forgotten() -> None:
    loops = []

    async def ask() -> None:
        loops.append(ref(asyncio.get_running_loop()))
        await read_once("key", object, Watch("ses_1"))

    for _ in range(3):
        asyncio.run(ask())
    gc.collect()
    assert [loop() for loop in loops[:-1]] == [None, None]
