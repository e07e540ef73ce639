"""The examples of docs/deploying.md run, and measure what the text says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.dispatch import Signal

from asm_store import signals
from asm_store.backends.memory import InMemorySessionStore
from asm_store.exceptions import SequenceConflict
from asm_store.test import make_event, make_session

TEXT = (Path(__file__).parents[1] / "docs" / "deploying.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
SIGNALS = [value for value in vars(signals).values() if isinstance(value, Signal)]


@pytest.fixture(autouse=True)
def receivers_as_before() -> Iterator[None]:
    before = [list(signal.receivers) for signal in SIGNALS]
    yield
    for signal, receivers in zip(SIGNALS, before, strict=True):
        signal.receivers[:] = receivers
        signal.sender_receivers_cache.clear()


def run(mark: str) -> dict[str, Any]:
    """The names that the example with these words in it has made."""
    example = next(example for example in EXAMPLES if mark in example)
    names: dict[str, Any] = {}
    exec(compile(example, mark, "exec"), names)
    return names


def use() -> None:
    """Two appends, one of which is refused, a retry, and a listener."""
    store = InMemorySessionStore()
    session = store.save_session(make_session())
    store.append_event(make_event(session))
    with pytest.raises(SequenceConflict):
        store.append_events([make_event(session)], expected_sequence=9)
    signals.retrying.send(
        sender=None, using="default", failure="busy", attempt=1, delay=0.1, error=ValueError()
    )
    signals.listening_changed.send(sender=None, using="default", is_listening=True, error=None)


def test_prometheus() -> None:
    prometheus = pytest.importorskip("prometheus_client", reason="prometheus-client is missing")
    names = run("prometheus_client")
    use()

    def value(name: str, **labels: str) -> float | None:
        found: float | None = prometheus.REGISTRY.get_sample_value(name, labels)
        return found

    assert value("asm_append_seconds_count", outcome="stored") == 1
    assert value("asm_append_seconds_count", outcome="sequence_conflict") == 1
    assert value("asm_events_total", type="message_sent") == 1
    assert value("asm_retries_total", using="default", failure="busy") == 1
    assert value("asm_listening", using="default") == 1
    for name in ("APPENDS", "EVENTS", "RETRIES", "LISTENING"):
        prometheus.REGISTRY.unregister(names[name])


def test_opentelemetry() -> None:
    reason = "the SDK of OpenTelemetry is missing"
    sdk = pytest.importorskip("opentelemetry.sdk.metrics", reason=reason)
    export = pytest.importorskip("opentelemetry.sdk.metrics.export", reason=reason)
    api = pytest.importorskip("opentelemetry.metrics", reason=reason)
    reader = export.InMemoryMetricReader()
    provider = sdk.MeterProvider([reader])
    api.set_meter_provider(provider)
    run("opentelemetry")
    use()

    found = {
        (metric.name, *sorted(point.attributes.values())): point
        for resource in reader.get_metrics_data().resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
        for point in metric.data.data_points
    }
    provider.shutdown()
    assert found["asm_store.append.duration", "stored"].count == 1
    assert found["asm_store.append.duration", "sequence_conflict"].count == 1
    assert found["asm_store.retries", "busy", "default"].value == 1
    assert found["asm_store.listening", "default"].value == 1


def test_every_python_example_can_be_read() -> None:
    for example in EXAMPLES:
        compile(example, "deploying.md", "exec")


def test_every_trial_is_an_environment_of_tox() -> None:
    settings = (Path(__file__).parents[1] / "tox.ini").read_text()
    trials = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert len(trials) == 9
    for trial in trials:
        assert re.search(rf"^    {trial}: \w", settings, re.MULTILINE), trial
