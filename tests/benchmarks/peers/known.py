"""Who is compared, and which of them are installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec

from .peer import Peer, Place

# Name: module, class, and the package that must be there.
KNOWN = {
    "asm_store": ("on_django", "AsmStore", "django"),
    "Django's ORM by hand": ("on_django", "NaiveOrm", "django"),
    "google-adk": ("google_adk", "GoogleAdk", "google.adk"),
    "openai-agents": ("openai_agents", "OpenAIAgents", "agents"),
    "langgraph": ("langgraph", "Langgraph", "langgraph"),
    "eventsourcing": ("event_sourcing", "EventSourcing", "eventsourcing"),
}
OURS = "asm_store"


def is_installed(name: str) -> bool:
    try:
        return find_spec(KNOWN[name][2]) is not None
    except ModuleNotFoundError:  # not even the package that it is in
        return False


def kind_of(name: str) -> Callable[[Place], Peer]:
    module, kind, _ = KNOWN[name]
    found: Callable[[Place], Peer] = getattr(import_module(f"{__package__}.{module}"), kind)
    return found
