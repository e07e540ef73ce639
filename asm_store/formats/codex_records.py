"""The lines of a Codex rollout, read into drafts of events: pure functions, no state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from ..events.types import EventType
from ..models import Session
from .drafts import (
    Draft,
    arguments_of,
    call_draft,
    context_of,
    count_of,
    flat,
    key_of,
    message_drafts,
    result_draft,
    short_text,
    text_or_none,
    texts_of,
    thought_draft,
    timestamp_of,
    usable_id,
    usable_session_id,
)
from .lines import SkippedLineError
from .reports import Tokens

SOURCE = "codex"
Item = dict[str, Any]
# Known response items that are no part of the conversation.
IGNORED_ITEMS = frozenset(
    {
        "additional_tools",
        "compaction",
        "compaction_summary",
        "compaction_trigger",
        "context_compaction",
        "ghost_snapshot",
        "other",
    }
)
# These say again what a response item says, or what only the program's screen needs.
IGNORED_EVENTS = frozenset(
    {
        "agent_message",
        "agent_reasoning",
        "agent_reasoning_raw_content",
        "agent_reasoning_section_break",
        "apply_patch_approval_request",
        "background_event",
        "collab_agent_interaction_begin",
        "collab_agent_interaction_end",
        "collab_agent_spawn_begin",
        "collab_agent_spawn_end",
        "collab_close_begin",
        "collab_close_end",
        "collab_resume_begin",
        "collab_resume_end",
        "collab_waiting_begin",
        "collab_waiting_end",
        "context_compacted",
        "deprecation_notice",
        "dynamic_tool_call_request",
        "dynamic_tool_call_response",
        "elicitation_request",
        "entered_review_mode",
        "exec_approval_request",
        "exec_command_begin",
        "exec_command_end",
        "exec_command_output_delta",
        "exited_review_mode",
        "guardian_assessment",
        "guardian_warning",
        "hook_completed",
        "hook_started",
        "image_generation_begin",
        "image_generation_end",
        "item_completed",
        "item_started",
        "mcp_startup_complete",
        "mcp_startup_update",
        "mcp_tool_call_begin",
        "mcp_tool_call_end",
        "model_reroute",
        "model_verification",
        "patch_apply_begin",
        "patch_apply_end",
        "patch_apply_updated",
        "plan_delta",
        "plan_update",
        "raw_response_item",
        "request_permissions",
        "request_user_input",
        "session_configured",
        "shutdown_complete",
        "stream_error",
        "sub_agent_activity",
        "terminal_interaction",
        "thread_goal_updated",
        "thread_rolled_back",
        "thread_settings_applied",
        "turn_diff",
        "undo_completed",
        "undo_started",
        "view_image_tool_call",
        "warning",
        "web_search_begin",
        "web_search_end",
    }
)
# Written by the program in the user's name: no turn begins with them.
NOT_A_PROMPT = (
    "# AGENTS.md instructions",
    "<INSTRUCTIONS>",
    "<apps_instructions>",
    "<collaboration_mode>",
    "<environment_context>",
    "<permissions instructions>",
    "<skill>",
    "<skills_instructions>",
    "<subagent_notification>",
    "<turn_aborted>",
    "<user_instructions>",
    "<user_shell_command>",
)
TOKEN_KEYS = ("input_tokens", "output_tokens", "cached_input_tokens", "cache_write_input_tokens")


def new_session(meta: Mapping[str, Any], timestamp: datetime) -> Session:
    """The session of a rollout's first line. A log has no end: what is in it is completed."""
    metadata: dict[str, Any] = {"imported_from": SOURCE}
    if forked_from := usable_id(meta.get("forked_from_id")):
        metadata["forked_from"] = forked_from
    created = _created(meta, timestamp)
    return Session(
        id=usable_session_id(meta.get("id", meta.get("session_id"))),
        agent_id=SOURCE,
        status=Session.Status.COMPLETED,
        parent_session_id=parent_of(meta),
        metadata=metadata,
        context=_context(meta),
        created_at=created,
        updated_at=max(created, timestamp),
    )


def _created(meta: Mapping[str, Any], timestamp: datetime) -> datetime:
    try:
        return min(timestamp_of(meta.get("timestamp")), timestamp)
    except SkippedLineError:
        return timestamp


def parent_of(meta: Mapping[str, Any]) -> str | None:
    """The session that sent this one out as its subagent."""
    found: Any = meta.get("source")
    for key in ("subagent", "thread_spawn", "parent_thread_id"):
        found = found.get(key) if isinstance(found, dict) else None
    parent = usable_id(meta.get("parent_thread_id")) or usable_id(found)
    return None if parent == meta.get("id") else parent


def _context(meta: Mapping[str, Any]) -> dict[str, Any]:
    git = meta.get("git")
    return context_of(
        {
            "cwd": meta.get("cwd"),
            "git_branch": git.get("branch") if isinstance(git, dict) else None,
            "version": meta.get("cli_version"),
            "model_provider": meta.get("model_provider"),
        }
    )


def minted_at(turn_id: object) -> float | None:
    """When a turn began, in seconds: its id is a UUIDv7. None when it is not."""
    try:
        as_uuid = UUID(str(turn_id))
    except ValueError:
        return None
    return (as_uuid.int >> 80) / 1000 if as_uuid.version == 7 else None


