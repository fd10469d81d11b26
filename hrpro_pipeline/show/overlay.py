"""A video with the actions that were detected in it: the running labels, and a timeline with a cursor."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from hrpro_pipeline.data.detections import Detection, answer_of
from hrpro_pipeline.data.files import replacing
from hrpro_pipeline.extract.video.info import VideoInfo
from hrpro_pipeline.show.encoder import Mp4Writer, TimedImage
from hrpro_pipeline.show.fonts import WITHOUT_PICTURE, find_font, spelled_out

# Labels on a frame at once.
MOST_LABELS = 3
# Of the best detection's score: what scores less is left out, unless a lowest score was asked for.
_SHARE_OF_BEST = 0.5
# How much of the picture shows through the labels and the timeline.
_TRANSPARENCY = 0.35


def distinct_detections(detections: Sequence[Detection], min_score: float | None = None) -> list[Detection]:
    """The detections to show, best first: those that share less than half with each better one of their class.

    A model that has learned what its answer is shows its answer, unless `min_score` asks for more.

    Args:
        min_score: the lowest score; half of the best one otherwise, since scores are no probabilities.
    """
    ranked = sorted(detections, key=lambda item: -item.score)
    if min_score is None and (answer := answer_of(ranked)) is not None:
        return list(answer)
    if min_score is None:
        min_score = score_floor(ranked[0].score) if ranked else 0.0
    distinct: list[Detection] = []
    for item in ranked:
        if item.score >= min_score and not any(_is_double(item, better) for better in distinct):
            distinct.append(item)
    return distinct


def score_floor(best: float) -> float:
    """The lowest score to show beside a video's best score."""
    return min(_SHARE_OF_BEST * best, best)


def _is_double(first: Detection, second: Detection) -> bool:
    """Whether two detections are of the same class, and half of the shorter one lies in the other."""
    shared = min(first.end_seconds, second.end_seconds) - max(first.start_seconds, second.start_seconds)
    return first.label == second.label and 2 * shared >= min(
        first.end_seconds - first.start_seconds, second.end_seconds - second.start_seconds
    )


def write_overlay(
    path: Path,
    frames: Iterable[TimedImage],
    info: VideoInfo,
    detections: Sequence[Detection],
    colors: Mapping[str, str],
) -> None:
    """Write a video, atomically, with its own frames and times and the detections on them.

    Args:
        frames: those of the video, in order.
        detections: all appear on the timeline, and the best MOST_LABELS at a time by name and score.
        colors: `#RRGGBB` of each label.
    """
    ranked = sorted(detections, key=lambda item: -item.score)
    drawing: _Drawing | None = None
    with replacing(path) as temporary, Mp4Writer(temporary, info, 0.0, info.duration_seconds) as writer:
        for image, start, end in frames:
            if drawing is None or drawing.size != image.shape[:2]:
                drawing = _Drawing(image.shape[:2], info.duration_seconds, ranked, colors)
            writer.write(drawing.on(image, start), start, end)


