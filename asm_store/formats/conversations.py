"""What readers of foreign logs have in common: sessions whose turns become runs."""

from __future__ import annotations

from ..models import Event, Run, Session
from .lifecycle import created_event, end_events, started_event
from .reader import LogReader
from .reports import Tally
from .turns import Conversation, Turn


class ConversationReader(LogReader):
    """Keeps the sessions of one log and their recent turns: ids and counts, and no contents."""

    parent_is_optional = True

    def __init__(self, tally: Tally) -> None:
        super().__init__(tally)
        self.conversations: dict[str, Conversation] = {}

    def open_conversation(
        self, session: Session, provider: str | None
    ) -> tuple[Conversation, list[Event]]:
        """A session that is new in this log, and the event of its creation."""
        conversation = Conversation(session)
        self.conversations[session.id] = conversation
        return conversation, [created_event(session, provider)]

    def begin_turn(self, conversation: Conversation, turn: Turn) -> list[Event]:
        """The events of the last turn's end and of this one's start."""
        last = conversation.current
        ended = [] if last is None else end_events(last)
        conversation.begin(turn)
        return [*ended, started_event(turn)]

    def finish(self) -> list[Event]:
        turns = [conversation.current for conversation in self.conversations.values()]
        # A turn that has no outcome yet may go on when the log grows.
        ended = [turn for turn in turns if turn is not None and turn.outcome is not None]
        return [event for turn in ended for event in end_events(turn)]

    def take_sessions(self, *, final: bool) -> list[Session]:
        taken = []
        for conversation in self.conversations.values():
            if conversation.changed and (final or not conversation.taken):
                conversation.changed, conversation.taken = False, True
                taken.append(conversation.session)
        return taken

    def take_runs(self, *, final: bool) -> list[Run]:
        return [
            turn.run(self.name, is_open=is_open)
            for conversation in self.conversations.values()
            for turn, is_open in conversation.take_turns(final=final)
        ]
