"""Themes replace the admin's templates and colours: nothing of ours needs either."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from django.contrib import admin
from django.test import RequestFactory

import asm_store
from asm_store.admin.filtering import FilterSetFilter
from asm_store.models import Event, Run, Session

SHEET = Path(asm_store.__file__).parent / "static" / "asm_store" / "admin.css"


def test_every_colour_has_another_behind_it() -> None:
    used = re.findall(r"var\(--[a-z-]+(.?)", SHEET.read_text(encoding="utf-8"))
    assert len(used) > 20
    assert set(used) == {","}


@pytest.mark.parametrize("model", [Session, Run, Event])
def test_every_filter_has_the_name_that_themes_ask_for(model: type[Session]) -> None:
    shown = admin.site._registry[model]
    for kind in shown.get_list_filter(RequestFactory().get("/")):
        if isinstance(kind, type) and issubclass(kind, FilterSetFilter):
            spec = kind(RequestFactory().get("/"), {}, model, shown)
            assert spec.parameter_name == kind.names[0]
