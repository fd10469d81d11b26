"""Damaged files of every kind that is read, and what becomes of them; JSON on standard output.

    python benchmarks/fuzz.py [--count 300] [--seconds 600] [--seed 0] [--limit 60] [--only points.csv]

Small made videos, points, annotations, detections, label files of other tools and feature files are changed at random:
bytes flipped, cut out, doubled or moved, numbers and brackets swapped for others. A command reads each in a process
forked for it. It may succeed, or fail in one line. What ends in a traceback, by a signal, past the limit in seconds, or
with files outside of its output folder is reported with the number that makes it again, and the exit code is 1.

Videos and points come twice: `video.*` and `train.*` through all of `hrpro extract` and `hrpro train`, which take
seconds, and `decode.*` and `points*` through the part of them that reads, which takes a hundredth.
"""

import argparse
import codecs
import contextlib
import json
import multiprocessing
import os
import random
import re
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from machine import emit
from made_videos import write_drifting

import hrpro_pipeline.commands.extract
import hrpro_pipeline.commands.report
import hrpro_pipeline.commands.train  # noqa: F401  once here, and not in each process
from hrpro_pipeline.cli import main as command_line
from hrpro_pipeline.commands.convert import convert_labels
from hrpro_pipeline.data.annotations import read_annotations
from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.detections import Curves, Detection, VideoDetections, write_activitynet, write_detections
from hrpro_pipeline.data.features import write_features
from hrpro_pipeline.data.formats.known import FORMATS
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.process import DecodeRecord, DecodeRequest, VideoFacts, stream_video
from hrpro_pipeline.show.thumbnails import film_strip

CONTAINERS = ("mp4", "mov", "mkv", "avi", "ts", "flv", "mpg", "3gp", "mts", "wmv", "ogv", "mxf", "gif", "webm", "nut")
CODECS = {"wmv": "wmv2", "ogv": "libvpx", "gif": "gif", "webm": "libvpx", "mxf": "mpeg2video", "mpg": "mpeg1video"}
# What a text may turn into at a place: other numbers, other marks, other letters.
WORDS = (
    *(b"NaN", b"Infinity", b"-1", b"1e999", b"null", b"[]", b"{}", b'""', b"true", b"9" * 400, b"[" * 3000, b"-0.3"),
    *(b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b"../../evil", b"/etc/passwd", b"\r", b"\n\n", b'"', b",", b";", b"\t"),
    *("\u200b".encode(), "e\u0301".encode(), "\U0001f3c3".encode(), b"\\ud800", b"1:02:03", b"3,5", b":", b"=cmd()"),
)
TEXTS = {".csv", ".json", ".boris", ".eaf", ".xml", ".txt", ".edl", ".vtt", ".srt"}
GOOD = ("read", "refused")
SMALL = ("--weights", "random", "--device", "cpu", "--set", "extract.resize=32", "--set", "extract.crop=32")

