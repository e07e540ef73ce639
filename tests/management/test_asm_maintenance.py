from __future__ import annotations

import io
import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError
from django.test import override_settings

from asm_store.formats import import_paths
from asm_store.maintenance import RetentionPolicy
from asm_store.maintenance.locking import lock_held
from asm_store.management.commands.asm_maintenance import Command
from asm_store.management.policy_options import FIELDS, policy_from
from tests.artifacts.places import FILES, configured
from tests.management.maintaining import (
    BEFORE,
    NOTHING,
    FullStorage,
    fill,
    in_process,
    run,
    stored,
)


class TestMaintenance:
    def test_it_does_what_the_setting_says(self, filled: str) -> None:
        with override_settings(ASM_STORE_RETENTION={"max_run_age_hours": 24}):
            out, err = run("--using", filled)
            assert out.splitlines() == [
                f"Maintenance of the database {filled!r}:",
                "          1 sessions soft-deleted",
                "          3 sessions removed",
                "          1 runs timed out",
            ]
            again = run("--using", filled)[0]
        assert err == ""
        nothing = f"Maintenance of the database {filled!r}: nothing, for nothing is due.\n"
        assert again == nothing
        assert stored(filled) == {"fresh": 10, "expired": 2}

    def test_options_stand_in_the_place_of_the_setting(self, filled: str) -> None:
        with override_settings(ASM_STORE_RETENTION={"max_events_per_session": 1}):
            out, _err = run(
                "--using", filled, *NOTHING, "--max-events-per-session", "5", "--batch-size", "2"
            )
        assert out.splitlines()[1:] == ["          4 events pruned"]
        assert stored(filled) == {**BEFORE, "fresh": 5}

    def test_a_dry_run_says_what_the_real_run_does(self, filled: str) -> None:
        dry = json.loads(run("--using", filled, "--dry-run", "--json")[0])
        assert stored(filled) == BEFORE
        real = json.loads(run("--using", filled, "--json")[0])
        for told in (dry, real):
            told["maintenance"].pop("duration_ms")
        assert dry["maintenance"].pop("dry_run")
        assert not real["maintenance"].pop("dry_run")
        assert dry == real
        assert real["maintenance"]["sessions_hard_deleted"] == 3
        assert run("--using", filled, "--dry-run")[0] == (
            f"Maintenance of the database {filled!r} would do: nothing, for nothing is due.\n"
        )

    def test_one_session(self, filled: str) -> None:
        args = ["--using", filled, "--session", "fresh", "--max-events-per-session", "4"]
        assert "would do:\n          5 events pruned" in run(*args, "--dry-run")[0]
        assert stored(filled) == BEFORE
        report = json.loads(run(*args, "--json")[0])["maintenance"]
        assert report["events_pruned"] == 5
        assert stored(filled) == {**BEFORE, "fresh": 4}

    def test_what_is_archived_can_be_imported(self, filled: str, folder: Path) -> None:
        out, _err = run(
            "--using", filled, "--archive-before-prune", "--archive-storage", "other", "-v", "2"
        )
        names = re.findall(r"^ +(asm_archive/.*)$", out, re.MULTILINE)
        assert "          1 files written to the archive\n" in out
        assert sum(pk.startswith("gone") for pk in stored(filled)) == 0
        paths = [folder / "other" / name for name in names]
        assert import_paths(paths, using=filled, strict=True).failed == ()
        assert stored(filled) == BEFORE

    def test_a_second_one_says_so(self, server: str) -> None:
        fill(server)
        with lock_held(server):
            code, out, err = in_process(["--using", server])
            report = json.loads(in_process(["--using", server, "--json"])[1])
        told = f"Another maintenance of the database {server!r} is running: nothing was done.\n"
        assert (code, out, err) == (0, told, "")
        assert (report["ok"], report["maintenance"]["skipped"]) == (True, True)
        assert stored(server) == BEFORE

    def test_the_time_is_up(self, filled: str) -> None:
        out, _err = run("--using", filled, "--max-seconds", "0.000001")
        assert out.endswith(
            "The time was up before the work was done: the next run goes on from there.\n"
        )
        assert stored(filled) == BEFORE


