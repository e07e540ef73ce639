"""A provider without a model, for tests of code that runs agents."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ..providers import BaseProvider

if TYPE_CHECKING:
    from ..models import Run, Session
    from ..transcripts import Transcript


class ScriptedProvider(BaseProvider):
    """Yields the items of `script`, in every run the same, and raises an exception found in it."""

    def __init__(self, script: Iterable[Any], name: str = "scripted") -> None:
        self.script = list(script)
        self.name = name

    def execute(
        self, run: Run, session: Session, *, transcript: Transcript | None = None
    ) -> Iterator[Any]:
        for item in self.script:
            if isinstance(item, BaseException) or _is_exception_class(item):
                raise item
            yield item


def _is_exception_class(item: object) -> bool:
    return isinstance(item, type) and issubclass(item, BaseException)