Arguments = Callable[[Path, Path], list[str]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no more files after so many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first change, to make one again")
    parser.add_argument("--limit", type=float, default=60, help="seconds a file")
    parser.add_argument("--only", default="", help="files whose names have this in them")
    arguments = parser.parse_args()
    started = time.monotonic()
    ends: Counter[str] = Counter()
    files: Counter[str] = Counter()
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        readers = {file: read for file, read in _write_files(folder / "sound").items() if arguments.only in file.name}
        for number in range(arguments.first, arguments.first + arguments.count):
            if time.monotonic() - started > arguments.seconds:
                break
            rng = random.Random(f"{arguments.seed} {number}")
            file, read = rng.choice(sorted(readers.items(), key=lambda item: item[0].name))
            end, problem = _try(folder / "tried", file, read, rng, arguments.limit)
            ends[end] += 1
            files[file.name] += 1
            if end not in GOOD:
                found.append({"number": number, "file": file.name, "end": end, "output": problem})
    emit(
        {
            "what": "fuzz",
            "files": files.total(),
            "seed": arguments.seed,
            "seconds": time.monotonic() - started,
            "ends": dict(ends),
            "kinds": dict(sorted(files.items())),
            "found": found,
        }
    )
    sys.exit(1 if found else 0)


def _try(folder: Path, file: Path, read: Arguments, rng: random.Random, limit: float) -> tuple[str, str]:
    """How a command ends on a changed copy of a file, and what it said if that is not as it should be."""
    with tempfile.TemporaryDirectory(dir=_made(folder)) as name:
        place = Path(name)
        changed = _made(place / "in") / file.name
        change = _changed_text if file.suffix in TEXTS and rng.random() < 0.8 else _changed
        changed.write_bytes(change(file.read_bytes(), rng))
        log = _made(place / "out") / "log.txt"
        log.touch()  # the process may be killed before it opens it
        process = multiprocessing.get_context("fork").Process(
            target=_run, args=(read(changed, place / "out"), _made(place / "here"), log)
        )
        process.start()
        process.join(limit)
        hangs = process.is_alive()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if hangs:  # it may not have come to a group of its own
            process.kill()
        process.join()
        output = log.read_text(errors="replace")
        if hangs:
            return "hang", output[-600:]
        strangers = [path for path in place.rglob("*") if path.is_file() and place / "out" not in path.parents]
        strangers += [path for path in folder.iterdir() if path != place]
        if strangers != [changed]:
            return "files elsewhere", f"{strangers}\n{output[-600:]}"
        if "Traceback" in output or process.exitcode not in (0, 1, 2):
            return "traceback" if "Traceback" in output else f"exit code {process.exitcode}", output[-1200:]
        if process.exitcode and "error: " not in output and " failed" not in output:
            return "no word", output[-600:]
        return "read" if process.exitcode == 0 else "refused", ""


def _run(arguments: list[str], folder: Path, log: Path) -> None:
    """Run the command line in this process, the first of a new group, in a folder of its own."""
    os.setsid()
    os.chdir(folder)
    with log.open("wb") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    if arguments[0] not in PARTS:
        command_line(arguments)
        return
    try:
        PARTS[arguments[0]](*map(Path, arguments[1:]))
    except HrproError as error:
        print(f"error: {error}")
        sys.exit(1)


def _decode(path: Path) -> None:
    """Read a video as the process for decoding does, and its small pictures as the report does."""
    frames = list(stream_video(DecodeRequest(path, "pyav", 25.0, 32, keep_partial=True), alone=True))
    assert isinstance(frames[0], VideoFacts) and isinstance(frames[-1], DecodeRecord)
    film_strip(path, 3)


def _load(points: Path, truth: Path, features: Path) -> None:
    """Read what a training reads."""
    load_training_set(features, read_points(points), read_annotations(truth))


# Parts of commands, by a word in the place of a command's name: reading without the seconds that a network takes.
PARTS: dict[str, Callable[..., None]] = {"decode": _decode, "load": _load}


def _changed_text(data: bytes, rng: random.Random) -> bytes:
    """The text with one to three of its words or numbers swapped for others, in the encoding that it had."""
    encoding = "utf-16" if data.startswith(codecs.BOM_UTF16_LE) else "utf-8"
    text = data.decode(encoding)
    for _ in range(rng.randint(1, 3)):
        # Values mostly: most texts without their brackets are simply no JSON.
        values = rng.random() < 0.9
        tokens = list(re.finditer(r'"[^"]*"|[\w.]+' if values else r"[\[\]{},;:]", text))
        if not tokens:
            break
        token = rng.choice(tokens)
        word = rng.choice([rng.choice(tokens)[0], rng.choice(WORDS).decode("utf-8", "replace")])
        if token[0].startswith('"') and rng.random() < 0.7:
            word = f'"{word.strip(chr(34))}"'
        text = text[: token.start()] + word + text[token.end() :]
    return text.encode(encoding, "replace")


def _changed(data: bytes, rng: random.Random) -> bytes:
    """The data with one to six changes."""
    content = bytearray(data)
    for _ in range(rng.randint(1, 6)):
        start = rng.randrange(len(content) + 1)
        # Headers are where most is decided.
        if rng.random() < 0.4:
            start = min(start, rng.randrange(512))
        length = min(rng.choice((1, 2, 4, 8, 64, 1000)), len(content) - start)
        kind = rng.randrange(6)
        if kind == 0 and length:
            content[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            content[start : start + length] = rng.randbytes(length)
        elif kind == 2:
            del content[start : start + length]
        elif kind == 3:
            content[start:start] = content[start : start + length] * rng.randint(1, 3)
        elif kind == 4:
            content[start : start + length] = bytes([rng.choice((0, 255))]) * length
        elif kind == 5 and rng.random() < 0.3:
            del content[start:]
    return bytes(content)


def _write_files(folder: Path) -> dict[Path, Arguments]:
    """Sound files of every kind, each with the arguments of a command that reads it."""
    _made(folder)
    files: dict[Path, Arguments] = {}

    def extract(changed: Path, out: Path) -> list[str]:
        return ["extract", str(changed), "--out", str(out), "--streams", "rgb", "--keep-partial", *SMALL]

    source = write_drifting(folder / "source.mp4", 20, 64, 48)
    for suffix in CONTAINERS:
        files[_converted(source, folder / f"video.{suffix}")] = extract
        files[_converted(source, folder / f"decode.{suffix}")] = lambda changed, out: ["decode", str(changed)]
    _write_tables(folder)
    points, truth, found, store = (str(folder / name) for name in ("points.csv", "gt.json", "found", "features"))

    def train(points: str, truth: str, features: str, out: Path) -> list[str]:
        quick = ["--set=snippet.steps=1", "--set=instance.epochs=1", "--set=pyramid.steps=1", "--device=cpu"]
        return ["train", features, "--points", points, "--annotations", truth, "--out", str(out / "run"), *quick]

    def evaluate(changed: Path, out: Path) -> list[str]:
        return ["evaluate", str(changed), "--annotations", truth]

    def report(changed: Path, out: Path) -> list[str]:
        return ["report", str(changed), "--annotations", truth, "--points", points, "--out", str(out / "page.html")]

    def draw(changed: Path, out: Path) -> list[str]:
        return ["points", "--annotations", str(changed), "--distribution", "uniform", "--out", str(out / "points.csv")]

    files[folder / "train.csv"] = lambda changed, out: train(str(changed), truth, store, out)
    for name in ("points.csv", "points_in_frames.csv"):
        files[folder / name] = lambda changed, out: ["load", str(changed), truth, store]
    files[folder / "gt.json"] = draw
    files[Path(found) / "v0.json"] = report
    files[folder / "all.json"] = evaluate
    files[Path(store) / "v0.h5"] = lambda changed, out: ["info", str(changed)]
    files[Path(store) / "v1.h5"] = lambda changed, out: [
        *("load", str(folder / "second_video.csv"), truth, str(changed.parent))
    ]
    files[folder / "array.npy"] = lambda changed, out: [
        *("import", "features", str(changed.parent), "--out", str(out / "features"))
    ]
    for name in _write_labels(folder):
        files[folder / name] = lambda changed, out: ["convert", str(changed), str(out / "points.csv"), "--fps", "25"]
    return files


def _write_labels(folder: Path) -> list[str]:
    """The points, in each format of other tools that is read; the names of the files."""
    names = {name: f"labels_{name}{known.suffix}" for name, known in FORMATS.items() if known.read is not None}
    for name, file in names.items():
        one_video = "videos" not in FORMATS[name].holds
        convert_labels(folder / ("one_video.csv" if one_video else "points.csv"), folder / file, to=name, fps=25)
    return list(names.values())


def _write_tables(folder: Path) -> None:
    """Points, annotations, detections and features of two videos."""
    items = [{"label": "pour water", "segment": [0.5, 2.5]}, {"label": "stir", "segment": [3.0, 4.5]}]
    database = {f"v{k}": {"subset": "test", "duration": 6.4, "fps": 25, "annotations": items} for k in range(2)}
    (folder / "gt.json").write_text(json.dumps({"database": database}))
    lines = [f"v{k},{item['label']},{item['segment'][0] + 0.3}" for k in range(2) for item in items]  # type: ignore[index]
    for name, part in (("points", lines), ("train", lines), ("one_video", lines[:2]), ("second_video", lines[2:])):
        (folder / f"{name}.csv").write_text("\n".join(["video_id,class,time", *part]))
    lines = [f"v{k};{item['label']};{30 + 20 * k}" for k in range(2) for item in items]
    (folder / "points_in_frames.csv").write_text("\n".join(["video_id;class;point", *lines]), encoding="utf-16")
    detections = tuple(Detection("stir", 1 / (k + 1), 0.5 * k, 0.5 * k + 1) for k in range(6))
    curves = Curves(0.32, 0.64, ("stir",), ((0.1, 0.5, 0.2),), (0.3, 0.9, 0.1))
    videos = [
        VideoDetections(f"v{k}", detections, 6.4, f"v{k}.mp4", "m", curves, ("pour water", "stir")) for k in (0, 1)
    ]
    for video in videos:
        write_detections(folder / "found", video)
    write_activitynet(folder / "all.json", videos)
    rng = np.random.default_rng(0)
    for k in range(2):
        write_features(
            folder / "features" / f"v{k}.h5",
            {name: rng.random((10, 32), np.float32) for name in ("rgb", "flow")},
            clock=SnippetClock(),
            video_id=f"v{k}",
            duration_seconds=6.4,
            num_frames=160,
        )
    np.save(folder / "array.npy", rng.random((10, 2048), np.float32))


def _converted(source: Path, path: Path) -> Path:
    """The frames of a video in another container."""
    suffix = path.suffix[1:]
    codec = CODECS.get(suffix, "mpeg4" if suffix in ("3gp", "avi") else "libx264")
    pixels = "rgb8" if codec == "gif" else "yuv420p"
    form = "mpegts" if suffix == "mts" else None
    with av.open(str(source)) as frames, av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=25)
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for number, frame in enumerate(frames.decode(video=0)):
            image = frame.reformat(format=pixels)
            image.pts, image.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(image))
        container.mux(stream.encode())
    return path


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


if __name__ == "__main__":
    main()
