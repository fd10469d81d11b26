"""Many workers: the same files as one, whoever dies; and two runs that share a folder."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from descendants import descendants
from make_videos import moving_square, write_video
from processes import RGB, SMALL, command, hrpro, hrpro_here, wait_for

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.failures import read_failures
from hrpro_pipeline.data.leases import return_lease, take_lease
from hrpro_pipeline.errors import HrproError, UsageError
from hrpro_pipeline.extract import engines
from hrpro_pipeline.extract.engines import in_processes, is_suspect, survivors
from hrpro_pipeline.extract.extractor import Job
from hrpro_pipeline.extract.folder import ENGINE_MAKERS, extract_folder
from hrpro_pipeline.extract.options import ENGINES, ExtractOptions, Workers
from hrpro_pipeline.extract.worker import Extraction

ROOT = Path(__file__).resolve().parents[1]
TINY = ExtractSettings(resize=32, crop=32, streams=("rgb",), precision="float32")
RANDOM = ExtractOptions(weights="random", device="cpu")


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k in range(12):
        write_video(folder / f"v{k:02d}.mp4", moving_square(40 + 10 * k, seed=k))
    return folder


@pytest.fixture(scope="module")
def expected(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("expected")
    extract_folder([videos], out, TINY, RANDOM)
    return contents(out)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.mark.parametrize("arguments", [["--workers", "2"], ["--workers", "3", "--decoder", "auto"]])
def test_processes_write_the_same_files(
    arguments: list[str], videos: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    result = hrpro("extract", videos, "--out", tmp_path, *RGB, *arguments, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert result.returncode == 0, result.stderr
    assert contents(tmp_path) == expected
    assert result.stderr.count("NOT Kinetics") == 1, "said once, not by each worker"


def test_workers_and_decoders_that_are_killed_are_replaced(
    videos: Path, expected: dict[str, bytes], tmp_path: Path
) -> None:
    arguments = command("extract", videos, "--out", tmp_path / "out", "--workers", 2, *RGB)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True, env=environment) as process:
        wait_for(lambda: len(list((tmp_path / "out").glob("*.h5"))) >= 1)
        for name in ("extract.worker", "extract.video.process"):
            os.kill(wait_for(lambda name=name: descendants(process.pid, name))[0], signal.SIGKILL)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "out") == expected


def test_a_video_that_kills_its_workers_fails_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real crash inside the worker: a `sitecustomize` that dies when the features of one video are written."""
    site, videos, out = tmp_path / "site", tmp_path / "videos", tmp_path / "out"
    site.mkdir()
    videos.mkdir()
    (site / "sitecustomize.py").write_text(
        "import os, signal, sys\n"
        "def die(event, arguments):\n"
        "    if event == 'open' and 'deadly.h5' in str(arguments[0]) and 'worker' in ' '.join(sys.orig_argv):\n"
        "        os.kill(os.getpid(), signal.SIGSEGV)\n"
        "sys.addaudithook(die)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]))
    for name in ("a", "b", "deadly", "e", "f"):
        write_video(videos / f"{name}.mp4", moving_square(20))
    result = hrpro("extract", videos, "--out", out, "--workers", 2, *RGB)
    assert result.returncode == 1
    assert "4 extracted, 0 there already, 1 failed" in result.stdout, result.stderr
    (failure,) = read_failures(out)
    assert failure.reason == "deadly: the worker process crashed (SIGSEGV), 4 times; re-encode or remove it"


def test_suspects_are_alone_and_fail_after_four_deaths() -> None:
    jobs = [Job("a", "a.mp4"), Job("b", "b.mp4", deaths=1), Job("c", "c.mp4", deaths=3)]
    again, failed = survivors(jobs, "crashed (SIGKILL)")
    assert [(job.video_id, job.deaths, is_suspect(job)) for job in again] == [("a", 1, False), ("b", 2, True)]
    assert [outcome.video_id for outcome in failed] == ["c"]


def test_workers_that_cannot_start_are_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extraction = Extraction(TINY, str(tmp_path), ExtractOptions(weights=str(tmp_path / "none"), device="cpu"))
    with pytest.raises(HrproError, match="none"):
        list(in_processes([extraction], [Job("a", "a.mp4")], lambda *_: None))
    monkeypatch.setattr(sys, "executable", shutil.which("false"))
    with pytest.raises(HrproError, match=r"a worker process ended with exit code 1 before its first video"):
        list(in_processes([extraction] * 2, [Job("a", "a.mp4")], lambda *_: None))


def test_a_worker_that_hangs_is_replaced(
    videos: Path, expected: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "SILENCE_SECONDS", 8.0)
    stopped: list[int] = []

    def stop_one(video_id: str, done: int, total: int) -> None:
        if not stopped and video_id == "v11":
            stopped.append(descendants(os.getpid(), "extract.worker")[0])
            os.kill(stopped[0], signal.SIGSTOP)

    extraction = Extraction(TINY, str(tmp_path), RANDOM, threads=1)
    jobs = [Job(path.stem, str(path)) for path in sorted(videos.iterdir(), reverse=True)[:3]]
    outcomes = list(in_processes([extraction], jobs, stop_one))
    assert stopped
    assert [(outcome.reason, outcome.partial_reason) for outcome in outcomes] == [(None, None)] * 3
    assert contents(tmp_path) == {f"{job.video_id}.h5": expected[f"{job.video_id}.h5"] for job in jobs}


def test_two_runs_share_a_folder(videos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = command("extract", videos, "--out", tmp_path, *RGB)
    runs = [
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
        for _ in range(2)
    ]
    done = []
    for run in runs:
        text, errors = run.communicate(timeout=120)
        assert run.returncode == 0, errors
        extracted, there = int(text.split()[0]), int(text.split()[2])
        assert extracted + there == len(expected), "each run ends when all is there"
        done.append(extracted)
    assert sum(done) == len(expected), "no video is extracted twice"
    assert contents(tmp_path) == expected


def test_a_killed_run_has_lost_its_leases(videos: Path, expected: dict[str, bytes], tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    arguments = command("extract", videos, "--out", tmp_path, *RGB)
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment) as run:
        wait_for(lambda: len(list(tmp_path.glob("*.h5"))) >= 2)
        run.kill()
    before = contents_of_features(tmp_path)
    assert 2 <= len(before) < len(expected)
    start = time.monotonic()
    result = hrpro_here("extract", videos, "--out", tmp_path, *RGB)
    assert f"{len(before)} there already" in result.stdout
    assert time.monotonic() - start < 60
    assert contents_of_features(tmp_path) == expected


def contents_of_features(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("[!.]*.h5"))}


def test_a_video_that_another_run_is_at_is_waited_for(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    out.mkdir()
    for name in ("a", "b"):
        write_video(videos / f"{name}.mp4", moving_square(20))
    lease = take_lease(out, "a")
    assert lease is not None
    with subprocess.Popen(command("extract", videos, "--out", out, *RGB), stdout=subprocess.PIPE, text=True) as run:
        wait_for(lambda: (out / "b.h5").exists())
        time.sleep(1.5)
        assert run.poll() is None
        assert not (out / "a.h5").exists()
        assert take_lease(out, "a") is None
        return_lease(lease)
        text, _ = run.communicate(timeout=60)
    assert "2 extracted" in text
    assert sorted(path.name for path in out.iterdir()) == ["a.h5", "b.h5"]


def test_same_content_is_not_extracted_again(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    path = write_video(videos / "a.mp4", moving_square(20))
    assert "1 extracted" in hrpro_here("extract", videos, "--out", out, *RGB).stdout
    os.utime(path, (1, 1))
    assert "1 there already" in hrpro_here("extract", videos, "--out", out, *RGB).stdout, (
        "another time, the same content"
    )
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert "1 extracted" in hrpro_here("extract", videos, "--out", out, *RGB).stdout


def test_settings_people_ask_for(tmp_path: Path) -> None:
    """Overlapping snippets, ten crops side by side, another rate, one stream, half precision; and which seconds."""
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    write_video(videos / "a.mp4", moving_square(50))
    sets = ["stride=4", "crops=ten", "crop_fusion=stacked", "fps=10", "dtype=float16", "resize=40"]
    arguments = [word for setting in sets for word in ("--set", f"extract.{setting}")]
    result = hrpro_here("extract", videos, "--out", out, *SMALL, "--streams", "flow", *arguments)
    assert result.returncode == 0, result.stderr
    listing = hrpro_here("info", out / "a.h5", "--snippets").stdout.splitlines()
    assert listing == ["snippet,start,end", "0,0,1.6", "1,0.4,2"], "20 frames at 10 fps"
    described = hrpro_here("info", out / "a.h5").stdout
    assert "streams: flow 10240" in described
    assert "the first covers 0.00-1.60 s, the last 0.40-2.00 s" in described
    assert hrpro_here("info", out, "--snippets").returncode == 1


def test_wrong_use_is_said_at_once(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(2))
    with pytest.raises(UsageError, match="engine 'spark'; expected local or ray"):
        extract_folder([path], tmp_path, TINY, RANDOM, Workers(engine="spark"))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="`ray_address` goes with `engine=ray`"):
        extract_folder([path], tmp_path, TINY, RANDOM, Workers(ray_address="here:1"))
    result = hrpro_here("extract", path, "--out", tmp_path / "out", "--workers", 0)
    assert result.returncode == 2


def test_each_engine_that_can_be_chosen_is_there() -> None:
    assert tuple(ENGINE_MAKERS) == ENGINES


def test_soak(tmp_path: Path) -> None:
    """benchmarks/soak.py on a few videos: processes killed at random, files the same to the bit."""
    words = [sys.executable, ROOT / "benchmarks" / "soak.py", "--videos", 12, "--kills", 2, "--side", 32]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    run = subprocess.run(
        list(map(str, words)), capture_output=True, text=True, check=False, env=environment, timeout=300
    )
    line = json.loads(run.stdout.splitlines()[-1])
    assert run.returncode == 0, line
    assert line["identical_files"] == 12
    assert sum(line["killed"].values()) >= 1
