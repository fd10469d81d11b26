"""The layout of the published feature archives: `features/{train,test}/VIDEO.npy` beside `gt_full.json`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.annotations import VideoAnnotation, read_annotations
from hrpro_pipeline.data.features import feature_path, write_features
from hrpro_pipeline.data.files import is_safe_id, video_id_of
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError, ProblemsError


def import_archive(archive: Path, out: Path, clock: SnippetClock) -> list[str]:
    """Convert a published feature archive to the feature store.

    Args:
        archive: folder with `features/*/VIDEO.npy`, [T, D] float, RGB in the first half of D and flow in the second;
            `gt_full.json` beside it, if any, gives durations.
        out: FEATURES folder to write.
        clock: the clock the features were made with; the arrays do not tell.

    Returns:
        The ids of the videos, in order.

    Raises:
        ProblemsError: every file that is unusable, or a clock that does not fit the durations; nothing is written then.
    """
    files = sorted((archive / "features").glob("*/*.npy")) + sorted((archive / "features").glob("*.npy"))
    if not files:
        raise HrproError(f"{archive}: no features/*/*.npy; expected the layout of the published archives")
    truth = archive / "gt_full.json"
    annotations = read_annotations(truth) if truth.is_file() else {}

    shapes, problems = _check_files(files)
    problems += _width_problems(shapes)
    problems += _clock_problems(
        clock, {video_id_of(file.stem): length for file, (length, _) in shapes.items()}, annotations
    )
    if problems:
        raise ProblemsError(str(archive), problems)

    with progress("importing", len(files), "videos") as task:
        for file in files:
            video_id = video_id_of(file.stem)
            _convert(file, video_id, out, clock, annotations.get(video_id))
            task.advance()
    return [video_id_of(file.stem) for file in files]


def _check_files(files: Sequence[Path]) -> tuple[dict[Path, tuple[int, int]], list[str]]:
    """Shapes [T, D] of the usable files, and the problems of the others."""
    shapes: dict[Path, tuple[int, int]] = {}
    problems = []
    name_by_id: dict[str, str] = {}
    with progress("checking", len(files), "videos", minor=True) as task:
        for file in files:
            try:
                array = _load(file)
                _check_id(file, name_by_id)
            except HrproError as error:
                problems.append(f"{_name(file)}: {error}")
            else:
                name_by_id[video_id_of(file.stem)] = _name(file)
                shapes[file] = array.shape
            task.advance()
    return shapes, problems


def _load(file: Path) -> np.ndarray:
    """The array [T, D] of a file. Raises HrproError without the file's name."""
    try:
        array = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise HrproError(f"not a readable .npy array ({error})") from None
    if not isinstance(array, np.ndarray):
        raise HrproError("an archive of arrays; expected a single .npy array")
    if array.ndim != 2 or array.dtype.kind != "f":
        raise HrproError(f"{array.dtype} {list(array.shape)}; expected floats [T, D]")
    if 0 in array.shape:
        raise HrproError(f"empty, shape {list(array.shape)}")
    if array.shape[1] % 2:
        raise HrproError(f"width {array.shape[1]} is odd; expected RGB and flow halves of one width")
    if not np.isfinite(array).all():
        raise HrproError("NaN or infinite values")
    return array


def _check_id(file: Path, name_by_id: Mapping[str, str]) -> None:
    """Raise HrproError for a file whose video has another file, or whose name is no id."""
    if not is_safe_id(file.stem):
        raise HrproError("not usable as a video id")
    video_id = video_id_of(file.stem)
    if video_id in name_by_id:
        raise HrproError(f"a second file for video {video_id}, beside {name_by_id[video_id]}")


def _width_problems(shapes: Mapping[Path, tuple[int, int]]) -> list[str]:
    first_of_width: dict[int, str] = {}
    for file, (_, width) in shapes.items():
        first_of_width.setdefault(width, _name(file))
    if len(first_of_width) <= 1:
        return []
    return ["different widths: " + ", ".join(f"{width} ({name})" for width, name in first_of_width.items())]


def _name(file: Path) -> str:
    return f"{file.parent.name}/{file.name}"


def _convert(file: Path, video_id: str, out: Path, clock: SnippetClock, annotation: VideoAnnotation | None) -> None:
    """Write the features of one file, RGB and flow apart."""
    array = _load(file)
    half = array.shape[1] // 2
    num_frames = len(array) * clock.stride + clock.snippet_frames - clock.stride
    write_features(
        feature_path(out, video_id),
        {"rgb": array[:, :half].astype(np.float32), "flow": array[:, half:].astype(np.float32)},
        clock=clock,
        video_id=video_id,
        duration_seconds=(annotation and annotation.duration_seconds) or num_frames / clock.fps,
        num_frames=num_frames,
        settings={"imported": "published archive", "fps": clock.fps, "stride": clock.stride},
    )


def _clock_problems(
    clock: SnippetClock, lengths: Mapping[str, int], annotations: Mapping[str, VideoAnnotation]
) -> list[str]:
    """A wrong frame rate shifts every boundary; it shows as a length that disagrees with the durations."""
    ratios = [
        length * clock.seconds_per_snippet / duration
        for video_id, length in lengths.items()
        if length >= 10 and video_id in annotations and (duration := annotations[video_id].duration_seconds)
    ]
    if not ratios or abs(np.median(ratios) - 1) < 0.1:
        return []
    return [
        f"T x {clock.stride} frames at {clock.fps:g} fps is {np.median(ratios):.2f} of the durations in gt_full.json; "
        "choose the preset whose frame rate the features were made with (`preset`)"
    ]
