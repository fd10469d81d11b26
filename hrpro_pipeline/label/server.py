"""The server of the labeling page: what it asks, answered as JSON, pictures and parts of videos."""

import json
import logging
import secrets
import socket
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import resources
from pathlib import Path
from typing import Any

import uvicorn
from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from hrpro_pipeline.data.detections import VideoDetections
from hrpro_pipeline.data.files import video_id_of
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.points import BACKGROUND
from hrpro_pipeline.data.suggestions import Suggestion, read_moments
from hrpro_pipeline.errors import HrproError, one_line
from hrpro_pipeline.label.guard import App, Guard
from hrpro_pipeline.label.library import Library
from hrpro_pipeline.label.store import Change, ConflictError, LabelStore
from hrpro_pipeline.show.colors import PALETTE

log = logging.getLogger(__name__)

_KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
# What browsers take for a video by its suffix, where Python's table does not know it.
_MEDIA_KINDS = {".webm": "video/webm", ".mkv": "video/webm"}
_MOST_THUMBNAILS = 32
_MOST_DETECTIONS = 200  # of a video, the best ones


class LabelServer:
    """The page's server as an ASGI application.

    Args:
        suggestions: a table of moments to look at, read again whenever a page asks.
        detections: of a model, to confirm or correct, by video.
        classes: names that the page offers before any point has them.
    """

    def __init__(
        self,
        library: Library,
        store: LabelStore,
        *,
        suggestions: Path | None = None,
        detections: Mapping[str, VideoDetections] | None = None,
        classes: tuple[str, ...] = (),
    ) -> None:
        self.library, self.store = library, store
        self._suggestions, self._detections, self._classes = suggestions, detections or {}, classes
        # Changes have a thread of their own, so that no thumbnail keeps them waiting.
        self._writer = CapacityLimiter(1)
        folder = resources.files("hrpro_pipeline.label") / "page"
        self._page = {item.name: item.read_bytes() for item in folder.iterdir() if item.is_file()}

    def app(self) -> Starlette:
        """The application, without the guard."""
        video = "/video/{number:int}"
        routes = [
            Route("/", self._file_of_page),
            Route("/page/{name}", self._file_of_page),
            Route("/state", self._state),
            Route("/suggestions", self._read_suggestions),
            Route("/changes", self._changes),
            Route("/change", self._change, methods=["POST"]),
            Route("/undo", self._undo, methods=["POST"]),
            Route("/redo", self._redo, methods=["POST"]),
            Route(f"{video}/facts", self._facts),
            Route(f"{video}/times", self._times),
            Route(f"{video}/media", self._media),
            Route(f"{video}/copy", self._copy),
            Route(f"{video}/copied", self._copied),
            Route(f"{video}/strip", self._strip),
            Route(f"{video}/peaks", self._peaks),
        ]
        handlers: Any = {HrproError: _as_json_error, OSError: _as_json_error}
        return Starlette(routes=routes, exception_handlers=handlers)

    def _file_of_page(self, request: Request) -> Response:
        name = request.path_params.get("name", "page.html")
        if name not in self._page:
            return Response(status_code=404)
        kind = f"{_KINDS.get(Path(name).suffix, 'application/octet-stream')}; charset=utf-8"
        return Response(self._page[name], headers={"content-type": kind, "cache-control": "no-store"})

    def _state(self, request: Request) -> Response:
        videos = [{"id": video.video_id, "name": video.name} for video in self.library.videos]
        content = {
            "videos": videos,
            "file": self.store.path.name,
            "folder": str(self.store.path.absolute().parent),
            "background": BACKGROUND,
            "palette": PALETTE,
            "classes": self._all_classes(),
            "has_suggestions": self._suggestions is not None,
            "has_detections": bool(self._detections),
            **self.store.snapshot(),
        }
        return JSONResponse(content, headers={"cache-control": "no-store"})

    def _all_classes(self) -> list[str]:
        found = {item.label for video in self._detections.values() for item in video.detections}
        found.update(label for video in self._detections.values() for label in video.classes)
        return list(dict.fromkeys([*self._classes, *sorted(found)]))  # keys are given in this order

    def _read_suggestions(self, request: Request) -> Response:
        items = read_moments(self._suggestions) if self._suggestions is not None else []
        return JSONResponse(list(map(_suggestion_json, items)), headers={"cache-control": "no-store"})

    async def _changes(self, request: Request) -> Response:
        (after,) = _numbers(request, "after")
        return await self._of_store(lambda: self.store.since(after))

    async def _change(self, request: Request) -> Response:
        content, after = await _content_of(request)
        try:
            groups = [
                [Change(item["table"], item["key"], item["before"], item["after"]) for item in group]
                for group in content["groups"]
            ]
        except (KeyError, TypeError):
            raise HrproError("expected groups of changes of table, key, before and after") from None

        def change() -> dict[str, Any]:
            for group in groups:
                self.store.change(group)
            return self.store.since(after)

        return await self._of_store(change)

    async def _undo(self, request: Request) -> Response:
        return await self._go(request, self.store.undo)

    async def _redo(self, request: Request) -> Response:
        return await self._go(request, self.store.redo)

    async def _go(self, request: Request, go: Callable[[], list[Change]]) -> Response:
        _, after = await _content_of(request)

        def change() -> dict[str, Any]:
            changes = go()
            return {"changed": [item.as_json() for item in changes], **self.store.since(after)}

        return await self._of_store(change)

    async def _of_store(self, call: Callable[[], dict[str, Any]]) -> Response:
        try:
            content = await to_thread.run_sync(call, limiter=self._writer)
        except ConflictError as error:
            return JSONResponse({"error": str(error)}, 409)
        return JSONResponse(content, headers={"cache-control": "no-store"})

    def _number(self, request: Request) -> int:
        number: int = request.path_params["number"]
        if number >= len(self.library.videos):
            raise HrproError(f"video {number}: there are {len(self.library.videos)}")
        return number

    def _facts(self, request: Request) -> Response:
        number = self._number(request)
        facts, times = self.library.facts(number)
        detections = self._detections.get(self.library.videos[number].video_id)
        best = detections.detections[:_MOST_DETECTIONS] if detections is not None else ()
        content = facts | {"frames": len(times) // 8, "detections": [asdict(item) for item in best]}
        return JSONResponse(content, headers={"cache-control": "no-store"})

    def _times(self, request: Request) -> Response:
        return _bytes(self.library.facts(self._number(request))[1], "application/octet-stream")

    def _media(self, request: Request) -> Response:
        path = self.library.file(self._number(request))
        # The name of the file goes into no header.
        return FileResponse(path, media_type=_MEDIA_KINDS.get(path.suffix.lower(), "video/mp4"))

    def _copy(self, request: Request) -> Response:
        return JSONResponse(asdict(self.library.copy(self._number(request))), headers={"cache-control": "no-store"})

    def _copied(self, request: Request) -> Response:
        return FileResponse(self.library.copied_file(self._number(request)), media_type="video/mp4")

    def _strip(self, request: Request) -> Response:
        first, step, count = _numbers(request, "first", "step", "count")
        if first < 0 or step < 1 or not 0 < count <= _MOST_THUMBNAILS:
            raise HrproError(f"frames {first} by {step}, {count} of them; expected at most {_MOST_THUMBNAILS}")
        return _bytes(self.library.strip(self._number(request), first, step, count), "image/jpeg", keep=True)

    def _peaks(self, request: Request) -> Response:
        return _bytes(self.library.peaks(self._number(request)), "application/octet-stream")


def listen(port: int) -> socket.socket:
    """A socket on this machine alone; port 0 is any that is free. Raises HrproError for one in use."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)  # whoever hears of the address may ask at once
    except OSError as error:
        listener.close()
        raise HrproError(
            f"`port={port}`: cannot be used ({one_line(error)}); leave it out for any that is free"
        ) from None
    return listener


def guarded(app: App, port: int) -> tuple[App, str]:
    """The application behind its guard, and the address with the token that opens it."""
    token = secrets.token_urlsafe(24)
    return Guard(app, token, port), f"http://127.0.0.1:{port}/{token}/"


def serve(app: App, listener: socket.socket) -> None:
    """Answer until Ctrl-C."""
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


def _numbers(request: Request, *names: str) -> list[int]:
    """Whole numbers of a request's query."""
    texts = [request.query_params.get(name, "") for name in names]
    if not all(text.isascii() and text.isdigit() and len(text) < 12 for text in texts):
        raise HrproError(f"expected whole numbers {', '.join(names)}, found {', '.join(map(repr, texts))}"[:200])
    return [int(text) for text in texts]


async def _content_of(request: Request) -> tuple[dict[str, Any], int]:
    """The JSON of a request, and the number of the last change that its page knows."""
    try:
        content = json.loads(await request.body() or b"{}")
    except (ValueError, RecursionError) as error:
        raise HrproError(f"not JSON that can be read ({error})") from None
    if not isinstance(content, dict):
        raise HrproError("expected a JSON object")
    after = content.get("after", 0)
    return content, after if isinstance(after, int) else 0


def _suggestion_json(item: Suggestion) -> dict[str, Any]:
    video_id, label = video_id_of(item.video_id), class_name(item.label)
    return {
        "key": f"{video_id}|{item.seconds:.3f}|{label}|{item.kind}"[:500],  # known again after another `hrpro suggest`
        "video_id": video_id,
        "time": item.seconds,
        "class": label,
        "kind": item.kind,
        "score": item.score,
        "otherClass": class_name(item.suggested_label),
        "otherTime": item.suggested_seconds,
    }


def _bytes(content: bytes, kind: str, keep: bool = False) -> Response:
    headers = {"cache-control": "private, max-age=3600" if keep else "no-store"}
    return Response(content, media_type=kind, headers=headers)


def _as_json_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": one_line(error, 500)}, 400)
