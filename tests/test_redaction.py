"""Which values are secrets, and what is left of a text or an object without them."""

from __future__ import annotations

import base64
import json
import random
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asm_store.events.redaction import PLACEHOLDER, Redactor
from asm_store.events.secrets import is_secret_name
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


def test_only_counts_are_kept_among_the_counts() -> None:
    for value in ({"url_password": "p"}, {PLANTED["npm"]: 1}, {"password": 5}, [PLANTED["npm"]]):
        assert PLACEHOLDER in json.dumps(redacted({"_redacted": value}))
