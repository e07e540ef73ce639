"""Logging, as a receiver of the public signals: stores themselves log nothing."""

from __future__ import annotations

import logging
from typing import Any

from django.dispatch import receiver

from . import signals

logger = logging.getLogger("asm_store")


@receiver(signals.session_saved)
def log_session_saved(*, session: Any, **kwargs: Any) -> None:
    logger.debug("session %s saved as %s", session.pk, session.status)


@receiver(signals.session_deleted)
def log_session_deleted(*, session_id: str, **kwargs: Any) -> None:
    logger.info("session %s deleted", session_id)


@receiver(signals.run_saved)
def log_run_saved(*, run: Any, **kwargs: Any) -> None:
    logger.debug("run %s of session %s saved as %s", run.pk, run.session_id, run.status)


@receiver(signals.events_appended)
def log_events_appended(*, events: list[Any], **kwargs: Any) -> None:
    for event in events:
        logger.debug(
            "event %s (%s) is number %d of session %s",
            event.pk,
            event.type,
            event.sequence_number,
            event.session_id,
        )


@receiver(signals.maintenance_finished)
def log_maintenance_finished(*, report: Any, using: str, **kwargs: Any) -> None:
    logger.info("maintenance of %s finished: %s", using, report)
