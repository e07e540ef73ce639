"""The tables. Instances of records are what stores take and return; a store guards them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from . import fields
from .events.sanitizing import clean_number, shown
from .events.types import EventType
from .exceptions import ValidationError
from .expressions import JSONText, TokenCount, total_tokens
from .querysets import EventQuerySet, RunQuerySet, SessionQuerySet, SessionSequenceQuerySet
from .records import Record

# Here Django looks for an app's models.
from .sums import SessionSum, UsageMark, UsageProgress, UsageSum  # noqa: F401

__all__ = ["Artifact", "Event", "Record", "Run", "Session", "SessionSequence"]


class Session(Record):
    """One conversation or job of an agent."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        ACTIVE = "active", _("active")
        PAUSED = "paused", _("paused")
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    TERMINAL_STATUSES: ClassVar = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})

    id = fields.IdField(primary_key=True, default=fields.new_session_id)
    agent_id = fields.TextField(max_length=255)
    status = fields.StatusField(choices=Status.choices, default=Status.PENDING)
    parent_session = fields.ReferenceField(
        "self", models.SET_NULL, null=True, blank=True, related_name="children"
    )
    metadata = fields.MappingField(default=dict, blank=True)
    context = fields.MappingField(default=dict, blank=True)
    tags = fields.TagsField(default=list, blank=True)
    created_at = fields.TimestampField(default=timezone.now)
    updated_at = fields.TimestampField(default=timezone.now)
    deleted_at = fields.TimestampField(null=True, blank=True)

    objects = SessionQuerySet.as_manager()

    class Meta:
        db_table = "asm_sessions"
        verbose_name = _("agent session")
        verbose_name_plural = _("agent sessions")
        # Of the admin's actions, one each; `run_maintenance` is of all that retention does.
        permissions: ClassVar = [
            ("soft_delete_session", "Can soft-delete agent sessions"),
            ("restore_session", "Can restore soft-deleted agent sessions"),
            ("pin_session", "Can pin agent sessions, so that retention leaves them alone"),
            ("export_session", "Can export agent sessions"),
            ("hard_delete_session", "Can delete agent sessions for good"),
            ("run_maintenance", "Can run maintenance of agent sessions"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["created_at", "id"], name="asm_sessions_created"),
            models.Index(fields=["updated_at", "id"], name="asm_sessions_updated"),
            models.Index(fields=["status", "created_at", "id"], name="asm_sessions_status"),
            models.Index(fields=["agent_id", "created_at", "id"], name="asm_sessions_agent"),
            fields.PartialIndex(
                fields=["parent_session"],
                name="asm_sessions_parent",
                where=models.Q(parent_session__isnull=False),
            ),
            fields.PartialIndex(
                fields=["deleted_at"],
                name="asm_sessions_deleted",
                where=models.Q(deleted_at__isnull=False),
            ),
        ]

    def update_status(self, status: str) -> Self:
        """Set the status and `updated_at`, without saving; `InvalidStatus` when it is unknown."""
        self.status = _known_status(self, status)
        self.updated_at = timezone.now()
        return self


class Run(Record):
    """One execution of the agent in a session."""

    class Status(models.TextChoices):
        PENDING = "pending", _("pending")
        RUNNING = "running", _("running")
        COMPLETED = "completed", _("completed")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")
        TIMEOUT = "timeout", _("timed out")

    TERMINAL_STATUSES: ClassVar = frozenset(
        {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TIMEOUT}
    )
    _redactable = ("input", "output", "error", "metadata", "provider_metadata")

    id = fields.IdField(primary_key=True, default=fields.new_run_id)
    session = fields.ReferenceField(Session, models.CASCADE, related_name="runs")
    status = fields.StatusField(choices=Status.choices, default=Status.PENDING)
    input = fields.PayloadField(null=True, blank=True)
    output = fields.PayloadField(null=True, blank=True)
    error = fields.PayloadField(null=True, blank=True)
    metadata = fields.MappingField(default=dict, blank=True)
    turn_count = fields.SmallCountField(default=0)
    token_usage = fields.MappingField(default=dict, blank=True)
    started_at = fields.TimestampField(default=timezone.now)
    ended_at = fields.TimestampField(null=True, blank=True)
    provider = fields.TextField(max_length=255, null=True, blank=True)
    provider_metadata = fields.MappingField(default=dict, blank=True)
    cost_usd = fields.CostField(null=True, blank=True)
    # What `provider_metadata` says, and `token_usage` as floats: for sums, and to order by tokens.
    model = fields.generated_text(JSONText("provider_metadata", "model"))
    input_tokens = fields.generated_float(TokenCount("token_usage", "input_tokens"))
    output_tokens = fields.generated_float(TokenCount("token_usage", "output_tokens"))
    total_tokens = fields.generated_float(total_tokens("token_usage"))
    cache_read_tokens = fields.generated_float(TokenCount("token_usage", "cache_read_tokens"))
    cache_creation_tokens = fields.generated_float(
        TokenCount("token_usage", "cache_creation_tokens")
    )

    objects = RunQuerySet.as_manager()

    class Meta:
        db_table = "asm_runs"
        verbose_name = _("agent run")
        verbose_name_plural = _("agent runs")
        indexes: ClassVar = [
            models.Index(fields=["session", "started_at", "id"], name="asm_runs_session"),
            models.Index(fields=["started_at", "id"], name="asm_runs_started"),
            models.Index(fields=["status", "started_at", "id"], name="asm_runs_status"),
            models.Index(fields=["provider", "started_at", "id"], name="asm_runs_provider"),
            models.Index(fields=["total_tokens", "id"], name="asm_runs_tokens"),
        ]

    def update_status(self, status: str) -> Self:
        """Set the status, on a terminal one `ended_at` too, without saving."""
        self.status = _known_status(self, status)
        if self.status in self.TERMINAL_STATUSES:
            self.ended_at = timezone.now()
        return self

    def set_output(self, output: Mapping[str, Any]) -> Self:
        """Keep `output` and complete the run, without saving."""
        self.output = _mapping("output", output)
        return self.update_status(self.Status.COMPLETED)

    def set_error(self, error: Mapping[str, Any]) -> Self:
        """Keep `error` and fail the run, without saving."""
        self.error = _mapping("error", error)
        return self.update_status(self.Status.FAILED)

    def update_token_usage(self, usage: Mapping[str, float]) -> Self:
        """Add `usage` (token counts by name, numbers >= 0) to `token_usage`, without saving."""
        before = _mapping("token_usage", self.token_usage)
        added = {
            name: _token_count(name, count) for name, count in _mapping("usage", usage).items()
        }
        sums = {
            name: _token_count(name, before.get(name, 0)) + count for name, count in added.items()
        }
        self.token_usage = {**before, **sums}
        return self


