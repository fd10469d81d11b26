"""VIA 3 (VGG Image Annotator): projects in JSON and both of its CSV exports. One time is a point, two are a segment."""

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import Any

from hrpro_pipeline.data.formats.label import Found, Hints, Label, one_line_text
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.errors import HrproError

_TEXT = 1  # type of an attribute whose values are text, not ids of its options
_REGIONS = "regions of the picture"
_HEADER = re.compile(r"^#\s*CSV_HEADER\s*=\s*(\S.*)$", re.MULTILINE)
_ATTRIBUTES = re.compile(r"^#\s*ATTRIBUTES?\s*=\s*(\{.*\})\s*$", re.MULTILINE)


def matches(source: Source) -> bool:
    """Whether a file is a VIA 3 project."""
    return source.start.startswith("{") and source.mentions('"metadata"', '"view"', '"attribute"')


def matches_csv(source: Source) -> bool:
    """Whether a file is a CSV export of VIA 3."""
    return source.start.startswith("#") and "CSV_HEADER" in source.start or source.start.startswith("metadata_id,file")


def read(source: Source, hints: Hints) -> list[Label]:
    """The temporal segments and points of a project; the class is its first attribute."""
    found = Found(source.path)
    project = source.json if isinstance(source.json, dict) else {}
    metadata, views, files = (project.get(name) for name in ("metadata", "view", "file"))
    if not isinstance(metadata, dict) or not isinstance(views, dict) or not isinstance(files, dict):
        raise HrproError(f"{source.path}: no objects 'metadata', 'view' and 'file'; expected a project of VIA 3")
    attributes = project.get("attribute")
    for name, item in metadata.items():
        place = f"metadata {name}"
        if not isinstance(item, dict):
            found.problems.append(f"{place}: expected an object with vid, z and av")
            continue
        view = views.get(str(item.get("vid")))
        file_ids = view.get("fid_list") if isinstance(view, dict) else None
        file = files.get(str(file_ids[0])) if isinstance(file_ids, list) and file_ids else None
        video = (file.get("fname") or file.get("src")) if isinstance(file, dict) else None
        _add(found, place, video, item.get("z"), item.get("xy"), _values(item.get("av"), attributes))
    return found.done()


def _add(found: Found, place: str, video: Any, times: Any, region: Any, values: list[tuple[str, str]]) -> None:
    """Add one item by its times `[t]` or `[start, end]` and its named values, of which the first is the class."""
    if region:
        found.left_out[_REGIONS] += 1
    elif times == []:
        found.left_out["labels of whole files"] += 1
    elif not isinstance(times, list) or len(times) > 2:
        found.problems.append(f"{place}: times are not [t] or [start, end] in seconds")
    else:
        more = [(name, value) for name, value in values[1:] if value]
        comment = ", ".join(value if name == "comment" else f"{name}: {value}" for name, value in more)
        found.add(place, video, values[0][1] if values else "", *times, comment=comment)


def _values(given: Any, attributes: Any) -> list[tuple[str, str]]:
    """Names and values of an item, by the numbers of their attributes; ids of options become what they stand for."""
    known = attributes if isinstance(attributes, dict) else {}
    values = []
    for key in sorted(given, key=lambda key: (len(key), key)) if isinstance(given, dict) else []:
        attribute = known.get(key)
        value = one_line_text(given[key] if isinstance(given[key], str) else str(given[key]))
        if isinstance(attribute, dict):
            options = attribute.get("options")
            if isinstance(options, dict) and str(attribute.get("type")) != str(_TEXT):
                # Checked boxes are ids with commas between them.
                value = ", ".join(str(options.get(part, part)) for part in value.split(",") if part)
            values.append((str(attribute.get("aname", key)), value))
        else:
            values.append((str(attribute or key), value))
    return values


