"""What users may rely on, written down in `public_api.txt`: a change of it shows in the diff.

After an intended change: `python -m tests.test_public_api` writes the file anew.
"""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from types import ModuleType
from typing import Any

from django.db.models import Model

SNAPSHOT = Path(__file__).with_name("public_api.txt")
MODULES = (
    "asm_store",
    "asm_store.models",
    "asm_store.queries",
    "asm_store.filters",
    "asm_store.pricing",
    "asm_store.artifacts",
    "asm_store.formats",
    "asm_store.providers",
    "asm_store.providers.anthropic",
    "asm_store.providers.openai",
    "asm_store.providers.pydantic_ai",
    "asm_store.transcripts",
    "asm_store.session_manager",
    "asm_store.maintenance",
    "asm_store.live",
    "asm_store.exceptions",
    "asm_store.signals",
    "asm_store.backends.base",
    "asm_store.backends.database",
    "asm_store.backends.memory",
    "asm_store.backends.reading",
    "asm_store.backends.writing",
    "asm_store.test",
)
# Their twins are called without `await`: they are for `async for` and `async with`.
NOT_AWAITED = {"iter_events_json", "stream_events", "writer"}
MADE_BY_DJANGO = re.compile(
    "DoesNotExist|Meta|MultipleObjectsReturned|NotUpdated|objects"
    "|get_(next|previous)_by_.*|get_.*_display"
)


def describe() -> str:
    """The public names of `MODULES` with what a caller must know of each, a line each."""
    lines = [line for name in MODULES for line in _module(importlib.import_module(name))]
    return "\n".join(lines) + "\n"


def _module(module: ModuleType) -> Iterator[str]:
    yield f"{module.__name__}"
    for name in sorted(_public_names(module)):
        yield from (f"    {line}" for line in _member(name, getattr(module, name)))


def _public_names(module: ModuleType) -> set[str]:
    if hasattr(module, "__all__"):
        return set(module.__all__)
    return {
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    } | {name for name, value in vars(module).items() if type(value).__name__ == "Signal"}


def _member(name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isroutine(value):
        yield f"{name}{_signature(value)}"
    else:
        yield f"{name}: {type(value).__name__}"


def _class(name: str, cls: type) -> Iterator[str]:
    if issubclass(cls, Enum):
        yield f"class {name}"
        yield from (f"    {member.value}" for member in cls)
        return
    bases = ", ".join(base.__name__ for base in cls.__bases__ if _is_public(base))
    yield f"class {name}({bases})" if bases else f"class {name}"
    if issubclass(cls, Model) and not cls._meta.abstract:
        yield from (f"    column {field.attname}" for field in cls._meta.concrete_fields)
    for member, value in sorted(_own_members(cls).items()):
        yield from (f"    {line}" for line in _class_member(cls, member, value))


def _class_member(cls: type, name: str, value: Any) -> Iterator[str]:
    if inspect.isclass(value):
        yield from _class(name, value)
    elif inspect.isroutine(value):
        yield f"{_kind(value)}{name}{_signature(getattr(cls, name))}"
    elif isinstance(value, str | bool):
        yield f"{name} = {value!r}"
    else:
        yield name


def _is_public(cls: type) -> bool:
    return cls.__module__ in MODULES or (cls.__module__ == "builtins" and cls is not object)


def _own_members(cls: type) -> dict[str, Any]:
    """What `cls` has that no public base of it has, without what Django gives to models.

    Of the contract suite, only what its user says: the tests may change freely.
    """
    members: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if base.__module__.startswith("asm_store.") and (base is cls or not _is_public(base)):
            members.update(vars(base))
    if hasattr(cls, "make_store"):
        return {name: value for name, value in members.items() if name.startswith("make_")}
    return {name: value for name, value in members.items() if _is_own(name, value)}


def _is_own(name: str, value: object) -> bool:
    if name.startswith("_") and name != "__init__":
        return False
    module = getattr(value, "__module__", None) or type(value).__module__
    return not module.startswith("django") and not MADE_BY_DJANGO.fullmatch(name)


def _kind(value: object) -> str:
    if isinstance(value, classmethod | staticmethod):
        return f"{type(value).__name__} "
    return "async " if inspect.iscoroutinefunction(value) else ""


def _signature(function: Any) -> str:
    """With its annotations as they are written: as text, but not in quotes."""
    return re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(function)))


def test_public_api_is_as_written_down() -> None:
    assert describe() == SNAPSHOT.read_text(encoding="utf-8"), (
        "The public API changed. If that is intended: python -m tests.test_public_api"
    )


def test_each_store_method_has_its_async_twin() -> None:
    from asm_store.backends.base import BaseSessionStore
    from asm_store.backends.reading import EventReader

    methods = {
        name: value
        for cls in (BaseSessionStore, EventReader)
        for name, value in vars(cls).items()
        if inspect.isfunction(value) and not name.startswith("_")
    }
    sync = {name for name in methods if f"a{name}" in methods}
    twins = {f"a{name}" for name in sync}
    assert sync | twins == methods.keys()
    assert sync >= NOT_AWAITED
    for name in sync:
        assert inspect.iscoroutinefunction(methods[f"a{name}"]) == (name not in NOT_AWAITED)
        assert _parameters(methods[f"a{name}"]) == _parameters(methods[name])


def _parameters(function: Any) -> list[inspect.Parameter]:
    return list(inspect.signature(function).parameters.values())


def test_importing_the_package_needs_no_settings_and_no_models() -> None:
    program = (
        "import sys, asm_store, asm_store.exceptions, asm_store.signals;"
        "print(sorted({'django.db.models', 'asm_store.models'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


if __name__ == "__main__":
    import os

    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "example_project.settings")
    django.setup()
    SNAPSHOT.write_text(describe(), encoding="utf-8")
