"""How each command of the benchmarks begins."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace

import django


def begun(parser: ArgumentParser, *vendors: str, settings: str = "settings") -> Namespace:
    """The arguments, and Django set up; an error where a server of `--on`, or else of the vendors,
    is missing.
    """
    chosen = parser.parse_args()
    os.environ["DJANGO_SETTINGS_MODULE"] = f"{__package__}.{settings}"
    django.setup()

    from .run import missing

    on = vendors or ([chosen.on] if isinstance(chosen.on, str) else chosen.on)
    for vendor, reason in missing(on).items():
        parser.error(f"{vendor}: {reason}")
    return chosen