class Event(Record):
    """One line of a session's append-only log; the store gives `sequence_number`."""

    Type = EventType

    _redactable = ("data", "metadata")

    id = fields.IdField(primary_key=True, default=fields.new_event_id)
    # No choices: a project's own types are not this package's to list in a migration.
    type = fields.EventTypeField()
    timestamp = fields.TimestampField(default=timezone.now)
    session = fields.ReferenceField(Session, models.CASCADE, related_name="events")
    run = fields.ReferenceField(Run, models.RESTRICT, null=True, blank=True, related_name="events")
    sequence_number = fields.SequenceNumberField()
    data = fields.MappingField(default=dict, blank=True)
    metadata = fields.MappingField(default=dict, blank=True)
    schema_version = fields.SmallCountField(default=1, minimum=1)
    provider = fields.TextField(max_length=255, null=True, blank=True)
    correlation_id = fields.TextField(max_length=255, null=True, blank=True)

    objects = EventQuerySet.as_manager()

    class Meta:
        db_table = "asm_events"
        verbose_name = _("agent event")
        verbose_name_plural = _("agent events")
        # Beside Django's own `view_event`: what the agent and its tools said.
        permissions: ClassVar = [
            ("view_event_payload", "Can view the data and metadata of agent events")
        ]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["session", "sequence_number"], name="asm_events_session_sequence"
            ),
        ]
        # Each costs every append: tests/test_indexes.py names the query that needs it.
        indexes: ClassVar = [
            fields.PartialIndex(
                fields=["run", "sequence_number"],
                name="asm_events_run",
                where=models.Q(run__isnull=False),
            ),
            fields.PartialIndex(
                fields=["correlation_id", "timestamp", "id"],
                name="asm_events_correlation",
                where=models.Q(correlation_id__isnull=False),
            ),
            models.Index(fields=["timestamp", "id"], name="asm_events_timestamp"),
        ]

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """As for every record; `schema_version` must be there, so that readers can rely on it."""
        if "schema_version" not in _mapping("Event", data):
            raise ValidationError("schema_version: is missing.")
        return super().from_dict(data)


class SessionSequence(models.Model):
    """The latest number of a session: the row that its appends lock."""

    session_id = fields.IdField(primary_key=True)
    last_sequence = fields.CountField(default=0)
    updated_at = fields.TimestampField(default=timezone.now)

    objects = SessionSequenceQuerySet.as_manager()

    class Meta:
        db_table = "asm_session_sequences"
        verbose_name = _("session sequence")
        verbose_name_plural = _("session sequences")

    def __str__(self) -> str:
        return f"{self.session_id}: {self.last_sequence}"


class Artifact(Record):
    """The registry row of a file that an agent made; its content lives in Django's STORAGES."""

    id = fields.IdField(primary_key=True, default=fields.new_artifact_id)
    session = fields.ReferenceField(
        Session, models.CASCADE, null=True, blank=True, related_name="artifacts"
    )
    run = fields.ReferenceField(
        Run, models.SET_NULL, null=True, blank=True, related_name="artifacts"
    )
    key = fields.TextField(max_length=512)
    content_type = fields.TextField(max_length=255, null=True, blank=True)
    byte_size = fields.CountField()
    checksum_sha256 = fields.TextField(max_length=64)
    storage_backend = fields.TextField(max_length=255)
    storage_ref = fields.TextField(max_length=1024)
    metadata = fields.MappingField(default=dict, blank=True)
    created_at = fields.TimestampField(default=timezone.now)
    deleted_at = fields.TimestampField(null=True, blank=True)

    class Meta:
        db_table = "asm_artifacts"
        verbose_name = _("agent artifact")
        verbose_name_plural = _("agent artifacts")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["key"], name="asm_artifacts_key"),
        ]
        indexes: ClassVar = [
            fields.PartialIndex(
                fields=["session", "created_at"],
                name="asm_artifacts_session",
                where=models.Q(session__isnull=False),
            ),
            fields.PartialIndex(
                fields=["run"], name="asm_artifacts_run", where=models.Q(run__isnull=False)
            ),
            fields.PartialIndex(
                fields=["deleted_at"],
                name="asm_artifacts_deleted",
                where=models.Q(deleted_at__isnull=False),
            ),
        ]


def _known_status(record: Session | Run, status: str) -> str:
    return fields.clean_status(status, record.Status.values)


def _mapping(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise ValidationError(f"{name}: expected a mapping, got {shown(value)}.")
    return dict(value)


def _token_count(name: str, count: object) -> float:
    if not isinstance(count, int | float) or isinstance(count, bool) or not count >= 0:
        raise ValidationError(f"{name}: expected a number of tokens >= 0, got {shown(count)}.")
    return clean_number(count)
