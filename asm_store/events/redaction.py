"""Takes secrets out of JSON before it is stored: by the shape of a value, and by its name.

It looks at one record at a time: a secret that is streamed in pieces is in none of them.
"""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from typing import Any, NamedTuple

PLACEHOLDER = "[REDACTED]"
# Where the counts are kept, by kind, in the record's metadata.
REDACTED = "_redacted"
# No secret is shorter, but for one that is known by its name.
SHORTEST = 12

_WORD = r"[A-Za-z0-9_-]"
_BEGIN = r"(?<![A-Za-z0-9])"
# What assigns a secret within a text, such as a command or a file: `DB_PASSWORD=...`.
_BETWEEN = ("", "_", "-")
_NAMES = (
    *("password", "passwd", "passphrase", "secret", "bearer_token", "bearer-token"),
    *(f"{kind}{by}key" for kind in ("api", "access", "private", "account") for by in _BETWEEN),
    *(f"{kind}{by}token" for kind in ("auth", "access", "refresh") for by in _BETWEEN),
)
_BARE = r"[^\s\"',;&(){}\[\]<>\\]"


class Shape(NamedTuple):
    """What a kind of secret looks like. A text that has none of the hints has none of it."""

    kind: str
    hints: tuple[str, ...]
    pattern: re.Pattern[str]
    ignores_case: bool = False

    def is_in(self, text: str, lowered: str) -> bool:
        searched = lowered if self.ignores_case else text
        for hint in self.hints:  # noqa: SIM110  (any() takes twice as long)
            if hint in searched:
                return True
        return False


def _shape(kind: str, hints: str, pattern: str) -> Shape:
    return Shape(kind, tuple(hints.split()), re.compile(pattern))


def _tokens(kind: str, prefixes: str, rest: str) -> Shape:
    """What begins with one of some words and goes on with characters like these."""
    words = prefixes.split()
    alternatives = "|".join(map(re.escape, words))
    return Shape(kind, tuple(words), re.compile(f"{_BEGIN}(?:{alternatives}){rest}"))


# No two repetitions in a row can match the same characters, so that no text takes long. Groups
# named `kept` stay.
_SHAPES = (
    _shape(
        "private_key",
        "PRIVATE",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----"
        r"(?s:.*?)(?:-----END (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)?-----|\Z)",
    ),
    _tokens("aws", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}(?![A-Z0-9])"),
    _tokens("anthropic", "sk-ant-", rf"{_WORD}{{16,}}"),
    _tokens("openai", "sk-proj- sk-svcacct- sk-admin- sk-None- sk-or-", rf"{_WORD}{{16,}}"),
    _tokens("openai", "sk-", r"[A-Za-z0-9]{20,}"),
    _tokens("github", "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_", r"[A-Za-z0-9_]{20,}"),
    _tokens("gitlab", "glpat- gldt- glrt- glptt- glcbt- glsoat- glft-", rf"{_WORD}{{16,}}"),
    _tokens("google", "AIza ya29. GOCSPX-", rf"{_WORD}{{20,}}"),
    _tokens("slack", "xoxa- xoxb- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-", r"[A-Za-z0-9-]{10,}"),
    _shape(
        "slack",
        "hooks.slack.com",
        r"(?P<kept>hooks\.slack\.com/(?:services|workflows)/)[A-Za-z0-9/_-]{20,}",
    ),
    _tokens("stripe", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9+/=]{16,}"),
    _tokens("huggingface", "hf_", r"[A-Za-z0-9]{20,}"),
    _tokens("npm", "npm_", r"[A-Za-z0-9]{30,}"),
    _tokens("pypi", "pypi-AgE", rf"{_WORD}{{30,}}"),
    _tokens("sendgrid", "SG.", rf"{_WORD}{{16,}}\.{_WORD}{{16,}}"),
    _shape("telegram", ":AA", rf"(?<![0-9])[0-9]{{8,10}}:AA{_WORD}{{33}}"),
    _shape("discord", "/api/webhooks/", r"(?P<kept>/api/webhooks/[0-9]{1,30}/)[A-Za-z0-9_-]{20,}"),
    _tokens("twilio", "SK", r"[0-9a-f]{32}(?![0-9a-f])"),
    _tokens(
        "other",
        "gsk_ r8_ pplx- xai- lin_api_ ntn_ dapi dop_v1_ doo_v1_ shpat_ shpss_ tskey- hvs. dp.pt. "
        "tvly- nvapi- lsv2_pt_",
        rf"{_WORD}{{20,}}",
    ),
    _tokens("jwt", "eyJ", rf"{_WORD}{{8,}}\.eyJ{_WORD}{{8,}}(?:\.{_WORD}*)?"),
    _shape(
        "url_password",
        "://",
        r"(?P<kept>://[^\s:/?#@\"'<>]{0,128}:)(?!\[REDACTED\])[^\s/@\"'<>]{1,256}(?=@)",
    ),
    _shape(
        "azure",
        "AccountKey= SharedAccessKey= sig=",
        r"(?P<kept>(?:AccountKey|SharedAccessKey|[?&]sig)=)[A-Za-z0-9+/%=]{20,}",
    ),
    Shape(
        "authorization",
        ("bearer ", "basic ", "token "),
        # No word of a sentence: one with a capital letter or a digit in it.
        re.compile(
            r"(?P<kept>(?i:bearer|basic|token) )(?=[a-z._~+/-]{0,256}[A-Z0-9])"
            r"[A-Za-z0-9._~+/-]{16,}=*"
        ),
        ignores_case=True,
    ),
    Shape(
        "assignment",
        _NAMES,
        # In quotes anything; else no word and no call of a function.
        re.compile(
            rf"(?P<kept>(?i:{'|'.join(_NAMES)})[\\\"']{{0,3}}\s{{0,4}}[:=]\s{{0,4}}"
            r"(?P<quote>\\{0,2}[\"'])?)(?!\[REDACTED\])"
            r"(?(quote)[^\"'\\\r\n]{4,512}(?=(?P=quote))"
            rf"|(?={_BARE}{{0,64}}[0-9])(?={_BARE}{{0,64}}[A-Za-z]){_BARE}{{8,512}}+(?![(\[]))"
        ),
        ignores_case=True,
    ),
)

