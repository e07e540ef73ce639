"""Takes secrets out of JSON before it is stored: by the shape of a value, and by its name.

It looks at one record at a time: a secret that is streamed in pieces is in none of them.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from .secrets import (
    SHAPES,
    TOKENS,
    assigned_in,
    is_password_name,
    is_secret_name,
    keys_in,
    lowered,
    tokens_in,
)

PLACEHOLDER = "[REDACTED]"
# Where the counts are kept, by kind, in the record's metadata.
REDACTED = "_redacted"
# What secrets are counted as.
KINDS = frozenset(
    {"named", "assignment", "private_key", *(each.kind for each in (*TOKENS, *SHAPES))}
)
# No secret is shorter, but for one that is known by its name.
SHORTEST = 12
MOST_LOOKS = 8

_SCHEMA_TYPES = ("string", "object", "array", "number", "integer", "boolean", "null")
# An image, a file: as long as these are, what looks like a key is in some of them by chance. The
# keys that are told by their Base64 begin with the marks of a PEM block.
_BODY = r"(?!LS0tLS1)[A-Za-z0-9+/]{256,}+={0,2}"
_IN_URL = ";base64,"
_BODIES = re.compile(rf"(?<={_IN_URL})({_BODY})(?![A-Za-z0-9_.-])")
_WHOLE_BODY = re.compile(_BODY)
# What models' APIs make up: two calls that have lost theirs are not told apart.
_CALL_ID = "tool_call_id"
# What a schema tells of a secret that may be one.
_EXAMPLES = frozenset({"const", "default", "enum", "example", "examples", "value"})


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
        if _IN_URL not in text:
            return self._looked_at(text)
        pieces = _BODIES.split(text)
        pieces[::2] = map(self._looked_at, pieces[::2])
        return "".join(pieces)

    def _looked_at(self, text: str) -> str:
        # Once more where something was found: what it was cut from may look like one now.
        for _ in range(MOST_LOOKS):
            before, text = text, self._look(text)
            if text == before:
                break
        return text

    def _look(self, text: str) -> str:
        text = self._cut(text, tokens_in(text))
        text = self._cut(text, keys_in(text))
        lower = lowered(text)
        for shape in SHAPES:
            if shape.is_in(text, lower):
                text, count = shape.pattern.subn(_placeholder, text)
                self._counts[shape.kind] += count
        return self._cut(text, assigned_in(text))

    def _cut(self, text: str, found: Iterable[tuple[int, int, str]]) -> str:
        """`text` without what was found in it, in order."""
        pieces: list[str] = []
        last = 0
        for start, end, kind in found:
            self._counts[kind] += 1
            pieces += text[last:start], PLACEHOLDER
            last = end
        return "".join([*pieces, text[last:]]) if pieces else text

    def _mapping(self, value: dict[str, Any]) -> dict[str, Any]:
        redacted: dict[str, Any] = {}
        label = value.get("name", value.get("key"))
        for name, item in value.items():
            key = unique = self._text(name)
            while unique in redacted or (unique != name and unique in value):
                unique = f"{key} {len(redacted) + 1}"
            # An entry of a list may have its name beside it: {"name": ..., "value": ...}.
            called = label if name == "value" and isinstance(label, str) else name
            is_secret = is_secret_name(called) and not (name == "token" and "logprob" in value)
            if _stays(name, item, value):
                redacted[unique] = item
            else:
                redacted[unique] = self._secret(item, called) if is_secret else self.redact(item)
        return redacted

    def _secret(self, value: Any, name: str) -> Any:
        """What has a secret's name: all of it, however deep."""
        if isinstance(value, dict):
            is_schema = value.get("type") in _SCHEMA_TYPES  # it describes what has that name
            return {
                key: self._secret(item, name) if not is_schema or key in _EXAMPLES else item
                for key, item in self._mapping(value).items()
            }
        if isinstance(value, list):
            return [self._secret(item, name) for item in value]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, str) or (is_number and is_password_name(name)):
            if value in ("", PLACEHOLDER):
                return value
            self._counts["named"] += 1
            return PLACEHOLDER
        return value


def _placeholder(match: re.Match[str]) -> str:
    return (match.groupdict().get("kept") or "") + PLACEHOLDER


def _stays(name: str, item: Any, mapping: dict[str, Any]) -> bool:
    """Whether the item of a mapping is none that a secret is looked for in."""
    if name == REDACTED:  # the kind "url_password" is no password's name
        return _are_counts(item)
    if not isinstance(item, str):
        return False
    is_body = name == "data" and mapping.get("type") == "base64"
    return name == _CALL_ID or (is_body and _WHOLE_BODY.fullmatch(item) is not None)


def _are_counts(value: Any) -> bool:
    """Whether an earlier look has left `value` in the metadata."""
    is_of_kinds = isinstance(value, dict) and value.keys() <= KINDS
    return is_of_kinds and all(type(count) is int for count in value.values())
