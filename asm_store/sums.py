"""The tables of what runs add up to: maintenance makes them, and writers mark what is late."""

from __future__ import annotations

from typing import ClassVar

from django.db import models

from . import fields


class UsageSum(models.Model):
    """What the runs of an hour of UTC add up to: those of one agent's use of one model.

    Maintenance makes them; sessions created in the hour are in a row without a model. What they
    do not hold any more is in `UsageMark`, what they do not hold yet begins at `UsageProgress`.
    """

    id = models.BigAutoField(primary_key=True)
    begin = fields.TimestampField()
    agent_id = fields.TextField(max_length=255, null=True)
    provider = fields.TextField(max_length=255, null=True)
    model = fields.TextField(max_length=fields.MAX_GENERATED_LENGTH, null=True)
    is_stored = models.BooleanField()
    session_count = fields.CountField(default=0)
    run_count = fields.CountField(default=0)
    error_count = fields.CountField(default=0)
    empty_runs = fields.CountField(default=0)
    unsplit_runs = fields.CountField(default=0)
    unsplit_tokens = models.FloatField(default=0.0)
    input_tokens = models.FloatField(default=0.0)
    output_tokens = models.FloatField(default=0.0)
    total_tokens = models.FloatField(default=0.0)
    cache_read_tokens = models.FloatField(default=0.0)
    cache_creation_tokens = models.FloatField(default=0.0)
    cost_usd = models.FloatField(null=True)

    class Meta:
        db_table = "asm_usage_sums"
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["begin"], name="asm_usage_sums_begin")]

    def __str__(self) -> str:
        return f"{self.begin:%Y-%m-%d %H:%M}: {self.agent_id}, {self.provider} {self.model}"


class SessionSum(models.Model):
    """What all runs of a session added up to at `summed_at`.

    Made in the transaction that adds up an hour in which one of them started: of runs in hours
    whose sums hold, it has each as it is now. So it can be more than those add up to, not less.
    """

    session_id = fields.IdField(primary_key=True)
    summed_at = fields.TimestampField()
    first_started_at = fields.TimestampField()
    last_started_at = fields.TimestampField()
    last_ended_at = fields.TimestampField(null=True)
    run_count = fields.CountField(default=0)
    error_count = fields.CountField(default=0)
    total_tokens = models.FloatField(default=0.0)
    cost_usd = models.FloatField(null=True)
    duration = models.DurationField(null=True)

    class Meta:
        db_table = "asm_session_sums"
        default_permissions = ()
        # In the order of an answer; a period is looked for without the rows.
        indexes: ClassVar = [
            models.Index(
                fields=["-cost_usd", "session_id", "first_started_at", "last_started_at"],
                name="asm_session_sums_cost",
            ),
            models.Index(
                fields=["-duration", "session_id", "first_started_at", "last_started_at"],
                name="asm_session_sums_duration",
            ),
            models.Index(fields=["first_started_at"], name="asm_session_sums_first"),
        ]

    def __str__(self) -> str:
        return f"{self.session_id}: {self.run_count}"


class UsageMark(models.Model):
    """An hour of which something was written late: its sums hold no longer.

    Each writer adds a row of its own, in its transaction: so none waits for another, and who adds
    up anew takes away those that it has seen, before it looked at the runs.
    """

    id = models.BigAutoField(primary_key=True)
    begin = fields.TimestampField()

    class Meta:
        db_table = "asm_usage_marks"
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["begin"], name="asm_usage_marks_begin")]

    def __str__(self) -> str:
        return f"{self.begin:%Y-%m-%d %H:%M}"


class UsageProgress(models.Model):
    """The row that says until when hours have sums; who adds up locks it."""

    name = fields.TextField(max_length=255, primary_key=True)
    until = fields.TimestampField(null=True)

    class Meta:
        db_table = "asm_usage_progress"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.until}"