_SECRET_NAME = re.compile(
    r"(?:^|_)(?:pass(?:words?|wd|phrase)|pwd|secrets?|api_?keys?|(?:access|secret|private|signing"
    r"|encryption|account|auth|master|shared_access)_?keys?|token|authorization|cookie"
    r"|credentials?|connection_string|jwt)(?:_value)?$"
)
# Names of places in a list, and of parts of a text.
_NO_SECRET_NAME = re.compile(
    r"(?:^|_)(?:page|next|prev|previous|sync|continuation|cursor|eos|bos|pad|unk|sep|cls|mask|stop"
    r"|start|end|special|per|max|min|first|last)_token$"
)
_PASSWORD_NAME = re.compile(r"pass(?:word|wd|phrase)|pwd|(?:^|_)pin$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SCHEMA_TYPES = ("string", "object", "array", "number", "integer", "boolean", "null")


class Redactor:
    """Redacts the values of one record, and counts what it found by kind."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    @property
    def counts(self) -> dict[str, int]:
        return {kind: count for kind, count in self._counts.items() if count}

    def redact(self, value: Any) -> Any:
        """`value`, which is plain JSON, without the secrets; itself when there are none.

        What is redacted is found no more by another look.
        """
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return self._mapping(value)
        return [self.redact(item) for item in value] if isinstance(value, list) else value

    def _text(self, text: str) -> str:
        if len(text) < SHORTEST or text.isalpha():
            return text
        lowered = text.lower()
        for shape in _SHAPES:
            if shape.is_in(text, lowered):
                text, count = shape.pattern.subn(_placeholder, text)
                self._counts[shape.kind] += count
        return text

    def _mapping(self, value: dict[str, Any]) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        for name, item in value.items():
            key = unique = self._text(name)
            while unique in redacted or (unique != name and unique in value):
                unique = f"{key} {len(redacted) + 1}"
            is_secret = is_secret_name(name) and not (name == "token" and "logprob" in value)
            redacted[unique] = self._secret(item, name) if is_secret else self.redact(item)
        return redacted

    def _secret(self, value: Any, name: str) -> Any:
        """What has a secret's name: all of it, however deep."""
        if isinstance(value, dict):
            if value.get("type") in _SCHEMA_TYPES:
                return self._mapping(value)  # it describes what has that name
            return {key: self._secret(item, name) for key, item in self._mapping(value).items()}
        if isinstance(value, list):
            return [self._secret(item, name) for item in value]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, str) or (is_number and _PASSWORD_NAME.search(_plain(name))):
            if value in ("", PLACEHOLDER):
                return value
            self._counts["named"] += 1
            return PLACEHOLDER
        return value


def _placeholder(match: re.Match[str]) -> str:
    return (match.groupdict().get("kept") or "") + PLACEHOLDER


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what has this name in a mapping is a secret: password, apiKey, X-Auth-Token."""
    plain = _plain(name)
    return _SECRET_NAME.search(plain) is not None and _NO_SECRET_NAME.search(plain) is None


def _plain(name: str) -> str:
    """The words of the name in lower case, `_` between them."""
    return re.sub(r"[\s.-]+", "_", _CAMEL.sub("_", name[:256])).lower()
