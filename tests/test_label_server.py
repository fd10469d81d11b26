"""The labeling server: who is refused, what is served, and what it needs of a video."""

import http.client
import json
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from label_pages import Labeling, write_numbered
from make_videos import MPEG2_B, X264_B, moving_square, write_made, write_video
from processes import hrpro

from hrpro_pipeline.data.detections import Detection, VideoDetections, write_detections
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.label.cache import tidy
from hrpro_pipeline.label.library import Library, list_videos

PAGE = Path(__file__).resolve().parents[1] / "hrpro_pipeline" / "label" / "page"
SCRIPT = "<img src=x onerror=alert(1)>.mp4"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Videos: one with a script in its name, a link within the folder, and one that leads out of it."""
    root = tmp_path_factory.mktemp("served")
    videos = root / "videos"
    videos.mkdir()
    write_video(videos / SCRIPT, moving_square(25), **X264_B)
    (videos / "again.mp4").symlink_to(videos / SCRIPT)
    write_video(root / "secret.mp4", moving_square(5), **X264_B)
    (videos / "out.mp4").symlink_to(root / "secret.mp4")
    return videos


@pytest.fixture(scope="module")
def labeling(folder: Path) -> Iterator[Labeling]:
    with Labeling(folder.parent, folder) as server:
        yield server


Answer = tuple[int, dict[str, str], bytes]


def ask(labeling: Labeling, path: str, method: str = "GET", body: bytes = b"", **headers: str) -> Answer:
    """Ask with headers of one's own: also with those that browsers never let a page choose."""
    connection = http.client.HTTPConnection("127.0.0.1", labeling.port, timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    all_headers = {"Host": f"127.0.0.1:{labeling.port}", "Content-Length": str(len(body))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    for name, value in all_headers.items():
        connection.putheader(name, value)
    connection.endheaders(body)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def test_only_who_knows_the_token_is_answered(labeling: Labeling) -> None:
    assert ask(labeling, f"/{labeling.token}/")[0] == 200
    wrong = labeling.token[:-1] + ("a" if labeling.token[-1] != "a" else "b")
    for path in (
        "/",
        "/state",
        f"/{wrong}/",
        f"/{wrong}/state",
        f"/{labeling.token[:-1]}/",
        "//",
        f"/x/{labeling.token}/",
    ):
        status, headers, content = ask(labeling, path)
        assert status == 403, path
        assert content == b"refused: open the whole address that `hrpro label` printed\n"
        assert "default-src 'none'" in headers["content-security-policy"]
    assert ask(labeling, f"/{labeling.token}")[0] in (200, 307, 404)  # nothing of anybody's


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "localhost:1", "", "[::1]:{port}"]
)
def test_a_name_of_somebody_elses_that_points_here_is_refused(host: str, labeling: Labeling) -> None:
    status, _, content = ask(labeling, f"/{labeling.token}/state", Host=host.format(port=labeling.port))
    assert status == 403
    assert b"points" not in content


def test_pages_of_other_origins_are_refused(labeling: Labeling) -> None:
    path = f"/{labeling.token}/change"
    json_kind = {"Content_Type": "application/json"}
    ours = f"http://127.0.0.1:{labeling.port}"
    body = json.dumps({"groups": []}).encode()
    assert ask(labeling, path, "POST", body, Origin=ours, **json_kind)[0] == 200
    for origin in ("http://evil.example", "null", f"https://127.0.0.1:{labeling.port}", "http://127.0.0.1:1", ""):
        assert ask(labeling, path, "POST", body, Origin=origin, **json_kind)[0] == 403, origin
    assert ask(labeling, path, "POST", body, **json_kind)[0] == 403  # no origin at all
    assert ask(labeling, path, "POST", body, Origin=ours, Content_Type="text/plain")[0] == 403  # as forms send it
    assert ask(labeling, path, "GET")[0] == 405
    for name in ("state", "video/0/media", "video/0/strip?first=0&step=1&count=1"):
        for site in ("cross-site", "same-site"):
            assert ask(labeling, f"/{labeling.token}/{name}", Sec_Fetch_Site=site)[0] == 403
        assert ask(labeling, f"/{labeling.token}/{name}", Sec_Fetch_Site="same-origin")[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        *("page/../server.py", "page/..%2fserver.py", "../state", "page/%2e%2e/server.py", "page//etc/passwd", "page/"),
        *("video/../../etc/passwd", "video/99/media", "video/-1/media", "video/0/../0/media", "page/..\\server.py"),
    ],
)
def test_paths_lead_nowhere_else(path: str, labeling: Labeling) -> None:
    status, _, content = ask(labeling, f"/{labeling.token}/{path}")
    assert status in (400, 403, 404)
    assert b"import" not in content
    assert b"root:" not in content