class _Drawing:
    """Draws labels and timeline on frames [H, W, 3] of one video; detections best first."""

    def __init__(
        self,
        size: tuple[int, int],
        duration_seconds: float,
        detections: Sequence[Detection],
        colors: Mapping[str, str],
    ) -> None:
        self.size = height, width = size
        self._duration_seconds, self._detections = duration_seconds, detections
        self._colors = {label: _rgb(color) for label, color in colors.items()}
        self._font_height = min(48, max(10, height // 22))
        self._bar = self._timeline(max(4, height // 40), width)  # [h, W, 3]
        self._labels = lru_cache(maxsize=8)(self._draw_labels)

    def on(self, image: np.ndarray, seconds: float) -> np.ndarray:
        """A copy of the image with the labels and the cursor of this time."""
        image = image.copy()
        height, width = self.size
        running = [item for item in self._detections if item.start_seconds <= seconds < item.end_seconds][:MOST_LABELS]
        if running:
            panel, opaque = self._labels(*running)
            area = image[: panel.shape[0], : panel.shape[1]]
            area[...] = np.where(opaque, panel, (_TRANSPARENCY * area).astype(np.uint8) + panel)
        bar = self._bar
        area = image[height - len(bar) :]
        area[...] = np.where(bar.max(axis=2, keepdims=True) > 0, bar, (_TRANSPARENCY * area).astype(np.uint8))
        half = max(1, width // 640)
        column = min(width - 1, int(seconds / self._duration_seconds * width))
        image[height - len(bar) - len(bar) // 2 :, max(0, column - half) : column + half] = 255
        return image

    def _timeline(self, height: int, width: int) -> np.ndarray:
        bar = np.zeros((height, width, 3), np.uint8)
        for item in reversed(self._detections):  # the best ones on top
            first, last = (
                int(seconds / self._duration_seconds * width) for seconds in (item.start_seconds, item.end_seconds)
            )
            bar[:, max(0, first) : max(1, last, first + 1)] = self._colors[item.label]
        return bar

    def _draw_labels(self, *running: Detection) -> tuple[np.ndarray, np.ndarray]:
        """A line for each detection -> the panel [h, w, 3], and which of its pixels are opaque, [h, w, 1]."""
        size, (height, width) = self._font_height, self.size
        line = round(1.4 * size)
        num_lines = max(1, min(len(running), (height - len(self._bar)) // line))
        margin = size // 2
        texts = [
            _fitted_text(item.label, f"  {item.score:.2f}", size, width - 2 * margin - size)
            for item in running[:num_lines]
        ]
        panel = np.zeros((line * num_lines, width, 3), np.uint8)
        for row, (item, text) in enumerate(zip(running, texts, strict=False)):
            top = row * line + (line - size) // 2
            panel[top : top + size, margin : margin + size // 2] = self._colors[item.label]
            _put_text(panel, text, (margin + size, top + round(0.85 * size)), size)
        used_width = margin + size + max(_text_width(text, size) for text in texts) + margin
        panel = panel[:height, : min(width, used_width)]
        return panel, panel.max(axis=2, keepdims=True) > 0


def _fitted_text(label: str, score: str, size: int, width: int) -> str:
    """The label, shortened if need be, and its score in at most `width` pixels."""
    label = " ".join(label.split())
    for length in range(len(label), 0, -1):
        text = (label if length == len(label) else label[:length].rstrip() + "...") + score
        if _text_width(text, size) <= width:
            return text
    return score.strip()


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


@lru_cache(maxsize=1)
def _own_face() -> Any:
    """OpenCV's own font, which has many scripts; None in OpenCV 4, which has ASCII alone."""
    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None


@lru_cache(maxsize=1024)
def _typeset(text: str) -> tuple[Any, str]:
    """A face, and the text that it draws: OpenCV's own or an installed one, or its own with code points in between."""
    face = _own_face()
    if face is None:
        return None, spelled_out(text, str.isascii)
    shown = "".join(letter for letter in text if letter not in WITHOUT_PICTURE)
    if all(map(_is_drawn, shown)):
        return face, shown
    if (path := find_font(text)) is not None:
        installed = cv2.FontFace(str(path))
        if installed.getName():  # without a name it could not be loaded
            return installed, text
    return face, spelled_out(text, _is_drawn)


@lru_cache(maxsize=1024)
def _is_drawn(letter: str) -> bool:
    """Whether OpenCV's own font has a letter: what it lacks is drawn like what no font has."""
    return letter.isspace() or not np.array_equal(_picture_of(letter), _picture_of("\U0010ffff"))


def _picture_of(letter: str) -> np.ndarray:
    image = np.zeros((48, 48), np.uint8)
    cv2.putText(image, letter, (8, 36), (255,), _own_face(), 24, 600)
    return image


def _text_width(text: str, size: int) -> int:
    face, shown = _typeset(text)
    if face is not None:
        left, _, width, _ = cv2.getTextSize((1 << 14, 1 << 14), shown, (0, 2 * size), face, size, 600)
        return int(left + width)
    (width, _), _ = cv2.getTextSize(shown, cv2.FONT_HERSHEY_SIMPLEX, size / 30, 1)
    return int(width)


def _put_text(image: np.ndarray, text: str, baseline: tuple[int, int], size: int) -> None:
    white, (face, shown) = (255, 255, 255), _typeset(text)
    if face is not None:
        cv2.putText(image, shown, baseline, white, face, size, 600)
    else:
        cv2.putText(image, shown, baseline, cv2.FONT_HERSHEY_SIMPLEX, size / 30, white, 1, cv2.LINE_AA)
