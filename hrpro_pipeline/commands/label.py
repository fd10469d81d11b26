"""`hrpro label`: points set in the browser."""

import logging
import webbrowser
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing, suppress
from pathlib import Path

from hrpro_pipeline.data.detections import read_detections
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.data.suggestions import read_moments
from hrpro_pipeline.label.library import Library, list_videos
from hrpro_pipeline.label.server import LabelServer, guarded, listen, serve
from hrpro_pipeline.label.store import LabelStore


def label_videos(
    paths: Iterable[str | Path],
    points: str | Path,
    *,
    suggest: str | Path | None = None,
    detections: str | Path | None = None,
    classes: Sequence[str] = (),
    port: int = 0,
    on_ready: Callable[[str], object] = webbrowser.open,
) -> int:
    """Serve a page on this machine on which people set points in videos, until Ctrl-C -> how many points there are.

    Every change is on disk before the page says so. What is not a point (videos that are done, keys of classes, the
    journal for undo) is kept beside the points, in `<points>.done` and `<points>.journal`.

    Args:
        paths: video files, folders of them, or URLs.
        points: CSV of points; it is made if it is not there.
        suggest: moments to look at: a CSV of `hrpro suggest`, or a RUN, for the doubts about its labels.
        detections: of a model, to confirm or correct.
        classes: names that the page offers from the start.
        port: to listen on; 0 for any that is free.
        on_ready: called with the address of the page; opens the browser unless another one is given.

    Raises:
        HrproError: no videos, files that cannot be read or written, or a port that is in use.
    """
    videos = list_videos([path if isinstance(path, Path) else str(path) for path in paths])
    found = read_detections(Path(detections)) if detections is not None else {}
    if suggest is not None:
        read_moments(Path(suggest))  # says what is wrong before the page opens
    with closing(listen(port)) as listener, closing(LabelStore(Path(points))) as store:
        with closing(Library(videos)) as library:
            names = tuple(filter(None, map(class_name, classes)))
            table = Path(suggest) if suggest is not None else None
            server = LabelServer(library, store, suggestions=table, detections=found, classes=names)
            app, address = guarded(server.app(), listener.getsockname()[1])
            on_ready(address)
            logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
            with suppress(KeyboardInterrupt):
                serve(app, listener)
        return len(store.tables["points"])
