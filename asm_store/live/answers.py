"""Answers in JSON that no browser takes for a page, and why a request is refused."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse

from ..events.sanitizing import ENCODER


class Refusal(Exception):
    """The request is answered with this status, and an error with a code in JSON."""

    def __init__(self, status: int, code: str, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.more = more

    def response(self) -> HttpResponse:
        said = {"error": {"code": self.code, "message": str(self)}, **self.more}
        return json_response(ENCODER.encode(said).encode(), self.status)


def json_response(content: bytes, status: int = 200) -> HttpResponse:
    headers = {"Cache-Control": "private, no-store"}
    return HttpResponse(content, "application/json", status, headers=headers)


def forbidden() -> Refusal:
    """The same whether there is such a session or not."""
    return Refusal(403, "permission_denied", "You may not view this session and its events.")


def not_found() -> Refusal:
    return Refusal(404, "session_not_found", "There is no such session.")
