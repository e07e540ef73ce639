"""Whatever an agent or a person said is text in every page and answer."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Artifact, Event
from asm_store.templatetags.asm_store import linked
from asm_store.test import make_run, make_session
from tests.admin.hostile import CORPUS
from tests.admin.pages import address, get

# What none of our pages has but what Django's own do: scripts and styles of files alone.
FORBIDDEN = {"iframe", "style", "base", "img", "math", "animate", "object", "embed"}


class Elements(HTMLParser):
    """The elements of a page, with their attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def complaints(page: str) -> Iterator[str]:
    """What a strict Content-Security-Policy would stop, or should."""
    for tag, attributes in Elements(page).found:
        is_own_image = tag == "img" and (attributes["src"] or "").startswith("/static/admin/")
        is_inline_script = tag == "script" and not attributes.get("src")
        if (tag in FORBIDDEN and not is_own_image) or is_inline_script:
            yield f"<{tag} {attributes}>"
        for name, value in attributes.items():
            if is_active(name, value or "", attributes.get("rel") or ""):
                yield f"<{tag} {attributes}>"


def is_active(name: str, value: str, rel: str) -> bool:
    """Whether an attribute runs something, or leads out of the site without saying so."""
    if name not in {"href", "src", "action", "formaction", "xlink:href"}:
        return name.startswith("on") or name in {"style", "srcdoc"}
    if ":" not in value.partition("/")[0]:
        return value.startswith("//")
    is_web = value.lower().startswith(("http://", "https://"))
    return not (is_web and name == "href" and "noopener" in rel)


def save_hostile(store: DatabaseSessionStore) -> tuple[Any, Any, list[Event], Artifact]:
    everything = {f"{number}{text}": text for number, text in enumerate(CORPUS)}
    session = store.save_session(
        make_session(
            agent_id=CORPUS[0],
            tags=list(CORPUS),
            context=everything,
            metadata=everything,
            status="active",
        )
    )
    run = store.save_run(
        make_run(
            session.id,
            provider=CORPUS[2],
            provider_metadata={"model": CORPUS[3]},
            input=everything,
            output=everything,
            error=everything,
            status="failed",
        )
    )
    events = store.append_events(
        [
            Event(
                session_id=session.id,
                run_id=run.id,
                type=kind,
                correlation_id=text,
                provider=text,
                data={
                    "content": text,
                    "role": text[:40],
                    "tool_name": text,
                    "tool_call_id": text,
                    "tool_input": {text: text},
                    "tool_output": text,
                    "error_message": text,
                    "error_code": text,
                    "policy": text,
                },
            )
            for kind in Event.Type.values
            for text in CORPUS
        ]
    )
    artifact = Artifact.objects.using(store.using).create(
        session_id=session.id,
        key=CORPUS[0],
        content_type="text/html",
        byte_size=3,
        checksum_sha256="0" * 64,
        storage_backend="default",
        storage_ref=CORPUS[1],
        metadata=everything,
    )
    return session, run, events, artifact


def test_nothing_hostile_is_more_than_text(
    admin_client: Client, database_store: DatabaseSessionStore
) -> None:
    session, run, events, artifact = save_hostile(database_store)
    pages = [
        get(admin_client, address(f"{name}_changelist"))
        for name in ("session", "run", "event", "artifact")
    ]
    pages += [
        get(admin_client, address("session_changelist"), agent_id=text, q=text) for text in CORPUS
    ]
    url = address("session_change", session.pk)
    pages += [get(admin_client, url, after=after) for after in range(0, len(events), 100)]
    pages.append(get(admin_client, address("run_change", run.pk)))
    pages.append(get(admin_client, address("artifact_change", artifact.pk)))
    pages += [get(admin_client, address("event_change", event.pk)) for event in events[::29]]
    pages.append(admin_client.get(address("session_news", session.pk)).json()["html"])
    pages.append(get(admin_client, address("session_history", session.pk)))
    pages.append(get(admin_client, address("dashboard")))
    asked = admin_client.post(address("session_act", session.pk), {"action": "hard_delete"})
    pages.append(asked.content.decode())
    for page in pages:
        assert not list(complaints(page))
    assert all("pwned" in page for page in pages[:1])


def test_a_text_turns_no_other(admin_client: Client, database_store: DatabaseSessionStore) -> None:
    database_store.save_session(make_session(tags=["\u202eone", "two"]))
    shown = get(admin_client, address("session_changelist"))
    assert '<bdi class="asm-word">\u202eone</bdi>, <bdi class="asm-word">two</bdi>' in shown


def test_links_are_of_the_web_alone() -> None:
    for text in CORPUS:
        assert not list(complaints(linked(text))), text
    shown = linked("See https://example.com/a?b=1&c=<2>. And HTTP://EXAMPLE.COM!")
    assert shown == (
        'See <a href="https://example.com/a?b=1&amp;c=" rel="noopener noreferrer nofollow">'
        "https://example.com/a?b=1&amp;c=</a>&lt;2&gt;. And "
        '<a href="HTTP://EXAMPLE.COM" rel="noopener noreferrer nofollow">HTTP://EXAMPLE.COM</a>!'
    )
    for text in ("javascript:alert(1)", "mailto:a@b.c", "//example.com", "ftp://example.com"):
        assert linked(text) == text
