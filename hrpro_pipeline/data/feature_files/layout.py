"""Which array is which stream of which video, from the names of files alone."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field

from hrpro_pipeline.data.features import STREAMS, ordered_streams
from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.errors import HrproError

# Beside the features of a video, video_features writes its frame rate, and the end of each stack in ms.
FPS, TIMESTAMPS = "_fps", "_timestamps_ms"
# Folder of the published archives, and the prefix of ActivityNet's videos.
_ARCHIVE, _ACTIVITYNET = "features", "v_"


@dataclass(frozen=True)
class Layout:
    """The arrays of a folder.

    Attributes:
        title: what was recognized, in words.
        videos: names of arrays by stream by video id; the stream "" is one without a name.
        clocks: names of the arrays `_fps` and `_timestamps_ms` of video_features, by video id.
        is_archive: whether this is a published archive, in which 2048 channels are RGB, then flow.
        problems: a line for each file that has no place in it.
    """

    title: str
    videos: dict[str, dict[str, str]]
    clocks: dict[str, dict[str, str]] = field(default_factory=dict)
    is_archive: bool = False
    problems: tuple[str, ...] = ()


# Name of an array, stem of its video, stream.
_Row = tuple[str, str, str]


def recognize(
    names: Iterable[str],
    *,
    streams: Sequence[str] = (),
    prefix: str = "",
    suffix: str = "",
    known_ids: Collection[str] = (),
) -> Layout:
    """Recognize the layout of a folder of features.

    Args:
        names: paths of the arrays in the folder, with slashes and without the suffixes of files; an array of a file of
            several is `FILE/NAME`.
        streams: names of streams beside rgb and flow that may be in names of files and folders.
        prefix, suffix: of the names of files, not part of a video's id.
        known_ids: ids of videos from annotations; names with `v_` before them are theirs.

    Raises:
        HrproError: two readings are possible; the line says what to give.

    Examples:
        >>> recognize(["rgb/a", "rgb/b", "flow/a", "flow/b"]).videos["a"]
        {'rgb': 'rgb/a', 'flow': 'flow/a'}
        >>> recognize(["a_rgb", "a_flow"]).title
        'a file for each stream (_rgb, _flow)'
        >>> recognize(["features/train/a", "features/test/b"]).is_archive
        True
    """
    names = sorted(names)
    in_archive = [name for name in names if name.startswith(f"{_ARCHIVE}/")]
    if in_archive:
        names = in_archive
    known = (*STREAMS, *(name for name in streams if name not in STREAMS))
    sidecars = [name for name in names if name.endswith((FPS, TIMESTAMPS))]
    if sidecars:
        title, rows, clocks = _of_video_features(names)
    else:
        title, rows = _by_name(names, known, is_one=len(streams) == 1)
        clocks = {}
    is_archive = bool(in_archive) and all(stream == "" for *_, stream in rows)
    ids = _ids({stem for _, stem, _ in rows}, prefix, suffix, known_ids)
    videos, problems = _by_video(rows, ids)
    return Layout(
        title="a published archive" if is_archive else title,
        videos=videos,
        clocks={ids[stem]: parts for stem, parts in clocks.items() if stem in ids},
        is_archive=is_archive,
        problems=tuple(problems),
    )


def _of_video_features(names: Sequence[str]) -> tuple[str, list[_Row], dict[str, dict[str, str]]]:
    """Rows and sidecars by stem: `VIDEO_fps` says what is called VIDEO, and what follows is the stream."""
    clocks: dict[str, dict[str, str]] = {}
    for name in names:
        for ending in (FPS, TIMESTAMPS):
            if name.endswith(ending):
                clocks.setdefault(name.removesuffix(ending), {})[ending] = name
    rows = []
    by_length = sorted(clocks, key=len, reverse=True)
    for name in names:
        if not name.endswith((FPS, TIMESTAMPS)):
            base = next((base for base in by_length if name.startswith(f"{base}_")), None)
            stem, stream = (base, name[len(base) + 1 :]) if base is not None else name.rsplit("_", 1)
            rows.append((name, _last(stem), stream))
    by_stem = {_last(base): parts for base, parts in clocks.items()}
    return f"the output of video_features ({', '.join(f'_{stream}' for stream in _streams_of(rows))})", rows, by_stem


def _by_name(names: Sequence[str], known: Sequence[str], is_one: bool) -> tuple[str, list[_Row]]:
    """What was recognized, and the rows.

    Args:
        known: names of streams. is_one: names that do not agree are of one stream.
    """
    inner = [(name, _last(name.rpartition("/")[0]), _stream_named(_last(name), known)) for name in names]
    if all(stream and stem for _, stem, stream in inner):
        return f"several streams in a place ({', '.join(_streams_of(inner))})", inner
    folders = [(name, _last(name), _stream_of_folders(name, known)) for name in names]
    ending = re.compile(rf"(.+)[_.-]({'|'.join(map(re.escape, known))})", re.IGNORECASE)
    endings = [_split(name, ending, known) for name in names]
    for title, sign, rows in (("a folder for each stream", "{}/", folders), ("a file for each stream", "_{}", endings)):
        without = next((name for name, _, stream in rows if not stream), None)
        if without is None:
            return f"{title} ({', '.join(sign.format(stream) for stream in _streams_of(rows))})", rows
        if not is_one and (named := next((row for row in rows if row[2]), None)):
            raise HrproError(
                f"{named[0]} is named as the {named[2]} stream, but {without} as none; move one of them to another "
                "folder, or, where all are one stream, give its name, as in `streams=rgb`"
            )
    return "a file for each video", [(name, _last(name), "") for name in names]


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def _streams_of(rows: Iterable[_Row]) -> list[str]:
    return ordered_streams({stream for *_, stream in rows})


def _stream_named(word: str, known: Iterable[str]) -> str:
    return next((name for name in known if word.lower() == name.lower()), "")


def _stream_of_folders(name: str, known: Iterable[str]) -> str:
    """The stream that a folder of a path is named after, such as `I3D_RGB`; empty for none, or two."""
    words = {word for folder in name.split("/")[:-1] for word in (folder, *re.split(r"[^A-Za-z0-9]+", folder))}
    streams = {stream for word in words if (stream := _stream_named(word, known))}
    return streams.pop() if len(streams) == 1 else ""


def _split(name: str, ending: re.Pattern[str], known: Iterable[str]) -> _Row:
    match = ending.fullmatch(_last(name))
    return (name, match[1], _stream_named(match[2], known)) if match else (name, _last(name), "")


def _ids(stems: Iterable[str], prefix: str, suffix: str, known_ids: Collection[str]) -> dict[str, str]:
    """The id of the video of each stem; stems that cannot be ids are left out."""
    cut = {stem: stem.removeprefix(prefix).removesuffix(suffix) or stem for stem in stems}
    ids = {stem: video_id_of(word) for stem, word in cut.items() if is_safe_id(word)}
    if not prefix and not set(ids.values()) & set(known_ids):
        without = {stem: word.removeprefix(_ACTIVITYNET) for stem, word in ids.items()}
        if set(without.values()) & set(known_ids):
            return without
    return ids


def _by_video(rows: Iterable[_Row], ids: dict[str, str]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Names of arrays by stream by video, and problems."""
    videos: dict[str, dict[str, str]] = {}
    problems = []
    for name, stem, stream in rows:
        if stem not in ids:
            problems.append(f"{name}: not usable as a video id")
            continue
        streams = videos.setdefault(ids[stem], {})
        if stream in streams:
            problems.append(f"{name}: a second file for video {ids[stem]}, as {streams[stream]}")
        else:
            streams[stream] = name
    return dict(sorted(videos.items())), problems
