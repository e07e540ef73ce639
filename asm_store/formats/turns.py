"""Sessions and runs that are put together while a log is read."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .. import conf
from ..models import Run, Session
from .reports import Tokens

EXCERPT = 20_000
# How many turns back a late line may still find the run that it belongs to.
RECENT_TURNS = 8
MAX_MODELS = 20
# What the column of a run can hold.
MAX_COUNT = 2**31 - 1


def excerpt(text: str) -> str:
    """What a run shows of its prompt and of its answer; the events hold all of it."""
    # A character takes up to six bytes as JSON, and a run has three such texts.
    return text[: min(EXCERPT, conf.max_event_bytes() // 20)]


@dataclass(slots=True)
class Turn:
    """One user turn: the run that it becomes, without the contents of its messages."""

    run_id: str
    session_id: str
    started_at: datetime
    ended_at: datetime
    provider: str | None
    prompt: str = ""
    answer: str = ""
    answer_id: str | None = None
    # What its last record says; None while nothing has answered the prompt.
    outcome: Run.Status | None = None
    error: dict[str, Any] | None = None
    stop_reason: str | None = None
    usage: Tokens = field(default_factory=Tokens)
    messages: int = 0
    # What the log says that it cost, in US dollars.
    cost_usd: float | None = None
    # What `output` has beside the answer.
    result: dict[str, Any] = field(default_factory=dict)
    models: list[str] = field(default_factory=list)
    records: set[str] = field(default_factory=set)
    has_end_event: bool = False
    changed: bool = True
    taken: bool = False

    @property
    def status(self) -> Run.Status:
        """A turn that never got its answer was cut off."""
        return self.outcome or Run.Status.CANCELLED

    def answered(self, text: str, message_id: str | None) -> None:
        """Keep the text of the last message, which may come in several blocks."""
        same = message_id is not None and message_id == self.answer_id
        self.answer = excerpt(f"{self.answer}\n{text}" if same else text)
        self.answer_id = message_id

    def used(self, model: str | None) -> None:
        """Note the model of a message; the last one used comes last."""
        if model is not None:
            others = [name for name in self.models if name != model]
            self.models = [*others[-MAX_MODELS:], model]

    def run(self, source: str, *, is_open: bool) -> Run:
        """The run as it is known now; `is_open` while more of its lines may come."""
        return Run(
            id=self.run_id,
            session_id=self.session_id,
            status=Run.Status.RUNNING if is_open else self.status,
            input={"messages": [{"role": "user", "content": self.prompt}]},
            output={"content": self.answer, **self.result} if self.answer or self.result else None,
            error=self.error if self.outcome == Run.Status.FAILED else None,
            metadata={"imported_from": source},
            turn_count=min(self.messages, MAX_COUNT),
            token_usage=self.usage.to_dict() if self.messages or self.usage else {},
            started_at=self.started_at,
            ended_at=None if is_open else self.ended_at,
            provider=self.provider,
            provider_metadata=self._provider_metadata(),
            cost_usd=None if is_open else self.cost_usd,
        )

    def _provider_metadata(self) -> dict[str, Any]:
        metadata: dict[str, Any] = {}
        if self.models:
            metadata["model"] = self.models[-1]
        if len(self.models) > 1:
            metadata["models"] = list(self.models)
        if self.stop_reason:
            metadata["stop_reason"] = self.stop_reason
        return metadata


@dataclass(slots=True)
class Conversation:
    """One session of the log and its recent turns."""

    session: Session
    turns: deque[Turn] = field(default_factory=deque)
    # The runs of all turns so far.
    begun: set[str] = field(default_factory=set)
    # Turns that are too old to change, and not yet handed out in their last form.
    finished: list[Turn] = field(default_factory=list)
    # The names of the tools whose results are still to come, by the call's id.
    calls: dict[str, str] = field(default_factory=dict)
    changed: bool = True
    taken: bool = False

    @property
    def current(self) -> Turn | None:
        return self.turns[-1] if self.turns else None

    def turn_of(self, parent_uuid: str | None) -> Turn | None:
        """The turn of the record that this one follows; the current one when it is not known."""
        for turn in reversed(self.turns):
            if parent_uuid in turn.records:
                return turn
        return self.current

    def begin(self, turn: Turn) -> None:
        self.turns.append(turn)
        self.begun.add(turn.run_id)
        if len(self.turns) > RECENT_TURNS:
            self.finished.append(self.turns.popleft())

    def take_turns(self, *, final: bool) -> list[tuple[Turn, bool]]:
        """The changed turns that a store should know now, each with whether it is still open.

        An open turn is handed out once, for its events to refer to, and again in its last form.
        """
        taken = [(turn, False) for turn in self.finished if turn.changed]
        self.finished.clear()
        for turn in self.turns:
            is_open = turn is self.current and not final
            if turn.changed and not (is_open and turn.taken):
                taken.append((turn, is_open))
        for turn, is_open in taken:
            turn.taken, turn.changed = True, is_open
        return taken
