"""openai-agents: https://openai.github.io/openai-agents-python/sessions/sqlalchemy_session/"""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

from agents.extensions.memory import SQLAlchemySession
from sqlalchemy.ext.asyncio import create_async_engine

from .peer import AsyncPeer, Contents, Place


def _item(contents: Contents) -> Any:
    output = json.dumps(contents)
    return {"type": "function_call_output", "call_id": contents["tool_call_id"], "output": output}


class OpenAIAgents(AsyncPeer):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self._engine = create_async_engine(place.url("postgresql+asyncpg"))

    def new_session(self) -> Any:
        return SQLAlchemySession(str(uuid4()), engine=self._engine, create_tables=True)

    def append(self, session: Any, contents: Contents) -> None:
        self.run(session.add_items([_item(contents)]))

    def append_batch(self, session: Any, contents: list[Contents]) -> None:
        self.run(session.add_items([_item(each) for each in contents]))

    def read(self, session: Any) -> int:
        return len(self.run(session.get_items()))

    async def aclose(self) -> None:
        await self._engine.dispose()
