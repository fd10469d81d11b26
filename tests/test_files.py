"""Files: videos found by their ids, safe names, digests, and files written whole or not at all."""

from pathlib import Path

import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline.data.files import git_blob_sha1, replacing, safe_id, video_id_of
from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe


def test_find_videos(tmp_path: Path) -> None:
    folder, other, empty = tmp_path / "videos", tmp_path / "other", tmp_path / "empty"
    for path in (folder, other, empty):
        path.mkdir()
    for name in ("b.MP4", "a.mkv", "notes.txt", ".hidden.mp4"):
        (folder / name).touch()
    (other / "a.avi").touch()
    (other / "clip.bin").touch()
    assert find_videos([folder]).by_id == {"a": (folder / "a.mkv"), "b": folder / "b.MP4"}
    assert find_videos([other / "clip.bin"]).by_id == {"clip": other / "clip.bin"}, "taken as named"
    assert list(find_videos([folder, folder / "a.mkv"]).by_id) == ["a", "b"], "the same file twice is one video"
    with pytest.raises(HrproError, match="empty: no videos in this folder"):
        find_videos([empty])
    with pytest.raises(HrproError, match="nowhere: no such file"):
        find_videos([tmp_path / "nowhere"])


def test_links_are_the_users_own(tmp_path: Path) -> None:
    """Linked data sets are usual; a link that leads nowhere costs only itself."""
    folder, elsewhere = tmp_path / "videos", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    write_video(elsewhere / "real.mp4", moving_square(5))
    (folder / "a.mp4").symlink_to(elsewhere / "real.mp4")
    (folder / "b.mp4").symlink_to(elsewhere / "nowhere.mp4")
    (folder / "c.mp4").mkdir()
    found = find_videos([folder]).by_id
    assert list(found) == ["a", "b", "c"]
    assert len(list(decode(found["a"]))) == 5
    with pytest.raises(HrproError, match="b.mp4: no such file"):
        probe(found["b"])
    with pytest.raises(HrproError, match="c.mp4: not a file; expected a video"):
        probe(found["c"])


def test_a_clash_of_ids_costs_the_clashing_files(tmp_path: Path) -> None:
    for name in ("clip #1.mp4", "clip &1.mp4", "a.mkv", "a.AVI", "b.mp4", "c.mov.mp4", "..mp4"):
        (tmp_path / name).touch()
    found = find_videos([tmp_path, tmp_path / "b.mp4", tmp_path / "..mp4"])
    assert list(found.by_id) == ["b", "c"]
    assert {Path(failure.source).name for failure in found.failures} == {
        *("clip #1.mp4", "clip &1.mp4", "a.mkv", "a.AVI", "..mp4")
    }
    (first,) = [failure for failure in found.failures if failure.source.endswith("clip #1.mp4")]
    assert "clip #1.mp4 and " in first.reason
    assert first.reason.endswith("clip &1.mp4: both would be video 'clip _1'; rename one of them")


def test_every_suffix_of_a_video_and_what_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    suffixes = ("mp4", "MTS", "m2ts", "VOB", "ogv", "asf", "f4v", "mxf", "GIF", "ts", "wmv", "3gp", "3G2", "m2v", "Qt")
    for suffix in suffixes:
        (tmp_path / f"v_{suffix}.{suffix}").touch()
    for name in ("notes.txt", "labels.csv", ".DS_Store", "._v.mp4"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    caplog.set_level("INFO")
    assert list(find_videos([tmp_path]).by_id) == sorted(f"v_{suffix}" for suffix in suffixes)
    assert caplog.messages == [f"{tmp_path}: left out 2 files, without the suffix of a video: labels.csv, notes.txt"]


@pytest.mark.parametrize(
    ("written", "video_id"),
    [
        ("नमस्ते.mp4", "नमस्ते"),
        ("Cafe\u0301", "Caf\u00e9"),
        ("ＡＢ", "ＡＢ"),
        ("John's clip.MP4", "John_s clip"),
        (" John's clip ", "John_s clip"),
        ("Recording 3.15.20\u202fPM.mov", "Recording 3.15.20 PM"),
        ("movie.avi.mp4", "movie"),
        ("v1.2", "v1.2"),
        ("打球（一）", "打球_一_"),
        ("caf\udce9", "caf_"),
        ("a\nb", "a_b"),
        ("-0r0HEwAYiQ", "-0r0HEwAYiQ"),
        ("x\u200b\ufeff", "x"),
    ],
)
def test_ids(written: str, video_id: str) -> None:
    assert video_id_of(written) == video_id
    assert video_id_of(video_id) == video_id, "an id is its own"


def test_safe_ids() -> None:
    assert safe_id("v_GGSY1Qvo990") == "v_GGSY1Qvo990"
    assert safe_id("../a b/\n.mp4") not in ("", ".", "..")
    assert "/" not in safe_id("a/b")
    with pytest.raises(HrproError):
        safe_id("...")


def test_replacing_leaves_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_git_blob_digest(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"hello\n")
    assert git_blob_sha1(path) == "ce013625030ba8dba906f756967f9e9ca394464a"  # `git hash-object` of the same bytes
