"""An overview beside what the runs add up to, and a life of random writes for it to tell of."""

from __future__ import annotations

import random
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction
from django.utils import timezone

from asm_store.backends.database import DatabaseSessionStore
from asm_store.filters import UsageFilterSet
from asm_store.maintenance import RetentionPolicy, execute, sum_up_usage
from asm_store.models import Run, Session
from asm_store.queries import (
    Overview,
    get_agent_usage,
    get_cost_entries,
    get_overview,
    get_trend,
)
from asm_store.queries.coverage import Coverage
from asm_store.queries.paging import matching
from asm_store.queries.top_sessions import Ranking
from asm_store.test import make_run, make_session

AGENTS, MODELS = ("clerk", "pilot", "scout"), ("claude-haiku-4-5", "no-such-model", None)
PROVIDERS = ("claude", "codex", None)


def close(values: list[Any]) -> list[Any]:
    """To be compared with: sums of floats depend on their order."""
    return [
        {
            name: pytest.approx(value) if name == "cost_usd" and value is not None else value
            for name, value in asdict(row).items()
        }
        for row in values
    ]


def plain(values: list[Any]) -> list[dict[str, Any]]:
    return [asdict(row) for row in values]


def assert_equal(using: str, step: str, **filters: Any) -> Overview:
    found = get_overview(using=using, step=step, **filters)
    assert_same_top_sessions(using, **filters)
    filters["using"] = using
    assert plain(found.intervals) == close(get_trend(step=step, **filters))
    assert plain(found.entries) == close(get_cost_entries(**filters))
    assert plain(found.agents) == close(get_agent_usage(**filters))
    return found


def ranking(using: str, limit: int, **filters: Any) -> Ranking:
    wanted = UsageFilterSet(filters).checked()
    runs = matching(UsageFilterSet, wanted, using)
    return Ranking(runs, Coverage.of(using, wanted), wanted, limit)


def assert_same_top_sessions(using: str, limit: int = 2, **filters: Any) -> int:
    """As all runs have it, where it is sure; in how many of the orders it is."""
    found = ranking(using, limit, **filters).from_sums(["cost_usd", "duration"])
    for column, sessions in found.items():
        every = close(ranking(using, 500, **filters).from_runs(column))
        if sessions is not None:
            shown = plain(sessions)
            assert [row[column] for row in shown] == [row[column] for row in every[:limit]]
            assert all(row in every for row in shown)
            assert shown == sorted(shown, key=lambda row: (-row[column], row["session_id"]))
    return len([sessions for sessions in found.values() if sessions is not None])


class Life:
    """Random writes of all kinds, at random hours of four days until now."""

    def __init__(self, using: str, seed: int) -> None:
        self.random, self.using = random.Random(seed), using
        self.store = DatabaseSessionStore(using)
        self.now = timezone.now()

    def moment(self) -> datetime:
        at = self.now - timedelta(seconds=self.random.uniform(-2, 96) * 3600)
        return self.random.choice([at, at.replace(minute=0, second=0, microsecond=0)])

    def step(self) -> None:
        self.random.choice(
            [self.begin, self.run, self.run, self.run, self.change_run, self.change_run,
             self.change_session, self.delete, self.roll_back, self.maintain, self.sum_up]
        )()  # fmt: skip

    def begin(self) -> Session:
        agent, moment = self.random.choice(AGENTS), self.moment()
        return self.store.save_session(make_session(agent_id=agent, created_at=moment))

    def session(self) -> Session:
        found = list(Session.objects.using(self.using).order_by("id"))
        return self.random.choice(found) if found else self.begin()

    def run(self) -> Run:
        return self.store.save_run(make_run(self.session(), **self.columns()))

    def columns(self) -> dict[str, Any]:
        usage = {"input_tokens": self.random.randrange(9), "output_tokens": 2}
        return {
            "started_at": self.moment(),
            "ended_at": self.random.choice([None, self.moment()]),
            "status": self.random.choice(["completed", "failed", "timeout", "running"]),
            "provider": self.random.choice(PROVIDERS),
            "provider_metadata": {"model": self.random.choice(MODELS)},
            "cost_usd": self.random.choice([None, 0.25, 0.1]),
            "token_usage": self.random.choice([usage, {}, {"total_tokens": 7}]),
        }

    def change_run(self) -> None:
        if runs := list(Run.objects.using(self.using).order_by("id")):
            run = self.random.choice(runs)
            columns = self.columns()
            for name in self.random.sample(sorted(columns), 3):
                setattr(run, name, columns[name])
            self.store.save_run(run)

    def change_session(self) -> None:
        session = self.session()
        session.agent_id = self.random.choice(AGENTS)
        session.created_at = self.random.choice([session.created_at, self.moment()])
        self.store.save_session(session)

    def delete(self) -> None:
        if self.random.random() < 0.3:
            self.store.delete_session(self.session().id)

    def roll_back(self) -> None:
        session = self.session()
        with transaction.atomic(using=self.using):
            self.store.save_run(make_run(session, **self.columns()))
            if self.random.random() < 0.5:
                transaction.set_rollback(True, using=self.using)

    def maintain(self) -> None:
        execute(RetentionPolicy(batch_size=self.random.choice([2, 100])), using=self.using)

    def sum_up(self) -> None:
        sum_up_usage(using=self.using)

    def filters(self) -> dict[str, Any]:
        wanted: dict[str, Any] = {}
        if self.random.random() < 0.5:
            wanted["since"] = self.moment()
        if self.random.random() < 0.5:
            wanted["until"] = self.random.choice(
                [self.moment(), self.moment() - timedelta(microseconds=1)]
            )
        if self.random.random() < 0.3:
            wanted["agent_id"] = self.random.choice(AGENTS)
        if self.random.random() < 0.3:
            wanted["provider"] = self.random.choice([*PROVIDERS, ["claude", "codex"], []])
        return wanted
