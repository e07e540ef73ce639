"""google-adk: https://google.github.io/adk-docs/sessions/session/"""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from google.adk.events import Event
from google.adk.sessions import DatabaseSessionService
from google.genai import types

from .peer import AsyncPeer, Contents, Place

APP = {"app_name": "benchmark", "user_id": "user"}


class GoogleAdk(AsyncPeer):
    def __init__(self, place: Place) -> None:
        super().__init__()
        self._service = DatabaseSessionService(place.url("postgresql+asyncpg"))

    def new_session(self) -> Any:
        return self.run(self._service.create_session(**APP, session_id=str(uuid4())))

    def append(self, session: Any, contents: Contents) -> None:
        response = types.Part.from_function_response(name=contents["tool_name"], response=contents)
        content = types.Content(role="user", parts=[response])
        event = Event(author="assistant", invocation_id="inv", content=content)
        self.run(self._service.append_event(session, event))

    def read(self, session: Any) -> int:
        found = self.run(self._service.get_session(**APP, session_id=session.id))
        return len(found.events)

    async def aclose(self) -> None:
        await self._service.close()
