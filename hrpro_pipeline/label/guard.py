"""Who may ask the server: pages that it gave out itself, by the address that it printed, and nobody else."""

import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Scripts, styles and media come from the server alone; nothing is sent anywhere else, and nobody frames the page.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; media-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
MOST_BYTES = 64 << 20  # of a request


class Guard:
    """Lets a request through to `app` if all of this holds, and takes the token out of its path.

    * Its `Host` is this machine, by number or name: a name of somebody else's that points here is not.
    * Its path begins with the token: only who was told it can ask anything, every time.
    * It does not come from a page of another origin, by `Sec-Fetch-Site` and, of what writes, by `Origin`.

    Args:
        port: on which the server listens.
    """

    def __init__(self, app: App, token: str, port: int) -> None:
        self._app, self._token = app, token.encode()
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        problem = self._problem(scope)
        if problem:
            await _refuse(send, problem)
            return
        prefix = f"/{self._token.decode()}"
        inner = dict(scope) | {"path": scope["path"][len(prefix) :], "root_path": ""}

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_encoded(_HEADERS)]
            await send(message)

        await self._app(inner, receive, send_with_headers)

    def _problem(self, scope: Scope) -> str:
        headers: dict[str, str] = {}
        for name, value in scope["headers"]:
            key = name.decode("latin-1").lower()
            if key in headers and key in ("host", "origin"):
                return "this header is there twice"
            headers[key] = value.decode("latin-1")
        if headers.get("host", "") not in self._hosts:
            return "this server answers by its own address alone"
        token = scope["path"].split("/")[1] if "/" in scope["path"] else ""
        if not secrets.compare_digest(token.encode("utf-8", "replace"), self._token):
            return "open the whole address that `hrpro label` printed"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return "a page of another origin asked"
        if scope["method"] not in ("GET", "HEAD"):
            if headers.get("origin", "") not in {f"http://{host}" for host in self._hosts}:
                return "a page of another origin asked"
            if headers.get("content-type", "").partition(";")[0].strip() != "application/json":
                return "expected JSON"
            length = headers.get("content-length", "")
            if not length.isascii() or not length.isdigit() or int(length) > MOST_BYTES:
                return "expected a request of known length, and not of so many bytes"
        return ""


async def _refuse(send: Send, reason: str) -> None:
    body = f"refused: {reason}\n".encode()
    headers = _encoded(_HEADERS | {"content-type": "text/plain; charset=utf-8", "content-length": str(len(body))})
    await send({"type": "http.response.start", "status": 403, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]
