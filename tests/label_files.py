"""Files of labeling tools as the tools write them, by format: the same labels of `cook` in each."""

import json
from pathlib import Path

import openpyxl

BORIS = {
    "time_format": "hh:mm:ss",
    "project_name": "kitchen",
    "project_format_version": "7.0",
    "subjects_conf": {"0": {"key": "a", "name": "anna", "description": ""}},
    "behaviors_conf": {
        "0": {"type": "State event", "key": "p", "code": "pour", "description": "", "modifiers": {}, "excluded": ""},
        "1": {"type": "Point event", "key": "s", "code": "stir", "description": "", "modifiers": {}, "excluded": ""},
    },
    "observations": {
        "first": {
            "file": {"1": ["videos/cook.mp4", "C:\\videos\\serve.mp4"], "2": ["side.mp4"]},
            "type": "MEDIA",
            "date": "2024-01-01T10:00:00",
            "time offset": 100.0,
            "events": [
                [101.0, "anna", "pour", "", "slowly", 25],
                [102.5, "anna", "pour", "", "", 62],
                [103.2, "", "stir", "", "", 80],
                [118.0, "", "pour", "", "", 450],
                [121.5, "", "pour", "", "", 537],
                [124.0, "", "stir", "", "", 600],
            ],
            "media_info": {
                "length": {"videos/cook.mp4": 20.0, "C:\\videos\\serve.mp4": 30.0, "side.mp4": 50.0},
                "fps": {"videos/cook.mp4": 25.0},
            },
        }
    },
}
# video, class, start, end
BORIS_LABELS = [
    ("cook", "pour", 1.0, 2.5),
    ("cook", "stir", 3.2, None),
    ("cook", "pour", 18.0, 20.0),
    ("serve", "pour", 0.0, 1.5),
    ("serve", "stir", 4.0, None),
]
EVENTS_HEADER = [
    *("Observation id", "Observation date", "Description", "Observation duration", "Observation type", "Source"),
    *("Time offset (s)", "Media duration (s)", "FPS", "weather", "Subject", "Behavior", "Behavioral category"),
    *("Modifier #1", "Behavior type", "Time", "Media file name", "Image index", "Image file path", "Comment"),
]
EVENTS = [
    ["No focal subject", "pour", "Not defined", "fast", "START", "1.0", "slowly"],
    ["anna", "stir", "", "", "POINT", "3.2", ""],
    ["No focal subject", "pour", "Not defined", "fast", "STOP", "2.5", ""],
    ["anna", "stir", "", "", "POINT", "24.0", ""],
]
EVENT_LABELS = [("cook", "stir", 3.2, None), ("cook", "pour", 1.0, 2.5), ("serve", "stir", 4.0, None)]
OLD_EVENTS = """Observation id\tfirst

Media file(s)

Player #1\tcook.mp4

Observation date\t2016-11-27 01:57:26

Description\t
Time offset (s)\t0.0

Time\tMedia file path\tTotal length\tFPS\tSubject\tBehavior\tBehavioral category\tComment\tStatus
1.0\tcook.mp4\t20.0\t25.0\tNo focal subject\tpour\t\tslowly\tSTART
2.5\tcook.mp4\t20.0\t25.0\tNo focal subject\tpour\t\t\tSTOP
3.2\tcook.mp4\t20.0\t25.0\tanna\tstir\t\t\tPOINT
"""
AGGREGATED = """Observation id,Observation date,Description,Observation type,Source,Time offset (s),Coding duration,\
Media duration (s),FPS (frame/s),Subject,Observation duration by subject by observation,Behavior,Behavioral category,\
Behavior type,Start (s),Stop (s),Duration (s),Media file name,Image index start,Image index stop,Image file path start,\
Image file path stop,Comment start,Comment stop
first,2024-01-01 10:00:00,,Media file(s),player #1:cook.mp4,0,20.000,20.000,25.000,anna,20,pour,Not defined,STATE,\
1.000,2.500,1.500,cook.mp4,25,62,NA,NA,slowly,
first,2024-01-01 10:00:00,,Media file(s),player #1:cook.mp4,0,20.000,20.000,25.000,anna,20,stir,Not defined,POINT,\
3.200,3.200,NA,cook.mp4,80,80,NA,NA,,
"""
ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0"
    xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"
    xsi:noNamespaceSchemaLocation="http://www.mpi.nl/tools/elan/EAFv3.0.xsd">
    <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/videos/cook.wav" MIME_TYPE="audio/x-wav"/>
        <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/videos/cook.mp4" MIME_TYPE="video/mp4"
            RELATIVE_MEDIA_URL="./cook.mp4" TIME_ORIGIN="500"/>
        <PROPERTY NAME="lastUsedAnnotationId">3</PROPERTY>
    </HEADER>
    <TIME_ORDER>
        <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="500"/>
        <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2000"/>
        <TIME_SLOT TIME_SLOT_ID="ts3"/>
        <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="4000"/>
    </TIME_ORDER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" PARTICIPANT="anna" TIER_ID="pour@anna">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2">
                <ANNOTATION_VALUE>water</ANNOTATION_VALUE>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="stir">
        <ANNOTATION>
            <ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3">
                <ANNOTATION_VALUE/>
            </ALIGNABLE_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <TIER LINGUISTIC_TYPE_REF="note" PARENT_REF="stir" TIER_ID="note">
        <ANNOTATION>
            <REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a2">
                <ANNOTATION_VALUE>x</ANNOTATION_VALUE>
            </REF_ANNOTATION>
        </ANNOTATION>
    </TIER>
    <LINGUISTIC_TYPE GRAPHIC_REFERENCES="false" LINGUISTIC_TYPE_ID="default-lt" TIME_ALIGNABLE="true"/>
