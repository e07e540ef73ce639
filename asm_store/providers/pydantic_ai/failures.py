"""What went wrong with a run of an agent, under names that providers share."""

from __future__ import annotations

import re
from typing import Any

from pydantic_ai import exceptions as ai

from ..failures import error_data

# The first that fits.
_CODES: tuple[tuple[type[Exception], str], ...] = (
    (ai.ModelRateLimitError, "rate_limit"),
    (ai.ModelQuotaExceededError, "billing"),
    (ai.ModelOverloadedError, "overloaded"),
    (ai.ModelUnavailableError, "server_error"),
    (ai.ModelServerError, "server_error"),
    (ai.ModelTimeoutError, "connection_timeout"),
    (ai.ModelConnectionError, "connection_error"),
    (ai.ModelAuthenticationError, "authentication"),
    (ai.ModelNotFoundError, "not_found"),
    (ai.ModelContextWindowExceededError, "context_too_long"),
    (ai.ModelRequestRejectedError, "invalid_request"),
    (ai.OutputTokenLimitExceeded, "max_tokens"),
    (ai.ContentFilterError, "refusal"),
)


def agent_error_data(error: Exception) -> dict[str, Any]:
    """What an event tells of an agent's error."""
    return error_data(
        error,
        _code(error),
        status_code=getattr(error, "status_code", None),
        retry_after=getattr(error, "retry_after", None),
    )


def _code(error: Exception) -> str:
    for kind, code in _CODES:
        if isinstance(error, kind):
            return code
    if isinstance(error, ai.AgentRunError):  # `usage_limit_exceeded`, for UsageLimitExceeded
        return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
    return "provider_error"
