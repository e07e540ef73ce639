"""Text of others on somebody's terminal: nothing in it is obeyed, and a line has an end."""

from __future__ import annotations

import unicodedata

BREAK = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"
CUT = "\N{HORIZONTAL ELLIPSIS}"
# They join the parts of an emoji, and letters in some scripts.
JOINERS = "\u200c\u200d"
ZERO_WIDTH = frozenset({"Mn", "Me", "Cf"})
# A character may carry marks that take no room, but not without end.
MOST_CHARACTERS_A_CELL = 4


def inert(text: str, *, line_break: str = BREAK) -> str:
    """`text` without what a terminal obeys: control characters, escapes, changes of direction.

    They are shown as Python writes them (`\\x1b`); line breaks as `line_break`.
    """
    if text.isprintable():
        return text
    characters = (_inert(character) for character in text.replace("\r\n", "\n"))
    return "".join(line_break if character == "\n" else character for character in characters)


def _inert(character: str) -> str:
    if character.isprintable() or character == "\n" or character in JOINERS:
        return character
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    return ascii(character)[1:-1]


class Room:
    """What is left of a line; `cells` None: it has no end."""

    def __init__(self, cells: int | None, *, line_break: str = BREAK) -> None:
        # One is kept for the mark that something was cut off.
        self._left = None if cells is None else max(cells - 1, 0)
        self._line_break = line_break
        self._is_full = False

    def take(self, text: str) -> str:
        """As much of `text` as there is room for, inert; where it ends, a mark, once."""
        if self._left is None:
            return inert(text, line_break=self._line_break)
        if self._is_full:
            return ""
        longest = (self._left + 1) * MOST_CHARACTERS_A_CELL
        shown = inert(text[:longest], line_break=self._line_break)[:longest]
        fitting = self._fitting(shown)
        self._is_full = len(fitting) < len(shown) or len(text) > longest
        return f"{fitting}{CUT}" if self._is_full else fitting

    def _fitting(self, text: str) -> str:
        left = self._left or 0
        for place, character in enumerate(text):
            width = _width(character)
            if width > left:
                self._left = left
                return text[:place]
            left -= width
        self._left = left
        return text


def _width(character: str) -> int:
    """How many cells of a terminal it takes."""
    if character.isascii():
        return 1
    if unicodedata.category(character) in ZERO_WIDTH:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
