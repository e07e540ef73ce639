"""What a provider yields: made events of its run, and counted towards what the run keeps."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from ..events.sanitizing import shown
from ..events.validation import is_count
from ..exceptions import ValidationError
from ..models import Event, Run, Session
from .lifecycle import error_data, noted

Type = Event.Type
RUN_ENDS = {
    Type.RUN_COMPLETED: Run.Status.COMPLETED,
    Type.RUN_FAILED: Run.Status.FAILED,
    Type.RUN_CANCELLED: Run.Status.CANCELLED,
    Type.RUN_TIMEOUT: Run.Status.TIMEOUT,
}
# The manager stores these itself: what a provider says in them is kept elsewhere.
MERGED = frozenset({Type.RUN_STARTED, *RUN_ENDS, *(t for t in Type if t.startswith("session_"))})

# What these say, the run keeps at once.
KNOWN = frozenset({Type.RUN_STARTED, Type.TOKEN_USAGE_UPDATED, Type.TURN_COMPLETED})


class Stop(Exception):
    """Ends an execution: the run is to have this status, for a reason that is told by `data`."""

    def __init__(
        self, status: str, data: dict[str, Any], cause: BaseException | None = None
    ) -> None:
        super().__init__(data.get("error_message", status))
        self.status = status
        self.data = data
        self.cause = cause

    def shortened(self) -> Stop:
        """The same with no more to tell than what went wrong."""
        data = error_data(str(self), self.status)
        return Stop(self.status, data, self.cause)


def failed(error: BaseException, told: Mapping[str, Any] | None = None) -> Stop:
    """What the provider did wrong; `told` is what it said of it itself."""
    data = error_data(error, "provider_error")
    return Stop(Run.Status.FAILED, {**data, **(told or {})}, error)


def check_running(run: Run) -> None:
    """Raise `Stop` when somebody else has ended the run."""
    if run.status == Run.Status.RUNNING:
        return
    message = f"The run was ended elsewhere, as {run.status}."
    is_failure = run.status in (Run.Status.FAILED, Run.Status.TIMEOUT)
    status = run.status if is_failure else Run.Status.CANCELLED
    raise Stop(status, {"error_message": message, "error_code": "run_ended"})


def event_of(value: object, run: Run, session: Session) -> Event:
    """The event that `value`, which a provider has yielded, stands for; else `ValidationError`."""
    if isinstance(value, Event):
        columns = value.to_dict()
    elif isinstance(value, Mapping):
        columns = dict(value)
    else:
        raise ValidationError(f"the provider yielded {shown(value)}: no mapping and no Event.")
    for name, own in (("session_id", session.id), ("run_id", run.id)):
        if columns.get(name) not in (None, own):
            raise ValidationError(f"{name}: the provider yielded an event of {columns[name]!a}.")
        columns[name] = own
    columns["provider"] = columns.get("provider") or run.provider
    columns.pop("sequence_number", None)
    columns = {"schema_version": 1, **columns}
    if columns.get("data", {}) is None:
        columns["data"] = {}
    return noted(Event.from_dict(columns))


class Account:
    """What the events of a run say of it: usage, turns, output, and how it ended."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._texts: list[str] = []
        self._turns = 0
        self._end: Event | None = None
        self._session_data: dict[str, Any] = {}
        self._metadata: dict[str, Any] = {}
        self._stored_metadata: dict[str, Any] = {}

    def merge(self, event: Event) -> None:
        """Keep what an event says that is not stored itself."""
        if event.type in RUN_ENDS:
            if self._end is not None and self._end.type == event.type:
                event.data = {**self._end.data, **event.data}
            self._end = event
        elif event.type == Type.RUN_STARTED:
            self._metadata.update(event.data)
        else:
            self._session_data.update(event.data)

    def count(self, event: Event) -> None:
        """Take account of a stored event."""
        if event.type == Type.TOKEN_USAGE_UPDATED:
            self._add_usage(_counts(event.data))
            if isinstance(model := event.data.get("model"), str):
                self._metadata.setdefault("model", model)
        elif event.type == Type.TURN_COMPLETED:
            self._turns += 1
        elif event.type == Type.MESSAGE_RECEIVED:
            self._texts.append(_text_of(event.data.get("content")))

    def _add_usage(self, counts: dict[str, float]) -> None:
        usage = self._run.token_usage
        # A total that only some tell would be the total of these.
        if usage and ("total_tokens" in counts) != ("total_tokens" in usage):
            counts = _with_total(counts)
            self._run.token_usage = _with_total(usage)
        self._run.update_token_usage(counts)

    def check_end(self) -> None:
        """Raise `Stop` when the provider itself said that the run did not complete."""
        if self._end is None or self._end.type == Type.RUN_COMPLETED:
            return
        status = RUN_ENDS[Type(self._end.type)]
        raise Stop(status, error_data(self._end.data, status))

    def fill(self, run: Run) -> dict[str, Any]:
        """Give `run` what is known of it, however it ended.

        Returns what its `provider_metadata` had not yet: once that is stored, and looked at for
        secrets, `keep()` it, else the same secrets count again.
        """
        run.turn_count = max(run.turn_count, self._turns)
        run.token_usage = self._run.token_usage
        said = self._said
        usage = said.get("token_usage")
        if isinstance(usage, Mapping) and (counts := _counts(usage)):
            run.token_usage = counts
        if is_count(cost := said.get("cost_usd")):
            run.cost_usd = cost
        if isinstance(metadata := said.get("provider_metadata"), Mapping):
            self._metadata.update(metadata)
        new = {name: value for name, value in self._metadata.items() if self._is_new(name, value)}
        run.provider_metadata = {**run.provider_metadata, **new}
        return new

    def keep(self, metadata: Mapping[str, Any]) -> None:
        self._stored_metadata.update(deepcopy(dict(metadata)))

    def _is_new(self, name: str, value: Any) -> bool:
        return name not in self._stored_metadata or self._stored_metadata[name] != value

    def output(self) -> dict[str, Any]:
        """What the provider said that the output is, or the text that was received."""
        output = self._said.get("output")
        if isinstance(output, Mapping):
            return dict(output)
        return {"content": "\n".join(self._texts)}

    def end_data(self) -> dict[str, Any]:
        """The data of `run_completed`."""
        return {"stop_reason": "completed", **self._said}

    def end_metadata(self) -> dict[str, Any]:
        return {} if self._end is None else dict(self._end.metadata)

    def session_data(self) -> dict[str, Any]:
        return dict(self._session_data)

    @property
    def _said(self) -> dict[str, Any]:
        return {} if self._end is None else self._end.data


def _counts(data: Mapping[str, Any]) -> dict[str, float]:
    return {name: value for name, value in data.items() if is_count(value)}


def _with_total(counts: dict[str, Any]) -> dict[str, Any]:
    total = counts.get("input_tokens", 0) + counts.get("output_tokens", 0)
    return {"total_tokens": total, **counts}


def _text_of(content: Any) -> str:
    """The text of a message: a string, or the text blocks of a list."""
    if isinstance(content, str):
        return content
    blocks = content if isinstance(content, list) else []
    texts = [block.get("text") for block in blocks if isinstance(block, dict)]
    return "".join(text for text in texts if isinstance(text, str))
