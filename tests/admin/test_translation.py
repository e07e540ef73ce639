"""The German translation is whole, compiled from its source, and used."""

from __future__ import annotations

import gettext
import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.admin.utils import label_for_field
from django.test import Client
from django.utils.translation import override

import asm_store
from asm_store.admin.read_only import ReadOnlyAdmin
from asm_store.models import Artifact, Event, Run, Session
from asm_store.templatetags.asm_store import grouped, took, usd
from tests.admin.pages import address, get

FOLDER = Path(asm_store.__file__).parent
CATALOGUE = FOLDER / "locale" / "de" / "LC_MESSAGES" / "django.mo"
MARKED = re.compile(r"""(?:\b_|\bgettext|gettext_lazy)\(\s*"((?:[^"\\]|\\.)*)"\s*[,)]""")
IN_TEMPLATES = re.compile(r"""(?:\{% translate|_\()\s*"((?:[^"\\]|\\.)*)\"""")

# Words that are the same in both languages.
ALIKE = {"Agent", "Id", "id", "SHA-256", "Status", "Tokens", "Bytes", "Input", "Output"}


def marked() -> set[str]:
    """The texts of the package that are marked to be translated, as they stand in its files."""
    found: set[str] = set()
    for path in FOLDER.rglob("*.py"):
        found.update(MARKED.findall(path.read_text(encoding="utf-8")))
    for path in FOLDER.rglob("*.html"):
        texts = IN_TEMPLATES.findall(path.read_text(encoding="utf-8"))
        found.update(text.replace("%", "%%") for text in texts)
    return found


def test_every_text_is_translated() -> None:
    with CATALOGUE.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    known = set(vars(catalogue)["_catalog"])
    plain = {key if isinstance(key, str) else key[0] for key in known}
    assert len(marked()) > 100
    # What Django's own catalogue has is in ours all the same.
    assert marked() - plain - {"Home"} == set()


def test_the_compiled_file_is_that_of_the_source() -> None:
    source = CATALOGUE.with_suffix(".po").read_text(encoding="utf-8")
    with CATALOGUE.open("rb") as file:
        catalogue = gettext.GNUTranslations(file)
    for text, translated in re.findall(r'^msgid "(.+)"\nmsgstr "(.+)"$', source, re.MULTILINE):
        assert catalogue.gettext(text) == translated


def test_statuses_and_types_are_words() -> None:
    with override("de"):
        assert str(Session.Status.FAILED.label) == "gescheitert"
        assert str(Run.Status.RUNNING.label) == "läuft"
        assert str(Event.Type.MESSAGE_SENT.label) == "Nachricht gesendet"


def test_numbers_are_written_as_the_language_does() -> None:
    with override("de"):
        assert (usd(1234.5), grouped(10_000), took(timedelta(seconds=0.84))) == (
            "1.234,5000",
            "10.000",
            "0,84 s",
        )
    assert (usd(1234.5), took(timedelta(seconds=12.3))) == ("1,234.5000", "12 s")


@pytest.mark.django_db
@pytest.mark.parametrize("model", [Session, Run, Event, Artifact])
def test_every_column_has_a_german_name(admin_client: Client, model: type[Session]) -> None:
    shown = admin.site._registry[model]
    assert isinstance(shown, ReadOnlyAdmin)
    for column in (*shown.list_display, *shown.shown, *shown.content):
        with override("de"):
            german = str(label_for_field(column, model, shown))
        assert german in ALIKE or german != str(label_for_field(column, model, shown))


@pytest.mark.django_db
def test_pages_speak_it(admin_client: Client, settings: object) -> None:
    with override("de"):
        assert "Teuerste Sitzungen" in get(admin_client, address("dashboard"))
        assert "Nach Agent" in get(admin_client, address("session_changelist"))
