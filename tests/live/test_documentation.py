"""What docs/live.md shows is so."""

from __future__ import annotations

import json
import re

from django.urls import URLPattern, URLResolver, include, path

from asm_store.live.parameters import PollFilterSet, StreamFilterSet
from asm_store.models import Event, Session
from tests.live.browsers import Browser
from tests.live.documentation import TEXT, run_example


def test_where_it_is_mounted() -> None:
    [mounted] = run_example("asm_store.urls", path=path, include=include)["urlpatterns"]
    assert isinstance(mounted, URLResolver)
    assert mounted.app_name == "asm_store"
    named = dict(re.findall(r"^\| `sessions/<id>/(\w+)/` \| `asm_store:(\w+)`", TEXT, re.MULTILINE))
    views = [each for each in mounted.url_patterns if isinstance(each, URLPattern)]
    assert sorted(named.values()) == [each.name for each in views]
    for end, name in named.items():
        assert mounted.resolve(f"asm/sessions/a/b/{end}/").url_name == name


def test_of_another_store() -> None:
    stream, events = run_example("permission_seconds", path=path)["urlpatterns"]
    assert stream.callback.view_initkwargs["store"] == "research"
    assert events.callback.view_initkwargs == {"store": "research"}


def test_the_parameters() -> None:
    stream, poll = (
        set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))
        for table in re.findall(r"^\| parameter \|.*?\n\n", TEXT, re.MULTILINE | re.DOTALL)
    )
    assert stream == {*StreamFilterSet.base_filters, *StreamFilterSet.other_parameters}
    assert stream | poll == {*PollFilterSet.base_filters, *PollFilterSet.other_parameters}


def test_the_json(browser: Browser, session: Session, events: list[Event]) -> None:
    [text] = re.findall(r"^```json\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    said, found = json.loads(text), browser.answer(session.pk, view="events").json()
    assert list(said) == list(found)
    assert said["events"][0].keys() <= found["events"][0].keys()