def test_links_out_of_the_folder_are_left_out(labeling: Labeling, folder: Path) -> None:
    names = [video["name"] for video in labeling.get("state")["videos"]]
    assert names == [SCRIPT, "again.mp4"]
    # A file that becomes a link while the server runs.
    moved = folder / "moved.mp4"
    (folder / SCRIPT).rename(moved)
    (folder / SCRIPT).symlink_to(folder.parent / "secret.mp4")
    try:
        status, _, content = ask(labeling, f"/{labeling.token}/video/0/media")
        assert status == 400
        assert b"is gone, or another file by now" in content
    finally:
        (folder / SCRIPT).unlink()
        moved.rename(folder / SCRIPT)
    # One that is given by name is the user's own.
    assert [video.name for video in list_videos([folder / "out.mp4"])] == ["out.mp4"]


def test_names_with_scripts_are_text(labeling: Labeling) -> None:
    status, headers, content = ask(labeling, f"/{labeling.token}/")
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert b"onerror" not in content  # the page has no name in it: they come as JSON
    _, headers, content = ask(labeling, f"/{labeling.token}/state")
    assert headers["content-type"] == "application/json"
    assert headers["x-content-type-options"] == "nosniff"
    assert "script-src 'self'" in headers["content-security-policy"]
    assert json.loads(content)["videos"][0]["name"] == SCRIPT
    scripts = [file.read_text() for file in PAGE.glob("*.js")]
    sinks = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function")
    assert len(scripts) > 5
    assert not any(sinks.search(text) for text in scripts)


def test_parts_of_a_video_are_served(labeling: Labeling, folder: Path) -> None:
    data = (folder / SCRIPT).read_bytes()
    path = f"/{labeling.token}/video/0/media"
    assert ask(labeling, path)[2] == data
    status, headers, content = ask(labeling, path, Range="bytes=10-19")
    assert (status, content) == (206, data[10:20])
    assert headers["content-range"] == f"bytes 10-19/{len(data)}"
    assert ask(labeling, path, Range=f"bytes={len(data)}-")[0] == 416
    assert ask(labeling, path, Range="bytes=-5")[2] == data[-5:]


def test_requests_that_make_no_sense_are_said_to(labeling: Labeling) -> None:
    headers = {"Content_Type": "application/json", "Origin": f"http://127.0.0.1:{labeling.port}"}
    for body in (b"{", b"[]", b'{"groups": 1}', b'{"groups": [[{"table": "points"}]]}', b"[" * 100_000):
        status, _, content = ask(labeling, f"/{labeling.token}/change", "POST", body, **headers)
        assert status == 400
        assert json.loads(content)["error"]
    for query in ("first=-1&step=1&count=1", "first=0&step=0&count=1", "first=0&step=1&count=9999", "first=x", ""):
        assert ask(labeling, f"/{labeling.token}/video/0/strip?{query}")[0] == 400
    assert ask(labeling, f"/{labeling.token}/changes?after=x")[0] == 400
    assert ask(labeling, f"/{labeling.token}/state")[0] == 200


