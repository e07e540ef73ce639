"""The admin in Chromium, under a strict policy: what people do there, and what must not happen."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry

from asm_store.backends.database import DatabaseSessionStore
from asm_store.models import Event, Session
from asm_store.test import make_run, make_session
from tests.admin.pages import address
from tests.admin.test_inert import save_hostile
from tests.browser.browsing import Browsing, pictures
from tests.browser.conftest import LogIn

PHONE: dict[str, Any] = {
    "viewport": {"width": 375, "height": 720},
    "has_touch": True,
    "is_mobile": True,
}
WIDE: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
LOOKS = {
    "light": {**WIDE, "color_scheme": "light"},
    "dark": {**WIDE, "color_scheme": "dark"},
    "phone": {**PHONE, "color_scheme": "light"},
    "dark-phone": {**PHONE, "color_scheme": "dark"},
}


def record(
    store: DatabaseSessionStore, session: Session, *kinds: tuple[str, dict[str, Any]]
) -> None:
    store.append_events(
        [Event(session_id=session.id, type=kind, data=data) for kind, data in kinds]
    )


def say(store: DatabaseSessionStore, session: Session, *texts: str) -> None:
    record(store, session, *(("message_received", {"content": text}) for text in texts))


def lamp(store: DatabaseSessionStore) -> Session:
    """The sample session in which a tool fails."""
    failed = Event.objects.filter(type="tool_call_failed", data__tool_name="Bash").get()
    return store.get_session(failed.session_id)


def is_of_django(node: Any) -> bool:
    """The search box of every list, in one version or another, is not this app's to mend."""
    return bool(node["target"] == ["#searchbar"] or node["html"] == '<a href="?">Show all</a>')


def addresses(store: DatabaseSessionStore) -> dict[str, str]:
    session = lamp(store)
    [run] = store.list_runs(session.id)[:1]
    [event] = store.get_events(session.id, limit=1)
    return {
        "index": "/admin/",
        "sessions": address("session_changelist"),
        "session": address("session_change", session.id),
        "runs": address("run_changelist"),
        "run": address("run_change", run.id),
        "events": address("event_changelist"),
        "event": address("event_change", event.id),
        "artifacts": address("artifact_changelist"),
        "maintenance": address("maintenance"),
        "dashboard": address("dashboard") + "?since=2025-12-01&until=2026-12-31&step=week",
    }


@pytest.mark.parametrize("look", LOOKS)
def test_every_page_is_accessible_and_fits(
    log_in: LogIn, browsing: Browsing, samples: DatabaseSessionStore, look: str
) -> None:
    from axe_playwright_python.sync_playwright import Axe

    log_in(**LOOKS[look])
    found: list[str] = []

    def examine(page: Any, name: str, url: str) -> None:
        page.goto(url)
        page.screenshot(path=pictures() / f"{name}-{look}.png", full_page=True)
        wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
        if wide > 0:
            found.append(f"{name}: {wide} pixels too wide")
        results = Axe().run(page, context="#main", options={"resultTypes": ["violations"]})
        found.extend(
            f"{name}: {violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')}"
            for violation in results.response["violations"]
            for node in violation["nodes"]
            if not is_of_django(node)
        )

    for name, url in addresses(samples).items():
        browsing.do(partial(examine, name=name, url=url))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("look", ["light", "dark"])
def test_the_columns_of_sessions_with_large_figures_fit(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore, look: str
) -> None:
    models = ["claude-sonnet-4-5-20250929", "gpt-5.1-codex", "claude-haiku-4-5-20251001"]
    for number, status in enumerate(Session.Status.values):
        session = make_session(agent_id="customer-support-agent", status=status)
        session.tags = ["pinned", "production", f"customer-{number}"][: number % 4]
        store.save_session(session)
        say(store, session, *["text"] * 100)
        for model in models[: number % 3 + 1]:
            run = make_run(session.id, provider="anthropic", cost_usd=3123.456789)
            run.provider_metadata, run.token_usage = {"model": model}, {"total_tokens": 987_654_321}
            run.status, run.ended_at = "failed", run.started_at + timedelta(hours=13, seconds=7)
            store.save_run(run)
    log_in(**LOOKS[look])

    def look_at(page: Any) -> None:
        page.goto(address("session_changelist"))
        page.screenshot(path=pictures() / f"large-figures-{look}.png", full_page=True)
        for place in ("document.scrollingElement", "document.querySelector('.results')"):
            assert page.evaluate(f"{place}.scrollWidth") <= page.evaluate(f"{place}.clientWidth")

    browsing.do(look_at)


