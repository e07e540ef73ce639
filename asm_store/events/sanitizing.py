"""Makes a record's text and JSON storable alike on every database, or refuses them before any SQL.

PostgreSQL refuses U+0000 in text and JSON, no database takes a lone surrogate, jsonb gives large
floats back as integers and -0.0 as 0.0: what one database would change is changed for all, here.
"""

from __future__ import annotations

import json
import json.encoder
import math
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from itertools import islice
from typing import Any

from ..exceptions import ValidationError

MAX_DEPTH = 100
# Python writes and reads no longer integers as text (sys.get_int_max_str_digits).
MAX_INTEGER = 10**4300
# From here on jsonb's shortest decimal form has no fraction left, and comes back as an integer.
FIRST_INTEGRAL_FLOAT = 1e16
SMALL = 10**15
ENCODED_NUL = r"\u0000"
NUL_SYMBOL = "\u2400"
REPLACEMENT = "\ufffd"
SURROGATE = re.compile("[\ud800-\udfff]")


class Encoder(json.JSONEncoder):
    """Compact UTF-8 JSON: how sizes are counted, and what SQLite and MySQL store."""

    def __init__(self, **kwargs: Any) -> None:
        options = {"ensure_ascii": False, "separators": (",", ":"), "allow_nan": False}
        super().__init__(**{**kwargs, **options})


ENCODER = Encoder()


def _plain_encoder() -> Callable[[Any], str]:
    """`ENCODER.encode` for what holds no circle, by the standard library's encoder in C where there
    is one: `encode()` would make it anew for each value, which takes as long as the encoding.
    """
    make, quote = getattr(json.encoder, "c_make_encoder", None), json.encoder.encode_basestring
    if make is None:
        return ENCODER.encode
    encode = make(None, ENCODER.default, quote, None, ":", ",", False, False, False)
    return lambda value: "".join(encode(value, 0))


encoded = _plain_encoder()


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

    nul = 0
    surrogate = 0
    json_bytes = 0
    json_text = ""  # the latest value, encoded
    _room = 0

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.texts: dict[str, tuple[Any, str]] = {}  # by column: its value, and that encoded

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
        cleaned = self._plain(value, 1)
        text = encoded(cleaned)
        # One look at all texts together: hardly ever is there something to replace.
        if ENCODED_NUL in text or (not text.isascii() and SURROGATE.search(text) is not None):
            cleaned = self._storable(cleaned)
            text = encoded(cleaned)
        self.json_text = text
        self._add(len(text) if text.isascii() else len(text.encode()))
        return cleaned

    def _add(self, size: int) -> None:
        self.json_bytes += size
        if self.json_bytes > self.max_bytes:
            raise self._too_large()

    def _plain(self, value: Any, depth: int) -> Any:
        """`value` in Python's own types, numbers as they will come back."""
        # Nearly all that comes here; the others' look at abstract classes is slow.
        if type(value) is dict:
            return self._mapping(value, depth)
        if isinstance(value, str):
            self._take(len(value) + 2)
            return str.__str__(value)
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = clean_number(value)
            # A float may become an integer of 309 digits.
            self._take(1 + number.bit_length() // 4 if isinstance(number, int) else 1)
            return number
        self._take(1)
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, Mapping):
            return self._mapping(value, depth)
        if isinstance(value, list | tuple):
            self._check_depth(depth)
            return [self._plain(item, depth + 1) for item in value]
        raise ValidationError(f"a value of type {type(value).__name__} is not JSON.")

    def _mapping(self, value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        self._check_depth(depth)
        plain: dict[str, Any] = {}
        size = 0
        # How long another mapping says that it is, need not be how many items it gives.
        items = (
            value.items() if type(value) is dict else list(islice(value.items(), self._room + 1))
        )
        for key, item in items:
            name = key if type(key) is str else _plain_key(key)
            size += len(name)
            kind = type(item)
            # What most values are, without a call for each.
            if kind is str:
                size += len(item)
                plain[name] = item
            elif kind is bool or item is None or (kind is int and -SMALL < item < SMALL):
                plain[name] = item
            else:
                plain[name] = self._plain(item, depth + 1)
        if len(plain) < len(items):
            raise ValidationError("two keys become one when made storable.")
        self._take(size + len('"":') * len(plain) + len("{}"))
        return plain

    def _take(self, size: int) -> None:
        """Refuse a small structure that refers to itself a million times, before it is written
        out: what is taken here is no more than the bytes that a value takes.
        """
        self._room -= size
        if self._room < 0:
            raise self._too_large()

    def _storable(self, value: Any) -> Any:
        """What `_plain()` gave, with its texts as `text()` has them."""
        kind = type(value)
        if kind is str:
            return self.text(value)
        if kind is list:
            return [self._storable(item) for item in value]
        if kind is not dict:
            return value
        storable: dict[str, Any] = {}
        for key, item in value.items():
            name = self.text(key)
            if name in storable:
                raise ValidationError(f"two keys become {shown(name)} when made storable.")
            storable[name] = self._storable(item)
        return storable

    @staticmethod
    def _check_depth(depth: int) -> None:
        if depth > MAX_DEPTH:
            raise ValidationError(f"JSON is nested deeper than {MAX_DEPTH} levels.")

    def _too_large(self) -> ValidationError:
        return ValidationError(
            f"the record's JSON is larger than {self.max_bytes} bytes (ASM_STORE_MAX_EVENT_BYTES)."
        )


def _plain_key(key: object) -> str:
    if not isinstance(key, str):
        raise ValidationError(f"the key {shown(key)} is not a string.")
    return str.__str__(key)


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
