"""The records that are stored: contents are the same in every round, ids are not."""

from __future__ import annotations

import random

from asm_store.models import Event, Run, Session

from .plan import Sizes

TOOLS = ("read_file", "search", "run_tests", "edit_file")


def new_run() -> tuple[Session, Run]:
    session = Session(agent_id="assistant", status="active", tags=["benchmark"])
    usage = {"input_tokens": 1_200, "output_tokens": 340}
    return session, Run(session=session, status="running", provider="scripted", token_usage=usage)


def tool_calls(run: Run, count: int, sizes: Sizes) -> list[Event]:
    """Results of tool calls."""
    chance = random.Random(sizes.seed)
    return [_tool_call(run, chance, sizes.payload) for _ in range(count)]


def _tool_call(run: Run, chance: random.Random, size: int) -> Event:
    call = f"call_{chance.getrandbits(96):024x}"
    words = (f"{chance.getrandbits(24):06x}" for _ in range(max(0, size - 188) // 7))
    data = {
        "tool_name": chance.choice(TOOLS),
        "tool_call_id": call,
        "tool_input": {"path": f"src/module_{chance.randrange(1_000)}.py", "limit": 40},
        "tool_output": " ".join(words),
        "duration_ms": chance.randrange(5_000),
        "is_error": False,
    }
    return Event(
        type=Event.Type.TOOL_CALL_COMPLETED,
        session_id=run.session_id,
        run_id=run.pk,
        data=data,
        provider="scripted",
        correlation_id=call,
    )


def tokens(run: Run, count: int) -> list[Event]:
    """Pieces of a message that is streamed."""
    columns = {"session_id": run.session_id, "run_id": run.pk}
    kind = Event.Type.MESSAGE_STREAMED
    return [Event(type=kind, data={"index": n, "text": "word "}, **columns) for n in range(count)]
