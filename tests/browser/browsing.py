"""A real browser, in a thread of its own: its library runs an event loop where it is used, and
Django's ORM refuses to work there.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 30


def find_browser() -> str | None:
    """The program: `ASM_TEST_CHROMIUM`, or the first that is on the path."""
    return os.environ.get("ASM_TEST_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


def pictures() -> Path:
    """Where pictures of pages are left, by `ASM_TEST_PICTURES`."""
    folder = Path(os.environ.get("ASM_TEST_PICTURES", "build/pictures"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


class Browsing:
    """A browser with one page, and what the page complained of: errors, and what CSP stopped."""

    def __init__(self, program: str) -> None:
        self._thread = ThreadPoolExecutor(1)
        self.complaints: list[str] = []
        self._playwright, self._browser = self.do_there(self._start, program)
        self._context: Any = None
        self._page: Any = None

    @staticmethod
    def _start(program: str) -> tuple[Any, Any]:
        from playwright.sync_api import sync_playwright

        playwright = sync_playwright().start()
        arguments = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        return playwright, browser

    def do_there(self, work: Callable[..., T], *arguments: Any) -> T:
        return self._thread.submit(work, *arguments).result(SECONDS * 4)

    def do(self, work: Callable[[Any], T]) -> T:
        """`work(page)`, in the browser's thread."""
        return self.do_there(work, self._page)

    def open(self, **options: Any) -> None:
        """A new page, as `browser.new_context()` makes it, with nothing remembered."""
        self.close_page()
        self.do_there(self._open, options)

    def _open(self, options: dict[str, Any]) -> None:
        self._context = self._browser.new_context(**options)
        self._context.set_default_timeout(SECONDS * 1_000)
        self._page = self._context.new_page()
        self._page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self._page.on("dialog", self._dismiss)
        self._page.on("console", self._hear)

    def _dismiss(self, dialog: Any) -> None:
        self.complaints.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _hear(self, message: Any) -> None:
        is_icon = message.location["url"].endswith("/favicon.ico")  # which the tests have not
        if message.type in {"error", "warning"} and not is_icon:
            self.complaints.append(message.text)

    def close_page(self) -> None:
        if self._context is not None:
            self.do_there(self._context.close)
        self._context = self._page = None
        self.complaints.clear()

    def stop(self) -> None:
        self.close_page()
        self.do_there(self._browser.close)
        self.do_there(self._playwright.stop)
        self._thread.shutdown()