class TestPolicy:
    def parsed(self, *args: str) -> RetentionPolicy:
        parser = Command().create_parser("manage.py", "asm_maintenance")
        return policy_from(vars(parser.parse_args(args)))

    def test_every_field_has_an_option(self) -> None:
        assert self.parsed() == RetentionPolicy()
        policy = self.parsed(
            "--max-session-age-days=1", "--max-completed-session-age-days", "2",
            "--max-events-per-session=3", "--max-total-events=4", "--hard-delete-after-days=5",
            "--archive-before-prune", "--archive-storage=other", "--exempt-statuses=active",
            "--exempt-statuses", "failed, paused", "--exempt-tags=a,ü b", "--exempt-tags=c",
            "--prune-event-types-first=tool_call_started", "--batch-size=6",
            "--max-run-age-hours=7",
        )  # fmt: skip
        assert policy == RetentionPolicy(
            max_session_age_days=1,
            max_completed_session_age_days=2,
            max_events_per_session=3,
            max_total_events=4,
            hard_delete_after_days=5,
            archive_before_prune=True,
            archive_storage="other",
            exempt_statuses=("active", "failed", "paused"),
            exempt_tags=("a", "ü b", "c"),
            prune_event_types_first=("tool_call_started",),
            batch_size=6,
            max_run_age_hours=7,
        )
        differs = {f.name for f in fields(policy) if getattr(policy, f.name) != f.default}
        assert differs == set(FIELDS)

    def test_none_is_no_limit_and_no_name(self) -> None:
        configured = {
            "max_total_events": 9, "max_run_age_hours": 9, "archive_before_prune": True,
            "archive_storage": "other",
        }  # fmt: skip
        with override_settings(ASM_STORE_RETENTION=configured):
            policy = self.parsed(
                *NOTHING, "--max-total-events", "none", "--max-run-age-hours=None",
                "--exempt-tags=none", "--exempt-statuses=none", "--prune-event-types-first=none",
                "--no-archive-before-prune",
            )  # fmt: skip
        assert policy == RetentionPolicy(
            max_completed_session_age_days=None,
            hard_delete_after_days=None,
            archive_storage="other",
            exempt_tags=(),
            exempt_statuses=(),
            prune_event_types_first=(),
        )

    def test_from_python(self, filled_default: None) -> None:
        run(max_events_per_session=3, hard_delete_after_days=None, exempt_tags=["x"])
        assert stored("default") == {**BEFORE, "fresh": 3}

    @pytest.mark.parametrize(
        ("args", "message"),
        [
            (["--max-session-age-days", "0"], "max_session_age_days: must be from 1 to 36525"),
            (["--hard-delete-after-days", "-3"], "hard_delete_after_days: must be from 1"),
            (["--max-total-events", "ten"], "'ten' is neither a whole number nor none"),
            (["--max-total-events", ""], "'' is neither a whole number nor none"),
            (["--batch-size", "0"], "batch_size: must be from 1 to 50000"),
            (["--batch-size", "none"], "invalid int value: 'none'"),
            (["--exempt-statuses", "idle"], "exempt_statuses: unknown status 'idle'"),
            (["--prune-event-types-first", "x"], "unknown event type 'x'"),
            (["--prune-event-types-first", "run_failed"], "run_failed is never pruned"),
            (["--exempt-tags", ""], "'' has an empty name"),
            (["--exempt-tags", "a,,b"], "'a,,b' has an empty name"),
            (["--archive-before-prune"], "archive_storage: name the alias"),
            (["--archive-storage", "other"], "archives nothing without --archive-before-prune"),
            (
                ["--archive-before-prune", "--archive-storage", "nowhere"],
                "archive_storage: .*Could not find config for 'nowhere'.* Nothing was deleted",
            ),
            (["--using", "nowhere"], "no database 'nowhere'; DATABASES has .*default"),
            (["--using", ""], "no database ''"),
            (["--max-seconds", "0"], "max_seconds: expected seconds > 0, got 0"),
            (["--max-seconds", "nan"], "max_seconds: expected seconds > 0, got nan"),
            (["--max-seconds", "soon"], "invalid float value: 'soon'"),
            (["--session", "lost", "--max-events-per-session", "3"], "session lost is not stored"),
            (["--session", "", "--max-events-per-session", "3"], "session_id: must have 1 to 255"),
            (["--session", "fresh"], "--session prunes: say to how many"),
            (["--session", "fresh", "--max-total-events", "3"], "takes no --max-total-events"),
            (["--session", "fresh", "--max-seconds", "3"], "takes no --max-seconds"),
            (["--deep"], "--deep needs --health-check"),
            (["--erase", "e"], "--erase needs --session"),
            (["--erase", "e", "--session", "fresh", "--dry-run"], "--erase takes no --dry-run"),
            (["--erase", "e", "--session", "fresh", "--repair"], "--erase takes no --repair"),
            (["--health-check", "--dry-run"], "--health-check takes no --dry-run"),
            (
                ["--repair", "--max-seconds", "3", "--batch-size", "3"],
                "--repair takes no --max-seconds, --batch-size",
            ),
            (["--health-check", "--exempt-tags=x"], "--health-check takes no --exempt-tags"),
        ],
    )
    def test_what_is_wrong_is_told_before_anything_is_done(
        self, filled_default: None, args: list[str], message: str
    ) -> None:
        with pytest.raises(CommandError, match=message):
            run(*args)
        assert stored("default") == BEFORE

    def test_a_bad_setting(self, filled_default: None) -> None:
        with (
            override_settings(ASM_STORE_RETENTION={"max_total_events": 0}),
            pytest.raises(CommandError, match="ASM_STORE_RETENTION: max_total_events: must be"),
        ):
            run()
        assert stored("default") == BEFORE