</ANNOTATION_DOCUMENT>
"""
VIA = {
    "project": {"pid": "__VIA_PROJECT_ID__", "pname": "kitchen", "vid_list": ["1"]},
    "config": {},
    "attribute": {
        "1": {"aname": "action", "anchor_id": "FILE1_Z2_XY0", "type": 4, "options": {"0": "pour", "7": "stir"}},
        "2": {"aname": "note", "anchor_id": "FILE1_Z2_XY0", "type": 1, "options": {"7": "never this"}},
    },
    "file": {"1": {"fid": 1, "fname": "cook.mp4", "type": 4, "loc": 1, "src": ""}},
    "view": {"1": {"fid_list": [1]}},
    "metadata": {
        "1_aaaa": {"vid": "1", "flg": 0, "z": [1.0, 2.5], "xy": [], "av": {"1": "0", "2": "7"}},
        "1_bbbb": {"vid": "1", "flg": 0, "z": [3.2], "xy": [], "av": {"1": "7"}},
        "1_cccc": {"vid": "1", "flg": 0, "z": [3.2], "xy": [2, 10, 10, 50, 50], "av": {"1": "7"}},
    },
}
VIA_CSV = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# SHAPE_ID = {"POINT":1,"RECTANGLE":2}
# ATTRIBUTE = {"1":{"aname":"action","anchor_id":"FILE1_Z2_XY0","type":4,"options":{"0":"pour","7":"stir"}}}
# CSV_HEADER = metadata_id,file_list,flags,temporal_coordinates,spatial_coordinates,metadata
"1_aaaa","[""cook.mp4""]",0,"[1,2.5]","[]","{""1"":""0""}"
"1_bbbb","["cook.mp4""]",0,"[3.2]","[]","{""1"":""7""}"
"""
VIA_SEGMENTS = """# Exported using VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)
# CSV_HEADER = metadata_id,file_list,temporal_segment_start,temporal_segment_end,metadata
"1_aaaa","[""cook.mp4""]",1,2.5,"{""1"":""pour""}"
"""


def _on_timeline(label: str, start: int, end: int) -> dict[str, object]:
    return {"ranges": [{"start": start, "end": end}], "timelinelabels": [label]}


LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"video": "/data/upload/3/0a1b2c3d-cook.mp4"},
        "annotations": [
            {
                "completed_by": 1,
                "was_cancelled": False,
                "result": [
                    {"type": "timelinelabels", "value": _on_timeline("pour", 26, 63)},
                    {"type": "timelinelabels", "value": _on_timeline("stir", 81, 81)},
                ],
            },
            {"completed_by": 2, "was_cancelled": True, "result": [{"type": "timelinelabels", "value": {}}]},
        ],
    }
]
LABEL_STUDIO_MIN = [{"video": "s3://bucket/cook.mp4", "id": 1, "videoLabels": [_on_timeline("pour", 26, 63)]}]
CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><name>kitchen</name><size>200</size><mode>interpolation</mode><start_frame>10</start_frame>
    <frame_filter>step=5</frame_filter><source>cook.mp4</source></task><dumped>2024</dumped></meta>
  <image id="3" name="frame_000025" width="8" height="8"><tag label="pour" source="manual"></tag></image>
  <image id="4" name="frame_000030" width="8" height="8"><tag label="pour" source="manual"></tag>
    <box label="x"/></image>
  <image id="14" name="frame_000080" width="8" height="8"><tag label="stir" source="manual"></tag></image>
