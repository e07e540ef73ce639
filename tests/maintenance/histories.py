"""Histories by the seed: sessions of every kind that maintenance tells apart, at any database."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Model
from django.utils import timezone

from asm_store.artifacts import ArtifactStore
from asm_store.maintenance import PROTECTED_TYPES, RetentionPolicy
from asm_store.maintenance.orphans import remove
from asm_store.models import Artifact, Event, Record, Run, Session, SessionSequence
from asm_store.test import make_event, make_run, make_session

KINDS: tuple[type[Record], ...] = (Session, Run, Event, Artifact)
# A step for each of its fields; `histories` have something for every one.
POLICY = RetentionPolicy(
    max_session_age_days=200,
    max_completed_session_age_days=90,
    hard_delete_after_days=30,
    max_events_per_session=20,
    max_total_events=150,
    max_run_age_hours=24,
    batch_size=16,
)
TYPES = [
    *sorted(PROTECTED_TYPES), "message_sent", "message_received", "tool_call_completed",
    *["message_streamed"] * 4, *["token_usage_updated"] * 3,
]  # fmt: skip
# Days since the last use; none of them near to a limit of the policy.
AGES = (1, 5, 40, 100, 150, 250)
DELETED_AGES = (2, 20, 40, 60)
NOBODY = "nobody"  # whose rows are there without it


def days_ago(days: float) -> datetime:
    return timezone.now() - timedelta(days=days)


@dataclass(slots=True)
class History:
    """Rows to be, of `count` sessions; the same for the same seed, but for what is ago."""

    seed: int
    count: int = 24
    sessions: list[Session] = field(default_factory=list)
    counters: list[SessionSequence] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)

    def __post_init__(self) -> None:
        chance = random.Random(self.seed)
        for number in range(self.count):
            self._add(number, chance)
        self._add_events(NOBODY, None, 5, chance)
        self.counters.append(SessionSequence(session_id=NOBODY, last_sequence=7))
        self.artifacts.append(self._artifact(NOBODY, 0))

    def _add(self, number: int, chance: random.Random) -> None:
        # One of each kind for sure, the rest by chance.
        pk, age = f"ses_{number:03}", AGES[number % len(AGES)]
        used = days_ago(age + number / 1_000)
        is_deleted = age > DELETED_AGES[-1] and chance.random() < 0.7
        session = make_session(
            id=pk,
            status=chance.choice(Session.Status.values),
            tags=chance.choice([["x"], [], [], ["x", "pinned"]]),
            parent_session_id=self._parent(chance),
            created_at=used - timedelta(days=chance.randint(1, 9)),
            updated_at=used,
            deleted_at=days_ago(chance.choice(DELETED_AGES)) if is_deleted else None,
            metadata={"seed": self.seed},
        )
        self.sessions.append(session)
        count = chance.choice([0, 3, 6, 9, 33])
        # Some numbers were given, and their events pruned.
        last = count + chance.choice([0, 0, 2])
        self.counters.append(SessionSequence(session_id=pk, last_sequence=last, updated_at=used))
        self._add_events(pk, self._add_runs(session, chance), count, chance)
        self.artifacts += [self._artifact(pk, n) for n in range(chance.choice([0, 0, 1, 2]))]

    def _parent(self, chance: random.Random) -> str | None:
        if not self.sessions or chance.random() < 0.5:
            return None
        parent: str = chance.choice(self.sessions).pk
        return parent

    def _add_runs(self, session: Session, chance: random.Random) -> Run:
        statuses = [*Run.Status.values, "running"]
        runs = [
            make_run(
                session,
                id=f"run_{session.pk}_{n}",
                status=(status := chance.choice(statuses)),
                started_at=session.created_at,
                ended_at=None if status in ("pending", "running") else session.updated_at,
                token_usage={"input_tokens": n},
            )
            for n in range(2)
        ]
        self.runs += runs
        return runs[0]

    def _add_events(self, pk: str, run: Run | None, count: int, chance: random.Random) -> None:
        self.events += [
            make_event(
                pk,
                id=f"evt_{pk}_{n}",
                type=chance.choice(TYPES),
                sequence_number=n + 1,
                run_id=chance.choice([None, run.pk if run else None]),
                timestamp=days_ago(chance.choice(AGES)),
                data={"content": f"{pk} \u00e4 {n}", "role": "user"},
            )
            for n in range(count)
        ]

    def _artifact(self, pk: str, number: int) -> Artifact:
        return Artifact(
            id=f"art_{pk}_{number}",
            session_id=pk,
            key=f"{pk}/{number}",
            byte_size=1,
            checksum_sha256="0" * 64,
            storage_backend="default",
            storage_ref=f"asm_artifacts/none/{pk}/{number}",
        )

    def store(self, using: str) -> None:
        """Into tables that are empty; one artifact of a session that is due has its content."""
        tables: dict[Any, list[Any]] = {
            Session: self.sessions,
            SessionSequence: self.counters,
            Run: self.runs,
            Event: self.events,
            Artifact: self.artifacts,
        }
        for kind, records in tables.items():
            kind._base_manager.using(using).bulk_create(records)
        ArtifactStore(using=using).put("content", b"content")
        due = [s.pk for s in self.sessions if s.deleted_at and "pinned" not in s.tags]
        Artifact.objects.using(using).filter(key="content").update(session_id=due[0])


def clear(using: str) -> None:
    kinds: tuple[type[Model], ...] = (*KINDS, SessionSequence)
    for kind in kinds:
        remove(kind._base_manager.using(using).all())


def rows(using: str) -> dict[str, dict[str, Any]]:
    """All records by kind and id, as dicts."""
    return {
        f"{kind.__name__} {row.pk}": row.to_dict()
        for kind in KINDS
        for row in kind._base_manager.using(using)
    }


def counters(using: str) -> dict[str, int]:
    rows = SessionSequence.objects.using(using)
    return dict(rows.values_list("session_id", "last_sequence"))


def left(using: str) -> dict[str, Any]:
    """What maintenance left, without the moments that it stamped and the ids that it made."""
    return {"counters": counters(using), **dict(_comparable(using))}


def _comparable(using: str) -> Iterator[tuple[str, Any]]:
    for name, row in rows(using).items():
        kind, _, pk = name.partition(" ")
        if kind == "Artifact":
            yield f"artifact {row['key']}", row["session_id"]
        elif kind == "Event" and not pk.startswith("evt_ses"):
            yield f"{row['type']} of {row['run_id']}", row["sequence_number"]
        elif kind == "Run":
            yield name, (row["status"], row["error"])
        elif kind == "Session":
            is_deleted = row["deleted_at"] is not None
            yield name, (is_deleted, row["parent_session_id"], row["status"])
        else:
            yield name, (row["sequence_number"], row["type"], row["data"])


def orphans(using: str) -> dict[str, int]:
    """How many rows name a session that is not stored, and sessions lack their counter."""
    ids = Session.objects.using(using).values("pk")
    found = {
        kind.__name__: kind._base_manager.using(using).exclude(session_id__in=ids).count()
        for kind in (Run, Event, SessionSequence)
    }
    artifacts = Artifact._base_manager.using(using).filter(session_id__isnull=False)
    found["Artifact"] = artifacts.exclude(session_id__in=ids).count()
    counted = SessionSequence.objects.using(using).values("session_id")
    found["Session"] = Session.objects.using(using).exclude(pk__in=counted).count()
    return {name: count for name, count in found.items() if count}
