"""A page in a real browser, for tests."""

import time
from typing import Any


class BrowserTab:
    """A page in the browser, and everything that it complained about.

    Args:
        script: JavaScript that runs in the page before its own.
    """

    def __init__(
        self, browser: Any, address: str, width: int, height: int, script: str | None = None, **options: Any
    ) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": height}, **options)
        self.page = self.context.new_page()
        self.page.set_default_timeout(30_000)
        self.logged: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        if script is not None:
            self.page.add_init_script(script)
        self.page.goto(address)

    def wait(self, expression: str, seconds: float = 30) -> None:
        """Until it is true. (Playwright's own wait evaluates a string in the page, whose policy forbids that.)"""
        end = time.monotonic() + seconds
        while not self.page.evaluate(expression):
            assert time.monotonic() < end, f"never true: {expression}"
            self.page.wait_for_timeout(20)

    def get(self, expression: str) -> Any:
        return self.page.evaluate(expression)