def test_a_list_is_filtered_and_searched(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    store.save_session(make_session(id="ses_one", agent_id="clerk", status="active"))
    store.save_session(make_session(id="ses_two", agent_id="pilot", status="failed"))
    log_in(**WIDE)

    def walk(page: Any) -> None:
        page.goto(address("session_changelist"))
        page.fill("#asm-filter-agent_id", "clerk")
        page.press("#asm-filter-agent_id", "Enter")
        page.wait_for_url("**agent_id=clerk**")
        assert page.locator("#result_list tbody tr").count() == 1
        page.click("text=failed")
        page.wait_for_url("**status=failed**")
        assert page.locator("#result_list tbody tr").count() == 0
        page.goto(address("session_changelist"))
        page.fill("#searchbar", "ses_t*")
        page.press("#searchbar", "Enter")
        page.wait_for_url("**q=ses_t***")
        page.click("text=ses_two")
        page.wait_for_selector(".asm-summary")

    browsing.do(walk)


def test_keys_go_from_entry_to_entry_and_page_to_page(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session = store.save_session(make_session())
    say(store, session, *(f"text {number}" for number in range(102)))
    log_in(**WIDE)

    def walk(page: Any) -> None:
        def focused() -> str:
            return str(page.evaluate("document.activeElement.id"))

        page.goto(address("session_change", session.id))
        for key, expected in (("j", "e1"), ("j", "e2"), ("k", "e1"), ("j", "e2")):
            page.keyboard.press(key)
            assert focused() == expected
        page.locator("#e100").focus()
        page.keyboard.press("j")
        page.wait_for_url("**after=100**")
        page.keyboard.press("k")
        assert focused() == "e102"
        page.goto(address("session_change", session.id) + "?at=50#e50")
        page.wait_for_function("document.activeElement.id === 'e50'")
        page.fill("#asm-at", "7")
        page.locator("#asm-at").press("j")
        assert focused() == "asm-at"
        page.uncheck("#asm-keys")
        page.locator("#e51").focus()
        page.keyboard.press("j")
        assert focused() == "e51"
        page.reload()
        assert not page.is_checked("#asm-keys")
        page.check("#asm-keys")
        page.fill("#asm-at", "7")
        page.press("#asm-at", "Enter")
        page.wait_for_url("**at=7**")

    browsing.do(walk)


def test_raw_json_comes_when_it_is_asked_for(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session = store.save_session(make_session())
    say(store, session, "<b>bold</b>")
    log_in(**WIDE)

    def walk(page: Any) -> None:
        page.goto(address("session_change", session.id))
        page.click("#e1 .asm-raw")
        page.wait_for_selector("#e1 .asm-json")
        assert page.get_attribute("#e1 .asm-raw", "aria-expanded") == "true"
        assert '"content": "<b>bold</b>"' in page.inner_text("#e1 .asm-json")
        page.click("#e1 .asm-raw")
        assert page.locator("#e1 .asm-json").count() == 0
        assert page.get_attribute("#e1 .asm-raw", "aria-expanded") == "false"

    browsing.do(walk)


def test_new_events_appear_by_themselves_until_the_session_ends(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session = store.save_session(make_session(status="active"))
    say(store, session, "one")
    log_in(**WIDE)
    browsing.do(lambda page: page.goto(address("session_change", session.id)))
    say(store, session, "two", "<img src=x onerror=window.pwned=1>")
    browsing.do(lambda page: page.wait_for_selector("#e3"))
    assert browsing.do(lambda page: page.locator(".asm-entry").count()) == 3
    store.update_session(session.id, status="completed")
    browsing.do(lambda page: page.wait_for_selector("#asm-status .asm-status-completed"))
    browsing.do(
        lambda page: page.wait_for_function("!document.querySelector('#asm-live').textContent")
    )
    assert browsing.do(lambda page: page.evaluate("window.pwned")) is None


def test_what_comes_late_stands_where_it_belongs(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    """A result beside its call, a piece of a text in that text; what is open stays open."""
    session = store.save_session(make_session(status="active"))
    call = {"tool_name": "grep", "tool_call_id": "1", "tool_input": {"pattern": "lamp"}}
    record(store, session, ("tool_call_started", call), ("message_streamed", {"content": "la"}))
    log_in(**WIDE)

    def begin(page: Any) -> None:
        page.goto(address("session_change", session.id))
        page.click("#e1 summary")
        page.locator("#e2").focus()

    def end(page: Any) -> None:
        page.wait_for_function("document.querySelectorAll('.asm-entry').length == 4")
        assert page.locator("#e1 >> text=sun.py").count() == 1
        assert page.locator("#e1 details").first.get_attribute("open") is not None
        assert page.inner_text("#e2 .asm-text") == "lala"
        assert page.evaluate("document.activeElement.id") == "e2"
        ids = page.evaluate("[...document.querySelectorAll('.asm-entry')].map(e => e.id)")
        assert ids == ["e1", "e2", "e4", "e6"]
        assert page.evaluate("document.getElementById('e5').closest('.asm-entry').id") == "e1"

    browsing.do(begin)
    record(store, session, ("message_streamed", {"content": "la"}))
    browsing.do(lambda page: page.wait_for_selector("#e2[data-last='3']"))
    # A step between them: a text begins anew.
    record(
        store,
        session,
        ("turn_completed", {}),
        ("tool_call_completed", {**call, "tool_output": "sun.py"}),
    )
    record(store, session, ("message_streamed", {"content": "la"}))
    browsing.do(end)


def test_a_server_that_fails_for_a_while_is_asked_again(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session = store.save_session(make_session(status="active"))
    say(store, session, "one")
    log_in(**WIDE)
    answers = iter([502, 503, None, 403])
    asked: list[Any] = []

    def answer(route: Any) -> None:
        asked.append(route)
        status = next(answers)
        route.continue_() if status is None else route.fulfill(status=status)

    def begin(page: Any) -> None:
        page.route("**/news/**", answer)
        page.goto(address("session_change", session.id))

    def end(page: Any) -> None:
        page.wait_for_selector("#e2", timeout=60_000)
        page.wait_for_function(
            "document.querySelector('#asm-live').textContent.includes('No long')"
        )
        assert len(asked) == 4

    browsing.do(begin)
    say(store, session, "two")
    browsing.do(end)
    browsing.complaints[:] = [text for text in browsing.complaints if "Failed to load" not in text]


def test_a_page_forgets_what_is_out_of_sight(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session = store.save_session(make_session(status="active"))
    say(store, session, "one")
    log_in(**WIDE)
    browsing.do(lambda page: page.goto(address("session_change", session.id)))
    say(store, session, *["la"] * 400)
    browsing.do(lambda page: page.wait_for_selector("#e400"))
    browsing.do(lambda page: page.evaluate("window.scrollTo(0, document.body.scrollHeight)"))
    say(store, session, *["la"] * 400)

    def end(page: Any) -> None:
        page.wait_for_selector("#e800")
        page.wait_for_function("document.querySelectorAll('.asm-entry').length <= 500")
        first = page.locator(".asm-entry").first.get_attribute("id")
        page.locator(".asm-pager a[rel=prev]").first.click()
        page.wait_for_url(f"**before={first[1:]}")
        assert page.locator(".asm-entry").count() == 100

    browsing.do(end)


def test_an_export_is_saved_and_runs_nothing(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore, tmp_path: Any
) -> None:
    session, *_ = save_hostile(store)
    log_in(**WIDE, accept_downloads=True)

    def walk(page: Any) -> None:
        page.goto(address("session_changelist"))
        page.check(f'input[value="{session.id}"]')
        page.select_option("select[name=action]", "export_html")
        page.click("button[name=index]")
        page.wait_for_selector(".asm-figures")
        page.screenshot(path=pictures() / "confirm-light.png", full_page=True)
        with page.expect_download() as download:
            page.click(".asm-actions button")
        download.value.save_as(tmp_path / "sessions.html")
        page.goto((tmp_path / "sessions.html").as_uri())
        page.wait_for_selector("#s0-e1")
        page.screenshot(path=pictures() / "export-light.png")
        assert page.evaluate("window.pwned") is None

    browsing.do(walk)
    assert LogEntry.objects.get().object_id == session.id


def test_nothing_hostile_runs(
    log_in: LogIn, browsing: Browsing, store: DatabaseSessionStore
) -> None:
    session, run, events, artifact = save_hostile(store)
    log_in(**WIDE)
    urls = [
        address("session_changelist"),
        address("run_changelist"),
        address("event_changelist"),
        address("artifact_changelist"),
        *(f"{address('session_change', session.pk)}?after={n}" for n in range(0, len(events), 100)),
        address("run_change", run.pk),
        address("event_change", events[0].pk),
        address("event_raw", events[0].pk),
        address("artifact_change", artifact.pk),
        address("dashboard"),
    ]

    def walk(page: Any) -> None:
        for url in urls:
            page.goto(url)
            page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true })")
            page.mouse.move(300, 300)
            assert page.evaluate("window.pwned") is None, url
            assert page.evaluate("location.pathname") == url.partition("?")[0]

    browsing.do(walk)
