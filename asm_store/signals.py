"""What a store tells: what is committed, and how it goes.

Receivers are called robustly: one that raises is logged by Django and disturbs neither the write
nor other receivers.
"""

from __future__ import annotations

from django.dispatch import Signal

# Sent after the commit (in a caller's `atomic()` block: after the outermost one). The sender is
# the store's class.

# Provides args: store, session (the stored Session)
session_saved = Signal()
# Provides args: store, session_id (str). Cached: maintenance sends it for thousands of sessions.
session_deleted = Signal(use_caching=True)
# Provides args: store, run (the stored Run)
run_saved = Signal()
# Provides args: store, events (list of the newly stored Events, in the order they were given)
events_appended = Signal()
# Provides args: report, using (the database alias)
maintenance_finished = Signal()

# Of how it goes. Sent at once, in the thread that it happens in, which waits for the receivers:
# they count and measure, and leave the database alone. There is no sender, unless it says so.

# After each append, flush, and batch of a writer. Provides args: store, count (events that were
# given), seconds (with all attempts; within a caller's block without its commit), error (what is
# raised, or None). The sender is the store's class.
append_finished = Signal()

# Before a read or a write is tried again. Provides args: using (the database alias), failure,
# attempt (how many have failed), delay (seconds until the next), error (as Django has wrapped it).
# `failure` is "busy" (a deadlock, a serialization or certification failure, a lost wait for a
# lock), "connection" (lost or refused), or "collision" (another writer has stored the same id).
retrying = Signal()
# When the database begins or ceases to wake those who wait in this process. Provides args: using
# (the database alias), is_listening, error (why not, or None: nobody waits any more).
listening_changed = Signal()
