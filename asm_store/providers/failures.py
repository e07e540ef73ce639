"""What went wrong, under names that all providers share; mostly with an answer of an API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

# An error's text may be as long as what a provider was sent: so much of it is told.
MAX_MESSAGE = 10_000
# Up to where a word ends, at most 4,096 characters before; few secrets are longer.
_WHOLE_WORDS = re.compile(
    rf"(?s).{{{MAX_MESSAGE - 4_096},{MAX_MESSAGE}}}(?=[\s\"',;&(){{}}\[\]<>\\])"
)
# What APIs call their errors, in the body of a response or in a stream.
_NAMED = {
    "authentication_error": "authentication",
    "billing_error": "billing",
    "content_filter": "refusal",
    "context_length_exceeded": "context_too_long",
    "insufficient_quota": "billing",
    "not_found_error": "not_found",
    "overloaded_error": "overloaded",
    "permission_error": "permission",
    "rate_limit_error": "rate_limit",
    "rate_limit_exceeded": "rate_limit",
    "request_too_large": "request_too_large",
}
_STATUSES = {
    401: "authentication",
    402: "billing",
    403: "permission",
    404: "not_found",
    413: "request_too_large",
    429: "rate_limit",
    529: "overloaded",
}


class IncompleteAnswer(Exception):
    """The answer is not what was asked for; `code` says why: `max_tokens`, `refusal`, ..."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def shortened(text: str) -> str:
    """`text`, or its first 10,000 characters without the word that would be cut: the look for
    secrets does not know half of one.
    """
    if len(text) <= MAX_MESSAGE:
        return text
    found = _WHOLE_WORDS.match(text)
    return found.group() if found else text[:MAX_MESSAGE]


def error_data(error: BaseException, code: str, **said: Any) -> dict[str, Any]:
    """What an event tells of an error; `said` is what was said of it, None where nothing was."""
    return {
        "error_message": shortened(_text(error)),
        "error_code": shortened(code),
        "error_type": type(error).__name__,
        **{name: value for name, value in said.items() if value is not None},
    }


def _text(error: BaseException) -> str:
    try:
        return str(error) or type(error).__name__
    except Exception:  # an exception of a provider's may fail at this too
        return type(error).__name__


def api_error_data(error: Exception, *, is_streaming: bool) -> dict[str, Any]:
    """The same of an API's error; `is_streaming`: the answer had begun to come."""
    # Of an HTTP library's; a cloud's own client may raise what has a mapping of this name.
    headers = getattr(getattr(error, "response", None), "headers", None)
    return error_data(
        error,
        _code(error, is_streaming),
        status_code=getattr(error, "status_code", None),
        request_id=getattr(error, "request_id", None),
        retry_after=headers.get("retry-after") if isinstance(headers, Mapping) else None,
    )


def _code(error: Exception, is_streaming: bool) -> str:
    if isinstance(error, IncompleteAnswer):
        return error.code
    for name in _names(getattr(error, "body", None)):
        if name in _NAMED:
            return _NAMED[name]
    status = getattr(error, "status_code", None) or 0
    if status >= 400:
        return _STATUSES.get(status, "server_error" if status >= 500 else "invalid_request")
    if _is_of_the_connection(error):
        is_late = "timeout" in type(error).__name__.lower()
        return "connection_timeout" if is_late else "connection_error"
    # What the API itself says in the middle of a stream has a body.
    if getattr(error, "body", None) is not None:
        return "server_error"
    return "malformed_stream" if is_streaming else "provider_error"


def _names(body: object) -> Iterator[str]:
    """The codes and types of an error in a response's body, the more telling first."""
    if isinstance(body, Mapping):
        yield from _names(body.get("error"))
        yield from (str(body.get(key)) for key in ("code", "type"))


def _is_of_the_connection(error: Exception) -> bool:
    """Of the SDK's, or of the HTTP library's, which some SDKs let through."""
    classes = type(error).__mro__
    return any(
        kind.__name__ == "APIConnectionError" or kind.__module__.partition(".")[0] in _HTTP
        for kind in classes
    )


_HTTP = ("httpx", "httpx2", "httpcore", "httpcore2")
