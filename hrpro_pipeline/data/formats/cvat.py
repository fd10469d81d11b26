"""CVAT for images 1.1: tags of single frames. Frames of a class that follow each other are a segment."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from hrpro_pipeline.data.formats.label import Found, Hints, Label
from hrpro_pipeline.data.formats.source import Source

_STEP = re.compile(r"step=(\d+)$")


def matches(source: Source) -> bool:
    """Whether a file is a dump of CVAT."""
    return source.start.startswith("<") and "<annotations>" in source.start and source.mentions("<version>")


def read(source: Source, hints: Hints) -> list[Label]:
    """Runs of tagged frames as segments, single frames as points.

    Raises:
        HrproError: `hints` do not say the frame rate.
    """
    found = Found(source.path)
    root = source.xml
    task = next(iter(root.findall("meta/*")), Element("task"))
    video = task.findtext("source") or task.findtext("name") or root.findtext("meta/source") or source.video_id
    first = _whole(task.findtext("start_frame")) or 0
    step = _STEP.search(task.findtext("frame_filter") or "")
    stride = int(step[1]) if step else 1
    frames: dict[str, set[int]] = defaultdict(set)
    for image in root.findall("image"):
        number = _whole(image.get("id"))
        tags = image.findall("tag")
        found.left_out["shapes of the picture"] += len(image) - len(tags)
        if number is None and tags:
            found.problems.append(f"image {image.get('name', '')[:60]!r}: no id that is a frame number")
            continue
        for tag in tags:
            frames[tag.get("label", "")].add(number or 0)
    found.left_out["tracks of the picture"] += len(root.findall("track"))
    fps = hints.needed_fps(source.path) if frames else 1.0
    for name, numbers in frames.items():
        for start, last in _runs(sorted(numbers)):
            begin, end = (first + start * stride) / fps, (first + (last + 1) * stride) / fps
            found.add(f"frame {start}", video, name, begin, None if start == last else end)
    return found.done()


def _whole(text: str | None) -> int | None:
    """A whole number of at most nine digits."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text.strip()) else None


def _runs(numbers: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of numbers that follow each other, sorted."""
    start = last = None
    for number in numbers:
        if start is None or last is None:
            start = number
        elif number != last + 1:
            yield start, last
            start = number
        last = number
    if start is not None and last is not None:
        yield start, last


def render(labels: Sequence[Label], hints: Hints, most_frames: int = 1_000_000) -> str:
    """A dump of one video, `<video id>.mp4`, with an image for each frame that has tags."""
    fps = hints.fps or 1.0
    tags: dict[int, list[str]] = defaultdict(list)
    for label in labels:
        first = round(label.start_seconds * fps)
        last = first if label.is_point else max(first, round(label.last_seconds * fps) - 1)
        if first < last and label.label in tags.get(first - 1, ()):
            first += 1  # a frame between two segments that touch, which would be one otherwise
        for frame in range(first, min(last, first + most_frames) + 1):
            if label.label not in tags[frame]:
                tags[frame].append(label.label)
    root = Element("annotations")
    SubElement(root, "version").text = "1.1"
    task = SubElement(SubElement(root, "meta"), "task")
    for name, text in (("name", labels[0].video_id), ("mode", "annotation"), ("source", f"{labels[0].video_id}.mp4")):
        SubElement(task, name).text = text
    names = SubElement(task, "labels")
    for name in sorted({label.label for label in labels}):
        entry = SubElement(names, "label")
        SubElement(entry, "name").text = name
        SubElement(entry, "type").text = "tag"
    for frame in sorted(tags):
        image = SubElement(root, "image", id=str(frame), name=f"frame_{frame:06d}", width="0", height="0")
        for name in tags[frame]:
            SubElement(image, "tag", label=name, source="manual")
    indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + tostring(root, encoding="unicode") + "\n"
