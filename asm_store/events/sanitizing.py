"""Makes a record's text and JSON storable alike on every database, or refuses them before any SQL.

PostgreSQL refuses U+0000 in text and JSON, no database takes a lone surrogate, jsonb gives large
floats back as integers and -0.0 as 0.0: what one database would change is changed for all, here.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from ..exceptions import ValidationError

MAX_DEPTH = 100
# Python writes and reads no longer integers as text (sys.get_int_max_str_digits).
MAX_INTEGER = 10**4300
# From here on jsonb's shortest decimal form has no fraction left, and comes back as an integer.
FIRST_INTEGRAL_FLOAT = 1e16
NUL_SYMBOL = "\u2400"
REPLACEMENT = "\ufffd"
SURROGATE = re.compile("[\ud800-\udfff]")


class Encoder(json.JSONEncoder):
    """Compact UTF-8 JSON: how sizes are counted, and what SQLite and MySQL store."""

    def __init__(self, **kwargs: Any) -> None:
        options = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
        super().__init__(**{**kwargs, **options})


ENCODER = Encoder()


def has_unstorable(text: str) -> bool:
    """Whether `text` holds U+0000 or a surrogate."""
    return "\0" in text or (not text.isascii() and SURROGATE.search(text) is not None)


def shown(value: object) -> str:
    """`value` as an error message may show it: short, and printable."""
    if isinstance(value, int) and value.bit_length() > 64:
        return f"an integer of {value.bit_length()} bits"  # Python may refuse to write it out
    if isinstance(value, str):
        return ascii(value) if len(value) <= 60 else f"{value[:57]!a}..."
    return ascii(value) if isinstance(value, int | float) else type(value).__name__


class Sanitizer:
    """Cleans the values of one record; counts what it replaced, and the bytes of JSON."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.nul = 0
        self.surrogate = 0
        self.json_bytes = 0
        self.json_text = ""  # the latest value, encoded
        self.texts: dict[str, tuple[Any, str]] = {}  # by column: its value, and that encoded
        self._room = max_bytes

    @property
    def replaced(self) -> dict[str, int]:
        """The counts for `metadata["_sanitized"]`; empty when nothing was replaced."""
        if not (self.nul or self.surrogate):
            return {}
        return {"nul": self.nul, "surrogate": self.surrogate}

    def text(self, value: str) -> str:
        """`value` with U+0000 as U+2400, lone surrogates as U+FFFD, a pair as its character."""
        if type(value) is str and value.isascii() and "\0" not in value:
            return value  # as nearly all is
        value = str.__str__(value)
        if "\0" in value:
            self.nul += value.count("\0")
            value = value.replace("\0", NUL_SYMBOL)
        if value.isascii() or SURROGATE.search(value) is None:
            return value
        joined = value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")
        value, lone = SURROGATE.subn(REPLACEMENT, joined)
        self.surrogate += lone
        return value

    def json(self, value: Any) -> Any:
        """`value` as plain dicts, lists, strings and numbers, counted towards the record's size."""
        if type(value) is dict and not value:
            self.json_text = "{}"
            self._add(len("{}"))
            return {}
        self._room = self.max_bytes
        cleaned = self._value(value, 1)
        self.count(cleaned)
        return cleaned

    def count(self, cleaned: Any) -> None:
        """Add the encoded size of `cleaned` to the record's."""
        self.json_text = text = ENCODER.encode(cleaned)
        self._add(len(text) if text.isascii() else len(text.encode()))

    def _add(self, size: int) -> None:
        self.json_bytes += size
        if self.json_bytes > self.max_bytes:
            raise self._too_large()

    def _value(self, value: Any, depth: int) -> Any:
        # Every value takes a byte at least: a small structure that refers to itself a million
        # times is refused here, before it is written out.
        self._room -= 1
        if self._room < 0:
            raise self._too_large()
        kind = type(value)
        if kind is str or isinstance(value, str):
            self._room -= len(value)
            return self.text(value)
        if value is None or kind is bool:
            return value
        if isinstance(value, int | float):
            self._room -= value.bit_length() // 4 if isinstance(value, int) else 0
            return clean_number(value)
        # A dict needs no look at the abstract class, which is slow.
        if kind is dict or isinstance(value, dict | Mapping):
            return self._mapping(value, self._deeper(depth))
        if isinstance(value, list | tuple):
            deeper = self._deeper(depth)
            return [self._value(item, deeper) for item in value]
        raise ValidationError(f"a value of type {type(value).__name__} is not JSON.")

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            if not isinstance(key, str):
                raise ValidationError(f"the key {shown(key)} is not a string.")
            name = self.text(key)
            if name in cleaned:
                raise ValidationError(f"two keys become {shown(name)} when made storable.")
            self._room -= len(name)
            cleaned[name] = self._value(item, depth)
        return cleaned

    @staticmethod
    def _deeper(depth: int) -> int:
        if depth > MAX_DEPTH:
            raise ValidationError(f"JSON is nested deeper than {MAX_DEPTH} levels.")
        return depth + 1

    def _too_large(self) -> ValidationError:
        return ValidationError(
            f"the record's JSON is larger than {self.max_bytes} bytes (ASM_STORE_MAX_EVENT_BYTES)."
        )


def clean_number(value: float) -> float:
    """A plain int or float that every database gives back as it was stored."""
    if type(value) is int and -FIRST_INTEGRAL_FLOAT < value < FIRST_INTEGRAL_FLOAT:
        return value
    if isinstance(value, int):
        if not -MAX_INTEGER < value < MAX_INTEGER:
            raise ValidationError("an integer has more than 4300 digits.")
        return int(value)
    if not math.isfinite(value):
        raise ValidationError(f"{float(value)} is not JSON.")
    if abs(value) >= FIRST_INTEGRAL_FLOAT:
        return int(Decimal(repr(float(value))))
    return float(value) + 0.0  # -0.0 + 0.0 is 0.0
