"""What lists and pages say of a record, under names that people read."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import display_for_value
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..formats.readable.entries import COUNT_LABELS
from ..models import Run, Session
from ..queries.summaries import whole
from ..templatetags.asm_store import grouped, usd

MAX_JSON_SHOWN = 200_000
NONE = "-"
LABELS = {
    "agent_id": _("agent"),
    "byte_size": _("bytes"),
    "checksum_sha256": _("SHA-256"),
    "content_type": _("content type"),
    "context": _("context"),
    "correlation_id": _("correlation id"),
    "created_at": _("created"),
    "data": _("data"),
    "deleted_at": _("deleted"),
    "ended_at": _("ended"),
    "error": _("error"),
    "id": _("id"),
    "input": _("input"),
    "key": _("key"),
    "metadata": _("metadata"),
    "model": _("model"),
    "output": _("output"),
    "parent_session_id": _("parent"),
    "provider": _("provider"),
    "provider_metadata": _("metadata of the provider"),
    "run_id": _("run"),
    "schema_version": _("version of the schema"),
    "sequence_number": _("no."),
    "session_id": _("session"),
    "started_at": _("started"),
    "status": _("status"),
    "storage_backend": _("storage"),
    "storage_ref": _("name in the storage"),
    "timestamp": _("time"),
    "token_usage": _("token usage"),
    "turn_count": _("turns"),
    "type": _("type"),
    "updated_at": _("updated"),
}
Column = Callable[[Any], Any]


def column(name: str) -> Column:
    """The column `name` as it is, a time to the second."""

    def show(record: Any) -> Any:
        value = getattr(record, name)
        return moment(value) if isinstance(value, datetime) else display_for_value(value, NONE)

    return _named(show, name, LABELS[name])


def moment(time: datetime) -> str:
    """A time in the current zone; as such it can be read, and sorted, in every language."""
    return timezone.localtime(time).strftime("%Y-%m-%d %H:%M:%S")


def columns(*names: str) -> tuple[Column, ...]:
    return tuple(map(column, names))


def pretty_json(name: str) -> Column:
    """The JSON column `name` indented, its content inert."""

    def show(record: Any) -> SafeString:
        text = json.dumps(getattr(record, name), indent=2, ensure_ascii=False)
        cut = gettext(" ... cut, %(number)d characters in all") % {"number": len(text)}
        rest = cut if len(text) > MAX_JSON_SHOWN else ""
        return format_html('<pre tabindex="0">{}{}</pre>', text[:MAX_JSON_SHOWN], rest)

    return _named(show, name, LABELS[name])


def known_type(event: Any) -> Any:
    """The type of an event in words, when it is one of ours."""
    known = event.type in event.Type.values
    return event.Type(event.type).label if known else event.type


def tokens(run: Any) -> str:
    return grouped(whole(run.total_tokens))


def cost(run: Any) -> str:
    return usd(run.cost_usd)


def status_badge(record: Session | Run) -> SafeString:
    """The status with its colour; a soft-deleted session says so."""
    known = record.status if record.status in record.Status.values else "unknown"
    badge = format_html(
        '<span class="asm-status asm-status-{}">{}</span>', known, record.get_status_display()
    )
    if getattr(record, "deleted_at", None) is None:
        return badge
    return format_html('{} <span class="asm-status">{}</span>', badge, _("deleted"))


def stacked(first: object, *others: object) -> SafeString:
    """What one cell of a narrow table has, a line for each that is not empty."""
    below = format_html_join(
        "", '<div class="asm-below">{}</div>', ((each,) for each in others if each)
    )
    return format_html("{}{}", first, below)


def _count(name: str) -> Column:
    def show(run: Any) -> str:
        return grouped(whole(getattr(run, name)))

    return _named(show, name, COUNT_LABELS[name])


def _named(show: Column, name: str, label: str | Promise) -> Column:
    """The function as the admin wants it; its name makes the class of its cells."""
    show.__name__ = name
    text: Any = label
    return admin.display(show, description=text)


STATUS = _named(status_badge, "status", LABELS["status"])
TYPE = _named(known_type, "type", LABELS["type"])
TOTAL = _named(tokens, "tokens", _("tokens"))
COST = _named(cost, "cost_usd", _("cost (USD)"))
# What else a usage holds is content.
TOKEN_COUNTS = tuple(map(_count, COUNT_LABELS))
