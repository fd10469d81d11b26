"""What can go wrong while extracting: bad files, a full disk, processes that die. It costs only the video it hits."""

import json
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import skip_or_fail
from descendants import descendants
from make_videos import moving_square, write_sound, write_video
from processes import RGB, command, hrpro, hrpro_here, wait_for

from hrpro_pipeline.base.child import Child, ChildError
from hrpro_pipeline.cli.extract import extract
from hrpro_pipeline.cli.group import in_options
from hrpro_pipeline.data.failures import Failure, read_failures, update_failures
from hrpro_pipeline.data.features import read_features, read_header
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video import process as decoder_process
from hrpro_pipeline.extract.video.frames import FrameChunk
from hrpro_pipeline.extract.video.process import DecodeRecord, DecodeRequest, DecoderProcess

# Stands in for decord where Python finds it first: a library that crashes or hangs, as real ones do.
BAD_DECORD = """
import os, signal, time

class logging:
    QUIET = 0
    set_level = staticmethod(lambda level: None)

def cpu(index):
    return index

class VideoReader:
    def __init__(self, path, **options):
        if "/crash" in path:
            os.kill(os.getpid(), signal.SIGSEGV)
        if "/hang" in path:
            os.kill(os.getpid(), signal.SIGSTOP)
        raise RuntimeError("not today")
"""


@pytest.fixture
def bad_decord(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "site" / "decord"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(BAD_DECORD)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]))


def decode_all(process: DecoderProcess, path: Path) -> tuple[np.ndarray, DecodeRecord]:
    items = list(process.stream(DecodeRequest(path, "auto", 25.0, 48)))
    record = items[-1]
    assert isinstance(record, DecodeRecord)
    return np.concatenate([item.frames for item in items if isinstance(item, FrameChunk)]), record


