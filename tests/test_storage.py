"""Extraction from and to URLs: a real S3-compatible server, files of this machine by URL, stores that are not there."""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import skip_or_fail
from label_pages import Labeling
from make_videos import moving_square, write_video
from processes import hrpro_here

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data import storage
from hrpro_pipeline.data.failures import Failure, read_failures, update_failures
from hrpro_pipeline.data.features import read_features, read_header
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.folder import ExtractionSummary, extract_folder
from hrpro_pipeline.extract.options import ExtractOptions

SETTINGS = ExtractSettings(resize=32, crop=32, streams=("rgb",), precision="float32")
OVERRIDES = ["extract.resize=32", "extract.crop=32", "extract.streams=[rgb]", "extract.precision=float32"]
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "made",
    "AWS_SECRET_ACCESS_KEY": "up",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}
NAMES = ("a", "b", "c")


@pytest.fixture(scope="module")
def server() -> Iterator[Any]:
    """A client of the server; the environment tells s3fs, here and in processes that are started, where it is."""
    if find_spec("s3fs") is None or find_spec("moto") is None:
        skip_or_fail("s3fs or moto is not installed (pip install '.[dev]')")
    import boto3
    from moto.server import ThreadedMotoServer

    moto = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        yield boto3.client("s3")
    moto.stop()


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for k, name in enumerate(NAMES):
        write_video(folder / f"{name}.mp4", moving_square(20 + 10 * k, seed=k))
    return folder


