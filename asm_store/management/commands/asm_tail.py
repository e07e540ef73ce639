from __future__ import annotations

import argparse
import os
import shutil
import sys
from functools import partial
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.core.management.color import no_style

from asm_store.backends.database import DatabaseSessionStore
from asm_store.exceptions import StoreError
from asm_store.management.databases import known_database
from asm_store.management.following import Following, Lines
from asm_store.management.interruptions import Interruption
from asm_store.management.output import ended_with_reader, write_bytes, writing
from asm_store.management.rendering import JsonLines, Rendering
from asm_store.management.terminal import inert

SHOWN_BEFORE = 10


class Command(BaseCommand):
    help = (
        "Shows the events of a session as they are stored, until the session ends. Without "
        "SESSION it is the newest one that is going on, or else the newest."
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._interruption = Interruption()

    def add_arguments(self, parser: CommandParser) -> None:
        add = parser.add_argument
        add("session", nargs="?", metavar="SESSION", help="the id of a session")
        add("--using", metavar="ALIAS", help="the database; by default the default store's")
        add("--wait", action="store_true", help="wait for SESSION when it is not stored yet")
        add("--type", action="append", dest="types", metavar="TYPE", help="one of those given")
        add("--run", dest="run_id", metavar="ID", help="only what belongs to this run")
        self._add_bounds(parser)
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--json", action="store_true", help="print a JSON object for each event")
        form.add_argument("--full", action="store_true", help="cut nothing off")

    @staticmethod
    def _add_bounds(parser: CommandParser) -> None:
        start = parser.add_mutually_exclusive_group()
        start.add_argument(
            "--last",
            type=_count,
            default=SHOWN_BEFORE,
            metavar="COUNT",
            help=f"begin with so many of those that are stored; {SHOWN_BEFORE} without it",
        )
        start.add_argument("--all", action="store_true", help="begin with the first")
        start.add_argument("--after", type=int, metavar="NUMBER", help="begin after this number")
        end = parser.add_mutually_exclusive_group()
        end.add_argument(
            "--no-follow", action="store_false", dest="follow", help="end after what is stored"
        )
        end.add_argument(
            "--idle-timeout",
            type=float,
            metavar="SECONDS",
            help="end when nothing has come for so long",
        )

    def run_from_argv(self, argv: list[str]) -> None:
        # Only here is the process the command's own, and so are its signals.
        with self._interruption.watched(), ended_with_reader():
            try:
                super().run_from_argv(argv)
            except KeyboardInterrupt:
                sys.exit(self._interruption.exit_code)

    def handle(self, *, session: str | None, **options: Any) -> None:
        if options["wait"] and session is None:
            raise CommandError("--wait needs SESSION: the one to wait for.")
        self._choose_colours(forced=options["force_color"])
        try:
            store = DatabaseSessionStore(known_database(options["using"]))
            say = partial(self._say, shown=options["verbosity"] >= 1)
            write = partial(self._write, is_json=options["json"])
            following = Following(store, self._lines(options), write, say, options)
            found = following.session(session)
            with writing(self.stdout):
                following.run(found, following.start(found))
            following.tell_end(found)
        except (StoreError, ImproperlyConfigured) as error:
            # Whoever wrote the log chose the ids in it.
            raise CommandError(inert(str(error), line_break="\n")) from error

    def _choose_colours(self, *, forced: bool) -> None:
        if forced:
            return
        is_unwanted = bool(os.environ.get("NO_COLOR"))
        if is_unwanted or not self.stdout.isatty():
            self.style = no_style()
        if is_unwanted:
            self.stderr.style_func = None

    def _lines(self, options: dict[str, Any]) -> Lines:
        if options["json"]:
            return JsonLines(is_ascii=self.stdout.isatty())
        return Rendering(self.style, self._width, is_full=options["full"])

    def _width(self) -> int | None:
        return shutil.get_terminal_size().columns if self.stdout.isatty() else None

    def _write(self, text: str, *, is_json: bool) -> None:
        # JSON is UTF-8 everywhere; a person's terminal may not be.
        encoding = "utf-8" if is_json else getattr(self.stdout, "encoding", None) or "utf-8"
        write_bytes(self.stdout, text.encode(encoding, "backslashreplace"))
        self.stdout.flush()

    def _say(self, text: str, *, shown: bool) -> None:
        # On standard error: standard output has the events alone.
        if shown:
            self.stderr.write(inert(text), style_func=str)
            self.stderr.flush()


def _count(text: str) -> int:
    try:
        count = int(text)
    except ValueError:
        count = -1
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number >= 0.")
    return count
