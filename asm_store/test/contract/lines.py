"""iter_events_json: the lines are what `to_dict()` says, read in pages."""

from __future__ import annotations

import json
from typing import Any

from django.db import connections

from ...exceptions import InvalidEventType, ValidationError
from ...models import Session
from ..factories import make_event
from .base import ContractCase
from .values import BAD_COUNTS, BAD_IDS, NOON, SECOND, nested
from .workers import start

# Not enough for the first page, for the first two, and more than any page has.
LENGTHS = (1, 32, 33, 1_200)


class Lines(ContractCase):
    def lines(self, session: Session, **filters: Any) -> list[bytes]:
        return list(self.store.iter_events_json(session.pk, **filters))

    def line_numbers(self, session: Session, **filters: Any) -> list[int]:
        return [json.loads(line)["sequence_number"] for line in self.lines(session, **filters)]

    def test_a_line_is_the_events_dict(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        contents: list[Any] = [
            "plain", "a\nb\r\u2028\u2029\x85\t\"\\/", "ünïcödé 漢字 🎉", "\x00 and \ud800",
            0.1, 1e16, -0.0, 10**30, 1.5, True, None, nested(90), {"é": {"": []}},
        ]  # fmt: skip
        for content in contents:
            self.append(
                session,
                data={"content": content},
                metadata={"n\n": content},
                run_id=run.pk,
                provider='quote " back \\ line \n é',
                correlation_id="\u2028 🎉",
                timestamp=NOON.replace(microsecond=0),
            )
        self.append(session, schema_version=7, timestamp=NOON + SECOND)
        expected = [event.to_dict() for event in self.store.get_events(session.pk)]
        lines = self.lines(session)
        self.assertEqual([json.loads(line) for line in lines], expected)
        self.assertEqual([list(json.loads(line)) for line in lines], [list(e) for e in expected])
        for line in lines:
            self.assertIsInstance(line, bytes)
            self.assertEqual((line.count(b"\n"), line[-1:]), (1, b"\n"))
            self.assertNotIn(b"\r", line)

    def test_lines_are_filtered_as_events_are(self) -> None:
        session = self.add_session()
        run = self.add_run(session)
        for column in ({}, {"run_id": run.pk}, {"type": "error_occurred"}, {"run_id": run.pk}):
            self.append(session, **column)
        self.assertEqual(self.line_numbers(session), [1, 2, 3, 4])
        self.assertEqual(self.line_numbers(session, after=1, before=4), [2, 3])
        self.assertEqual(self.line_numbers(session, run_id=run.pk), [2, 4])
        self.assertEqual(self.line_numbers(session, type="error_occurred"), [3])
        self.assertEqual(self.line_numbers(session, type=[]), [])
        self.assertEqual(self.line_numbers(session, limit=0), [])
        self.assertEqual(self.line_numbers(session, after=1, limit=2), [2, 3])

    def test_pages_leave_nothing_out(self) -> None:
        session = self.add_session()
        stored = 0
        for length in LENGTHS:
            self.store.append_events([make_event(session) for _ in range(length - stored)])
            stored = length
            with self.subTest(length=length):
                self.assertEqual(self.line_numbers(session), list(range(1, length + 1)))
                for limit in (length - 1, length, length + 1):
                    found = self.line_numbers(session, limit=limit)
                    self.assertEqual(found, list(range(1, min(limit, length) + 1)))

    def test_large_payloads_make_small_pages(self) -> None:
        session = self.add_session()
        self.store.append_events(
            [make_event(session, data={"n": n, "text": "x" * 300_000}) for n in range(40)]
        )
        self.assertEqual(self.line_numbers(session), list(range(1, 41)))

    def test_no_transaction_is_open_between_lines(self) -> None:
        session = self.add_session()
        self.store.append_events([make_event(session) for _ in range(40)])
        lines = self.store.iter_events_json(session.pk)
        next(lines)
        if self.database is not None:
            self.assertFalse(connections[self.database].in_atomic_block)
        self.append(session)
        start(lambda: self.store.soft_delete_session(session.pk)).result()
        self.assertEqual(len(list(lines)), 40)

    def test_an_unknown_session_has_no_lines(self) -> None:
        self.assertEqual(list(self.store.iter_events_json("ses-missing")), [])

    def test_bad_arguments_of_lines_are_refused_at_the_call(self) -> None:
        session = self.add_session()
        for bad in BAD_IDS:
            with self.subTest(bad=bad), self.refused(ValidationError):
                self.store.iter_events_json(bad)
        for bad in BAD_COUNTS:
            with self.subTest(bad=bad), self.refused(ValidationError):
                self.store.iter_events_json(session.pk, limit=bad)
        with self.refused(InvalidEventType):
            self.store.iter_events_json(session.pk, type="unknown")
