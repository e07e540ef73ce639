"""The fields of a `RetentionPolicy` as options of a command."""

from __future__ import annotations

import argparse
from dataclasses import fields
from functools import partial
from typing import Any

from django.core.management.base import CommandError, CommandParser

from asm_store.maintenance import RetentionPolicy

FIELDS = tuple(field.name for field in fields(RetentionPolicy))
LIMITS = {
    "max_session_age_days": "soft-delete sessions, whatever their status, not used for so long",
    "max_completed_session_age_days": "soft-delete sessions not used for so long, but for those of "
    "the exempt statuses",
    "hard_delete_after_days": "remove sessions that were soft-deleted so long ago",
    "max_events_per_session": "prune the events of a session that has more",
    "max_total_events": "prune events, of the least recently used sessions first, down to so many",
    "max_run_age_hours": "end runs that are running for so long, as timed out",
}
LISTS = {
    "exempt_statuses": "statuses that --max-completed-session-age-days leaves alone",
    "exempt_tags": "tags of sessions that are neither deleted nor pruned",
    "prune_event_types_first": "the types of events that are pruned before others",
}


def add_policy_options(parser: CommandParser) -> None:
    """An option for each field; one that is not given leaves the setting as it is."""
    group = parser.add_argument_group("in place of what ASM_STORE_RETENTION says")
    add = partial(group.add_argument, default=argparse.SUPPRESS)
    for name, text in LIMITS.items():
        unit = name.rpartition("_")[2].upper() if name.endswith(("days", "hours")) else "COUNT"
        add(option_name(name), type=_limit, metavar=unit, help=f"{text}; none: no limit")
    for name, text in LISTS.items():
        add(
            option_name(name),
            type=_names,
            action="extend",
            metavar="NAMES",
            help=f"{text}; may be repeated, or separated by commas; none: no such",
        )
    add(
        "--archive-before-prune",
        action=argparse.BooleanOptionalAction,
        help="delete nothing that was not archived before",
    )
    add("--archive-storage", metavar="ALIAS", help="where to: an alias of STORAGES")
    add("--batch-size", type=int, metavar="ROWS", help="how many rows a transaction changes")


def policy_from(options: dict[str, Any]) -> RetentionPolicy:
    changes = {name: options[name] for name in FIELDS if name in options}
    policy = RetentionPolicy.from_settings(**changes)
    if "archive_storage" in changes and not policy.archive_before_prune:
        raise CommandError("--archive-storage archives nothing without --archive-before-prune.")
    return policy


def option_name(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _limit(text: str) -> int | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a whole number nor none.") from None


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if "" in names:
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name; none says that there is no.")
    return [] if names == ["none"] else names
