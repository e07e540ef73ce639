"""The examples of docs/artifacts.md run, and do what the text says."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from django.core.files.storage import storages
from django.test import RequestFactory, override_settings

from asm_store import default_store
from asm_store.artifacts import ArtifactStore
from asm_store.test import make_run, make_session
from tests.artifacts import s3

TEXT = (Path(__file__).parents[2] / "docs" / "artifacts.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
MARKS = ("artifacts = ", "screenshot.png", "file.chunks", "FileResponse", "STORAGES = ")


def run(mark: str, **names: Any) -> dict[str, Any]:
    """The names that the example with these words in it has made."""
    example = next(example for example in EXAMPLES if mark in example)
    exec(compile(example, mark, "exec"), names)
    return names


@pytest.mark.django_db
def test_the_examples(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = default_store.save_session(make_session())
    its_run = default_store.save_run(make_run(session))
    monkeypatch.chdir(folder)
    Path("screenshot.png").write_bytes(b"\x89PNG")

    artifacts: ArtifactStore = run("artifacts = ", session=session)["artifacts"]
    assert artifacts.get("reports/2026-03.txt") == b"All is well."

    run("screenshot.png", artifacts=artifacts, run=its_run)
    shot = artifacts.stat("screenshot.png")
    assert (shot.session_id, shot.content_type) == (session.id, "image/png")

    sent = io.BytesIO()
    run("file.chunks", artifacts=artifacts, send=sent.write)
    assert sent.getvalue() == b"\x89PNG"

    view = run("FileResponse", artifacts=artifacts)["download"]
    response = view(RequestFactory().get("/"), "screenshot.png")
    assert b"".join(response) == b"\x89PNG"
    assert response.headers["Content-Type"] == "image/png"
    assert response.headers["Content-Length"] == "4"
    response.close()


@pytest.mark.django_db(transaction=True, available_apps=["asm_store"])
def test_the_settings(s3_server: str) -> None:
    entries = run("STORAGES = ")["STORAGES"]
    options = entries["default"]["OPTIONS"]
    entries["default"]["OPTIONS"] = {**s3.options(s3_server), **options, "bucket_name": s3.BUCKET}
    with override_settings(STORAGES=entries):
        ArtifactStore().put("k", b"content")
        assert ArtifactStore().get("k") == b"content"
        s3.empty(storages["default"])


def test_no_example_is_left_out() -> None:
    assert all(any(mark in example for mark in MARKS) for example in EXAMPLES)
    assert len(EXAMPLES) == len(MARKS)
