"""Files: videos found by their ids, safe names, digests, and files written whole or not at all."""

from pathlib import Path

import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline.data.files import git_blob_sha1, replacing, safe_id
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
    assert find_videos([folder]) == {"a": (folder / "a.mkv"), "b": folder / "b.MP4"}
    assert find_videos([other / "clip.bin"]) == {"clip": other / "clip.bin"}, "taken as named"
    assert list(find_videos([folder, folder / "a.mkv"])) == ["a", "b"], "the same file twice is one video"
    with pytest.raises(HrproError, match="a.mkv and .*a.avi: both would be video 'a'; rename one"):
        find_videos([folder, other])
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
    found = find_videos([folder])
    assert list(found) == ["a", "b", "c"]
    assert len(list(decode(found["a"]))) == 5
    with pytest.raises(HrproError, match="b.mp4: no such file"):
        probe(found["b"])
    with pytest.raises(HrproError, match="c.mp4: not a file; expected a video"):
        probe(found["c"])


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
