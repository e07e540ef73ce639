"""A provider whose package is not installed says what to install."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from asm_store.providers.pydantic_ai import PydanticAIProvider


def test_pydantic_ai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydantic_ai", None)
    agent: Any = object()
    with pytest.raises(
        ImproperlyConfigured, match=r"pip install 'django-asm-store\[pydantic-ai\]'"
    ):
        PydanticAIProvider(agent)
