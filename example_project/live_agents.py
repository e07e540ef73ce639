"""Agents that write at the same time, each in a process of its own, to one session.

This is also what using the store looks like: the few lines in `work` are all that an agent needs.
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import django


def work(session_id: str, agent: int, steps: int) -> int:
    """Append what one agent does; returns the last sequence number that it was given."""
    # Not above: a process that is just starting imports this module before it sets Django up.
    from asm_store import default_store
    from asm_store.models import Event, Run

    run = default_store.save_run(Run(session_id=session_id, provider=f"agent-{agent}"))
    number = 0
    for step in range(steps):
        event = Event(
            type=Event.Type.TOOL_CALL_COMPLETED,
            session_id=session_id,
            run_id=run.id,
            data={"tool_name": "search", "tool_call_id": f"{agent}-{step}", "tool_output": "found"},
        )
        number = default_store.append_event_with_sequence(event).sequence_number
    run.update_token_usage({"input_tokens": 40 * steps, "output_tokens": 10 * steps})
    default_store.save_run(run.set_output({"steps": steps}))
    return number


def work_together(session_id: str, *, agents: int, steps: int) -> int:
    """Run `agents` processes with `steps` events each; returns the highest number given."""
    with ProcessPoolExecutor(agents, get_context("spawn"), initializer=django.setup) as pool:
        tasks = [pool.submit(work, session_id, agent, steps) for agent in range(agents)]
        return max(task.result() for task in tasks)