@pytest.fixture(scope="module")
def local(videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The features of the videos by paths."""
    out = tmp_path_factory.mktemp("local")
    extract([videos], out)
    return out


@pytest.fixture
def bucket(server: Any, videos: Path, tmp_path: Path) -> str:
    """A bucket with the videos."""
    name = "".join(letter if letter.isalnum() else "-" for letter in tmp_path.name.lower()).strip("-")
    server.create_bucket(Bucket=name)
    for path in videos.iterdir():
        server.upload_file(str(path), name, f"videos/{path.name}")
    return name


def extract(paths: list[str | Path], out: str | Path, **options: Any) -> ExtractionSummary:
    return extract_folder(paths, out, SETTINGS, ExtractOptions(weights="random", device="cpu"), **options)


def hrpro(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    overrides = [part for value in OVERRIDES for part in ("--set", value)]
    return subprocess.run(
        [sys.executable, "-m", "hrpro_pipeline", "extract", *arguments, "--weights", "random", *overrides],
        env=os.environ | ENVIRONMENT | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def keys(server: Any, bucket: str, prefix: str = "features/") -> list[str]:
    return [entry["Key"] for entry in server.list_objects_v2(Bucket=bucket, Prefix=prefix).get("Contents", [])]


def assert_same(found: str | Path, expected: Path) -> None:
    """The same file but for when the video was changed last."""
    one, other = read_features(found), read_features(expected)
    for stream in other.streams:
        np.testing.assert_array_equal(one.streams[stream], other.streams[stream])
    facts, expected_facts = vars(one.header).copy(), vars(other.header).copy()
    source, expected_source = facts.pop("source"), expected_facts.pop("source")
    assert facts == expected_facts
    assert source | {"modified": ""} == expected_source | {"modified": ""}
    assert source["modified"] != expected_source["modified"]


@pytest.mark.parametrize("workers", [None, "2"])
def test_from_s3_to_s3(workers: str | None, server: Any, bucket: str, local: Path, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    options = () if workers is None else ("--workers", workers)
    command = [f"s3://{bucket}/videos", "--out", f"s3://{bucket}/features/", "--device", "cpu", *options]
    run = hrpro(*command, TMPDIR=str(scratch))
    assert run.returncode == 0, run.stderr
    assert run.stdout == f"3 extracted, 0 there already, 0 failed: s3://{bucket}/features/\n"
    assert "credentials" not in run.stderr
    assert keys(server, bucket) == [f"features/{name}.h5" for name in NAMES]
    for name in NAMES:
        assert_same(f"s3://{bucket}/features/{name}.h5", local / f"{name}.h5")
    assert not list(scratch.iterdir())
    if workers is None:
        assert hrpro(*command).stdout == f"0 extracted, 3 there already, 0 failed: s3://{bucket}/features/\n"


def test_s3_and_this_machine(server: Any, bucket: str, videos: Path, local: Path, tmp_path: Path) -> None:
    summary = extract([f"s3://{bucket}/videos/a.mp4", videos / "b.mp4"], tmp_path / "out")
    assert sorted(summary.done) == ["a", "b"]
    assert_same(tmp_path / "out" / "a.h5", local / "a.h5")
    assert (tmp_path / "out" / "b.h5").read_bytes() == (local / "b.h5").read_bytes()
    extract([videos], f"s3://{bucket}/features")
    for name in NAMES:
        body = server.get_object(Bucket=bucket, Key=f"features/{name}.h5")["Body"].read()
        assert body == (local / f"{name}.h5").read_bytes()


def test_resume_at_a_url(
    server: Any, bucket: str, videos: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "werkzeug")  # the server's log

    def fetched() -> list[str]:
        found = {name for name in NAMES if f"GET /{bucket}/videos/{name}.mp4 " in caplog.text}
        caplog.clear()
        return sorted(found)

    inputs: list[str | Path] = [f"s3://{bucket}/videos"]
    out = f"s3://{bucket}/features"
    extract(inputs, out)
    assert fetched() == list(NAMES)
    before = {key: server.head_object(Bucket=bucket, Key=key)["LastModified"] for key in keys(server, bucket)}
    summary = extract(inputs, out)
    assert sorted(summary.skipped) == sorted(NAMES)
    assert fetched() == []
    # The same video with another tag; another video under a name; a file that has gone.
    upload = server.create_multipart_upload(Bucket=bucket, Key="videos/a.mp4")
    part = {"Bucket": bucket, "Key": "videos/a.mp4", "UploadId": upload["UploadId"]}
    tag = server.upload_part(**part, PartNumber=1, Body=(videos / "a.mp4").read_bytes())["ETag"]
    server.complete_multipart_upload(**part, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": tag}]})
    other = write_video(tmp_path / "b.mp4", moving_square(40, seed=9))
    server.upload_file(str(other), bucket, "videos/b.mp4")
    server.delete_object(Bucket=bucket, Key="features/c.h5")
    summary = extract(inputs, out)
    assert (summary.skipped, sorted(summary.done)) == (["a"], ["b", "c"])
    assert fetched() == list(NAMES)
    assert read_header(f"{out}/b.h5").num_frames == 40
    assert server.head_object(Bucket=bucket, Key="features/a.h5")["LastModified"] == before["features/a.h5"]
    # A video of the same length in bytes.
    content = bytearray((videos / "c.mp4").read_bytes())
    content[-1] ^= 1
    server.put_object(Bucket=bucket, Key="videos/c.mp4", Body=bytes(content))
    assert extract([f"s3://{bucket}/videos/c.mp4"], out).done == ["c"]


def test_resume_reads_little_of_a_large_file(
    bucket: str, videos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    header = read_header_of_long_video(tmp_path / "long.h5", videos)
    storage.upload(tmp_path / "long.h5", f"s3://{bucket}/features/long.h5")
    ranges = []

    def read(self: Any, start: int, end: int) -> bytes:
        ranges.append(end - start)
        return fetch(self, start, end)

    fetch = s3fs.S3File._fetch_range
    monkeypatch.setattr(s3fs.S3File, "_fetch_range", read)
    assert read_header(f"s3://{bucket}/features/long.h5") == header
    assert len(ranges) < 10
    assert sum(ranges) < 1 << 20 < (tmp_path / "long.h5").stat().st_size / 8


def read_header_of_long_video(path: Path, videos: Path) -> Any:
    from hrpro_pipeline.data.features import write_features
    from hrpro_pipeline.data.snippets import SnippetClock

    streams = {name: np.zeros((2000, 1024), np.float32) for name in ("rgb", "flow")}
    facts = {"duration_seconds": 1.0, "num_frames": 1, "source": {"name": "long.mp4"}, "record": {"words": "x" * 3000}}
    write_features(path, streams, clock=SnippetClock(25, 16, 16), video_id="long", **facts)  # type: ignore[arg-type]
    return read_header(path)


def test_several_threads_at_a_url(bucket: str, videos: Path) -> None:
    def there_and_back(k: int) -> bytes:
        url = f"s3://{bucket}/copies/{k % 4}/{k}.mp4"
        assert not storage.exists(url)
        storage.upload(videos / f"{NAMES[k % 3]}.mp4", url)
        assert url in (storage.list_remote(f"s3://{bucket}/copies/{k % 4}") or [])
        with storage.local_copy(url) as copy:
            assert storage.version(url)["size"] == copy.stat().st_size
            return copy.read_bytes()

    with ThreadPoolExecutor(8) as pool:
        contents = list(pool.map(there_and_back, range(24)))
    assert contents == [(videos / f"{NAMES[k % 3]}.mp4").read_bytes() for k in range(24)]


def test_failures_at_a_url(server: Any, bucket: str, videos: Path) -> None:
    out = f"s3://{bucket}/features"
    server.put_object(Bucket=bucket, Key="videos/bad.mp4", Body=b"\0\0\0\x18ftypmp42 and no more")
    server.put_object(Bucket=bucket, Key="videos/empty.mp4", Body=b"")
    update_failures(out, set(), [Failure("elsewhere", "elsewhere.mp4: no frames", "s3://x/elsewhere.mp4")])
    summary = extract([f"s3://{bucket}/videos"], out)
    assert sorted(summary.done) == sorted(NAMES)
    assert sorted(each.video_id for each in summary.failed) == ["bad", "empty"]
    lines = server.get_object(Bucket=bucket, Key="features/failures.jsonl")["Body"].read().decode().splitlines()
    assert [json.loads(line)["video_id"] for line in lines] == ["bad", "elsewhere", "empty"]
    assert json.loads(lines[0])["source"] == f"s3://{bucket}/videos/bad.mp4"
    assert json.loads(lines[0])["reason"].startswith("bad.mp4: ")
    for name in ("bad", "empty"):
        server.upload_file(str(videos / "a.mp4"), bucket, f"videos/{name}.mp4")
    assert not extract([f"s3://{bucket}/videos"], out).failed
    assert [failure.video_id for failure in read_failures(out)] == ["elsewhere"]
    update_failures(out, {"elsewhere"}, [])
    assert "features/failures.jsonl" not in keys(server, bucket)


def test_keys_with_odd_characters(server: Any, bucket: str, videos: Path, tmp_path: Path) -> None:
    odd = [
        "a b+c.mp4",
        "[x]*?.mp4",
        "café #1%2F.mp4",
        "x\\..\\..\\up.mp4",
        "...mp4",
        "q?v=1.mp4",
    ]
    content = (videos / "a.mp4").read_bytes()
    for name in odd:
        server.put_object(Bucket=bucket, Key=f"odd/{name}", Body=content)
    server.put_object(Bucket=bucket, Key="odd/", Body=b"")  # how some programs make folders
    server.put_object(Bucket=bucket, Key="odd/below/z.mp4", Body=content)
    server.put_object(Bucket=bucket, Key="odd/notes.txt", Body=b"")
    found = find_videos([f"s3://{bucket}/odd"]).by_id
    assert sorted(found.values(), key=str) == sorted(f"s3://{bucket}/odd/{name}" for name in odd if name != "...mp4")
    assert all(Path(name).name == name and not name.startswith(".") for name in found)
    out = tmp_path / "out"
    summary = extract([f"s3://{bucket}/odd"], out)
    assert not summary.failed
    assert {path.name for path in out.iterdir()} == {f"{video_id}.h5" for video_id in found}
    assert len(extract([f"s3://{bucket}/odd"], f"s3://{bucket}/features").done) == len(found)
    assert len(extract([f"s3://{bucket}/odd"], f"s3://{bucket}/features").skipped) == len(found)
    clashing = find_videos([f"s3://{bucket}/videos", videos / "a.mp4"])
    assert "a" not in clashing.by_id
    assert ["both would be video 'a'" in failure.reason for failure in clashing.failures] == [True, True]


@pytest.mark.parametrize(
    "url", ["s3://{bucket}/videos/..", "s3://{bucket}/videos/../videos/", "s3://{bucket}/no/", "s3://nowhere/x"]
)
def test_nothing_at_the_url(url: str, bucket: str, tmp_path: Path) -> None:
    url = url.format(bucket=bucket)
    with pytest.raises(HrproError, match="^s3://.*no such file or folder") as raised:
        extract([url], tmp_path / "out")
    assert str(raised.value).startswith(f"{url}: ")


def test_labeling_at_a_url(server: Any, bucket: str, videos: Path, tmp_path: Path) -> None:
    server.put_object(Bucket=bucket, Key="videos/bad.mp4", Body=b"no video")
    with Labeling(tmp_path, f"s3://{bucket}/videos") as labeling:
        found = [item["id"] for item in labeling.get("state")["videos"]]
        assert sorted(found) == ["a", "b", "bad", "c"]
        for k, name in enumerate(NAMES):
            place = f"video/{found.index(name)}"
            with urllib.request.urlopen(f"{labeling.address}{place}/media", timeout=30) as answer:
                assert answer.read() == (videos / f"{name}.mp4").read_bytes()
            with urllib.request.urlopen(f"{labeling.address}{place}/times", timeout=30) as answer:
                times = np.frombuffer(answer.read(), "<f8")
            np.testing.assert_allclose(times, np.arange(20 + 10 * k) / 25, atol=1e-9)
            while (state := labeling.get(f"{place}/copy")["state"]) != "ready":  # no browser plays MPEG-4 part 2
                assert state != "failed"
                time.sleep(0.1)
            strip = f"{labeling.address}{place}/strip?first=0&step=4&count=4"
            with urllib.request.urlopen(strip, timeout=30) as answer:
                assert answer.read(3) == b"\xff\xd8\xff"
        with pytest.raises(urllib.error.HTTPError) as raised:
            labeling.get(f"video/{found.index('bad')}/facts")
        assert "not a video that can be read" in json.load(raised.value)["error"]
        # Another file under the same name is another video.
        server.upload_file(str(videos / "a.mp4"), bucket, "videos/c.mp4")
        assert labeling.get(f"video/{found.index('c')}/facts")["frames"] == 20
        server.delete_object(Bucket=bucket, Key="videos/b.mp4")
        with pytest.raises(urllib.error.HTTPError) as raised:
            labeling.get(f"video/{found.index('b')}/facts")
        assert f"s3://{bucket}/videos/b.mp4" in json.load(raised.value)["error"]


def test_nothing_is_extracted_that_cannot_be_put(server: Any, videos: Path) -> None:
    overrides = [part for value in OVERRIDES for part in ("--set", value)]
    out = "s3://no-such-bucket/features"
    run = hrpro_here("extract", videos, "--out", out, "--device", "cpu", "--weights", "random", *overrides)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: s3://no-such-bucket/features: cannot be written to (")
    assert "Traceback" not in run.stderr


def test_a_store_that_does_not_answer(videos: Path, tmp_path: Path) -> None:
    if find_spec("s3fs") is None:
        skip_or_fail("s3fs is not installed (pip install '.[s3]')")
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    run = hrpro("s3://bucket/videos", "--out", str(tmp_path), **environment)
    assert run.returncode == 1
    assert run.stderr.splitlines()[-1].startswith("error: s3://bucket/videos: Could not connect")
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://bucket/videos", "nope://bucket/videos: Protocol not known: nope"),
        ("simplecache::s3://bucket/videos", "simplecache::s3://bucket/videos: chained URLs are not supported"),
        ("file:///no/such/folder", "file:///no/such/folder: no such file or folder"),
    ],
)
def test_urls_that_are_refused(url: str, message: str, videos: Path, tmp_path: Path) -> None:
    with pytest.raises(HrproError) as raised:
        extract([url], tmp_path)
    assert str(raised.value).startswith(message)
    if not url.startswith("file:"):
        with pytest.raises(HrproError) as raised:
            extract([videos], url)
        assert message.partition(": ")[2] in str(raised.value)
        assert str(raised.value).startswith(f"{url}: ")


def test_without_s3fs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    with pytest.raises(HrproError, match=r"^s3://bucket/x: .*; pip install 'hrpro-pipeline\[s3\]'$"):
        extract(["s3://bucket/x"], tmp_path)


def test_files_of_this_machine_by_url(
    videos: Path, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "out"
    seen = []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "scratch"))
    (tmp_path / "scratch").mkdir()

    def look(video_id: str, status: str) -> None:
        seen.append((video_id, status, {path.name for path in out.iterdir()}))

    extract([f"file://{videos}"], f"file://{out}", on_video=look)
    assert seen == [(name, "done", {f"{each}.h5" for each in NAMES[: k + 1]}) for k, name in enumerate(NAMES)]
    for name in NAMES:
        assert_same(out / f"{name}.h5", local / f"{name}.h5")
    assert len(extract([f"file://{videos}"], f"file://{out}").skipped) == 3
    assert not list((tmp_path / "scratch").iterdir())


def test_an_upload_that_stops_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fsspec.implementations.local import LocalFileSystem

    (tmp_path / "new").write_text("new")
    (tmp_path / "there").write_text("old")

    def stop(self: Any, source: str, target: str, **options: Any) -> None:
        Path(target).write_text("n")
        raise OSError("the line\nis cut")

    monkeypatch.setattr(LocalFileSystem, "put_file", stop)
    with pytest.raises(HrproError, match="^file://.*/there: the line is cut$"):
        storage.upload(tmp_path / "new", f"file://{tmp_path}/there")
    assert (tmp_path / "there").read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"new", "there"}


def test_memory(videos: Path, local: Path) -> None:
    storage.upload(videos / "a.mp4", "memory://videos/a.mp4")
    assert extract(["memory://videos"], "memory://features").done == ["a"]
    np.testing.assert_array_equal(
        read_features("memory://features/a.h5").streams["rgb"], read_features(local / "a.h5").streams["rgb"]
    )
    assert extract(["memory://videos"], "memory://features").skipped == ["a"]
    storage.remove("memory://features/a.h5")
    storage.remove("memory://features/a.h5")
    assert not storage.exists("memory://features/a.h5")
