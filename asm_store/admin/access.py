"""Who may see and do what, beyond Django's own permissions of each model."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest


def may(request: HttpRequest, *codenames: str) -> bool:
    """Whether the user has all of these permissions of this app."""
    user: Any = request.user
    return all(user.has_perm(f"asm_store.{codename}") for codename in codenames)


def may_see_content(request: HttpRequest) -> bool:
    """Whether what agents, tools and people said may be shown."""
    return may(request, "view_event_payload")
