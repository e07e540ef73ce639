"""Secrets are taken out of events before they are stored, through every door; off by default."""

from __future__ import annotations

import base64
import json
import random
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given, settings
from hypothesis import strategies as st

from asm_store import conf
from asm_store.backends.base import BaseSessionStore
from asm_store.backends.database import DatabaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.events.redaction import PLACEHOLDER, Redactor
from asm_store.events.secrets import is_secret_name
from asm_store.exceptions import ProviderError, ValidationError
from asm_store.formats import import_paths
from asm_store.models import Event
from asm_store.session_manager import SessionManager
from asm_store.test import ScriptedProvider, make_event, make_run, make_session
from tests.secrets import A20, BODY, PLANTED, REMAINS, pem


def redacted(value: Any) -> Any:
    return Redactor().redact(value)


@pytest.mark.parametrize("kind", PLANTED)
def test_a_planted_secret_is_found_anywhere(kind: str) -> None:
    secret = PLANTED[kind]
    for text in (secret, f"Look: {secret}", f"a\n{secret}\nb", f"({secret})", f'"{secret}"'):
        for value in (text, [text], {"deep": [{"er": text}]}):
            redactor = Redactor()
            found = json.dumps(redactor.redact(value))
            assert PLACEHOLDER in found
            assert not [remains for remains in REMAINS if remains in found]
            assert sum(redactor.counts.values()) >= 1


@pytest.mark.parametrize("kind", PLANTED)
def test_redacting_again_changes_and_counts_nothing(kind: str) -> None:
    once = redacted({"x": PLANTED[kind], "password": "p", PLANTED[kind]: 1})
    again = Redactor()
    assert again.redact(once) == once
    assert again.counts == {}


def test_what_is_around_a_secret_stays() -> None:
    assert redacted(f"key {PLANTED['github']}, and more") == f"key {PLACEHOLDER}, and more"
    assert redacted(PLANTED["database url"]) == f"postgres://app:{PLACEHOLDER}@db.example/app"
    assert redacted(PLANTED["json text"]) == json.dumps({"client_secret": PLACEHOLDER})
    assert redacted(f"a {pem()} b {pem()} c") == f"a {PLACEHOLDER} b {PLACEHOLDER} c"


@pytest.mark.parametrize(
    "harmless",
    [
        "The password is asked for when the token has expired.",
        "def login(password: str, secret=None) -> Token:",
        "password = getpass.getpass()",
        "api_key=os.environ['API_KEY_2']",
        "token authentication/authorization-based",
        "https://example.com:8080/path?q=1",
        "git@github.com:me/repository.git",
        "see task-0123456789abcdef01234567 and risk-averse-people-in-a-long-line",
        "sk-learn and sk-short",
        "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
        "a" * 100_000,
        "commit 5b6f1d0c9a8e7f6b5a4c3d2e1f0a9b8c7d6e5f4a by Ann <ann@example.com>",
        "01a22651-b184-7db2-aec4-e676c4dc630d ses_01a22651b1587560ad7a15064591cf4b",
        "data:image/png;base64," + base64.b64encode(random.Random(1).randbytes(60_000)).decode(),
        "sha256-" + base64.b64encode(random.Random(2).randbytes(32)).decode(),
        "toolu_01A2b3C4d5E6f7G8h9J0k1L2 call_aB3dE6gH1jK4mN7pQ0sTuV5x req_011CSxyz0123456789",
        "The key: of 12 tokens, token 7 is the password of room 101.",
        "MT is a town; NT too. SK was 32 when eyJ... began a token: see secret_santa_2026.",
        "class='fc-daygrid-day-number-2026-01-02-long' style='--token-size: 12px'",
        "It begins with -----BEGIN and ends with PRIVATE KEY, said the page.",
        "Private-Lines: a term of PuTTY's.",
        "curl -s https://example.com:8080/user:name | sh",
        "next_page_token=abcd1234efgh5678 max_tokens=4096 key=value1234567890",
        "for token in tokens2: print(token)\npassword: str = None\nsecret_key = get_key(v2)",
        {"name": "city", "value": "abcdefgh12345678"},
        {"input_tokens": 5, "max_tokens": 100, "next_page_token": "abcdefgh", "token_count": 3},
        {"tokens": ["a", "b"], "tokenizer": "cl100k", "secretary": "Ann", "key": "value"},
        {"token": "Hel", "logprob": -0.1},
        {"password": "", "token": None, "secret": True, "api_key": 5},
        {"properties": {"password": {"type": "string", "description": "the user's"}}},
        [None, True, 5, 1.5],
    ],
)
def test_what_is_no_secret_stays(harmless: Any) -> None:
    redactor = Redactor()
    assert redactor.redact(harmless) == harmless
    assert redactor.counts == {}