def test_classes_have_the_order_in_which_they_were_given(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", moving_square(5), **X264_B)
    found = (Detection("wipe", 0.9, 0.0, 0.1), Detection("dry", 0.8, 0.0, 0.1))
    write_detections(tmp_path / "found", VideoDetections("video", found, 0.2))
    words = ["--class", "stir", "--class", "pour", "--detections", tmp_path / "found"]
    with Labeling(tmp_path, tmp_path / "video.mp4", *words) as labeling:
        assert labeling.get("state")["classes"] == ["stir", "pour", "dry", "wipe"]


def test_it_ends_by_ctrl_c(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", moving_square(5), **X264_B)
    labeling = Labeling(tmp_path, tmp_path / "video.mp4")
    value = {"video_id": "video", "class": "pour", "time": 0.04, "note": ""}
    labeling.post("change", {"groups": [[{"table": "points", "key": "a", "before": None, "after": value}]]})
    text = labeling.end(signal.SIGINT)
    assert labeling.process.returncode == 0
    assert f"{labeling.points}: 1 points" in text
    assert "Traceback" not in text
    assert labeling.rows() == [("video", "pour", 0.04)]


def test_mistakes_on_the_command_line_are_one_line(tmp_path: Path) -> None:
    write_video(tmp_path / "video.mp4", moving_square(5), **X264_B)
    (tmp_path / "broken.csv").write_text("video_id,class,time\nvideo,pour,soon\n")
    result = hrpro("label", tmp_path / "video.mp4", "--points", tmp_path / "broken.csv", "--no-browser")
    assert (result.returncode, result.stdout) == (1, "")
    assert "broken.csv: line 2: time is 'soon'" in result.stderr
    assert not (tmp_path / "broken.csv.journal").exists()


# ---- what the page gets of a video ----

KINDS = {
    "uneven.mkv": X264_B | {"milliseconds": [40 * k + 11 * (k % 2) for k in range(30)]},
    "old.avi": {"codec": "mpeg4", "options": {"bf": "2"}, "audio": "mp3"},
    "older.mpg": MPEG2_B | {"audio": "mp2"},
    "pro.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "turned.mov": {"codec": "mpeg4", "rotation": 90},
    "late.mp4": X264_B | {"milliseconds": [1234 + 40 * k for k in range(30)], "audio": "aac"},
}


def test_copies_have_every_frame_at_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name, options in KINDS.items():
        write_numbered(tmp_path / name, 30, **options)
    (tmp_path / "none.mp4").write_bytes(b"no video")
    library = Library(list_videos([tmp_path / name for name in (*KINDS, "none.mp4")]))
    try:
        for number, name in enumerate(KINDS):
            source = probe(tmp_path / name)
            facts, times = library.facts(number)
            assert np.array_equal(np.frombuffer(times), source.timestamps)
            assert facts["has_sound"] == ("audio" in KINDS[name])
            assert bool(facts["copy_reason"]) == (name not in ("uneven.mkv", "late.mp4"))
            while (state := library.copy(number)).state in ("waiting", "making"):
                pass
            assert state.state == "ready", state.text
            copy = probe(library.copied_file(number))
            assert copy.num_packets == source.num_packets
            shift = source.timestamps[0] - copy.timestamps[0]  # sound alone at the start: the player knows
            assert np.abs(copy.timestamps + shift - source.timestamps).max() < 1e-4
            assert (copy.width > copy.height) == (name != "turned.mov")
            assert library.strip(number, 0, 1, 8)[:2] == b"\xff\xd8"
            assert len(library.peaks(number)) == int(np.ceil(source.duration_seconds * 100)) + 1
        with pytest.raises(Exception, match=r"none\.mp4: not a video"):
            library.facts(len(KINDS))
    finally:
        library.close()


def test_thumbnails_are_of_the_frames_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import cv2

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_numbered(tmp_path / "video.mp4", 60, **X264_B)
    library = Library(list_videos([tmp_path / "video.mp4"]))
    try:
        for first, step in ((0, 1), (24, 1), (3, 7)):
            picture = cv2.imdecode(np.frombuffer(library.strip(0, first, step, 8), np.uint8), cv2.IMREAD_GRAYSCALE)
            width = picture.shape[1] // 8
            blocks = picture[picture.shape[0] // 4].reshape(8, width)[
                :, ((np.arange(10) + 0.5) * width / 10).astype(int)
            ]
            assert ((blocks > 128) @ (1 << np.arange(10))).tolist() == list(range(first, first + 8 * step, step))
    finally:
        library.close()


def test_a_file_that_kills_its_reader_costs_only_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_made(tmp_path, "h264.mp4")
    library = Library(list_videos([tmp_path / "h264.mp4"]))
    try:
        library.facts(0)
        child = library._reader._child
        assert child is not None
        os.kill(child.pid, signal.SIGKILL)
        with pytest.raises(Exception, match=r"h264\.mp4: reading it crashed"):
            library.strip(0, 0, 1, 8)
        assert library.strip(0, 0, 1, 8)
    finally:
        library.close()


def test_the_cache_does_not_grow_for_ever(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.mp4").write_bytes(bytes(100))
        os.utime(tmp_path / f"{number}.mp4", (number, number))
    (tmp_path / ".0.mp4.x.part").write_bytes(bytes(100))
    os.utime(tmp_path / ".0.mp4.x.part", (9, 9))
    tidy(tmp_path, most_bytes=250)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["3.mp4", "4.mp4"]
