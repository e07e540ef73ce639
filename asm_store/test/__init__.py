"""For tests of stores and of code that uses one. Nothing here is imported in production.

`SessionStoreContract` is the contract suite: mix it into a TestCase, say how the store is made,
and every rule that a session store keeps is tried on it. `ScriptedProvider` plays the agent.
"""

from __future__ import annotations

from .contract import SessionStoreContract
from .factories import make_event, make_run, make_session
from .providers import ScriptedProvider

__all__ = ["ScriptedProvider", "SessionStoreContract", "make_event", "make_run", "make_session"]
