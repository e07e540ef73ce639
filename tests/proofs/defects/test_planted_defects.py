"""The contract suite finds every planted defect, and nothing in the package as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future

import pytest
from django.conf import settings

from tests.cases import require

from .defect import ROOT, Defect, planted
from .trials import Trials, Verdict, class_of

DEFECTS = planted()
# No defect is so coarse that it breaks this one.
SOUND = "test_numbers_begin_at_one_and_have_no_gap"

Futures = dict[str, Future[Verdict]]


def _tests(defect: Defect, is_long: bool) -> dict[str, list[str]]:
    """What to run, by alias: wherever it is red the whole suite, or here and there one test."""
    there = {"memory", *settings.DATABASES}
    if is_long:
        return {alias: [class_of(alias)] for alias in defect.red if alias in there}
    return {
        alias: [f"{class_of(alias)}::{name}" for name in (SOUND, defect.red[alias])]
        for alias in defect.short & there
    }


def _controls(defects: Iterable[Defect], is_long: bool) -> list[list[str]]:
    """What is run for the defects, each test once: an alias at a time, or all in one go."""
    found: dict[str, dict[str, None]] = {}
    for defect in defects:
        for alias, tests in _tests(defect, is_long).items():
            found.setdefault(alias, {}).update(dict.fromkeys(tests))
    by_alias = [list(tests) for tests in found.values()]
    return by_alias if is_long else [[test for tests in by_alias for test in tests]]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "defect" in metafunc.fixturenames:
        is_long = metafunc.config.getoption("--long")
        metafunc.parametrize("defect", [d for d in DEFECTS if is_long or d.short], ids=str)


@pytest.fixture(scope="module")
def begun(request: pytest.FixtureRequest) -> Iterator[dict[str, Futures]]:
    """The trials of all selected tests, begun together, by defect and alias; "" is without one."""
    is_long = bool(request.config.getoption("--long"))
    calls = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = [call.params["defect"] for call in calls if call and "defect" in call.params]
    with Trials.started(hurried=not is_long) as trials:
        controls = enumerate(_controls(chosen, is_long))
        begun = {"": {str(n): trials.submit((), tests) for n, tests in controls}}
        for defect in chosen:
            begun[defect.name] = {
                alias: trials.submit(defect.edits, tests)
                for alias, tests in _tests(defect, is_long).items()
            }
        yield begun


def test_no_defect_is_stale() -> None:
    for defect in DEFECTS:
        for edit in defect.edits:
            assert edit.applied(ROOT / "asm_store"), defect


def test_the_package_as_it_is_is_green(
    begun: dict[str, Futures], tell: Callable[[str], None]
) -> None:
    passed = 0
    for future in begun[""].values():
        verdict = future.result()
        assert (verdict.errors, verdict.named("failed")) == ([], []), verdict.reasons
        passed += len(verdict.named("passed"))
    tell(f"{passed} tests pass, which find {len(begun) - 1} planted defects")


def test_a_planted_defect_is_found(
    defect: Defect, begun: dict[str, Futures], is_long: bool, tell: Callable[[str], None]
) -> None:
    if not begun[defect.name]:
        require(min(defect.red if is_long else defect.short))
    for alias, future in begun[defect.name].items():
        verdict = future.result()
        failed, passed = verdict.named("failed"), verdict.named("passed")
        assert verdict.errors == [], f"{alias}: the suite cannot be run"
        assert defect.red[alias] in failed, f"{alias}: only {failed} failed"
        assert SOUND in passed, f"{alias}: {verdict.reasons}"
        assert len(passed) >= len(failed), f"{alias}: everything breaks"
        if is_long:
            tell(f"{alias} {len(failed)} of {len(failed) + len(passed)}: {', '.join(failed)}")
