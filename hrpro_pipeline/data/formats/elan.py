"""ELAN documents (`.eaf`): XML with tiers of annotations between time slots. ELAN has no points."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from hrpro_pipeline.data.formats.label import Found, Hints, Label, one_line_text
from hrpro_pipeline.data.formats.names import ClassFrom
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.numbers import finite_number
from hrpro_pipeline.errors import HrproError


@dataclass(frozen=True)
class _Annotation:
    """An annotation of a tier that has times of its own; None for a time slot that is not there."""

    place: str
    tier: str
    participant: str
    value: str
    start: float | None
    end: float | None


def matches(source: Source) -> bool:
    """Whether a file is an ELAN document."""
    return source.start.startswith("<") and source.mentions("<ANNOTATION_DOCUMENT")


def read(source: Source, hints: Hints) -> list[Label]:
    """Annotations as segments; their class is the tier or the value.

    Raises:
        HrproError: both may be the class, and `hints` do not say which is.
    """
    found = Found(source.path)
    root = source.xml
    header = root.find("HEADER")
    units = "milliseconds" if header is None else header.get("TIME_UNITS", "milliseconds")
    if units != "milliseconds":
        raise HrproError(f"{source.path}: times in {units}; expected TIME_UNITS milliseconds: export it again")
    video, origin = _media(source, header)
    annotations = list(_annotations(found, root))
    choice = hints.class_from or _class_from(source, annotations)
    for item in annotations:
        name, comment = (item.tier, item.value) if choice == "tier" else (item.value, "")
        if not name:
            found.left_out[f"annotations without a {choice}"] += 1
            continue
        start, end = ("nothing" if time is None else (time + origin) / 1000 for time in (item.start, item.end))
        comment = "" if comment == name else comment
        found.add(item.place, video, name, start, end, subject=item.participant, comment=comment)
    return found.done()


def _media(source: Source, header: Element | None) -> tuple[str, float]:
    """The name of the first video, and its time in ms at which the annotations' time starts."""
    media = [] if header is None else header.findall("MEDIA_DESCRIPTOR")
    media.sort(key=lambda item: not item.get("MIME_TYPE", "video").startswith("video"))
    if not media:
        return source.video_id, 0.0
    name = media[0].get("RELATIVE_MEDIA_URL") or media[0].get("MEDIA_URL") or source.video_id
    return name, finite_number(media[0].get("TIME_ORIGIN")) or 0.0


def _annotations(found: Found, root: Element) -> list[_Annotation]:
    slots = _slots(root)
    annotations = []
    for tier in root.findall("TIER"):
        participant = tier.get("PARTICIPANT", "")
        name = tier.get("TIER_ID", "").removesuffix(f"@{participant}" if participant else "")
        found.left_out["annotations without times of their own"] += len(tier.findall("ANNOTATION/REF_ANNOTATION"))
        for item in tier.findall("ANNOTATION/ALIGNABLE_ANNOTATION"):
            place = f"annotation {item.get('ANNOTATION_ID', '')} of tier {name}"
            value = one_line_text(item.findtext("ANNOTATION_VALUE", ""))
            start, end = (slots.get(item.get(f"TIME_SLOT_REF{number}", "")) for number in (1, 2))
            annotations.append(_Annotation(place, name, participant, value, start, end))
    return annotations


def _slots(root: Element) -> dict[str, float]:
    """Times in ms by slot; slots without one lie at equal distances between their neighbors, as ELAN shows them."""
    slots = [(slot.get("TIME_SLOT_ID", ""), finite_number(slot.get("TIME_VALUE"))) for slot in root.iter("TIME_SLOT")]
    times: dict[str, float] = {}
    waiting: list[str] = []
    last = 0.0
    for slot, time in slots:
        if time is None:
            waiting.append(slot)
            continue
        for number, name in enumerate(waiting, start=1):
            times[name] = last + (time - last) * number / (len(waiting) + 1)
        waiting = []
        times[slot] = last = time
    return times


def _class_from(source: Source, annotations: Sequence[_Annotation]) -> ClassFrom:
    """What the class is where only one of the two can be: values are missing, or repeat the tier."""
    if all(item.value in ("", item.tier) for item in annotations):
        return "tier"
    tiers, values = ({getattr(item, name) for item in annotations} - {""} for name in ("tier", "value"))
    shown = [", ".join(sorted(names)[:3]) + (", ..." if len(names) > 3 else "") for names in (tiers, values)]
    kinds = " or ".join(
        f"`class_from={kind}` ({text:.80})" for kind, text in zip(get_args(ClassFrom), shown, strict=True)
    )
    raise HrproError(f"{source.path}: tiers or values may be the classes; give {kinds} to `hrpro convert`")


def render(labels: Sequence[Label], hints: Hints) -> str:
    """A document of one video, `<video id>.mp4`, with a tier for each class and subject."""
    root = Element("ANNOTATION_DOCUMENT", AUTHOR="", DATE="2000-01-01T00:00:00+00:00", FORMAT="3.0", VERSION="3.0")
    header = SubElement(root, "HEADER", MEDIA_FILE="", TIME_UNITS="milliseconds")
    file = f"./{labels[0].video_id}.mp4"
    SubElement(header, "MEDIA_DESCRIPTOR", MEDIA_URL=file, MIME_TYPE="video/mp4", RELATIVE_MEDIA_URL=file)
    order = SubElement(root, "TIME_ORDER")
    times = sorted({round(1000 * time) for label in labels for time in (label.start_seconds, label.last_seconds)})
    slots = {time: f"ts{number}" for number, time in enumerate(times, start=1)}
    for time, slot in slots.items():
        SubElement(order, "TIME_SLOT", TIME_SLOT_ID=slot, TIME_VALUE=str(time))
    tiers: dict[tuple[str, str], Element] = {}
    for number, label in enumerate(labels, start=1):
        key = (label.label, label.subject)
        if key not in tiers:
            tier_id = f"{label.label}@{label.subject}" if label.subject else label.label
            tiers[key] = SubElement(root, "TIER", LINGUISTIC_TYPE_REF="default-lt", TIER_ID=tier_id)
            if label.subject:
                tiers[key].set("PARTICIPANT", label.subject)
        item = SubElement(
            SubElement(tiers[key], "ANNOTATION"),
            "ALIGNABLE_ANNOTATION",
            ANNOTATION_ID=f"a{number}",
            TIME_SLOT_REF1=slots[round(1000 * label.start_seconds)],
            TIME_SLOT_REF2=slots[round(1000 * (label.last_seconds))],
        )
        SubElement(item, "ANNOTATION_VALUE").text = label.comment or label.label
    SubElement(
        root, "LINGUISTIC_TYPE", LINGUISTIC_TYPE_ID="default-lt", TIME_ALIGNABLE="true", GRAPHIC_REFERENCES="false"
    )
    indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root, encoding="unicode") + "\n"
