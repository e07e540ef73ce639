"""A child process of a race: appends the batches that it reads from its standard input.

Every message is a line of JSON. First comes where the store is, then, for each race, a list of
batches and the word to begin; every batch is answered by what was stored, or by the error.
"""

from __future__ import annotations

import json
import sys
from typing import IO, Any

from django.db import connections
from django.utils.module_loading import import_string

from ...backends.base import BaseSessionStore
from ...exceptions import StoreError
from ...models import Event


def main() -> None:
    # Whatever the store or the project prints must not come between the messages.
    output, sys.stdout = sys.stdout, sys.stderr
    setup = json.loads(sys.stdin.readline())
    for alias, settings in setup["databases"].items():
        connections[alias].settings_dict.update(settings)
    store = import_string(setup["make_store_path"].replace(":", "."))()
    tell(output, "ready")
    while line := sys.stdin.readline():
        batches = [[Event.from_dict(event) for event in batch] for batch in json.loads(line)]
        tell(output, "prepared")
        sys.stdin.readline()
        for batch in batches:
            tell(output, append(store, batch))
        connections.close_all()


def append(store: BaseSessionStore, batch: list[Event]) -> dict[str, Any]:
    """A batch of one goes through `append_event_with_sequence`."""
    try:
        if len(batch) == 1:
            stored = [store.append_event_with_sequence(batch[0])]
        else:
            stored = store.append_events(batch)
    except StoreError as error:
        return {"error": error.code}
    return {"stored": [[event.pk, event.sequence_number] for event in stored]}


def tell(output: IO[str], message: Any) -> None:
    output.write(json.dumps(message) + "\n")
    output.flush()
