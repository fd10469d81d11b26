"""The layout of the published feature archives: `features/{train,test}/VIDEO.npy` beside `gt_full.json`."""

from pathlib import Path

import numpy as np

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation, read_annotations
from hrpro_pipeline.data.features import feature_path, write_features
from hrpro_pipeline.data.files import is_safe_id
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError


def import_archive(archive: Path, out: Path, clock: SnippetClock) -> list[str]:
    """Convert a published feature archive to the feature store.

    Args:
        archive: folder with `features/*/VIDEO.npy`, [T, D] float, RGB in the first half of D and flow in the second;
            `gt_full.json` beside it gives durations where it is there.
        out: FEATURES folder to write.
        clock: the clock the features were made with; the arrays do not say.

    Returns:
        The ids of the videos, in order.

    Raises:
        ProblemsError: every file that is unusable, or a clock that does not fit the durations; nothing is written then.
    """
    files = sorted((archive / "features").glob("*/*.npy")) + sorted((archive / "features").glob("*.npy"))
    if not files:
        raise HrproError(f"{archive}: no features/*/*.npy; expected the layout of the published archives")
    truth = archive / "gt_full.json"
    videos = read_annotations(truth) if truth.is_file() else {}
    problems: list[str] = []
    lengths: dict[str, int] = {}
    widths: dict[int, str] = {}
    with progress("checking", len(files), "videos", minor=True) as task:
        for file in files:
            name = f"{file.parent.name}/{file.name}"
            array, problem = _load(file)
            if problem:
                problems.append(f"{name}: {problem}")
            elif file.stem in lengths:
                problems.append(f"{name}: a second file for video {file.stem}")
            elif not is_safe_id(file.stem):
                problems.append(f"{name}: not usable as a video id")
            else:
                lengths[file.stem] = len(array)
                widths.setdefault(array.shape[1], name)
            task.advance()
    if len(widths) > 1:
        problems.append("different widths: " + ", ".join(f"{width} ({name})" for width, name in widths.items()))
    problems += _clock_problems(clock, lengths, videos)
    if problems:
        raise ProblemsError(str(archive), problems)
    with progress("importing", len(files), "videos") as task:
        for file in files:
            array, _ = _load(file)
            half = array.shape[1] // 2
            num_frames = len(array) * clock.stride + clock.snippet_frames - clock.stride
            known = videos.get(file.stem)
            write_features(
                feature_path(out, file.stem),
                {"rgb": array[:, :half].astype(np.float32), "flow": array[:, half:].astype(np.float32)},
                clock=clock,
                video_id=file.stem,
                duration_seconds=(known and known.duration_seconds) or num_frames / clock.fps,
                num_frames=num_frames,
                settings={"imported": "published archive", "fps": clock.fps, "stride": clock.stride},
            )
            task.advance()
    return [file.stem for file in files]


def _load(file: Path) -> tuple[np.ndarray, str]:
    """The array of a file and what is wrong with it (empty: nothing)."""
    empty = np.empty((0, 0), np.float32)
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        return empty, f"not a readable .npy array ({error})"
    if not isinstance(array, np.ndarray):
        return empty, "an archive of arrays; expected a single .npy array"
    if array.ndim != 2 or array.dtype.kind != "f":
        return empty, f"{array.dtype} {list(array.shape)}; expected floats [T, D]"
    if 0 in array.shape:
        return empty, f"empty, shape {list(array.shape)}"
    if array.shape[1] % 2:
        return empty, f"width {array.shape[1]} is odd; expected RGB and flow halves of one width"
    if not np.isfinite(array).all():
        return empty, "NaN or infinite values"
    return array, ""


def _clock_problems(clock: SnippetClock, lengths: dict[str, int], videos: dict[str, VideoAnnotation]) -> list[str]:
    """A wrong frame rate shifts every boundary; it shows as a length that disagrees with the durations."""
    ratios = [
        length * clock.seconds_per_snippet / duration
        for video_id, length in lengths.items()
        if length >= 10 and video_id in videos and (duration := videos[video_id].duration_seconds)
    ]
    if not ratios or abs(np.median(ratios) - 1) < 0.1:
        return []
    return [
        f"T x {clock.stride} frames at {clock.fps:g} fps is {np.median(ratios):.2f} of the durations in gt_full.json; "
        "choose the preset whose frame rate the features were made with (--preset)"
    ]
