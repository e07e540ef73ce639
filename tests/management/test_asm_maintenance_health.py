from __future__ import annotations

import io
import json
import os
from typing import Any

import pytest
from django.core.management import CommandError

from asm_store.models import Event, Session, SessionSequence
from tests.management.maintaining import (
    BEFORE,
    QUESTION,
    at_terminal,
    in_process,
    run,
    stored,
)
from tests.management.terminals import SECONDS, read_until


class TestHealth:
    @pytest.fixture
    def broken(self, filled: str) -> str:
        """A database with something that can be repaired, and something that cannot."""
        Session.objects.using(filled).filter(pk="expired").update(status="gone\x1b[2J")
        SessionSequence.objects.using(filled).filter(pk="fresh").update(last_sequence=4)
        SessionSequence.objects.using(filled).filter(pk="gone_1").delete()
        return filled

    def test_all_is_well(self, filled: str) -> None:
        assert run("--using", filled, "--health-check")[0] == "Healthy: nothing was found.\n"
        report = json.loads(run("--using", filled, "--health-check", "--deep", "--json")[0])
        assert (report["ok"], report["issues"], report["repaired"]) == (True, [], None)
        assert stored(filled) == BEFORE

    def test_what_is_broken_is_told(self, broken: str) -> None:
        out = io.StringIO()
        codes = "counters_missing, counters_behind, sessions_with_unknown_status"
        with pytest.raises(CommandError, match=f"^Not healthy: {codes}[.]$"):
            run("--using", broken, "--health-check", stdout=out)
        told = out.getvalue()
        assert "counters_behind (1): Counters lower than a number" in told
        assert "  such as fresh\n  --repair mends it.\n" in told
        assert told.endswith("  such as expired\n")
        assert "\x1b" not in told

    def test_as_json(self, broken: str) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError):
            run("--using", broken, "--health-check", "--json", stdout=out)
        report = json.loads(out.getvalue())
        assert report["ok"] is False
        assert report["maintenance"] is None
        issues = {issue["code"]: issue for issue in report["issues"]}
        assert issues["counters_behind"]["examples"] == ["fresh"]
        assert issues["counters_behind"]["is_repairable"] is True

    def test_one_session(self, broken: str) -> None:
        args = ["--using", broken, "--health-check", "--session"]
        assert run(*args, "gone_2")[0] == "Healthy: nothing was found.\n"
        with pytest.raises(CommandError, match=r"^Not healthy: counters_behind\.$"):
            run(*args, "fresh")
        with pytest.raises(CommandError, match="nowhere"):
            run(*args, "nowhere")

    def test_repair(self, broken: str) -> None:
        args = ["--using", broken, "--repair"]
        mended = "          1 counters_missing\n          1 counters_behind\n"
        assert run(*args, "--dry-run")[0] == f"Would be repaired:\n{mended}"
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"^Not healthy: sessions_with_unknown_status\.$"):
            run(*args, "--health-check", stdout=out)
        assert out.getvalue().startswith(f"Repaired:\n{mended}sessions_with_unknown_status (1)")
        assert run(*args)[0] == "Nothing had to be repaired.\n"
        assert run(*args, "--dry-run")[0] == "There is nothing to repair.\n"
        assert json.loads(run(*args, "--json")[0])["repaired"] == {}

    def test_it_asks_before_it_repairs(self, filled_default: None) -> None:
        SessionSequence.objects.filter(pk="fresh").update(last_sequence=4)
        with at_terminal("--repair") as (process, terminal):
            asked = read_until(terminal, QUESTION)
            assert f"Would be repaired:\n          1 counters_behind\n{QUESTION}" in asked
            os.write(terminal, b"yes\n")
            out, _err = process.communicate(timeout=SECONDS)
        assert out == b"Repaired:\n          1 counters_behind\n"
        with at_terminal("--repair", "--health-check") as (process, _terminal):
            out, _err = process.communicate(timeout=SECONDS)
        assert out == b"Nothing had to be repaired.\nHealthy: nothing was found.\n"

    def test_the_exit_code(self, filled_default: None) -> None:
        SessionSequence.objects.filter(pk="fresh").update(last_sequence=4)
        code, _out, err = in_process(["--health-check"])
        assert (code, err) == (1, "CommandError: Not healthy: counters_behind.\n")


class TestErasure:
    def content(self, using: str, pk: str) -> Any:
        return Event.objects.using(using).get(pk=pk).data

    def test_of_some_events(self, filled: str) -> None:
        args = ["--using", filled, "--session", "fresh", "--erase", "fresh_1", "--erase"]
        assert run(*args, "fresh_2")[0] == (
            "Erased the content of 2 of 2 events of the session 'fresh'.\n"
        )
        assert self.content(filled, "fresh_1") == {"erased": True}
        assert self.content(filled, "fresh_3") != {"erased": True}
        assert json.loads(run(*args, "fresh_3", "--json")[0])["erased"] == 1
        assert stored(filled) == BEFORE

    @pytest.mark.parametrize("other", ["nothing", "expired_1", ""])
    def test_all_or_none(self, filled: str, other: str) -> None:
        with pytest.raises(CommandError):
            run("--using", filled, "--session", "fresh", "--erase", "fresh_1", "--erase", other)
        assert self.content(filled, "fresh_1") != {"erased": True}

    def test_it_asks(self, filled_default: None) -> None:
        args = ["--session", "fresh", "--erase", "fresh_1"]
        with at_terminal(*args) as (process, terminal):
            asked = read_until(terminal, QUESTION)
            assert "The content of 1 event of the session 'fresh' will be replaced" in asked
            os.write(terminal, b"no\n")
            process.communicate(timeout=SECONDS)
        assert process.returncode == 1
        assert self.content("default", "fresh_1") != {"erased": True}