@pytest.mark.parametrize(
    "name",
    [
        "password",
        "DB_PASSWORD",
        "userPassword",
        "passwd",
        "pwd",
        "api_key",
        "apiKey",
        "X-Api-Key",
        "apikey",
        "access_token",
        "accessToken",
        "refresh-token",
        "Authorization",
        "Set-Cookie",
        "client_secret",
        "aws_secret_access_key",
        "privateKey",
        "credentials",
        "token",
        "GH_TOKEN",
        "Proxy-Authorization",
        "AccountKey",
        "connectionString",
        "secrets",
        "spring.password",
    ],
)
def test_what_has_a_secrets_name_is_one(name: str) -> None:
    assert is_secret_name(name)
    value = {name: "x", "deep": [{name: ["y", {"value": "z", "more": ["w"]}]}]}
    redactor = Redactor()
    hidden = PLACEHOLDER
    assert redactor.redact(value) == {
        name: hidden,
        "deep": [{name: [hidden, {"value": hidden, "more": [hidden]}]}],
    }
    assert redactor.counts == {"named": 4}


def test_a_password_may_be_a_number() -> None:
    assert redacted({"password": 1234, "token": 1234}) == {"password": PLACEHOLDER, "token": 1234}


def test_an_entry_may_have_its_name_beside_it() -> None:
    pairs = [{"name": "DB_PASSWORD", "value": "p"}, {"key": "X-Api-Key", "value": "k"}]
    assert [pair["value"] for pair in redacted(pairs)] == [PLACEHOLDER] * 2


def test_examples_in_a_schema_are_no_schema() -> None:
    schema = {"type": "string", "description": "the user's", "default": "hunter2"}
    assert redacted({"password": schema}) == {"password": {**schema, "default": PLACEHOLDER}}


def test_a_key_that_was_cut_off_takes_nothing_with_it() -> None:
    begin, *_, end = pem("RSA ").splitlines()
    assert redacted(f"It says: {begin}\n{BODY}. And more.") == f"It says: {PLACEHOLDER}. And more."
    assert redacted(f"The end: \n{BODY}{end}, and more.") == f"The end: {PLACEHOLDER}, and more."
    header = "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n"
    assert redacted(f"{begin}\n{header}{BODY}") == PLACEHOLDER


AROUND = [
    *(PLACEHOLDER, "password", "api_key", "token", "--", "=", ": ", '"', "'", "\\", "://", "@"),
    *("Bearer ", "curl -u ", " ", "\n", "a", "A1", "/", ".", "\u0130"),
]
PIECES = [*AROUND, *(piece for text in PLANTED.values() for piece in (text, text[:12], text[-12:]))]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)
HARMLESS = st.lists(st.sampled_from(AROUND), max_size=8).map("".join)
VALUES = st.recursive(
    TEXTS | st.integers() | st.none(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(TEXTS | st.sampled_from(["password", "name", "value", "type"]), inner)
    ),
    max_leaves=6,
)


@given(VALUES)
@settings(max_examples=400, deadline=None)
def test_another_look_finds_nothing(value: Any) -> None:
    once = redacted(value)
    again = Redactor()
    assert again.redact(once) == once
    assert again.counts == {}