def read_csv(source: Source, hints: Hints) -> list[Label]:
    """The rows of an export; the names of attributes and options are in its comments, if anywhere."""
    found = Found(source.path)
    header = _HEADER.search(source.text)
    lines = source.text.splitlines()
    columns = (header[1] if header else lines[0]).rstrip(",").split(",")
    stated = _ATTRIBUTES.search(source.text)
    attributes = _json(stated[1]) if stated else None
    rows = csv.reader(io.StringIO("".join("\n" if line.startswith("#") else f"{line}\n" for line in lines)))
    try:
        for row in rows:
            if row and row[: len(columns)] != columns:
                place = f"line {rows.line_num}"
                if len(row) < len(columns):
                    found.problems.append(f"{place}: {len(row)} cells; expected {', '.join(columns)}")
                    continue
                _add_row(found, place, dict(zip(columns, row, strict=False)), attributes)
    except csv.Error as error:
        raise HrproError(f"{source.path}, line {rows.line_num}: not CSV that can be read ({error})") from None
    return found.done()


def _add_row(found: Found, place: str, row: dict[str, str], attributes: Any) -> None:
    files = _json(row.get("file_list", ""))
    # Early versions of VIA 3 quote the list wrongly.
    video = files[0] if isinstance(files, list) and files else row.get("file_list", "").strip('[]"')
    if "temporal_coordinates" in row:
        times = _json(row["temporal_coordinates"])
    else:
        times = [row.get("temporal_segment_start"), row.get("temporal_segment_end")]
    _add(
        found,
        place,
        video,
        times,
        _json(row.get("spatial_coordinates", "[]")),
        _values(_json(row.get("metadata", "")), attributes),
    )


def _json(text: str) -> Any:
    """The content of a cell; None where it is not JSON."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def render(labels: Sequence[Label], hints: Hints) -> str:
    """A project with a view for each video, `<video id>.mp4`, and the classes as options of one attribute."""
    videos = {
        video_id: str(number) for number, video_id in enumerate(sorted({item.video_id for item in labels}), start=1)
    }
    classes = {name: str(number) for number, name in enumerate(sorted({item.label for item in labels}))}
    attribute = {
        "aname": "class",
        "anchor_id": "FILE1_Z2_XY0",
        "type": 4,
        "desc": "",
        "default_option_id": "",
        "options": {number: name for name, number in classes.items()},
    }
    comments = {"aname": "comment", "anchor_id": "FILE1_Z2_XY0", "type": _TEXT, "desc": "", "options": {}}
    project = {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": "hrpro",
            "creator": "hrpro",
            "created": 0,
            "vid_list": list(videos.values()),
        },
        "config": {"file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}}, "ui": {}},
        "attribute": {"1": attribute, "2": {**comments, "default_option_id": ""}},
        "file": {
            number: {"fid": number, "fname": f"{name}.mp4", "type": 4, "loc": 1, "src": f"{name}.mp4"}
            for name, number in videos.items()
        },
        "view": {number: {"fid_list": [number]} for number in videos.values()},
        "metadata": {
            f"{videos[label.video_id]}_{number}": {
                "vid": videos[label.video_id],
                "flg": 0,
                "z": _times(label),
                "xy": [],
                "av": {"1": classes[label.label], **({"2": label.comment} if label.comment else {})},
            }
            for number, label in enumerate(labels, start=1)
        },
    }
    return json.dumps(project, allow_nan=False) + "\n"


def render_csv(labels: Sequence[Label], hints: Hints) -> str:
    """The CSV export, with the class as text."""
    columns = "metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata"
    out = io.StringIO()
    out.write('# Exported by hrpro in the form of VGG Image Annotator\n# ATTRIBUTES = {"1":"class","2":"comment"}\n')
    out.write(f"# CSV_HEADER = {columns}\n")
    rows = csv.writer(out, lineterminator="\n")
    for number, label in enumerate(labels, start=1):
        values = {"1": label.label, **({"2": label.comment} if label.comment else {})}
        cells = [json.dumps(value) for value in ([f"{label.video_id}.mp4"], _times(label), [], values)]
        rows.writerow([f"1_{number}", cells[0], 0, *cells[1:]])
    return out.getvalue()


def _times(label: Label) -> list[float]:
    return [round(time, 3) for time in (label.start_seconds, label.end_seconds) if time is not None]
