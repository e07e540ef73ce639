"""How texts of agents, people and tools are shown: inert, whatever they say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta

from django import template
from django.utils.formats import number_format
from django.utils.html import conditional_escape, format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# No other scheme is a link; what turns the direction of writing ends it.
ADDRESS = re.compile(r"https?://[^\s<>\"'`\u200b-\u200f\u202a-\u202e\u2066-\u2069]+", re.IGNORECASE)
BEHIND = ".,;:!?)]}"


@register.filter
def linked(text: str) -> SafeString:
    """The text, escaped, with its web addresses as links that tell nobody where they are."""
    return mark_safe("".join(_pieces(str(text))))  # noqa: S308  (each piece is escaped)


def _pieces(text: str) -> Iterator[str]:
    end = 0
    for found in ADDRESS.finditer(text):
        address = found[0].rstrip(BEHIND)
        yield conditional_escape(text[end : found.start()])
        yield format_html(
            '<a href="{}" rel="noopener noreferrer nofollow">{}</a>', address, address
        )
        end = found.start() + len(address)
    yield conditional_escape(text[end:])


@register.filter
def words(texts: Iterable[str]) -> SafeString:
    """Some texts, each for itself: what turns the direction of one leaves the others alone."""
    return format_html_join(", ", '<bdi class="asm-word">{}</bdi>', ((text,) for text in texts))


@register.filter
def admin_quote(pk: str) -> str:
    """An id as the addresses of the admin have it."""
    from django.contrib.admin.utils import quote  # a project need not have it

    return quote(pk)


@register.filter
def grouped(number: float) -> str:
    """A number for people: `10,000`."""
    return number_format(number, force_grouping=True)


@register.filter
def took(duration: timedelta | None) -> str:
    """`0.84 s`, `12 s`, `3:07 min`, `2:00:09 h`; a dash for none."""
    if duration is None:
        return "-"
    seconds = duration.total_seconds()
    if seconds < 60:
        return f"{number_format(seconds, 2 if seconds < 10 else 0)} s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


@register.filter
def usd(cost: float | None) -> str:
    """US dollars; a dash where nobody knows."""
    return "-" if cost is None else number_format(cost, 4, force_grouping=True)
