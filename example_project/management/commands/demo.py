"""`manage.py demo`: the whole of asm_store in one go, from an empty database."""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.management import BaseCommand, CommandError, CommandParser, call_command
from django.db.models import Count

from asm_store import default_store
from asm_store.models import Event, Run, Session
from example_project.live_agents import work_together
from example_project.sample_data import write_samples
from example_project.watched_agent import missed, run_watched


class Command(BaseCommand):
    help = (
        "Migrates, imports sample transcripts, runs an agent that asm_tail follows, appends from "
        "several processes, shows the result."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--agents", type=int, default=4, help="processes that append at once")
        parser.add_argument("--steps", type=int, default=100, help="events from each process")

    def handle(self, *, agents: int, steps: int, **options: Any) -> None:
        self.say("1. Migrate")
        call_command("migrate", verbosity=0)
        self.say("2. Import sample transcripts")
        self.import_samples()
        self.say("3. Run an agent, and follow it in another process")
        self.run_agent()
        self.say(f"4. Append from {agents} processes to one session")
        self.append_live(agents, steps)
        self.say("5. What is stored")
        self.show_stored()
        self.say("6. Look at it")
        self.show_next_steps()

    def say(self, title: str) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(title))

    def import_samples(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            write_samples(Path(folder))
            call_command("asm_import", folder, stdout=self.stdout)

    def run_agent(self) -> None:
        result, screen = run_watched(self.show)
        stored = default_store.get_events(result.session_id)
        if missing := missed(stored, screen):
            raise CommandError(f"asm_tail did not show the events {missing}.")
        tokens = sum(result.token_usage.values())
        if not (tokens and result.cost_usd):
            raise CommandError("The run has no token usage or no cost.")
        self.stdout.write(
            f"   asm_tail has shown all {len(stored)} events; the run took {tokens:,} tokens, "
            f"{result.cost_usd:.6f} USD"
        )

    def show(self, text: str) -> None:
        self.stdout.write(text, ending="")
        self.stdout.flush()

    def append_live(self, agents: int, steps: int) -> None:
        session = default_store.save_session(Session(agent_id="live-demo", tags=["demo"]))
        last = work_together(session.id, agents=agents, steps=steps)
        numbers = [event.sequence_number for event in default_store.get_events(session.id)]
        if numbers != list(range(1, agents * steps + 1)):
            raise CommandError("The numbers of the live session are not 1..n.")
        self.stdout.write(
            f"   {len(numbers)} events, numbered 1 to {last} without gap or duplicate"
        )
        default_store.update_session(session.id, status=Session.Status.COMPLETED)

    def show_stored(self) -> None:
        tokens: Counter[str] = Counter()
        for usage in Run.objects.values_list("token_usage", flat=True).iterator():
            tokens.update(usage)
        for model in (Session, Run, Event):
            name = str(model._meta.verbose_name_plural)
            self.stdout.write(f"   {name:<24}{model._default_manager.count():>9,}")
        for kind in Event.objects.values("type").annotate(n=Count("pk")).order_by("-n", "type"):
            self.stdout.write(f"     {kind['type']:<24}{kind['n']:>7,}")
        for name, count in tokens.items():
            self.stdout.write(f"   {name.replace('_', ' '):<24}{count:>9,}")

    def show_next_steps(self) -> None:
        manage = f"{Path(sys.executable)} {Path(sys.argv[0])}"
        self.stdout.write(f"   {manage} asm_tail --last 3")
        self.stdout.write(f"   {manage} createsuperuser")
        self.stdout.write(f"   {manage} runserver")
        self.stdout.write("   then open http://127.0.0.1:8000/admin/")
