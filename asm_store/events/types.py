"""The vocabulary of event types."""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import gettext_lazy as _


class EventType(TextChoices):
    """The built-in types; `ASM_STORE_EXTRA_EVENT_TYPES` adds a project's own at run time."""

    SESSION_CREATED = "session_created", _("session created")
    SESSION_STARTED = "session_started", _("session started")
    SESSION_PAUSED = "session_paused", _("session paused")
    SESSION_RESUMED = "session_resumed", _("session resumed")
    SESSION_COMPLETED = "session_completed", _("session completed")
    SESSION_FAILED = "session_failed", _("session failed")
    SESSION_CANCELLED = "session_cancelled", _("session cancelled")
    RUN_STARTED = "run_started", _("run started")
    RUN_COMPLETED = "run_completed", _("run completed")
    RUN_FAILED = "run_failed", _("run failed")
    RUN_CANCELLED = "run_cancelled", _("run cancelled")
    RUN_TIMEOUT = "run_timeout", _("run timed out")
    MESSAGE_SENT = "message_sent", _("message sent")
    MESSAGE_RECEIVED = "message_received", _("message received")
    MESSAGE_STREAMED = "message_streamed", _("message streamed")
    TOOL_CALL_STARTED = "tool_call_started", _("tool call started")
    TOOL_CALL_COMPLETED = "tool_call_completed", _("tool call completed")
    TOOL_CALL_FAILED = "tool_call_failed", _("tool call failed")
    ERROR_OCCURRED = "error_occurred", _("error occurred")
    ERROR_RECOVERED = "error_recovered", _("error recovered")
    TOKEN_USAGE_UPDATED = "token_usage_updated", _("token usage updated")
    TURN_COMPLETED = "turn_completed", _("turn completed")
    WORKSPACE_SNAPSHOT_TAKEN = "workspace_snapshot_taken", _("workspace snapshot taken")
    WORKSPACE_DIFF_COMPUTED = "workspace_diff_computed", _("workspace diff computed")
    POLICY_VIOLATION = "policy_violation", _("policy violation")
    TOOL_APPROVAL_REQUESTED = "tool_approval_requested", _("tool approval requested")
    TOOL_APPROVAL_GRANTED = "tool_approval_granted", _("tool approval granted")
    TOOL_APPROVAL_DENIED = "tool_approval_denied", _("tool approval denied")
