"""The examples of docs/live.md."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

TEXT = (Path(__file__).parents[2] / "docs" / "live.md").read_text(encoding="utf-8")


def run_example(mark: str, **names: Any) -> dict[str, Any]:
    """The names that the Python example with these words in it has made."""
    examples = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    [code] = [example for example in examples if mark in example]
    names = {"__name__": __name__, **names}
    exec(compile(code, mark, "exec"), names)
    return names