def test_every_bad_file_costs_only_itself(tmp_path: Path) -> None:
    videos, clean = tmp_path / "videos", tmp_path / "clean"
    clean.mkdir()
    for k in range(3):
        write_video(clean / f"good{k}.mp4", moving_square(20 + k, seed=k))
    write_video(clean / "one frame.mp4", moving_square(1))
    assert hrpro_here("extract", clean, "--out", tmp_path / "expected", *RGB).returncode == 0
    shutil.copytree(clean, videos)
    (videos / "zero.mp4").touch()
    (videos / "text.mp4").write_text("no video\n" * 100)
    whole = write_video(tmp_path / "whole.mkv", moving_square(60)).read_bytes()
    (videos / "truncated.mp4").write_bytes((clean / "good0.mp4").read_bytes()[:-400])
    (videos / "cut short.mkv").write_bytes(whole[: len(whole) // 2])
    (videos / "holes.mkv").write_bytes(_with_holes(whole))
    (videos / "folder.mp4").mkdir()
    (videos / "loop.mp4").symlink_to("loop.mp4")
    write_sound(videos / "sound.mkv")
    bad = ["cut short", "folder", "holes", "loop", "sound", "text", "truncated", "zero"]

    out = tmp_path / "features"
    result = hrpro("extract", videos, "--out", out, *RGB)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert f"4 extracted, 0 there already, {len(bad)} failed" in result.stdout
    failures = [json.loads(line) for line in (out / "failures.jsonl").read_text().splitlines()]
    assert [failure["video_id"] for failure in failures] == bad
    for failure in failures:
        name = Path(failure["source"]).name
        assert name in failure["reason"], failure
        assert "\n" not in failure["reason"]
        reason = in_options(failure["reason"], extract)
        assert f"{failure['video_id']:<9}  failed   {reason}" in result.stderr
    assert sorted(path.name for path in out.iterdir()) == [
        "failures.jsonl", "good0.h5", "good1.h5", "good2.h5", "one frame.h5",
    ]  # fmt: skip
    for path in (tmp_path / "expected").iterdir():
        assert features_of(out / path.name) == features_of(path)

    assert hrpro_here("extract", videos, "--out", out, "--on-error", "skip", *RGB).returncode == 0
    for name in bad:
        path = next(videos.glob(f"{name}.*"))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
        write_video(videos / f"{name}.mp4", moving_square(3))
    assert hrpro_here("extract", videos, "--out", out, *RGB).returncode == 0
    assert not (out / "failures.jsonl").exists(), "what was mended is no failure any more"


def features_of(path: Path) -> bytes:
    return read_features(path).streams["rgb"].tobytes()


def _with_holes(content: bytes) -> bytes:
    """Zeros over the middle of a file, but not over its head."""
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


def test_what_can_be_decoded_is_kept_when_asked_for(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", moving_square(100))
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    content = whole.read_bytes()
    # A complete table of frames, and nothing to decode in the second half.
    (videos / "cut.mkv").write_bytes(content[: len(content) // 2])
    (videos / "text.mp4").write_text("no video")
    assert hrpro_here("extract", videos, "--out", out, *RGB).returncode == 1
    assert not (out / "cut.h5").exists()
    result = hrpro("extract", videos, "--out", out, "--keep-partial", *RGB)
    assert result.returncode == 1
    assert [failure.video_id for failure in read_failures(out)] == ["text"]
    header = read_header(out / "cut.h5")
    assert any(line.startswith("cut ") and "in part" in line for line in result.stderr.splitlines())
    assert header.record["partial_reason"].startswith("cut off")
    assert 10 < header.num_frames < 75
    assert header.duration_seconds == pytest.approx(header.num_frames / 25, abs=0.05)
    assert "in part" in hrpro_here("info", out / "cut.h5").stdout
    before = (out / "cut.h5").read_bytes()
    assert "1 there already" in hrpro_here("extract", videos, "--out", out, "--keep-partial", *RGB).stdout
    (videos / "text.mp4").unlink()
    result = hrpro_here("extract", videos, "--out", out, *RGB)
    assert result.returncode == 1, "a part is no result unless it is asked for"
    assert (out / "cut.h5").read_bytes() == before


def test_unreadable_video_and_folder(tmp_path: Path) -> None:
    """Permissions, without the right of root to pass over them."""
    words = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
    if words and (shutil.which("setpriv") is None or subprocess.run([*words, "true"], check=False).returncode):
        skip_or_fail("tests run as root, and setpriv cannot drop that")
    videos, out, locked = tmp_path / "videos", tmp_path / "out", tmp_path / "locked"
    videos.mkdir()
    write_video(videos / "good.mp4", moving_square(5))
    write_video(videos / "secret.mp4", moving_square(5)).chmod(0)
    locked.mkdir()
    locked.chmod(0o555)

    def run(out: Path) -> subprocess.CompletedProcess[str]:
        arguments = [*words, *command("extract", videos, "--out", out, *RGB)]
        return subprocess.run(arguments, capture_output=True, text=True, check=False)

    result = run(out)
    assert result.returncode == 1, result.stderr
    assert "1 extracted, 0 there already, 1 failed" in result.stdout
    assert "secret.mp4" in result.stderr
    assert "Permission denied" in result.stderr
    result = run(locked)
    assert result.returncode == 1
    assert result.stderr.splitlines()[-1].startswith(f"error: {locked}: cannot be written to (Permission denied)")


def test_disk_full_and_read_only(tmp_path: Path, mounted: list[str]) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    out.mkdir()
    for k in range(8):
        write_video(videos / f"v{k}.mp4", moving_square(200, seed=k))
    line = " ".join(command("extract", videos, "--out", out, *RGB, "--set", "extract.stride=4"))
    listing = f"; code=$?; ls -A {out} | sort; exit $code"
    full = subprocess.run(
        [*mounted, f"mount -t tmpfs -o size=900k tmpfs {out} && {line}{listing}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert full.returncode == 1, full.stderr
    assert full.stderr.splitlines()[-1] == f"error: {out}: no space is left; make room and run the command again"
    written = full.stdout.split()
    assert "v0.h5" in written
    assert "v7.h5" not in written
    assert not any(name.endswith(".part") for name in written), "nothing half-written is left"
    locked = subprocess.run(
        [*mounted, f"mount -t tmpfs -o ro tmpfs {out} && {line}"], capture_output=True, text=True, check=False
    )
    assert locked.returncode == 1
    assert f"error: {out}: cannot be written to (Read-only file system)" in locked.stderr


FEW_ROWS_IN_MEMORY = (
    "from hrpro_pipeline.extract import rows; rows._BLOCK = 4; from hrpro_pipeline.cli import main; main()"
)


def test_no_room_for_temporary_files(tmp_path: Path, mounted: list[str]) -> None:
    videos, out, temporary = tmp_path / "videos", tmp_path / "features", tmp_path / "temporary"
    videos.mkdir()
    temporary.mkdir()
    for name, count in (("a short", 20), ("long", 200), ("short", 20)):
        write_video(videos / f"{name}.mp4", moving_square(count))
    words = command("extract", videos, "--out", out, *RGB, "--set", "extract.stride=4")
    words[1:3] = ["-c", FEW_ROWS_IN_MEMORY]
    run = subprocess.run(
        [*mounted, f'mount -t tmpfs -o size=64k tmpfs {temporary} && TMPDIR={temporary} exec "$0" "$@"', *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 1, run.stderr
    assert "2 extracted, 0 there already, 1 failed" in run.stdout
    (failure,) = read_failures(out)
    reason = "temporary files: No space left on device; make room in the temporary folder, or set TMPDIR to another"
    assert (failure.video_id, failure.reason) == ("long", reason)


@pytest.mark.parametrize("workers", [1, 2])
def test_videos_that_vanish_while_running(tmp_path: Path, workers: int) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    for k in range(9):
        write_video(videos / f"v{k}.mp4", moving_square(150 if k else 20, seed=k))  # the first is done soon
    arguments = command("extract", videos, "--out", out, "--workers", workers, *RGB)
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_for(lambda: (out / "v0.h5").exists())
        for k in (7, 8):
            (videos / f"v{k}.mp4").unlink()
        text, errors = process.communicate(timeout=120)
    assert process.returncode == 1, errors
    assert "7 extracted, 0 there already, 2 failed" in text
    assert [failure.video_id for failure in read_failures(out)] == ["v7", "v8"]
    assert all("no such file" in failure.reason.lower() for failure in read_failures(out))


@pytest.mark.usefixtures("bad_decord")
def test_a_decoder_that_crashes_is_replaced(tmp_path: Path) -> None:
    for name in ("crash 1", "crash 2", "fine"):
        write_video(tmp_path / f"{name}.mp4", moving_square(20))
    out = tmp_path / "features"
    result = hrpro("extract", tmp_path, "--out", out, *RGB)
    assert result.returncode == 0, result.stderr
    for name, reason in (("crash 1", "decord crashed (SIGSEGV)"), ("fine", "decord refused: not today")):
        record = read_header(out / f"{name}.h5").record
        assert (record["decoder"], record["fallback_reason"]) == ("pyav", reason)
    assert features_of(out / "crash 1.h5") == features_of(out / "fine.h5")


@pytest.mark.usefixtures("bad_decord")
def test_a_decoder_that_hangs_is_replaced(tmp_path: Path) -> None:
    process = DecoderProcess(silence_seconds=3)
    try:
        hung, record = decode_all(process, write_video(tmp_path / "hang.mp4", moving_square(20)))
        plain, _ = decode_all(process, write_video(tmp_path / "fine.mp4", moving_square(20)))
    finally:
        process.close()
    assert (record.decoder, record.fallback_reason) == ("pyav", "decord did not answer within 3 s")
    np.testing.assert_array_equal(hung, plain)


def test_a_decoder_killed_in_the_middle_goes_on_where_it_was(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", moving_square(400, width=320, height=240))
    process = DecoderProcess()
    whole, _ = decode_all(process, path)
    parts = []
    for item in process.stream(DecodeRequest(path, "auto", 25.0, 48)):
        if isinstance(item, FrameChunk):
            parts.append(item.frames)
            if len(parts) == 2:
                assert process._child is not None
                os.kill(process._child.pid, signal.SIGKILL)
    process.close()
    assert isinstance(item, DecodeRecord)
    assert (item.decoder, item.fallback_reason) == ("decord", None), "to be killed is not its fault"
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_a_video_on_which_every_decoder_dies_fails(tmp_path: Path) -> None:
    path = write_video(tmp_path / "long.mp4", moving_square(900, width=320, height=240))
    process = DecoderProcess()
    with pytest.raises(HrproError) as caught:
        for item in process.stream(DecodeRequest(path, "auto", 25.0, 48)):
            if isinstance(item, FrameChunk):
                assert process._child is not None
                os.kill(process._child.pid, signal.SIGKILL)
    assert str(caught.value).startswith("long.mp4: ")
    assert "decord crashed (SIGKILL); pyav crashed (SIGKILL)" in str(caught.value)
    assert len(decode_all(process, path)[0]) == 900, "the next video has a new process"
    process.close()


def test_children_end_with_their_parent(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    for k in range(6):
        write_video(videos / f"v{k}.mp4", moving_square(300, seed=k))
    arguments = command("extract", videos, "--out", tmp_path / "out", "--workers", 2, *RGB)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        children = wait_for(lambda: len(found := descendants(process.pid)) == 4 and found)
        process.kill()
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20)


def test_interrupting_stops_everything_in_one_line(tmp_path: Path) -> None:
    videos = tmp_path / "videos"
    videos.mkdir()
    write_video(videos / "v0.mp4", moving_square(20))
    write_video(videos / "v1.mp4", moving_square(8000))  # it is not done before the signal comes
    arguments = command("extract", videos, "--out", tmp_path / "out", *RGB)
    with subprocess.Popen(
        # Tests that run in the background of a shell inherit that it is ignored.
        arguments, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        wait_for(lambda: (tmp_path / "out" / "v0.h5").exists())
        children = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "stopped"
    assert "Traceback" not in errors
    assert children
    wait_for(lambda: not any(Path(f"/proc/{child}").exists() for child in children), 20)


def test_child_says_how_it_ended() -> None:
    child = Child("this_module_is_not_there", 20)
    with pytest.raises(ChildError, match=r"^ended with exit code 1$"):
        child.answer()
    with pytest.raises(ChildError):
        child.ask({})
    child.close()
    silent = Child("hrpro_pipeline.extract.video.process", 0.3)
    start = time.monotonic()
    with pytest.raises(ChildError, match="did not answer within 0.3 s"):
        silent.answer()
    assert time.monotonic() - start < 10
    with pytest.raises(ChildError):
        Child("this", 20).answer()  # prints: no message


def test_failures_file_is_shared(tmp_path: Path) -> None:
    """Many writers at once: every line of each is kept."""

    def write(k: int) -> None:
        for i in range(5):
            update_failures(tmp_path, {f"v{k}-{i}"}, [Failure(f"v{k}-{i}", "a\nb <\u2028>")])

    threads = [threading.Thread(target=write, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_failures(tmp_path)) == 30
    with (tmp_path / "failures.jsonl").open("a") as stream:
        stream.write("not JSON\n[1]\n")
    assert len(read_failures(tmp_path)) == 30
    update_failures(tmp_path, {failure.video_id for failure in read_failures(tmp_path)}, [])
    assert not (tmp_path / "failures.jsonl").exists()


def test_names_that_nobody_expects(tmp_path: Path) -> None:
    """As long as a name can be, of our own files, and with what a terminal takes for commands."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    write_video(videos / "good.mp4", moving_square(3))
    long = "x" * 251
    for name in ("failures.jsonl", long, "new\nline \x1b[31mred"):
        (videos / f"{name}.mp4").write_text("no video")
    result = hrpro("extract", videos, "--out", out, *RGB)
    assert result.returncode == 1
    assert "1 extracted, 0 there already, 3 failed" in result.stdout, result.stderr
    failures = read_failures(out)
    assert {failure.video_id for failure in failures} == {"failures.jsonl", long, "new_line _[31mred"}
    assert all(failure.reason.isprintable() for failure in failures)
    assert "\x1b" not in result.stderr


@pytest.mark.parametrize("free", [4, 20, 60])
def test_disk_full_at_any_moment_is_one_error(tmp_path: Path, mounted: list[str], free: int) -> None:
    video, out = write_video(tmp_path / "a.mp4", moving_square(100)), tmp_path / "out"
    out.mkdir()
    line = " ".join(command("extract", video, "--out", out, *RGB, "--set", "extract.stride=4"))
    run = subprocess.run(
        [*mounted, f"mount -t tmpfs -o size={free}k tmpfs {out} && {line}"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1, run.stderr
    said = ("random weights, NOT Kinetics", "extracting: ")
    errors = [text for text in run.stderr.splitlines() if not text.startswith(said)]
    assert len(errors) == 1, run.stderr
    assert "no space is left" in errors[0] or "No space left on device" in errors[0]


def test_a_frame_that_would_be_huge_is_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "flat.mkv", np.zeros((2, 16, 8192, 3), np.uint8), codec="ffv1")
    result = hrpro_here(
        "extract", tmp_path / "flat.mkv", "--out", tmp_path / "out", "--weights", "random", "--streams", "rgb"
    )
    assert result.returncode == 1
    assert "frames would be of 131072 x 256 pixels after resizing" in result.stderr


EVIL = """
import sys
from hrpro_pipeline.base import child
channel = child.serve()
channel.receive()
channel.send({header}, b"123")
channel.receive()
"""


@pytest.mark.parametrize(
    "header",
    [
        {},
        {"kind": "facts", "more": 1},
        {"kind": "frames", "shape": [1, 1, 1, 3]},
        {"kind": "frames", "shape": [1, 1, 1, 3], "ticks": [10**12]},
        {"kind": "frames", "shape": [9, 9], "ticks": [1]},
        {"kind": "record", "decoder": "x"},
    ],
)
def test_a_decoder_that_was_taken_over_costs_one_video(
    header: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(3))
    evil = tmp_path / "site" / "evil_decoder.py"
    evil.parent.mkdir()
    evil.write_text(EVIL.replace("{header}", repr(header)))
    monkeypatch.setenv("PYTHONPATH", str(evil.parent))
    monkeypatch.setattr(decoder_process, "__name__", "evil_decoder")
    process = DecoderProcess(10)
    with pytest.raises(HrproError, match=r"^a\.mp4: decoding sent what is no message"):
        list(process.stream(DecodeRequest(path, "auto", 25.0, 48)))
    process.close()