class TestFailures:
    @pytest.mark.parametrize(
        ("storage", "message"),
        [
            (FILES, "Not a directory|File exists"),
            (f"{FullStorage.__module__}.FullStorage", "No space left on device"),
        ],
    )
    def test_an_archive_that_cannot_be_written(
        self, filled: str, folder: Path, storage: str, message: str
    ) -> None:
        (folder / "archive").mkdir()
        (folder / "archive" / "asm_archive").write_text("no folder")
        entry = {"BACKEND": storage, "OPTIONS": {"location": str(folder / "archive")}}
        out = io.StringIO()
        with (
            override_settings(STORAGES={**configured(folder), "archive": entry}),
            pytest.raises(CommandError) as caught,
        ):
            run(
                *("--using", filled, "--json", "--archive-before-prune"),
                *("--archive-storage", "archive"),
                stdout=out,
            )
        text = str(caught.value)
        assert text.startswith("Not all was done; the next run tries again.\nhard delete: ")
        assert re.search(message, text)
        report = json.loads(out.getvalue())
        assert report["ok"] is False
        assert report["error"] == text
        assert len(report["maintenance"]["errors"]) == 1
        assert report["maintenance"]["sessions_soft_deleted"] == 1
        assert stored(filled) == BEFORE

    def test_tables_that_are_missing(self, unmigrated: str) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError, match=r"run `manage\.py migrate asm_store"):
            run("--using", unmigrated, "--session", "x", "--max-events-per-session=3")
        with pytest.raises(CommandError, match=r"run `manage\.py migrate asm_store"):
            run("--using", unmigrated, "--json", stdout=out)
        assert "run `manage.py migrate" in json.loads(out.getvalue())["error"]


class TestJson:
    def test_errors(self, filled_default: None) -> None:
        out = io.StringIO()
        with pytest.raises(CommandError):
            run("--json", "--batch-size", "0", stdout=out)
        assert json.loads(out.getvalue()) == {
            "ok": False,
            "error": "batch_size: must be from 1 to 50000.",
            "using": "default",
            "maintenance": None,
            "repaired": None,
            "issues": None,
            "erased": None,
        }

    # Django's own checks of the models ask all of them.
    @pytest.mark.django_db(databases="__all__")
    def test_system_checks_that_fail(self) -> None:
        out = io.StringIO()
        with (
            override_settings(ASM_STORE_RETENTION={"batch_size": 0}),
            pytest.raises(CommandError),
        ):
            run("--json", skip_checks=False, stdout=out)
        error = json.loads(out.getvalue())["error"]
        assert "(asm_store.E003) ASM_STORE_RETENTION: batch_size: must be from 1" in error

    @pytest.mark.django_db
    def test_what_nobody_expected(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*args: Any, **kwargs: Any) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("asm_store.management.commands.asm_maintenance.execute", fail)
        out = io.StringIO()
        with pytest.raises(ZeroDivisionError):
            run("--json", stdout=out)
        assert json.loads(out.getvalue())["error"] == "ZeroDivisionError"


class TestExitCodes:
    @pytest.mark.parametrize(
        ("args", "code", "message"),
        [
            ([], 0, ""),
            (["--verbosity", "0"], 0, ""),
            (["--max-seconds", "0.000001"], 0, ""),
            (["--batch-size", "0"], 1, "CommandError: batch_size: must be from 1 to 50000.\n"),
            (["--max-total-events", "x"], 2, "'x' is neither a whole number nor none.\n"),
            (["--no-such-option"], 2, "unrecognized arguments: --no-such-option\n"),
        ],
    )
    def test_each(self, filled_default: None, args: list[str], code: int, message: str) -> None:
        found, out, err = in_process(args)
        assert (found, err.endswith(message), bool(err)) == (code, True, bool(message))
        assert bool(out) == (code == 0 and args[:1] != ["--verbosity"])