def drafts_of(item: Item) -> list[Draft] | None:
    """The events of a response item, in order; None when its kind is not known."""
    kind = str(item.get("type"))
    if kind in IGNORED_ITEMS:
        return []
    read = READERS.get(kind)
    return None if read is None else read(item)


def is_from_model(draft: Draft) -> bool:
    """Whether this is what the model did in its turn, or what that led to."""
    return draft.type != EventType.MESSAGE_SENT


def is_prompt(draft: Draft) -> bool:
    """Whether somebody asks for something."""
    said = draft.type == EventType.MESSAGE_SENT and draft.data["role"] == "user"
    return said and not draft.data["content"].startswith(NOT_A_PROMPT)


def _message(item: Item) -> list[Draft]:
    role = str(item.get("role"))[:64]
    event_type = EventType.MESSAGE_RECEIVED if role == "assistant" else EventType.MESSAGE_SENT
    return message_drafts(event_type, role, item.get("content"))


def _agent_message(item: Item) -> list[Draft]:
    """What another agent says to this one."""
    texts = texts_of(item["content"] if isinstance(item.get("content"), list) else [])
    author = short_text(item.get("author"))
    data = {"content": "\n".join(texts), "role": "agent", "author": author}
    return [Draft(EventType.MESSAGE_SENT, data, key_of(item))]


def _reasoning(item: Item) -> list[Draft]:
    parts = [item.get(key) for key in ("summary", "content")]
    texts = [text for part in parts if isinstance(part, list) for text in texts_of(part)]
    return [thought_draft("\n".join(texts))]


def _call_id(item: Item) -> str | None:
    return text_or_none(item.get("call_id")) or text_or_none(item.get("id"))


def _function_call(item: Item) -> list[Draft]:
    given = arguments_of(item.get("arguments"))
    return [call_draft(_call_id(item), str(item.get("name", "")), given, key_of(item))]


def _custom_tool_call(item: Item) -> list[Draft]:
    name = str(item.get("name", ""))
    return [call_draft(_call_id(item), name, item.get("input"), key_of(item))]


def _local_shell_call(item: Item) -> list[Draft]:
    return [call_draft(_call_id(item), "local_shell", item.get("action"), key_of(item))]


def _tool_search_call(item: Item) -> list[Draft]:
    return [call_draft(_call_id(item), "tool_search", item.get("arguments"), key_of(item))]


def _output(item: Item) -> list[Draft]:
    output: Any = item.get("output")
    failed = False
    if isinstance(output, dict):
        failed = output.get("success") is False
        output = output.get("content", output.get("text", output))
    return [result_draft(_call_id(item), flat(output), key_of(item), failed=failed)]


def _tool_search_output(item: Item) -> list[Draft]:
    return [result_draft(_call_id(item), item.get("tools"), key_of(item), failed=False)]


def _web_search_call(item: Item) -> list[Draft]:
    return _whole_call(item, "web_search", item.get("action"), None)


def _image_generation_call(item: Item) -> list[Draft]:
    return _whole_call(item, "image_generation", None, item.get("revised_prompt"))


def _whole_call(item: Item, name: str, given: Any, output: Any) -> list[Draft]:
    """A call that the model's side carried out: one item says what was asked and how it ended."""
    call, status = _call_id(item), item.get("status")
    drafts = [call_draft(call, name, given, key_of([item, "call"]))]
    if status in ("completed", "failed"):
        result = "failed" if status == "failed" else output
        drafts.append(result_draft(call, result, key_of(item), failed=status == "failed"))
    return drafts


READERS: dict[str, Callable[[Item], list[Draft]]] = {
    "message": _message,
    "agent_message": _agent_message,
    "reasoning": _reasoning,
    "function_call": _function_call,
    "function_call_output": _output,
    "custom_tool_call": _custom_tool_call,
    "custom_tool_call_output": _output,
    "local_shell_call": _local_shell_call,
    "tool_search_call": _tool_search_call,
    "tool_search_output": _tool_search_output,
    "web_search_call": _web_search_call,
    "image_generation_call": _image_generation_call,
}


def error_draft(error: Mapping[str, Any]) -> Draft:
    """The event of a request that failed, or of a turn that failed with it."""
    code = error.get("codex_error_info")
    if isinstance(code, dict):
        code = next(iter(code), None)
    message = text_or_none(error.get("message"))
    name = short_text(code) or "error"
    data = {"error_message": message or name, "error_code": name}
    return Draft(EventType.ERROR_OCCURRED, data, key_of(data))


def tokens_of(payload: Mapping[str, Any]) -> Tokens | None:
    """All that the session has used so far, as a `token_count` says; None when it does not.

    Its input counts what was read from the cache or written to it, too; ours does not.
    """
    info = payload.get("info")
    total = info.get("total_token_usage") if isinstance(info, dict) else None
    if not isinstance(total, dict):
        return None
    given, output, read, written = (count_of(total.get(key)) for key in TOKEN_KEYS)
    read = min(read, given)
    written = min(written, given - read)
    return Tokens(given - read - written, output, read, written)
