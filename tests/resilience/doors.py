"""What is given to a public door is given to every database's, and the answers must agree."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.models import Manager
from django.http import StreamingHttpResponse
from django.test import AsyncRequestFactory
from django.test.utils import CaptureQueriesContext
from django.views import View

from asm_store import queries
from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StorageError, StoreError
from asm_store.formats import import_paths
from asm_store.models import Artifact, Event, Run, Session, SessionSequence
from tests.exports import fill, held
from tests.proofs.machine.outcomes import Clock, Outcome, canonical, columns, empty

Answer = tuple[Any, ...]


@dataclass
class Bench:
    """Databases that hold the same, and how often which answer came."""

    aliases: Sequence[str]
    verdicts: Counter[str]

    @classmethod
    def filled(cls, aliases: Sequence[str]) -> Bench:
        first, *others = aliases
        fill(first)
        for alias in others:
            for kind in (Session, SessionSequence, Run, Event, Artifact):
                manager: Manager[Any] = kind._base_manager
                manager.using(alias).bulk_create(manager.using(first))
        return cls(aliases, Counter())

    def ask(self, door: Callable[[str], Answer]) -> Answer:
        """What all of them answer."""
        first, *others = [(alias, self._asked(alias, door)) for alias in self.aliases]
        for alias, answer in others:
            assert answer == first[1], f"{alias} does not answer as {first[0]}"
        self.verdicts[str(first[1][0]).partition(":")[0]] += 1
        return first[1]

    def _asked(self, alias: str, door: Callable[[str], Answer]) -> Answer:
        connection = connections[alias]
        connection.queries_log.clear()  # a full one takes nothing more
        with CaptureQueriesContext(connection) as captured:
            answer = door(alias)
        if answer[0] in REFUSED_BEFORE_SQL:
            assert [query["sql"] for query in captured.captured_queries] == []
        return answer

    def __str__(self) -> str:
        said = ", ".join(f"{name} {count}" for name, count in self.verdicts.most_common())
        return f"{self.verdicts.total()} cases alike on {len(self.aliases)} databases: {said}"


UNLIKE = "duration_ms"
REFUSED_BEFORE_SQL = ("ValidationError", "InvalidStatus", "InvalidEventType", "QueryError")


def query(name: str, options: dict[str, Any], alias: str) -> Answer:
    """A function of `asm_store.queries`."""
    outcome = Outcome.of(lambda: plain(getattr(queries, name)(using=alias, **options)))
    if (error := outcome.error) is None:
        return "returned", outcome.result
    assert isinstance(error, StoreError), repr(error)
    assert not isinstance(error, StorageError), repr(error)
    return type(error).__name__, str(error)


def plain(value: Any) -> Any:
    """Answers by all that they hold; sums of floats but for their last digits."""
    if isinstance(value, Session | Run | Event | Artifact):
        return columns(value)
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return float(f"{value:.12g}") if isinstance(value, float) else value


def command(arguments: Sequence[str], alias: str) -> Answer:
    """A management command: its exit, and what it wrote."""
    out, err = io.StringIO(), io.StringIO()
    name, *given = arguments
    try:
        call_command(name, *given, "--using", alias, stdout=out, stderr=err, no_color=True)
        code: Any = 0
    except CommandError as error:
        code = _without(alias, f"CommandError({error.returncode}): {error}")
    except SystemExit as error:
        code = error.code
    said = [line for line in _without(alias, out.getvalue()).split("\n") if UNLIKE not in line]
    return code, [canonical_line(line) for line in said], _without(alias, err.getvalue())


def _without(alias: str, text: str) -> str:
    """One database's is a name of storages too."""
    return text.replace(alias, "ALIAS").replace("default", "ALIAS")


def canonical_line(line: str) -> str:
    """PostgreSQL keeps keys in an order of its own."""
    try:
        return canonical(json.loads(line))
    except ValueError:
        return line


def imported(content: bytes, name: str, folder: Path, alias: str) -> Answer:
    """A file of an agent's log: the report, and all that the database holds then."""
    empty(alias)
    path = folder / name
    path.write_bytes(content)
    with Clock().installed():
        report = import_paths([path], using=alias)
    return "imported", json.dumps(asdict(report), default=str, sort_keys=True), held(alias)


USER = User(username="ada", is_superuser=True)


def page(
    view_class: type[View], session_id: str, query_string: str, headers: dict[str, str], alias: str
) -> Answer:
    """A live view, for somebody who may everything: its status, and its content."""
    request = AsyncRequestFactory().get("/", headers=headers)
    request.META["QUERY_STRING"] = query_string
    request.user = USER
    view: Any = view_class.as_view(store=DatabaseSessionStore(alias))
    response = async_to_sync(view)(request, session_id=session_id)
    if isinstance(response, StreamingHttpResponse):
        response.close()
        return response.status_code, "a stream"
    content = json.loads(response.content or "null")
    return response.status_code, json.dumps(content, sort_keys=True)