@given(st.sampled_from(sorted(PLANTED)), HARMLESS, HARMLESS)
@settings(max_examples=400, deadline=None)
def test_whatever_is_around_it(kind: str, before: str, after: str) -> None:
    found = redacted(f"{before}\n{PLANTED[kind]}\n{after}")
    assert [part for part in REMAINS if part in found] == []


def test_a_secret_may_be_a_key_and_no_entry_is_lost() -> None:
    value = {PLANTED["github"]: 1, PLANTED["npm"]: 2, PLACEHOLDER: 3}
    found = redacted(value)
    assert sorted(found.values()) == [1, 2, 3]
    assert all(PLACEHOLDER in name for name in found)


# What looks like a key in it does so by chance.
IMAGE = f"{'Q' * 300}/ABSK{'Q' * 400}=="


@pytest.mark.parametrize(
    "image",
    [
        f"data:image/png;base64,{IMAGE}",
        f'<img src="data:image/png;base64,{IMAGE}"> and data:;base64,{IMAGE}',
        {"type": "base64", "media_type": "image/png", "data": IMAGE},
    ],
)
def test_an_image_stays_whole(image: Any) -> None:
    redactor = Redactor()
    assert redactor.redact([image]) == [image]
    assert redactor.counts == {}


@pytest.mark.parametrize("kind", PLANTED)
def test_no_image_hides_a_secret(kind: str) -> None:
    secret = PLANTED[kind]
    around = f"x;base64,{secret} data:image/png;base64,{IMAGE} {secret};base64,{IMAGE}\n{secret}"
    block = {"type": "base64", "data": f"{IMAGE}\n{secret}"}
    found = json.dumps(redacted([around, block, {"data": secret, "type": "base64"}]))
    assert [remains for remains in REMAINS if remains in found] == []


def test_the_id_of_a_call_stays() -> None:
    call = {"tool_call_id": f"fc-{'0123456789abcdef' * 2}", "tool_input": {"api_key": "k"}}
    assert redacted({"messages": [call]}) == {
        "messages": [{**call, "tool_input": {"api_key": PLACEHOLDER}}]
    }
    assert redacted({"tool_call_id": {"password": "p"}}) == {
        "tool_call_id": {"password": PLACEHOLDER}
    }


def test_at_any_depth() -> None:
    value: Any = PLANTED["stripe"]
    for _ in range(49):
        value = [{"x": value}]
    assert A20 not in json.dumps(redacted(value))


@pytest.mark.parametrize(
    "evil",
    [
        "-----BEGIN " * 9000,
        "a://" * 25000,
        "password=" * 11000,
        'password="' + "a" * 100000,
        "password" + " " * 100000,
        "eyJaaaaaaaaa." * 8000,
        "http://" + "a" * 100000,
        ("password: " + "a" * 64) * 1300,
        "Bearer " + "a" * 100000,
        "1234567890:AA" * 8000,
        "-eyJ" * 25000,
        "-----BEGIN PRIVATE KEY-----" * 4000,
        BODY * 2000 + "PRIVATE",
        "curl " * 20000,
        ("password='" + "a" * 5000) * 20,
        "Private-Lines: 2\n" * 6000,
        ";base64," * 12000,
        f";base64,{'a' * 300}_" * 300,
        "key" * 33000,
    ],
)
def test_no_text_takes_long(evil: str) -> None:
    begin = time.process_time()
    redacted(evil)
    assert time.process_time() - begin < 2  # a hundredth of a second, where nobody is busy


# What is stored

SECRET = PLANTED["anthropic key"]


def doors(store: BaseSessionStore, session_id: str, run: Any) -> dict[str, Any]:
    def event(**columns: Any) -> Event:
        return make_event(session_id, data={"content": f"use {SECRET}"}, **columns)

    def write() -> Event:
        with store.writer(session_id) as writer:
            writer.write(event())
        return store.get_events(session_id)[-1]

    async def awrite() -> Event:
        async with store.awriter(session_id) as writer:
            await writer.write(event())
        return (await store.aget_events(session_id))[-1]

    def append() -> Event:
        store.append_event(event())
        return store.get_events(session_id)[-1]

    return {
        "append_event": append,
        "append_event_with_sequence": lambda: store.append_event_with_sequence(event()),
        "append_events": lambda: store.append_events([event()])[0],
        "flush": lambda: store.flush(store.get_session(session_id), run, [event()])[0],
        "writer": write,
        "awriter": async_to_sync(awrite),
        "aappend_events": lambda: async_to_sync(store.aappend_events)([event()])[0],
    }


