"""What a store tells once it is committed. The sender is the store's class.

Receivers are called after the commit (in a caller's `atomic()` block: after the outermost one),
robustly: one that raises is logged by Django and disturbs neither the write nor other receivers.
"""

from __future__ import annotations

from django.dispatch import Signal

# Provides args: store, session (the stored Session)
session_saved = Signal()
# Provides args: store, session_id (str)
session_deleted = Signal()
# Provides args: store, run (the stored Run)
run_saved = Signal()
# Provides args: store, events (list of the newly stored Events, in the order they were given)
events_appended = Signal()
# Provides args: report, using (the database alias)
maintenance_finished = Signal()
