"""Files of labeling tools: read as their tools write them, written so that they come back, refused when hostile."""

import json
import zipfile
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner
from label_files import BORIS, BORIS_LABELS, EVENT_LABELS, write_all

from hrpro_pipeline import convert_labels
from hrpro_pipeline.cli import main
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.formats.known import FORMATS, format_of
from hrpro_pipeline.data.formats.label import Hints, Label, id_of_media
from hrpro_pipeline.data.formats.names import FormatName
from hrpro_pipeline.data.formats.source import Source
from hrpro_pipeline.data.formats.timecode import seconds_of, timecode
from hrpro_pipeline.data.labels import ALL_FORMATS, fitted, read_labels, write_labels
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError, ProblemsError

POUR, STIR = ("cook", "pour", 1.0, 2.5), ("cook", "stir", 3.2, None)
POINTS = [("cook", "pour", 1.75, None), STIR]
EXPECTED = {
    "boris": BORIS_LABELS,
    "boris-events": EVENT_LABELS,
    "boris-xlsx": EVENT_LABELS,
    "elan": [POUR, ("cook", "stir", 2.5, 3.5)],
    "via-segments": [POUR],
    "label-studio": [("cook", "pour", 1.0, 2.48), STIR],
    "label-studio-min": [("cook", "pour", 1.0, 2.48)],
    "cvat": [("cook", "pour", 1.0, 1.4), STIR],
    "premiere": [("cook", "pour", 1.0, 2.48), STIR],
    "resolve": [("cook", "pour", 1.0, 2.52), STIR],
    "vtt": [POUR, ("cook", "stir", 3.2, 4.0)],
    "srt": [POUR, ("cook", "stir", 3.2, 4.0)],
    "sf-net": POINTS,
    "aapl": POINTS,
    "points": POINTS,
    "annotations": [POUR],
    "detections": [POUR],
}
HINTS = Hints(fps=25, class_from="tier")
LABELS = [
    Label("cook", "pour", 1.0, 2.5, "anna", "slowly & <well>"),
    Label("cook", "pour", 2.5, 4.04, "anna"),
    Label("cook", "stir it, \"twice\" 'now'", 3.2, None),
    Label("cook", "öffnen|zu", 0.0, 12.345, score=0.5),
    Label("serve", "stir", 3700.52, None),
    Label("serve", "pour", 59.98, 3601.0, score=0.25),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_all(tmp_path_factory.mktemp("formats"))


def facts(labels: list[Label]) -> list[tuple[object, ...]]:
    return [
        (
            item.video_id,
            item.label,
            round(item.start_seconds, 6),
            None if item.is_point else round(item.last_seconds, 6),
        )
        for item in labels
    ]


@pytest.mark.parametrize("name", [*EXPECTED, "boris-old", "boris-aggregated", "via", "via-csv", "audacity"])
def test_files_as_tools_write_them(files: dict[str, Path], name: str) -> None:
    assert sorted(facts(read_labels(files[name], HINTS)), key=repr) == sorted(
        EXPECTED.get(name, [POUR, STIR]), key=repr
    )


def test_each_file_is_of_one_format(files: dict[str, Path]) -> None:
    for name, path in files.items():
        source = Source(path)
        matching = [key for key, known in ALL_FORMATS.items() if known.matches is not None and known.matches(source)]
        assert len(matching) == 1, f"{name}: {matching}"
        assert name.startswith(matching[0].partition("-")[0])


def test_names_are_those_of_the_formats() -> None:
    assert get_args(FormatName) == tuple(ALL_FORMATS)


def test_subjects_comments_and_scores(files: dict[str, Path]) -> None:
    first = read_labels(files["boris"])[0]
    assert (first.subject, first.comment) == ("anna", "slowly")
    events = {label.label: label for label in read_labels(files["boris-events"])}
    assert (events["stir"].subject, events["pour"].subject, events["pour"].comment) == ("anna", "", "slowly")
    elan = read_labels(files["elan"], HINTS)
    assert [(label.subject, label.comment) for label in elan] == [("anna", "water"), ("", "")]
    assert read_labels(files["via"])[0].comment == "note: 7"
    assert read_labels(files["vtt"])[0].comment == "slowly & well"
    assert read_labels(files["detections"])[0].score == 0.5


def test_elan_asks_for_the_class_only_where_both_may_be(files: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(HrproError, match=r"`class_from=tier` \(pour, stir\) or `class_from=value` \(water\)"):
        read_labels(files["elan"])
    path = tmp_path / "a.eaf"
    path.write_text(files["elan"].read_text().replace("<ANNOTATION_VALUE>water<", "<ANNOTATION_VALUE>pour<"))
    assert [label.label for label in read_labels(path)] == ["pour", "stir"]
    path.write_text(
        files["elan"].read_text().replace("<ANNOTATION_VALUE/>", "<ANNOTATION_VALUE>spoon</ANNOTATION_VALUE>")
    )
    assert [label.label for label in read_labels(path, Hints(class_from="value"))] == ["water", "spoon"]


def test_old_tables_with_several_media_files_are_refused(files: dict[str, Path], tmp_path: Path) -> None:
    events = files["boris-old"].read_text().replace("3.2\tcook.mp4", "23.2\tserve.mp4")
    rows = ("first,side.mp4,anna,pour,STATE,1.0,2.5,1.5", "first,{},anna,stir,POINT,3.2,3.2,NA")
    header = "Observation id,Media file,Subject,Behavior,Behavior type,Start (s),Stop (s),Duration (s)"
    (tmp_path / "events.tsv").write_text(events)
    (tmp_path / "aggregated.csv").write_text("\n".join([header, *rows]).format("cook.mp4"))
    for path in tmp_path.iterdir():
        with pytest.raises(HrproError, match="several media files, and not how long each is; give the .boris project"):
            read_labels(path)
    (tmp_path / "aggregated.csv").write_text("\n".join([header, *rows]).format("side.mp4"))
    assert facts(read_labels(tmp_path / "aggregated.csv")) == [("side", *POUR[1:]), ("side", *STIR[1:])]


@pytest.mark.parametrize("name", ["cvat", "premiere", "resolve"])
def test_frames_need_a_rate(files: dict[str, Path], name: str) -> None:
    for reader in (read_labels, read_points, read_annotations):
        with pytest.raises(HrproError, match="give `fps` to `hrpro convert`"):
            reader(files[name])


def test_label_studio_counts_at_its_own_rate(files: dict[str, Path], caplog: pytest.LogCaptureFixture) -> None:
    assert read_labels(files["label-studio"])[0].start_seconds == pytest.approx(25 / 24)
    assert "24 a second, Label Studio's default" in caplog.text


def within(name: str) -> float:
    """Seconds by which times may differ: a thousandth, half a frame, or, for touching tags, a frame."""
    frames = {"cvat": 1.0, "premiere": 0.5, "resolve": 0.5, "label-studio": 0.5}
    return frames[name] / 25 + 1e-6 if name in frames else 0.001


@pytest.mark.parametrize("name", [name for name, known in ALL_FORMATS.items() if known.read])
def test_round_trips(name: str, tmp_path: Path) -> None:
    known = ALL_FORMATS[name]
    expected, _ = fitted(LABELS, known, "middle")
    out = tmp_path / ("out" if "videos" not in known.holds else f"out{known.suffix}")
    paths = write_labels(out, expected, known, HINTS)
    assert [format_of(Source(path)) for path in paths] == [name if name in FORMATS else None] * len(paths)
    found = sorted(read_labels(out, HINTS), key=lambda label: (label.video_id, label.start_seconds, label.last_seconds))
    for label, same in zip(expected, found, strict=True):
        assert same.label == (label.label.replace("|", "/") if name == "resolve" else label.label)
        assert same.is_point == label.is_point
        assert abs(same.start_seconds - label.start_seconds) <= within(name)
        assert abs(same.last_seconds - label.last_seconds) <= within(name)
        for field in {"subject", "comment", "score"} & known.holds:
            assert getattr(same, field) == getattr(label, field)


def test_points_keep_their_place_where_a_format_has_none(tmp_path: Path) -> None:
    points = [Label("cook", "stir", seconds, None) for seconds in (0.0, 0.01, 3.2)]
    for name in ("elan", "vtt", "srt"):
        kept, notes = fitted(points, ALL_FORMATS[name], "middle")
        write_labels(tmp_path / name, kept, ALL_FORMATS[name], HINTS)
        found = read_points(tmp_path / name)
        assert [point.seconds for point in found] == pytest.approx([0.0, 0.01, 3.2], abs=0.0011)
        assert notes == [f"3 points became segments of up to {ALL_FORMATS[name].point_width:g} s around them"]


def test_what_a_format_cannot_hold_is_counted() -> None:
    twice = [*LABELS, Label("cook", "pour", 2.0, 3.0, "anna")]
    notes = {name: fitted(twice, known, "start")[1] for name, known in ALL_FORMATS.items()}
    assert notes["boris-aggregated"] == ["scores of 2 labels left out"]
    assert "1 segments that overlap others of their class left out" in notes["boris"]
    assert notes["points"] == [
        "5 segments became points",
        "subjects of 3 labels left out",
        "comments of 1 labels left out",
        "scores of 2 labels left out",
    ]
    assert notes["annotations"][0] == "2 points left out"
    assert "3 labels without a score left out" in notes["detections"]


@pytest.mark.parametrize(("place", "seconds"), [("start", 1.0), ("middle", 1.75), ("end", 2.5)])
def test_points_of_segments(place: str, seconds: float, files: dict[str, Path], tmp_path: Path) -> None:
    convert_labels(files["boris-old"], tmp_path / "points.csv", point_at=place)
    assert [point.seconds for point in read_points(tmp_path / "points.csv")] == [seconds, 3.2]


def test_readers_of_points_and_annotations_take_them(files: dict[str, Path], tmp_path: Path) -> None:
    points = read_points(files["boris"])
    assert [(point.video_id, point.seconds) for point in points[:2]] == [("cook", 1.75), ("cook", 3.2)]
    truth = read_annotations(files["boris"])
    assert {name: len(video.segments) for name, video in truth.items()} == {"cook": 2, "serve": 1}
    with pytest.raises(HrproError, match="2 points and no segments"):
        read_annotations(files["sf-net"])


def test_formats_of_one_video(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("video_id,class,time\na,x,1\nb,x,2\n")
    with pytest.raises(HrproError, match="holds one video a file, and there are 2; give a folder"):
        convert_labels(tmp_path / "in.csv", tmp_path / "out.srt")
    result = convert_labels(tmp_path / "in.csv", tmp_path / "out", to="audacity")
    assert [file.name for file in result.files] == ["a.txt", "b.txt"]
    assert sorted(label.video_id for label in read_labels(tmp_path / "out")) == ["a", "b"]


def test_outputs_of_an_unknown_kind_are_wrong_use(files: dict[str, Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["convert", str(files["boris"]), str(tmp_path / "out.txt")])
    assert result.exit_code == 2
    assert "say in which format with --to, one of points, annotations, detections, boris" in result.output
    result = CliRunner().invoke(main, ["convert", str(files["cvat"]), str(tmp_path / "out.csv")])
    assert result.exit_code == 1
    assert "give --fps to `hrpro convert`" in result.output


def test_chapters(tmp_path: Path) -> None:
    rows = "".join(f"a,step {number},{time}\n" for number, time in enumerate((20, 25, 31, 3700)))
    (tmp_path / "in.csv").write_text("video_id,class,time\n" + rows)
    convert_labels(tmp_path / "in.csv", tmp_path / "a.txt", to="youtube")
    assert (tmp_path / "a.txt").read_text() == "0:00 Start\n0:20 step 0\n0:31 step 2\n1:01:40 step 3\n"


@pytest.mark.parametrize(
    ("text", "fps", "seconds"),
    [
        ("00:00:01:12", 25, 1.48),
        ("01:00:00:00", 30000 / 1001, 3603.6),
        ("00:01:00;02", 30000 / 1001, 1800 * 1001 / 30000),
        ("00:10:00;00", 30000 / 1001, 17982 * 1001 / 30000),
        ("00:01:00;04", 60000 / 1001, 3600 * 1001 / 60000),
    ],
)
def test_timecodes(text: str, fps: float, seconds: float) -> None:
    assert seconds_of(text, fps) == pytest.approx(seconds, abs=1e-9)
    if ";" not in text:
        assert timecode(seconds, fps) == text


@pytest.mark.parametrize(
    ("name", "video_id"),
    [
        ("C:\\a\\b.mp4", "b"),
        ("file:///a/b%20c.MOV", "b c"),
        ("https://host/x/b.mp4?token=1", "b"),
        ("/data/local-files/?d=folder/b.mp4", "b"),
        ("b.1.mp4", "b.1"),
        ("b.1", "b.1"),
        ("../../b", "b"),
        ("..", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_video_ids(name: str | None, video_id: str) -> None:
    assert id_of_media(name) == video_id


NESTED = "[" * 200_000
BOMB = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>'
OUTSIDE = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
EAF = "<ANNOTATION_DOCUMENT><HEADER/><TIER TIER_ID='&a;'/></ANNOTATION_DOCUMENT>"
BORIS_TEXT = json.dumps(BORIS)
HOSTILE = {
    "nested.boris": '{"behaviors_conf": {}, "observations": ' + NESTED,
    "nested.json": '{"metadata": 1, "view": 1, "attribute": ' + NESTED,
    "digits.json": '[{"annotations": [], "result": ' + "9" * 10_000 + "}]",
    "bomb.eaf": BOMB + EAF,
    "outside.eaf": OUTSIDE + EAF,
    "outside.xml": OUTSIDE + "<annotations><version>1.1</version>&a;</annotations>",
    "lists.boris": BORIS_TEXT.replace('["videos/cook.mp4"', "[" + "[" * 900 + "]" * 900),
    "codes.boris": BORIS_TEXT.replace('"anna", "pour", ""', '"anna", ' + "[" * 900 + "]" * 900, 1),
    "encoding.eaf": '<?xml version="1.0" encoding="none"?>' + EAF,
    "address.json": '[{"data": {"video": "http://[a"}, "annotations": [{"result": []}]}]',
    "short.csv": "Observation id,Behavior,Start (s),Stop (s),Media file\na,b\n",
    "blank.edl": "|M:|D:",
    "deep.eaf": "<ANNOTATION_DOCUMENT>" + "<a>" * 200_000,
    "deep_whole.eaf": "<ANNOTATION_DOCUMENT>" + "<a>" * 100_000 + "</a>" * 100_000 + "</ANNOTATION_DOCUMENT>",
    "nan.boris": BORIS_TEXT.replace("101.0", "NaN"),
    "infinite.boris": BORIS_TEXT.replace("103.2", "1e999"),
    "negative.boris": BORIS_TEXT.replace("103.2", "3.2"),
    "types.boris": BORIS_TEXT.replace("[101.0", "[[101.0]"),
    "events.boris": BORIS_TEXT.replace("[103.2, ", "[").replace('"behaviors_conf": {', '"behaviors_conf": {"x": 1, '),
    "files.boris": BORIS_TEXT.replace('["videos/cook.mp4"', '[7, ["videos/cook.mp4"]'),
    "lengths.boris": BORIS_TEXT.replace('"videos/cook.mp4": 20.0', '"videos/cook.mp4": "long"'),
    "list.boris": '{"behaviors_conf": [], "observations": []}',
    "types.via.json": '{"metadata": {"1": {"vid": {}, "z": [{}], "av": 3}}, "view": {}, "file": {}, "attribute": 1}',
    "types.via2.json": '{"metadata": {"1": 2}, "view": [], "file": {}, "attribute": {}}',
    "types.ls.json": '[7, {"data": 3, "annotations": [{"result": [{"value": {"ranges": [3], "timelinelabels": 2}}]}]}]',
    "ranges.ls.json": '[{"data": {"video": "a.mp4"}, "annotations": [{"result": [{"value": {"ranges": [{"start": NaN, '
    '"end": 3}], "timelinelabels": ["x"]}}]}]}]',
    "cells.csv": "# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata\n1,2\n",
    "kind.csv": "Observation id,Behavior,Behavior type,Time,Media file name\na,b,MAYBE,1,c.mp4\n",
    "frames.edl": "001  001      V     C        01:00:01:99 01:00:01:01 01:00:01:99 01:00:01:01\n |C:x |M:a |D:1\n",
    "endless.srt": f"1\n{'9' * 400}:00:01,000 --> {'9' * 400}:00:02,500\na\n",
    "times.srt": "1\n00:00:01,000 --> 00:00:02,500\na\n\n2\n00:00:03 --> x\nb\n",
    "nan.txt": "cook,1.0,pour\ncook,nan,pour\n",
    "backwards.txt": "2.0\t1.0\tpour\n",
    "sheet.xlsx": "PK\x03\x04 not a workbook",
    "unknown.bin": "some text",
    "unknown.json": '{"a": 1}',
    "unknown.csv": "a,b\n1,2\n",
    "empty.json": "",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_are_refused_in_one_line(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(HOSTILE[name])
    with pytest.raises(HrproError) as caught:
        read_labels(path, HINTS)
    problems = caught.value.problems if isinstance(caught.value, ProblemsError) else [str(caught.value)]
    assert str(path) in str(caught.value)
    assert all("\n" not in problem and len(problem) < 500 for problem in problems), problems
    for reader in (read_points, read_annotations):
        with pytest.raises(HrproError):
            reader(path)


def test_unknown_files_are_told_what_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("hello")
    with pytest.raises(HrproError, match="in no format that is known; .* points, .*BORIS project, .*ELAN"):
        read_labels(tmp_path / "a.txt")
    (tmp_path / "b.eaf").write_bytes(b"\xff\x00\x81")
    with pytest.raises(HrproError, match="not text in UTF-8"):
        read_labels(tmp_path / "b.eaf")
    with pytest.raises(HrproError, match="no such file"):
        read_labels(tmp_path / "none.eaf")


def test_swollen_workbooks_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as book, book.open("x", "w") as part:
        for _ in range(300):
            part.write(bytes(1 << 20))
    with pytest.raises(HrproError, match="no format that is known"):
        read_labels(tmp_path / "a.xlsx")


def test_many_problems_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a,1,x\n" + "a,-1,x\n" * 1000)
    with pytest.raises(ProblemsError) as caught:
        read_labels(tmp_path / "a.txt")
    assert caught.value.problems[-1] == "... and 980 more"
