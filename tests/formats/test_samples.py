"""The sums of real logs, which the project does not have: `ASM_TEST_SAMPLES` names their folder.

The numbers were counted apart from the package: of Claude Code the last usage of each message and
request, of Codex the last cumulative count, of SWE-agent what `model_stats` says.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from asm_store.formats import FileReport, import_paths
from asm_store.formats.atif_export import trajectories
from asm_store.formats.reports import Tokens
from asm_store.models import Event, Run, Session
from tests.formats.test_atif_export import HAS_ATIF, validate

SAMPLES = os.environ.get("ASM_TEST_SAMPLES", "")
pytestmark = pytest.mark.skipif(not SAMPLES, reason="ASM_TEST_SAMPLES names no folder")

CLAUDE = "claude-code/general-tool-calls.jsonl"
PARENT = "claude-code/with-subagents/0ccf1a04-1b4c-43b6-8aa5-79e41db43a68"
CODEX = "codex/rollout-2026-02-23T20-34-25-019c8bfe.jsonl"
SWE_AGENT = "swe-agent/marshmallow-1867.function_calling_replace.traj"
ATIF = "atif/letta-fixture-tool-calls.json"
# Fresh input, output, read from the cache, written to the cache.
EXPECTED = {
    CLAUDE: Tokens(2_908, 105, 2_980_648, 366_948),
    f"{PARENT}.jsonl": Tokens(70, 32, 194_395, 46_482),
    f"{PARENT}/subagents/agent-a9cad17.jsonl": Tokens(2, 2, 22_229, 1_623),
    f"{PARENT}/subagents/agent-ac27727.jsonl": Tokens(2, 2, 22_229, 1_652),
    CODEX: Tokens(298_373 - 238_848, 1_123, 238_848),
    "codex/agent-sessions-small.jsonl": Tokens(16_341 - 3_584, 81, 3_584),
    SWE_AGENT: Tokens(),
    ATIF: Tokens(),
}
TOTALS = {CLAUDE: 3_350_609, CODEX: 299_496}
SWE_AGENT_COST = 0.0


def by_name(files: tuple[FileReport, ...]) -> dict[str, FileReport]:
    return {Path(file.path).relative_to(SAMPLES).as_posix(): file for file in files}


def test_the_sums_are_those_counted_by_hand(using: str) -> None:
    report = import_paths([SAMPLES], using=using)
    files = by_name(report.files)
    assert report.failed == ()
    assert {name: file.tokens for name, file in files.items()} == EXPECTED
    for name, total in TOTALS.items():
        assert sum(files[name].tokens.counts()) == total
    stored = Counter[str]()
    for usage in Run.objects.using(using).values_list("token_usage", flat=True):
        stored.update(usage)
    assert stored == Counter(report.total.tokens.to_dict())
    events = Counter[str]()
    for data in (
        Event.objects.using(using).filter(type="token_usage_updated").values_list("data", flat=True)
    ):
        events.update({name: data[name] for name in Tokens().to_dict()})
    assert events == stored
    swe_agent = Run.objects.using(using).get(provider="swe-agent")
    assert (swe_agent.cost_usd, swe_agent.turn_count) == (SWE_AGENT_COST, 11)


def test_they_are_imported_once(using: str) -> None:
    first = import_paths([SAMPLES], using=using).total
    again = import_paths([SAMPLES], using=using).total
    assert first.events.new == again.events.stored > 0
    assert (again.sessions.new, again.runs.new, again.events.new) == (0, 0, 0)
    assert (again.sessions.updated, again.runs.updated) == (0, 0)


@pytest.mark.skipif(not HAS_ATIF, reason="needs the package atif")
def test_all_of_them_are_valid_trajectories(using: str) -> None:
    import_paths([SAMPLES], using=using)
    runs = Run.objects.using(using).count()
    ids = Session.objects.using(using).values_list("pk", flat=True)
    assert sum(len(validate(trajectories(using, pk))) for pk in ids) == runs
