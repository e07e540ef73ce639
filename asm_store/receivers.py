"""Logging, as a receiver of the public signals: stores themselves log nothing."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import receiver

from . import signals

logger = logging.getLogger("asm_store")


@receiver(signals.session_saved)
def log_session_saved(*, session: Any, **kwargs: Any) -> None:
    extra = {"session_id": session.pk, "status": session.status}
    logger.debug("session %s saved as %s", session.pk, session.status, extra=extra)


@receiver(signals.session_deleted)
def log_session_deleted(*, session_id: str, **kwargs: Any) -> None:
    if logger.isEnabledFor(logging.INFO):  # maintenance tells of many
        logger.info("session %s deleted", session_id, extra={"session_id": session_id})


@receiver(signals.run_saved)
def log_run_saved(*, run: Any, **kwargs: Any) -> None:
    logger.debug(
        "run %s of session %s saved as %s",
        run.pk,
        run.session_id,
        run.status,
        extra={"session_id": run.session_id, "run_id": run.pk, "status": run.status},
    )


@receiver(signals.events_appended)
def log_events_appended(*, events: list[Any], **kwargs: Any) -> None:
    if not logger.isEnabledFor(logging.DEBUG):
        return
    for event in events:
        logger.debug(
            "event %s (%s) is number %d of session %s",
            event.pk,
            event.type,
            event.sequence_number,
            event.session_id,
            extra={
                "session_id": event.session_id,
                "run_id": event.run_id,
                "event_id": event.pk,
                "event_type": event.type,
                "sequence_number": event.sequence_number,
            },
        )


@receiver(signals.maintenance_finished)
def log_maintenance_finished(*, report: Any, using: str, **kwargs: Any) -> None:
    logger.info("maintenance of %s finished: %s", using, report, extra={"using": using})


@receiver(signals.retrying)
def log_retrying(
    *, using: str, failure: str, attempt: int, delay: float, error: Exception, **kwargs: Any
) -> None:
    """What is met every day is for who looks for it; a server that is away is a warning."""
    logger.log(
        logging.WARNING if failure == "connection" else logging.DEBUG,
        "the database %r failed (%s, attempt %d): again in %.3f s: %s",
        using,
        failure,
        attempt,
        delay,
        str(error).partition("\n")[0],
        extra={"using": using, "failure": failure, "attempt": attempt, "delay": delay},
    )
