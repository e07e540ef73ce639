"""What secrets look like in a text: by how they begin, by what surrounds them, by their name.

No two repetitions in a row can match the same characters, and what can begin at many places is
bounded or ends at once: so that no text takes long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

_WORD = r"[A-Za-z0-9_-]"
_ALNUM = r"[A-Za-z0-9]"


class Token(NamedTuple):
    """What begins with one of some words, and goes on like this."""

    kind: str
    begins: str
    rest: str


TOKENS = (
    Token("aws", "AKIA ASIA ABIA ACCA", r"[A-Z0-9]{16}(?![A-Z0-9])"),
    Token("aws", "ABSK bedrock-api-key-", r"[A-Za-z0-9+/]{40,}={0,2}"),
    Token("anthropic", "sk-ant-", rf"{_WORD}{{16,}}"),
    Token("openai", "sk-proj- sk-svcacct- sk-admin- sk-None- sk-or-", rf"{_WORD}{{16,}}"),
    Token("openai", "sk-", rf"{_ALNUM}{{20,}}"),
    Token(
        "github",
        "ghp_ gho_ ghu_ ghs_ ghr_ github_pat_",
        rf"[A-Za-z0-9_]{{20,}}(?:\.{_WORD}{{8,}}){{0,2}}",
    ),
    Token(
        "gitlab",
        "glpat- gldt- glrt- glptt- glcbt- glsoat- glft- glagent-",
        rf"{_WORD}{{16,}}(?:\.[0-9a-z]{{2}}\.[0-9a-zA-Z]{{7,12}})?",
    ),
    Token("google", "AIza ya29. GOCSPX- AQ.Ab 1//0", rf"{_WORD}{{20,}}"),
    Token(
        "slack",
        "xoxa- xoxb- xoxc- xoxd- xoxe- xoxo- xoxp- xoxr- xoxs- xapp-",
        r"[A-Za-z0-9%+/=-]{10,}",
    ),
    Token("stripe", "sk_live_ sk_test_ rk_live_ rk_test_ whsec_", r"[A-Za-z0-9+/=]{16,}"),
    Token("huggingface", "hf_ api_org_", rf"{_ALNUM}{{20,}}"),
    Token("npm", "npm_", rf"{_ALNUM}{{30,}}"),
    Token("pypi", "pypi-AgE", rf"{_WORD}{{30,}}"),
    Token("sendgrid", "SG.", rf"{_WORD}{{16,}}\.{_WORD}{{16,}}"),
    Token("twilio", "SK", r"[0-9a-f]{32}(?![0-9a-f])"),
    Token("docker", "dckr_pat_ dckr_oat_", rf"{_WORD}{{20,}}"),
    Token("atlassian", "ATATT3 ATCTT3 ATBB", r"[A-Za-z0-9_=.-]{24,}"),
    # Identifiers of users, in base64, begin so.
    Token(
        "discord", "MT Mj Mz ND NT Nj Nz OD OT", rf"{_ALNUM}{{21,26}}\.{_WORD}{{6}}\.{_WORD}{{27,}}"
    ),
    # The run of characters begins here: else each of many would be looked at to its end.
    Token(
        "jwt",
        "eyJ",
        rf"(?<![A-Za-z0-9_-]eyJ){_WORD}{{8,}}\."
        rf"(?:eyJ{_WORD}{{8,}}(?:\.{_WORD}*)?|{_WORD}*\.{_WORD}{{8,}}\.{_WORD}{{8,}}\.{_WORD}{{8,}})",
    ),
    # Base64 of a PEM block that is no certificate.
    Token(
        "private_key", "LS0tLS1CRUdJTi", r"(?!BDRVJUSUZJQ0FUR|BQVUJMSUMg)[A-Za-z0-9+/]{20,}={0,2}"
    ),
    Token("private_key", "AGE-SECRET-KEY-1", r"[A-Z0-9]{50,}"),
    Token("other", "pat", rf"{_ALNUM}{{14}}\.[0-9a-f]{{64}}"),
    Token("other", "secret_", rf"{_ALNUM}{{43}}(?!{_ALNUM})"),
    Token("other", "fc- dapi dkea", r"[0-9a-f]{32}"),
    Token("other", "sk_", r"[0-9a-f]{40,64}(?![0-9a-z])"),
    Token(
        "other",
        "gsk_ r8_ pplx- xai- fw_ csk- ops_eyJ sbp_ rubygems_ nfp_ vcp_ vck_ cfut_ cfat_ ntn_ "
        "lin_api_ lin_oauth_ shpat_ shpss_ shpca_ shppa_ glsa_ tskey- sntryu_",
        r"(?=[A-Za-z_-]{0,64}[0-9])[A-Za-z0-9]{16}[A-Za-z0-9_-]{4,}",
    ),
    Token(
        "other",
        "dop_v1_ doo_v1_ dor_v1_ hvs. hvb. dp.pt. dp.st. dp.ct. dp.sa. tvly- nvapi- lsv2_pt_ "
        "lsv2_sk_ sk-lf- figd_ glc_ NRAK- PMAK- pscale_tkn_ pscale_pw_ pscale_oauth_ sb_secret_ "
        "pcsk_ HRKU- tgp_v1_ wandb_v1_ xkeysib- sntrys_ sq0csp- sq0atp-",
        r"(?=[A-Za-z_.-]{0,64}[0-9])[A-Za-z0-9_.=-]{20,}",
    ),
    Token("other", "fm2_ fo1_", r"[A-Za-z0-9+/=,_-]{40,}"),
)


class Shape(NamedTuple):
    """What is known by its surroundings. Groups named `kept` stay.

    A text that has none of the hints has none of it.
    """

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


# Where private keys begin and end, the armour of SSH too.
_KEY_MARKS = re.compile(
    r"-{4,5} ?(?P<mark>BEGIN|END) (?:[A-Z0-9]+ ){0,4}PRIVATE KEY(?: BLOCK)? ?-{4,5}"
)
_HEADERS = re.compile(r"(?:\s|\\[rn]|(?:Proc-Type|DEK-Info|Version|Comment):[^\r\n\\]{0,200})*")
# What the lines of a key consist of, and how far they are looked for when a mark is missing; a
# token may have been cut from them.
_LINES = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n\\[]"
_MOST_LINES = 16_384
SHAPES = (
    _shape(
        "private_key", "Private-Lines:", r"Private-Lines: [0-9]+[A-Za-z0-9+/=\s\\]+(?:-MAC: \w+)?"
    ),
    _shape(
        "webhook",
        "hooks.slack.com /api/webhooks/ webhook.office.com",
        r"(?P<kept>hooks\.slack\.com/(?:services|workflows|triggers)/|/api/webhooks/[0-9]{1,30}/"
        r"|webhook\.office\.com/webhookb2/)[A-Za-z0-9/@_-]{20,}",
    ),
    _shape("telegram", ":AA", rf"(?<![0-9])[0-9]{{8,10}}:AA{_WORD}{{33}}"),
    _shape(
        "url_password",
        "://",
        r"(?P<kept>://[^\s:/?#@\"'<>]{0,128}:)(?!\[REDACTED\])[^\s/?#\"'<>]{1,256}(?=@)",
    ),
    _shape(
        "azure",
        "Q~ JQQJ99 AZDO",
        r"(?<![A-Za-z0-9_~.-])[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}"
        rf"|(?<!{_ALNUM})(?:{_ALNUM}{{52}}JQQJ99{_ALNUM}{{10,26}}|{_ALNUM}{{76}}AZDO{_ALNUM}{{4}})",
    ),
    _shape(
        "signature",
        "AccountKey= SharedAccessKey= sig= Signature= Security-Token=",
        r"(?P<kept>(?:AccountKey|SharedAccessKey|[?&]sig|Signature|X-Amz-Security-Token)=)"
        r"[A-Za-z0-9+/%=_.-]{20,}",
    ),
    _shape(
        "other", ".atlasv1.", rf"(?<!{_ALNUM}){_ALNUM}{{14}}\.atlasv1\.{_WORD}{{60,}}"
    ),
    _shape(
        "command",
        "curl",
        r"(?P<kept>curl [^\n|;]{0,200}?(?<=\s)(?:-u|--user)[ =]?[\"']?[^\s:\"'/]{1,64}:)"
        r"(?!\[REDACTED\]|/)[^\s\"']{3,256}",
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
)  # fmt: skip


def _alternatives(words: Iterable[str]) -> str:
    """A pattern of all words, the longest that fits; each letter is looked at once."""
    ways: dict[str, list[str]] = {}
    for word in words:
        if word:
            ways.setdefault(word[0], []).append(word[1:])
    if not ways:
        return ""
    pattern = "|".join(re.escape(first) + _alternatives(rests) for first, rests in ways.items())
    return f"(?:{pattern})" + ("?" if "" in words else "")


_RESTS = {
    begin: (kind, re.compile(rest)) for kind, begins, rest in TOKENS for begin in begins.split()
}
_BEGINS = re.compile(
    f"(?<!{_ALNUM})(?=[{''.join(sorted({begin[0] for begin in _RESTS}))}])"
    f"{_alternatives(list(_RESTS))}"
)

# Where an assigned secret's name ends, as in DB_PASSWORD=..., "apiKey": "...", --token ...
_NAME_ENDS = ("pass", "pwd", "secret", "key", "token", "credential", "phrase", "word")
_BARE = r"[^\s\"',;&(){}\[\]<>\\]"
_ASSIGNED = re.compile(
    r"(?:wd|s)?(?P<between>[\\\"']{0,3}\s{0,4}(?::=|=>|[:=])\s{0,4}| {1,4})"
    r"(?:(?P<quote>\\{0,2}[\"'])(?!\[REDACTED\])(?:(?!(?P=quote))(?:[^\\\r\n]|\\.)){4,4096}+"
    rf"|(?!\[REDACTED\])(?={_BARE}{{0,64}}[0-9]){_BARE}{{6,512}}+(?![(\[]))"
)
_HAS_LETTER = re.compile(rf"{_BARE}{{0,64}}?[A-Za-z]")

_SECRET_NAME = re.compile(
    r"(?:(?:^|_)(?:pass|pwd|secrets?|token|authorization|cookies?|credentials?|connection_string"
    r"|jwt)|pass(?:words?|wd|phrase|code)"
    r"|(?:api|access|secret|private|signing|encryption|account|auth|master|hmac|ssh)_?keys?"
    r"|(?:access|auth|refresh|session|bearer|api|id|security|secret|bot)_?tokens?)"
    r"(?:_?(?:value|hash|text|plain|pem|b64|base64|confirmation))?[0-9]*$"
)
# Names of places in a list, and of parts of a text.
_NO_SECRET_NAME = re.compile(
    r"(?:^|_)(?:page|next|prev|previous|sync|continuation|cursor|eos|bos|pad|unk|sep|cls|mask|stop"
    r"|start|end|special|per|max|min|first|last|new|num|total|input|output)_token$"
)
_PASSWORD_NAME = re.compile(r"pass(?:word|wd|phrase|code)s?[0-9]*$|(?:^|_)(?:pass|pwd|pin)$")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")
_LOWER = {ord(upper): ord(upper.lower()) for upper in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}


def lowered(text: str) -> str:
    """`text` in lower case, as long as it is."""
    lower = text.lower()
    return lower if len(lower) == len(text) else text.translate(_LOWER)


def keys_in(text: str) -> Iterator[tuple[int, int, str]]:
    """Where private keys are, one that was cut off too: from, to, and the kind; in order."""
    begin: re.Match[str] | None = None
    for mark in _KEY_MARKS.finditer(text) if "PRIVATE" in text else ():
        if mark["mark"] == "BEGIN":
            if begin is not None:
                yield begin.start(), _end_of_lines(text, begin.end()), "private_key"
            begin = mark
        else:
            start = _start_of_lines(text, mark.start()) if begin is None else begin.start()
            yield start, mark.end(), "private_key"
            begin = None
    if begin is not None:
        yield begin.start(), _end_of_lines(text, begin.end()), "private_key"


def _start_of_lines(text: str, end: int) -> int:
    before = text[max(0, end - _MOST_LINES) : end]
    return end - len(before) + len(before.rstrip(_LINES))


def _end_of_lines(text: str, start: int) -> int:
    headers = _HEADERS.match(text, start)
    start = headers.end() if headers else start
    after = text[start : start + _MOST_LINES]
    return start + len(after) - len(after.lstrip(_LINES))


def tokens_in(text: str) -> Iterator[tuple[int, int, str]]:
    """The same of tokens."""
    last = 0
    for begin in _BEGINS.finditer(text):
        kind, rest = _RESTS[begin.group()]
        if begin.start() >= last and (found := rest.match(text, begin.end())) is not None:
            last = found.end()
            yield begin.start(), last, kind


def assigned_in(text: str) -> Iterator[tuple[int, int, str]]:
    """The same of what a text assigns to a secret's name."""
    last = 0
    for place in sorted(_places(lowered(text))):
        found = _ASSIGNED.match(text, place) if place >= last else None
        if found is not None and _is_assigned(text, found):
            last = found.end()
            start = found.end("quote") if found["quote"] else found.end("between")
            yield start, last, "assignment"


