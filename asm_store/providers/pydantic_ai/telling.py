"""What an agent of pydantic-ai does, told as events."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic_ai import messages as ai
from pydantic_ai.models import Model
from pydantic_ai.run import AgentRunResult, AgentRunResultEvent
from pydantic_core import to_jsonable_python

from ... import pricing
from .failures import agent_error_data

if TYPE_CHECKING:
    from pydantic_ai.agent import AgentRunEvents
    from pydantic_ai.usage import UsageBase

Told = dict[str, Any]

_THOUGHT = {"role": "assistant", "block_type": "thinking"}


def model_of(model: Model | str | None) -> Told:
    """The name of an agent's model, with its provider before it: `openai:gpt-5`."""
    if isinstance(model, Model):
        return {"model": _model_name(model.system, model.model_name)}
    return {"model": model} if isinstance(model, str) else {}


def counts_of(usage: UsageBase) -> dict[str, int]:
    """The counts of a usage, whose `input_tokens` have the cached ones in them: ours have not."""
    cached = usage.cache_read_tokens + usage.cache_write_tokens
    counts = {
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_creation_tokens": usage.cache_write_tokens,
        "reasoning_tokens": usage.output_reasoning_tokens,
    }
    return {
        "input_tokens": max(0, usage.input_tokens - cached),
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        **{name: count for name, count in counts.items() if count},
    }


class Teller:
    """Tells of one run, whose provider is called `provider`, event by event."""

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._responses: list[ai.ModelResponse] = []
        # Calls of tools that are not answered yet, by their ids.
        self._calls: dict[str, ai.BaseToolCallPart[Any]] = {}
        self._told: set[str] = set()
        self._is_in_turn = False

    def take(self, event: Any, run: AgentRunEvents[Any]) -> Iterator[Told]:
        """What is to be told of an event of the agent."""
        if isinstance(event, ai.PartDeltaEvent):
            yield from _delta(event.delta)
            return
        yield from self._responded(run)
        if isinstance(event, ai.PartStartEvent):
            if event.index == 0:
                yield from self._end_turn()
            yield from _streamed(event.part)
        elif isinstance(event, ai.PartEndEvent):
            yield from self._whole(event.part)
        elif isinstance(event, ai.ToolCallEvent):
            yield self._called(event.part)
        elif isinstance(event, ai.ToolResultEvent):
            yield self._answered(event.part)
        elif isinstance(event, ai.DeferredToolRequestsEvent):
            yield from (_approval(part) for part in event.requests.approvals)
        elif isinstance(event, AgentRunResultEvent):
            yield from self._end(event.result)

    def fail(self, error: Exception, run: AgentRunEvents[Any]) -> Iterator[Told]:
        """What is to be told when the agent has raised `error`."""
        yield from self._responded(run)
        calls = self._responses[-1].tool_calls if self._responses else []
        yield from (self._called(call) for call in calls if call.tool_call_id not in self._told)
        for open_call in self._calls.values():
            yield _event("tool_call_failed", **_names(open_call), error_message=str(error))
        yield _event("run_failed", **self._totals(run.usage))
        yield _event("error_occurred", **agent_error_data(error))

    # Messages

    def _whole(self, part: Any) -> Iterator[Told]:
        if isinstance(part, ai.TextPart) and part.content:
            yield _event("message_received", role="assistant", content=part.content)
        elif isinstance(part, ai.NativeToolCallPart):
            yield self._called(part)
        elif isinstance(part, ai.NativeToolReturnPart):
            yield self._answered(part)

    # Tools

    def _called(self, part: ai.BaseToolCallPart[Any]) -> Told:
        self._calls[part.tool_call_id] = part
        self._told.add(part.tool_call_id)
        arguments = plain(part.args_as_dict())
        return _event("tool_call_started", **_names(part), tool_input=arguments)

    def _answered(self, part: ai.BaseToolReturnPart[Any]) -> Told:
        self._calls.pop(part.tool_call_id, None)
        if part.outcome == "success":
            return _event("tool_call_completed", **_names(part), tool_output=plain(part.content))
        message = part.model_response_str(wrap_if_error=False)
        return _event(
            "tool_call_failed", **_names(part), error_message=message, outcome=part.outcome
        )

    # Turns, usage and the end

    def _responded(self, run: AgentRunEvents[Any]) -> Iterator[Told]:
        """The usage of responses that are new in the agent's history."""
        found = [message for message in run.new_messages() if message.kind == "response"]
        for response in found[len(self._responses) :]:
            self._responses.append(response)
            self._is_in_turn = response.state == "complete"
            if response.usage.has_values():
                yield _event(
                    "token_usage_updated", **counts_of(response.usage), **_source(response)
                )

    def _end_turn(self) -> Iterator[Told]:
        if self._is_in_turn:
            self._is_in_turn = False
            yield _event("turn_completed")

    def _end(self, result: AgentRunResult[Any]) -> Iterator[Told]:
        yield from self._end_turn()
        output = plain(result.output)
        last = self._responses[-1] if self._responses else None
        yield _event(
            "run_completed",
            stop_reason=(last and last.finish_reason) or "completed",
            output=output if isinstance(output, dict) else {"content": output},
            **self._totals(result.usage),
        )

    def _totals(self, usage: Any) -> Told:
        metadata = _source(self._responses[-1]) if self._responses else {}
        totals: Told = {"token_usage": counts_of(usage), "provider_metadata": metadata}
        # What each request cost at its own provider, which is not said by a sum of tokens.
        is_known = all(r.usage.cost is not None for r in self._responses)
        is_ours = pricing.own_rates(self._provider, metadata.get("model")) is not None
        if usage.cost is not None and is_known and not is_ours:
            totals["cost_usd"] = float(usage.cost)
        return totals


def plain(value: Any) -> Any:
    """`value` as plain JSON."""
    return to_jsonable_python(
        value, bytes_mode="base64", inf_nan_mode="strings", serialize_unknown=True
    )


def _event(type: str, **data: Any) -> Told:
    return {"type": type, "data": data}


def _names(part: ai.BaseToolCallPart[Any] | ai.BaseToolReturnPart[Any]) -> Told:
    return {"tool_name": part.tool_name, "tool_call_id": part.tool_call_id}


def _streamed(part: Any) -> Iterator[Told]:
    """What a part begins with."""
    if isinstance(part, ai.TextPart) and part.content:
        yield _event("message_streamed", role="assistant", content=part.content)
    elif isinstance(part, ai.ThinkingPart) and part.content:
        yield _event("message_streamed", **_THOUGHT, content=part.content)


def _delta(delta: Any) -> Iterator[Told]:
    if isinstance(delta, ai.TextPartDelta) and delta.content_delta:
        yield _event("message_streamed", role="assistant", content=delta.content_delta)
    elif isinstance(delta, ai.ThinkingPartDelta) and delta.content_delta:
        yield _event("message_streamed", **_THOUGHT, content=delta.content_delta)


def _approval(part: ai.ToolCallPart) -> Told:
    return _event("tool_approval_requested", **_names(part), policy_name="requires_approval")


def _source(response: ai.ModelResponse) -> Told:
    """Which model answered, and the id of its answer."""
    data: Told = {}
    if response.model_name:
        data["model"] = _model_name(response.provider_name, response.model_name)
    if response.provider_response_id:
        data["response_id"] = response.provider_response_id
    return data


def _model_name(provider: str | None, name: str) -> str:
    return f"{provider}:{name}" if provider else name
