"""Any agent of pydantic-ai as a provider: docs/pydantic-ai.md."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from ..background import BackgroundIterator
from ..base import BaseProvider

if TYPE_CHECKING:
    from pydantic_ai.agent import AbstractAgent

    from ...models import Run, Session
    from ...transcripts import Transcript
    from ..base import Yield

__all__ = ["PydanticAIProvider"]


_OF_ONE_RUN = frozenset({"user_prompt", "message_history", "usage"})


class PydanticAIProvider(BaseProvider):
    """Executes runs with an agent of pydantic-ai, whatever its model; streams what it does.

    `deps` are the agent's dependencies, or a function, async or not, that makes them of `(run,
    session)`. `options` are further arguments of the agent's `run_stream_events()`, for every run:
    `model`, `model_settings`, `usage_limits`, `toolsets`, ...
    """

    name = "pydantic_ai"

    def __init__(
        self,
        agent: AbstractAgent[Any, Any],
        *,
        deps: Any = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        _check_installed()
        for option in _OF_ONE_RUN & options.keys():
            raise TypeError(f"{option}: belongs to one run; a provider executes many.")
        self.agent = agent
        self.deps = deps
        self.name = self.name if name is None else name
        self.options = options

    def execute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> Iterator[Yield]:
        return BackgroundIterator(lambda: self.aexecute(run, session, transcript=transcript))

    async def aexecute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> AsyncIterator[Yield]:
        from .history import prompt_and_history
        from .telling import Teller, model_of

        prompt, history = prompt_and_history(run.input, transcript)
        yield {"type": "run_started", "data": model_of(self.options.get("model", self.agent.model))}
        options = await self._options(run, session, has_history=bool(history))
        teller = Teller(self.name)
        async with self.agent.run_stream_events(
            prompt, message_history=history, **options
        ) as events:
            try:
                async for event in events:
                    for told in teller.take(event, events):
                        yield told
            except Exception as error:
                for told in teller.fail(error, events):
                    yield told
                raise

    async def _options(self, run: Run, session: Session, *, has_history: bool) -> dict[str, Any]:
        deps = self.deps(run, session) if callable(self.deps) else self.deps
        options = {**self.options, "deps": await deps if isawaitable(deps) else deps}
        if has_history:
            from pydantic_ai.capabilities import ReinjectSystemPrompt

            # A transcript has not the agent's own system prompt, which is no event.
            own = options.get("capabilities") or ()
            options["capabilities"] = [*own, ReinjectSystemPrompt()]
        return options


def _check_installed() -> None:
    try:
        import pydantic_ai  # noqa: F401
    except ImportError as error:
        raise ImproperlyConfigured(
            "PydanticAIProvider needs pydantic-ai, with the SDK of your models: "
            "pip install 'django-asm-store[pydantic-ai]' 'pydantic-ai-slim[openai]'"
        ) from error
