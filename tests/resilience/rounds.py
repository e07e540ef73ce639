from __future__ import annotations

import os


def rounds(is_long: bool, short: int, long: int) -> int:
    """How many a trial goes; `ASM_TEST_ROUNDS` says otherwise."""
    said = os.environ.get("ASM_TEST_ROUNDS")
    return int(said) if said else long if is_long else short
