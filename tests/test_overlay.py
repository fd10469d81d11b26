"""`hrpro detect --overlay` and `--clips`: what is drawn and cut is decoded again and looked at."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from make_videos import moving_square, write_made, write_video

from hrpro_pipeline.cli import main
from hrpro_pipeline.data.detections import Detection, read_detections
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.clips import clip_name
from hrpro_pipeline.show.overlay import MOST_LABELS, distinct_detections
from hrpro_pipeline.show.render import Renderer, RenderJob, render

COLORS = {"run": "#4477AA", "sit": "#EE6677", "jump": "#228833", "lie": "#CCBB44"}


def job(folder: Path, *detections: Detection, overlay: bool = True, clips: bool = False) -> RenderJob:
    colors = COLORS | {item.label: "#AA3377" for item in detections if item.label not in COLORS}
    return RenderJob(
        folder / "overlay.mp4" if overlay else None, folder / "clips" if clips else None, detections, detections, colors
    )


def frames_of(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Seconds [N] and RGB frames [N, H, W, 3]."""
    seconds, images = zip(*decode(path, "pyav"), strict=True)
    return np.array(seconds), np.stack(images).astype(np.int16)


def far_apart(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Share of pixels [N] that differ by more than H.264 changes them."""
    return (np.abs(first - second).max(axis=3) > 60).mean(axis=(1, 2))


def test_overlay_is_the_video_with_labels_inside_the_detection_alone(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(100, 192, 144), codec="libx264")
    render(source, job(tmp_path, Detection("run", 1.25, 1.0, 2.0)))
    before, after = probe(source), probe(tmp_path / "overlay.mp4")
    assert (after.num_packets, after.width, after.height, after.codec) == (100, 192, 144, "h264")
    assert after.duration_seconds == pytest.approx(before.duration_seconds, abs=1e-4)
    seconds, drawn = frames_of(tmp_path / "overlay.mp4")
    np.testing.assert_allclose(seconds, before.timestamps, atol=1e-4)
    _, plain = frames_of(source)
    label = far_apart(drawn[:, :16, :60], plain[:, :16, :60])
    inside = (seconds >= 1.0) & (seconds < 2.0)
    assert (label[inside] > 0.2).all()
    assert (label[~inside] < 0.01).all()
    assert far_apart(drawn[:, 20:136], plain[:, 20:136]).max() < 0.01  # the picture itself is untouched


def test_overlay_has_a_timeline_and_a_cursor(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(50, 320, 240), codec="libx264")
    render(source, job(tmp_path, Detection("run", 1.0, 0.5, 1.0)))  # 2 s: from a quarter to a half of the width
    _, drawn = frames_of(tmp_path / "overlay.mp4")
    row = drawn[0, 237].astype(float)
    np.testing.assert_allclose(row[90:150].mean(axis=0), (0x44, 0x77, 0xAA), atol=25)
    assert row[180:].mean() < 80
    bright = [int(np.median(np.flatnonzero(image[233].min(axis=1) > 200))) for image in drawn[[10, 25, 40]]]
    np.testing.assert_allclose(bright, [64, 160, 256], atol=3)


def test_at_most_three_labels_at_once(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(20, 320, 240), codec="libx264")
    _, plain = frames_of(source)
    names = ("run", "sit", "jump", "lie")
    heights = []
    for count in (1, MOST_LABELS, len(names)):
        render(source, job(tmp_path, *(Detection(name, 1.0, 0.0, 0.5) for name in names[:count])))
        _, drawn = frames_of(tmp_path / "overlay.mp4")
        changed = (np.abs(drawn[0, :200, :20] - plain[0, :200, :20]) > 30).any(axis=2).mean(axis=1)
        heights.append(np.flatnonzero(changed > 0.3).max())
    assert heights[1] > heights[0] + 10
    assert heights[2] == heights[1]


@pytest.mark.parametrize(
    "label", ["../../evil/\x00label", "Weitsprung über 跳ぶ", "a very long label " * 20, "<b>", "..."]
)
@pytest.mark.parametrize("size", [(64, 48), (33, 17)])
def test_any_label_on_small_frames(tmp_path: Path, label: str, size: tuple[int, int]) -> None:
    source = write_video(tmp_path / "a.mkv", moving_square(10, *size), codec="ffv1")
    folder = tmp_path / "out"
    render(source, job(folder, Detection(label, 1.0, 0.0, 0.2), clips=True))
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*.mp4")]
    assert sorted(path.parent.as_posix() for path in written) == ["out", "out/clips"]
    (clip,) = (folder / "clips").iterdir()
    assert len(clip.name.encode()) < 150
    assert probe(folder / "overlay.mp4").num_packets == 10
    assert probe(clip).num_packets == 5


def test_rotation_rate_and_sound_are_those_of_the_video(tmp_path: Path) -> None:
    found = Detection("run", 1.0, 0.2, 0.6)
    turned = write_made(tmp_path, "rotated_90.mp4")
    render(turned, job(tmp_path / "turned", found))
    after = probe(tmp_path / "turned" / "overlay.mp4")
    assert (after.width, after.height, after.rotation) == (48, 64, 0)
    uneven = write_made(tmp_path, "irregular.mkv")
    render(uneven, job(tmp_path / "uneven", found))
    after = probe(tmp_path / "uneven" / "overlay.mp4")
    np.testing.assert_allclose(after.timestamps, probe(uneven).timestamps, atol=1e-4)
    late = write_made(tmp_path, "late.mp4")
    render(late, job(tmp_path / "late", found))
    assert probe(tmp_path / "late" / "overlay.mp4").num_packets == 30
    for name, codec in (("sound.mp4", "aac"), ("sound.webm", "opus"), ("mp3.avi", "mp3float"), ("sound.mpg", None)):
        if name == "mp3.avi":
            source = write_video(tmp_path / name, moving_square(25), codec="mpeg4", audio="libmp3lame")
        else:
            source = write_made(tmp_path, name)
        render(source, job(tmp_path / name.replace(".", "_"), found, clips=True))
        for file, seconds in (("overlay.mp4", 1.0), ("clips/01_run_0.20-0.60.mp4", 0.4)):
            with av.open(str(tmp_path / name.replace(".", "_") / file)) as container:
                sound = container.streams.audio
                assert [stream.codec_context.name for stream in sound] == ([codec] if codec else [])
                if codec:
                    packets = [packet for packet in container.demux(sound[0]) if packet.size]
                    length = sum(packet.duration * packet.time_base for packet in packets)
                    assert length == pytest.approx(seconds, abs=0.06)


def test_clips_are_cut_exactly(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(60, 96, 64, step=3), Fraction(30000, 1001), codec="libx264")
    bounds = [(0.31, 0.95), (0.0, 0.5), (1.9, 99.0), (-1.0, 0.1), (0.5, 0.505), (50.0, 60.0)]
    bounds += [(0.1 * step, 0.1 * step + 0.4) for step in range(12)]  # more than are cut in one pass
    found = [Detection("run", 2 - 0.1 * rank, *pair) for rank, pair in enumerate(bounds)]
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "07_old_1.00-2.00.mp4").touch()  # a clip of before
    (folder / "mine.mp4").touch()
    render(source, job(tmp_path, *found, overlay=False, clips=True))
    duration = probe(source).duration_seconds
    names = {
        rank: clip_name(rank, Detection("run", 1.0, max(0.0, item.start), min(duration, item.end)))
        for rank, item in enumerate(found, 1)
        if item.start < 2
    }
    assert {path.name for path in folder.iterdir()} == {"mine.mp4", *names.values()}
    assert {names[3], names[4]} == {"03_run_1.90-2.00.mp4", "04_run_0.00-0.10.mp4"}
    _, plain = frames_of(source)
    for rank, item in enumerate(found, start=1):
        if item.start < 2:
            clip = folder / names[rank]
            start, end = max(0.0, item.start), min(duration, item.end)
            assert probe(clip).duration_seconds == pytest.approx(end - start, abs=1.001 / 30)
            _, cut = frames_of(clip)
            first = int(start * 30000 / 1001 + 1e-6)  # the frame that is shown then
            assert np.abs(cut[0] - plain).mean(axis=(1, 2, 3)).argmin() == first


def test_which_detections_are_shown() -> None:
    found = [
        Detection("run", 1.0, 0, 10),
        Detection("run", 0.9, 1, 9),  # inside a better one
        Detection("sit", 0.8, 1, 9),  # of another class
        Detection("run", 0.7, 9, 14),  # only touches it
        Detection("sit", 0.49, 20, 30),  # less than half of the best score
    ]
    assert distinct_detections(found) == [found[0], found[2], found[3]]
    assert distinct_detections(found, min_score=0.4) == [found[0], found[2], found[3], found[4]]
    assert distinct_detections([]) == []


def test_what_kills_the_process_costs_one_video(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(10), codec="libx264")
    text = tmp_path / "text.mp4"
    text.write_text("no video")
    renderer = Renderer()
    with pytest.raises(HrproError, match=r"text\.mp4"):
        renderer.render(text, job(tmp_path))
    renderer.render(source, job(tmp_path))
    first = renderer._child
    assert first is not None
    first.close()  # as if a decoder had crashed
    (tmp_path / "overlay.mp4").unlink()
    renderer.render(source, job(tmp_path))
    assert renderer._child is not first
    renderer.close()
    assert probe(tmp_path / "overlay.mp4").num_packets == 10
    assert not list(tmp_path.glob(".*"))


def test_how_far_drawing_is(tmp_path: Path) -> None:
    source = write_video(tmp_path / "a.mp4", moving_square(400, 192, 144), codec="libx264")
    found = [Detection("run", 1.0, k, k + 0.5) for k in range(12)]  # clips of two passes
    counts: list[tuple[int, int]] = []
    render(source, job(tmp_path, *found, clips=True), lambda *count: counts.append(count))
    assert counts[0] == (1, 1200)
    assert [done for done, _ in counts] == list(range(1, len(counts) + 1))
    assert 800 < len(counts) <= 1200  # a pass ends with its last clip
    told: list[tuple[int, int]] = []
    renderer = Renderer()
    renderer.render(source, job(tmp_path, *found, clips=True), lambda *count: told.append(count))
    renderer.close()
    assert told == sorted(told)
    assert {total for _, total in told} == {1200}


def hrpro(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    return result.exit_code, result.output


def test_detect_draws_and_cuts(tmp_path: Path) -> None:
    videos, features, run = tmp_path / "videos", tmp_path / "features", tmp_path / "run"
    videos.mkdir()
    for name, step in (("slow", 1), ("fast", 5)):
        write_video(videos / f"{name}.mp4", moving_square(100, step=step))
    (tmp_path / "points.csv").write_text("video_id,class,time\nslow,crawl,2.0\nfast,dash,1.0\nfast,dash,3.1\n")
    small = ("--set", "extract.resize=32", "--set", "extract.crop=32", "--streams", "rgb")
    quick = ("--set", "snippet.steps=4", "--set", "pyramid.steps=4", "--device", "cpu")
    assert hrpro("extract", videos, "--out", features, "--weights", "random", *small)[0] == 0
    assert hrpro("train", features, "--points", tmp_path / "points.csv", "--out", run, *quick)[0] == 0
    out = tmp_path / "out"
    code, printed = hrpro("detect", run, videos, "--out", out, "--device", "cpu", "--overlay", "--clips", "--top", "3")
    assert code == 0, printed
    assert sorted(path.name for path in (out / "overlay").iterdir()) == ["fast.mp4", "slow.mp4"]
    for video_id, video in read_detections(out).items():
        assert probe(out / "overlay" / f"{video_id}.mp4").num_packets == 100
        inside = [(rank, item) for rank, item in enumerate(video.detections, 1) if item.start < 4 and item.end > 0]
        cut = [
            (rank, replace(item, start_seconds=max(0.0, item.start), end_seconds=min(4.0, item.end)))
            for rank, item in inside
        ]
        assert {path.name for path in (out / "clips" / video_id).iterdir()} == {clip_name(*pair) for pair in cut}
    code, printed = hrpro("detect", run, features, "--out", tmp_path / "no", "--device", "cpu", "--overlay")
    assert code == 1
    assert "features have no pictures" in printed
    assert not (tmp_path / "no").exists()
    (out / "overlay" / "fast.mp4").unlink()
    (out / "overlay" / "fast.mp4").mkdir()  # nothing can be written there
    code, printed = hrpro("detect", run, videos, "--out", out, "--device", "cpu", "--overlay")
    assert code == 1
    assert "2 videos detected, 1 failed" in printed
    assert "failed: fast: detected, but not drawn" in printed
    assert json.loads((out / "fast.json").read_text())["detections"]
