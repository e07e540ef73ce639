"""langgraph: https://docs.langchain.com/oss/python/langgraph/persistence"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres import PostgresSaver

from .peer import Contents, Peer, Place


class Langgraph(Peer):
    """A checkpoint for each event, whose state is that event alone: the smallest there is."""

    def __init__(self, place: Place) -> None:
        self._opened = PostgresSaver.from_conn_string(place.url())
        self._saver = self._opened.__enter__()

    def make_tables(self) -> None:
        self._saver.setup()

    def new_session(self) -> Any:
        return {"configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}}

    def append(self, session: Any, contents: Contents) -> None:
        number = session.get("number", 0) + 1
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"event": contents}
        checkpoint["channel_versions"] = {"event": number}
        metadata: Any = {"source": "loop", "step": number, "parents": {}}
        versions: Any = {"event": number}
        config = {"configurable": session["configurable"]}
        session["configurable"] = self._saver.put(config, checkpoint, metadata, versions)[
            "configurable"
        ]
        session["number"] = number

    def read(self, session: Any) -> int:
        thread = {**session["configurable"]}
        thread.pop("checkpoint_id", None)
        return sum(1 for _ in self._saver.list({"configurable": thread}))

    def close(self) -> None:
        self._opened.__exit__(None, None, None)