</annotations>
"""
PREMIERE = (
    "Marker Name\tDescription\tIn\tOut\tDuration\tMarker Type\r\n"
    "pour\tslowly\t00:00:01:00\t00:00:02:12\t00:00:01:12\tComment\r\n"
    "stir\t\t00:00:03:05\t00:00:03:05\t00:00:00:00\tComment\r\n"
)
RESOLVE = """TITLE: Timeline 1
FCM: NON-DROP FRAME

001  001      V     C        01:00:01:00 01:00:01:01 01:00:01:00 01:00:01:01
 |C:ResolveColorBlue |M:pour |D:38

002  001      V     C        01:00:03:05 01:00:03:06 01:00:03:05 01:00:03:06
 |C:ResolveColorRed |M:stir |D:1
"""
VTT = """WEBVTT - of the kitchen

NOTE a comment

1
00:01.000 --> 00:00:02.500 align:start
<v Anna>pour</v>
slowly &amp; well

00:00:03.200 --> 00:00:04.000
stir
"""
SRT = (
    "1\r\n00:00:01,000 --> 00:00:02,500\r\n<i>pour</i>\r\nslowly\r\n\r\n2\r\n00:00:03,200 --> 00:00:04,000\r\nstir\r\n"
)


def write_all(folder: Path) -> dict[str, Path]:
    """Write each file as `<format>/cook.<suffix>` -> its path."""
    events = [[*_observation(), *row[:6], "cook.mp4", "25", "NA", row[6]] for row in EVENTS]
    texts = {
        "boris": ("boris", json.dumps(BORIS)),
        "boris-events": ("tsv", "".join("\t".join(row) + "\n" for row in [EVENTS_HEADER, *events])),
        "boris-old": ("tsv", OLD_EVENTS),
        "boris-aggregated": ("csv", AGGREGATED),
        "elan": ("eaf", ELAN),
        "via": ("json", json.dumps(VIA)),
        "via-csv": ("csv", VIA_CSV),
        "via-segments": ("csv", VIA_SEGMENTS),
        "label-studio": ("json", json.dumps(LABEL_STUDIO)),
        "label-studio-min": ("json", json.dumps(LABEL_STUDIO_MIN)),
        "cvat": ("xml", CVAT),
        "audacity": ("txt", "1.000000\t2.500000\tpour\n\\\t100.0\t200.0\n3.200000\t3.200000\tstir\n"),
        "premiere": ("csv", PREMIERE),
        "resolve": ("edl", RESOLVE),
        "vtt": ("vtt", VTT),
        "srt": ("srt", SRT),
        "sf-net": ("txt", "cook,1.75,pour\n\ncook,3.2,stir\n\n"),
        "aapl": ("csv", "video_id,timestamp,action_label\ncook,1.75,pour\ncook,3.2,stir\n"),
        "points": ("csv", "video_id,class,time\ncook,pour,1.75\ncook,stir,3.2\n"),
        "annotations": ("json", '{"database": {"cook": {"annotations": [{"label": "pour", "segment": [1, 2.5]}]}}}'),
        "detections": ("json", '{"results": {"cook": [{"label": "pour", "score": 0.5, "segment": [1, 2.5]}]}}'),
    }
    paths = {}
    for name, (suffix, text) in texts.items():
        paths[name] = folder / name / f"cook.{suffix}"
        paths[name].parent.mkdir(parents=True)
        paths[name].write_bytes(text.encode("utf-16" if name == "premiere" else "utf-8"))
    paths["boris-xlsx"] = folder / "cook.xlsx"
    book = openpyxl.Workbook()
    for row in [EVENTS_HEADER, *events]:
        book.active.append([float(cell) if cell.replace(".", "", 1).isdigit() else cell for cell in row])
    book.save(paths["boris-xlsx"])
    return paths


def _observation() -> list[str]:
    source = "player #1:videos/cook.mp4;videos/serve.mp4|player #2:side.mp4"
    media = [source, "0.0", "20.000;30.000|50.000", "25.000;25.000|25.000", "dry"]
    return ["first", "2024-01-01 10:00:00", "", "50.000", "Media file(s)", *media]
