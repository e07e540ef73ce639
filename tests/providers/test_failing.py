"""What goes wrong with a model's API: the run fails, what arrived is kept, the error is told."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import pytest

from asm_store.backends.base import BaseSessionStore
from asm_store.backends.memory import InMemorySessionStore
from asm_store.events.redaction import Redactor
from asm_store.exceptions import ProviderError
from asm_store.models import Run
from asm_store.providers.failures import IncompleteAnswer, api_error_data, error_data
from asm_store.session_manager import SessionManager
from tests.providers.api_server import ApiServer, Reply
from tests.providers.wires import Wire
from tests.session_manager.logs import only, types

BEGIN = ["session_created", "session_started", "message_sent", "run_started"]
FAILED = ["error_occurred", "run_failed", "session_failed"]


def fail(store: BaseSessionStore, wire: Wire, api: ApiServer) -> tuple[ProviderError, Run]:
    with pytest.raises(ProviderError) as caught:
        SessionManager(store, wire.provider(api)).run_once("Hello")
    session, run = only(store)
    assert (run.status, session.status) == ("failed", "failed")
    found = types(store, session.id)
    assert found[:4] == BEGIN
    assert found[-3:] == FAILED
    assert all(event.data == run.error for event in store.get_events(session.id)[-3:])
    return caught.value, run


def arrived(store: BaseSessionStore, run: Run) -> list[str]:
    return types(store, run.session_id)[4:-3]


@pytest.mark.parametrize(
    ("status", "kind", "code", "class_name"),
    [
        (400, "invalid_request_error", "invalid_request", "BadRequestError"),
        (401, "authentication_error", "authentication", "AuthenticationError"),
        (403, "permission_error", "permission", "PermissionDeniedError"),
        (404, "not_found_error", "not_found", "NotFoundError"),
        (429, "rate_limit_error", "rate_limit", "RateLimitError"),
        (500, "api_error", "server_error", "InternalServerError"),
        (529, "overloaded_error", "overloaded", ""),
    ],
)
def test_an_error_instead_of_an_answer(
    wire: Wire, api: ApiServer, status: int, kind: str, code: str, class_name: str
) -> None:
    store = InMemorySessionStore()
    api.replies = [wire.problem(status, kind, retry_after="17")]
    error, run = fail(store, wire, api)
    assert arrived(store, run) == []
    sdk = import_module(wire.provider_class.SDK)
    assert isinstance(error.__cause__, sdk.APIStatusError)
    told = run.error or {}
    assert told["error_code"] == code
    assert told["error_type"] == (class_name or type(error.__cause__).__name__)
    assert kind in told["error_message"]
    assert (told["status_code"], told["retry_after"]) == (status, "17")
    assert told["request_id"] == "req_01"
    assert run.provider_metadata == {"model": wire.model}


def test_so_much_is_told_of_an_error(wire: Wire, api: ApiServer) -> None:
    api.replies = [wire.problem(400, "x" * 9_000_000)]
    _error, run = fail(InMemorySessionStore(), wire, api)
    assert len((run.error or {})["error_message"]) == 10_000
    assert (run.error or {})["error_code"] == "invalid_request"


@pytest.mark.parametrize("secret", ["sk-ant-api03-" + "Ab1" * 30, "//ada:Ab1Ab1Ab1@example.org"])
def test_no_half_of_a_secret_is_told(secret: str) -> None:
    """Wherever it would be cut off: half of one is none that the look for secrets knows."""
    for begin in range(9_999 - len(secret), 10_000):
        text = f"{'e ' * 5_000:.{begin}}" + f'{{"url":"https:{secret}"}}'
        told = error_data(ValueError(text), "code")["error_message"]
        assert begin <= len(told) <= 10_000
        assert text.startswith(told)
        assert "Ab1" not in Redactor().redact(told)


def in_the_middle(wire: Wire) -> list[bytes]:
    return wire.beginning("Good ", "mor")


def cut_off(wire: Wire) -> Reply:
    return Reply(in_the_middle(wire), end="cut")


def ended(wire: Wire) -> Reply:
    return Reply(in_the_middle(wire))


def malformed(wire: Wire) -> Reply:
    return Reply([*in_the_middle(wire), b"event: content_block_delta\ndata: {no JSON\n\n"])


def no_text(wire: Wire) -> Reply:
    return Reply([*in_the_middle(wire), b"event: content_block_delta\ndata: \xff\xfe\n\n"])


def failing(wire: Wire) -> Reply:
    return Reply([*in_the_middle(wire), wire.problem_in_stream("overloaded_error")])


def unknown(wire: Wire) -> Reply:
    return Reply([*in_the_middle(wire), wire.problem_in_stream("strange_error")])


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (cut_off, "connection_error"),
        (ended, "incomplete_stream"),
        (malformed, "malformed_stream"),
        (no_text, "malformed_stream"),
        (failing, "overloaded"),
        (unknown, "server_error"),
    ],
)
def test_an_answer_that_fails_in_the_middle(
    store: BaseSessionStore,
    wire: Wire,
    api: ApiServer,
    reply: Callable[[Wire], Reply],
    code: str,
) -> None:
    """What had come is kept; the tokens that are known of are counted."""
    api.replies = [reply(wire)]
    error, run = fail(store, wire, api)
    assert error.__cause__ is not None
    assert (run.error or {})["error_code"] == code
    usage = ["token_usage_updated"] if wire.usage_at_first else []
    assert arrived(store, run) == ["message_streamed"] * 2 + usage
    assert run.token_usage == wire.usage_at_first
    assert run.provider_metadata["message_id"]
    assert len(api.requests) == 1  # an answer that has begun is not asked for again


@pytest.mark.parametrize(("end", "code"), [("long", "max_tokens"), ("refused", "refusal")])
def test_an_answer_that_the_model_does_not_end(
    store: BaseSessionStore, wire: Wire, api: ApiServer, end: str, code: str
) -> None:
    api.replies = [wire.said("Good ", "mor", end=end)]
    error, run = fail(store, wire, api)
    assert isinstance(error.__cause__, IncompleteAnswer)
    assert (run.error or {})["error_code"] == code
    assert arrived(store, run) == [
        *("message_streamed", "message_streamed", "message_received"),
        *("token_usage_updated", "turn_completed"),
    ]
    assert run.token_usage == wire.usage
    assert run.turn_count == 1


def test_a_server_that_is_not_there(wire: Wire) -> None:
    api = ApiServer()
    api.server_close()
    error, run = fail(InMemorySessionStore(), wire, api)
    assert (run.error or {})["error_code"] == "connection_error"
    assert error.__cause__ is not None


def test_a_server_that_does_not_answer(wire: Wire, api: ApiServer) -> None:
    """The client's own timeout."""
    api.replies = [Reply(end="hang")]
    provider = wire.provider(api, options={"timeout": 0.2})
    store = InMemorySessionStore()
    with pytest.raises(ProviderError):
        SessionManager(store, provider).run_once("Hello")
    _session, run = only(store)
    assert (run.error or {})["error_code"] == "connection_timeout"
    assert api.is_left.wait(30)


def test_the_other_turns_are_kept(store: BaseSessionStore, wire: Wire, api: ApiServer) -> None:
    """An error after a tool was called; the tokens of both turns are counted."""
    api.replies = [wire.calls(("c1", "nothing", {})), Reply(in_the_middle(wire), end="cut")]
    _error, run = fail(store, wire, api)
    found = arrived(store, run)
    assert found[:4] == [
        *("token_usage_updated", "turn_completed"),
        *("tool_call_started", "tool_call_failed"),
    ]
    first = wire.usage_at_first
    total = {name: count + first.get(name, 0) for name, count in wire.usage.items()}
    assert run.token_usage == total


class Strange(Exception):
    """As a client of some cloud's own raises it."""

    status_code = None
    body = None
    response = {"Error": {"Code": "ExpiredToken"}}

    def __str__(self) -> str:
        raise RuntimeError("no text either")


def test_an_error_of_no_http_library() -> None:
    expected = {"error_message": "Strange", "error_type": "Strange"}
    for is_streaming, code in ((False, "provider_error"), (True, "malformed_stream")):
        data = api_error_data(Strange(), is_streaming=is_streaming)
        assert data == {**expected, "error_code": code}