def _places(lower: str) -> set[int]:
    places: set[int] = set()
    for word in _NAME_ENDS:
        place = lower.find(word)
        while place >= 0:
            place += len(word)
            places.add(place)
            place = lower.find(word, place)
    return places


def _is_assigned(text: str, found: re.Match[str]) -> bool:
    """Whether the name is a secret's, and the value is no word of a sentence or of a program."""
    name = _name_before(text, found.start("between"))
    is_option = name.startswith("--")
    if found["between"].isspace() and not is_option:
        return False
    if not is_secret_name(name.lstrip("-.")):
        return False
    if found["quote"]:
        return True
    length = found.end() - found.end("between")
    if is_password_name(name):
        return True
    shortest = 16 if _plain(name) in {"token", "secret"} else 8
    return length >= shortest and _HAS_LETTER.match(text, found.end("between")) is not None


def _name_before(text: str, end: int) -> str:
    start = end
    while start and end - start < 64 and text[start - 1] in _NAME_CHARACTERS:
        start -= 1
    return text[start:end]


@lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether what has this name is a secret: password, apiKey, X-Auth-Token."""
    plain = _plain(name)
    return _SECRET_NAME.search(plain) is not None and _NO_SECRET_NAME.search(plain) is None


def is_password_name(name: str) -> bool:
    """Whether even a number of this name is a secret."""
    return _PASSWORD_NAME.search(_plain(name)) is not None


def _plain(name: str) -> str:
    """The words of the name in lower case, `_` between them."""
    return re.sub(r"[\s.-]+", "_", _CAMEL.sub("_", name[:256])).lower()