def test_every_door_redacts(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    session = store.save_session(make_session())
    run = store.save_run(make_run(session))
    for name, door in doors(store, session.id, run).items():
        event = door()
        assert event.data == {"content": f"use {PLACEHOLDER}"}, name
        assert event.metadata == {"_redacted": {"anthropic": 1}}, name
    assert SECRET.encode() not in b"".join(store.iter_events_json(session.id))


def test_it_is_off_by_default(store: BaseSessionStore) -> None:
    session = store.save_session(make_session())
    run = store.save_run(make_run(session))
    for door in doors(store, session.id, run).values():
        event = door()
        assert (event.data, event.metadata) == ({"content": f"use {SECRET}"}, {})


def test_metadata_too_and_counts_add_up(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    session = store.save_session(make_session())
    event = make_event(
        session,
        data={"content": f"{SECRET} {SECRET}", "password": "p"},
        metadata={"original": {"text": SECRET}, "_redacted": {"named": 2, "jwt": 1}},
    )
    given = event.to_dict()
    stored = store.append_event_with_sequence(event)
    assert event.to_dict() == given  # the caller's own is unchanged
    assert stored.metadata == {
        "original": {"text": PLACEHOLDER},
        "_redacted": {"anthropic": 3, "named": 3, "jwt": 1},
    }
    assert store.append_event_with_sequence(event) == stored
    copy = make_event(session, data=stored.data, metadata=stored.metadata)
    assert store.append_event_with_sequence(copy).metadata == stored.metadata


@pytest.mark.parametrize("kind", PLANTED)
def test_what_was_stored_is_stored_again_as_it_is(kind: str, settings: Any) -> None:
    """The counts too, whatever the name of the kind."""
    settings.ASM_STORE_REDACTION = True
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    stored = store.append_event_with_sequence(make_event(session, data={"content": PLANTED[kind]}))
    assert stored.metadata["_redacted"]
    again = make_event(session, data=stored.data, metadata=stored.metadata)
    assert store.append_event_with_sequence(again).metadata == stored.metadata
    imported = make_event(session, metadata={"original": stored.metadata})
    assert store.append_event_with_sequence(imported).metadata == {"original": stored.metadata}


def test_only_counts_are_kept_among_the_counts() -> None:
    for value in ({"url_password": "p"}, {PLANTED["npm"]: 1}, {"password": 5}, [PLANTED["npm"]]):
        assert PLACEHOLDER in json.dumps(redacted({"_redacted": value}))


def test_an_event_may_be_too_large_when_redacted(settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    settings.ASM_STORE_MAX_EVENT_BYTES = 100
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    with pytest.raises(ValidationError, match="larger"):
        store.append_event(make_event(session, data={"password": ["x"] * 20}))


def test_what_an_agent_says(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    script = [
        {"type": "message_streamed", "data": {"content": f"I found {SECRET}"}},
        {"type": "message_received", "data": {"role": "assistant", "content": SECRET}},
        RuntimeError(f"refused {SECRET}"),
    ]
    with pytest.raises(Exception, match="refused"):
        SessionManager(store, ScriptedProvider(script)).run_once(f"My key is {SECRET}")
    [session] = store.list_sessions()
    lines = b"".join(store.iter_events_json(session.id))
    assert SECRET.encode() not in lines
    assert lines.count(PLACEHOLDER.encode()) >= 5


def test_runs_too(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    end = {
        "stop_reason": "end_turn",
        "output": {"content": f"It is {SECRET}.", "password": "p"},
        "provider_metadata": {"model": "m", "headers": {"Authorization": SECRET}},
    }
    manager = SessionManager(store, ScriptedProvider([{"type": "run_completed", "data": end}]))
    result = manager.run_once(f"Use {SECRET}")
    run = store.get_run(result.run_id)
    assert run.input == f"Use {PLACEHOLDER}"
    assert run.output == {"content": f"It is {PLACEHOLDER}.", "password": PLACEHOLDER}
    assert run.provider_metadata == {"model": "m", "headers": {"Authorization": PLACEHOLDER}}
    assert run.metadata["_redacted"]["anthropic"] >= 2
    assert store.save_run(run) == run

    failing = SessionManager(store, ScriptedProvider([RuntimeError(f"refused {SECRET}")]))
    with pytest.raises(ProviderError) as caught:
        failing.run_once("Hi")
    failed = store.get_run(str(caught.value.run_id))
    assert failed.error is not None
    assert failed.error["error_message"] == f"refused {PLACEHOLDER}"


def test_what_is_said_with_each_turn_counts_once(store: BaseSessionStore, settings: Any) -> None:
    """What a run's provider tells of itself is stored each time that more is known."""
    settings.ASM_STORE_REDACTION = True
    about = {"model": "m", "headers": {"x-key": SECRET}, SECRET: 1}
    turn = [{"type": "run_started", "data": about}, {"type": "turn_completed"}]
    new = {"type": "run_started", "data": {"headers": {"x-key": f"{SECRET} {SECRET}"}}}
    cases: list[tuple[list[Any], int]] = [([], 2), ([new], 4), ([RuntimeError("broken")], 2)]
    for end, count in cases:
        session = store.save_session(make_session())
        manager = SessionManager(store, ScriptedProvider([*turn, *turn, *turn, *end]))
        with suppress(ProviderError):
            manager.run_once("Hi", session_id=session.id)
        [run] = store.list_runs(session.id)
        assert run.metadata["_redacted"] == {"anthropic": count}
        assert run.provider_metadata.keys() == {"model", "headers", PLACEHOLDER}


def test_who_watches_a_run_sees_what_is_stored(store: BaseSessionStore, settings: Any) -> None:
    settings.ASM_STORE_REDACTION = True
    delta = {"type": "message_streamed", "data": {"content": f"use {SECRET} \0"}}
    seen: list[Event] = []

    def watch(event: Event) -> None:
        seen.append(event.copied())
        event.data["content"] = "its own copy"

    manager = SessionManager(store, ScriptedProvider([delta, delta]))
    result = manager.run_once("Hi", event_callback=watch)
    own = [event for event in result.events if event.type == "message_streamed"]
    told = [event for event in seen if event.type == "message_streamed"]
    assert [(event.id, event.data, event.metadata) for event in told] == [
        (event.id, event.data, event.metadata) for event in own
    ]
    assert own[0].data == {"content": f"use {PLACEHOLDER} \u2400"}


def test_what_is_imported(using: str, settings: Any, tmp_path: Path) -> None:
    settings.ASM_STORE_REDACTION = True
    line = {
        "type": "user",
        "sessionId": "5d2b9f3e-0000-4000-8000-000000000001",
        "uuid": "5d2b9f3e-0000-4000-8000-000000000002",
        "timestamp": "2026-03-02T10:00:00.000Z",
        "message": {"role": "user", "content": f"use {SECRET}"},
    }
    (tmp_path / "log.jsonl").write_text(json.dumps(line) + "\n")
    import_paths([tmp_path], using=using)
    store = DatabaseSessionStore(using)
    [session] = store.list_sessions()
    lines = b"".join(store.iter_events_json(session.id))
    assert PLACEHOLDER.encode() in lines
    assert SECRET.encode() not in lines


@pytest.mark.parametrize("value", [None, 1, "yes", []])
def test_the_setting_is_true_or_false(settings: Any, value: Any) -> None:
    settings.ASM_STORE_REDACTION = value
    with pytest.raises(ImproperlyConfigured, match="ASM_STORE_REDACTION"):
        conf.redaction()
