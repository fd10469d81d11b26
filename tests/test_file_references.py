"""Files that refer to others, such as play lists: no decoder follows them."""

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from decoded_frames import all_frames, assert_same_frames
from make_videos import moving_square, write_video

from hrpro_pipeline.data.videos import find_videos
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe

PLAY_LISTS = {
    "hls": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "concat": b"ffconcat version 1.0\nfile secret.mp4\n",
    "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    "dash": b'<?xml version="1.0"?>\n<MPD profiles="urn:mpeg:dash:profile:isoff-on-demand:2011" type="static"></MPD>\n',
}


def test_play_lists_and_addresses_are_refused(tmp_path: Path) -> None:
    write_video(tmp_path / "secret.mp4", moving_square(5))
    concat = tmp_path / "list.mp4"
    concat.write_text("ffconcat version 1.0\nfile secret.mp4\n")
    play_list = tmp_path / "list.mkv"
    play_list.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n")
    for path in (concat, play_list):
        with pytest.raises(HrproError, match="not a video that can be read"):
            probe(path)
    with pytest.raises(HrproError, match="only local files are read"):
        find_videos([Path("http://127.0.0.1/video.mp4")])
    with pytest.raises(HrproError, match="no such file"):
        probe(Path("concat:secret.mp4|secret.mp4"))


def spied(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files that decord opens from now on."""
    decord = pytest.importorskip("decord", reason="decord has no wheel for this machine")
    opened = []

    class Spy(decord.VideoReader):  # type: ignore[misc]
        def __init__(self, uri: str, **options: Any) -> None:
            opened.append(uri)
            super().__init__(uri, **options)

    monkeypatch.setattr(decord, "VideoReader", Spy)
    return opened


@pytest.mark.parametrize("tail", ["nothing", "h264.ts", "h264.mp4", "h264.mkv"])
@pytest.mark.parametrize("kind", PLAY_LISTS)
@pytest.mark.parametrize("suffix", [".mp4", ".ts"])
def test_a_play_list_in_disguise_reaches_no_decoder_but_pyav(
    tmp_path: Path, made_folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, tail: str, suffix: str
) -> None:
    """A file that starts as a play list and goes on as a video: if PyAV reads it, then as that video alone."""
    (tmp_path / "secret.mp4").write_bytes((made_folder / "mpeg4.mov").read_bytes())
    path = tmp_path / f"disguised{suffix}"
    path.write_bytes(PLAY_LISTS[kind] + (b"" if tail == "nothing" else (made_folder / tail).read_bytes()))
    opened = spied(monkeypatch)
    for decoder in ("auto", "torchcodec"):
        try:
            decoding = decode(path, decoder)
        except HrproError as error:
            assert "\n" not in str(error)
            continue
        assert decoding.decoder == "pyav"
        assert "not used for such files" in str(decoding.fallback_reason)
        assert decoding.info.codec == "h264", "the secret is MPEG-4"
    assert opened == []


def test_decord_alone_would_follow_a_play_list(tmp_path: Path, made_folder: Path) -> None:
    """The lure of the test above works: MPEG-TS to PyAV, a play list to decord's older FFmpeg."""
    decord = pytest.importorskip("decord", reason="decord has no wheel for this machine")
    write_video(tmp_path / "secret.mp4", moving_square(17))
    path = tmp_path / "disguised.mp4"
    path.write_bytes(PLAY_LISTS["hls"] + (made_folder / "h264.ts").read_bytes())
    assert len(decord.VideoReader(str(path))) == 17
    assert probe(path).num_packets == 30


@pytest.mark.parametrize("name", ["h264.mp4", "h264.mkv", "h264.flv", "mpeg4_in_order.avi", "wmv2.wmv"])
def test_a_play_list_inside_a_video_is_not_read(made_folder: Path, tmp_path: Path, name: str, torchcodec: None) -> None:
    """Text behind the first bytes of a real container changes nothing."""
    path = tmp_path / name
    text = b"\n" + b"".join(PLAY_LISTS.values())
    path.write_bytes((made_folder / name).read_bytes() + text)
    if name.endswith(".mp4"):  # a box that players skip, with text right after the file type
        data = (made_folder / name).read_bytes()
        length = int.from_bytes(data[:4], "big")
        box = (len(text) + 8).to_bytes(4, "big") + b"free" + text
        # Chunks' positions are counted from the start of the file, and do not move if the box comes last.
        path.write_bytes(data[:length] + data[length:] + box)
    expected = all_frames(decode(made_folder / name, "pyav"))
    for decoder in ("pyav", "auto", "torchcodec"):
        assert_same_frames(decode(path, decoder), expected)


def boxes(data: bytes, path: list[bytes]) -> list[int]:
    """Where the nested MP4 boxes of these names start."""
    found, start, end = [], 0, len(data)
    for name in path:
        while data[start + 4 : start + 8] != name:
            start += int.from_bytes(data[start : start + 4], "big")
            assert start < end, name
        found.append(start)
        end = start + int.from_bytes(data[start : start + 4], "big")
        start += 8
    return found


def with_external_data(video: bytes, other: str) -> bytes:
    """An MP4 file whose samples are declared to be in another file, by a Macintosh alias."""
    data = bytearray(video)
    nested = boxes(bytes(data), [b"moov", b"trak", b"mdia", b"minf", b"dinf"])
    dref = nested[-1] + 8
    assert data[dref + 4 : dref + 8] == b"dref"
    entry = dref + 16
    length = int.from_bytes(data[entry : entry + 4], "big")
    name = other.encode()
    # FFmpeg reads: volume, file name, levels up and down, then numbered strings; 2 is the path.
    alias = bytes(10) + bytes([3]) + b"vol".ljust(27, b"\0") + bytes(12) + bytes([len(name)]) + name.ljust(63, b"\0")
    alias += bytes(16) + (1).to_bytes(2, "big") * 2 + bytes(16)
    where = b"vol:" + name
    alias += (2).to_bytes(2, "big") + len(where).to_bytes(2, "big") + where + bytes(len(where) % 2) + b"\xff\xff\0\0"
    alias = alias.ljust(160, b"\0")
    replaced = (12 + len(alias)).to_bytes(4, "big") + b"alis" + bytes(4) + alias
    data[entry : entry + length] = replaced
    for start in [*nested, dref]:
        size = int.from_bytes(data[start : start + 4], "big") + len(replaced) - length
        data[start : start + 4] = size.to_bytes(4, "big")
    content = boxes(bytes(data), [b"mdat"])[0]
    end = content + int.from_bytes(data[content : content + 4], "big")
    data[content + 8 : end] = bytes(end - content - 8)
    return bytes(data)


def test_external_data_is_not_followed(tmp_path: Path) -> None:
    """A MOV file may say that its frames are in another file."""
    secret = write_video(tmp_path / "secret.mp4", moving_square(10), codec="mpeg4")
    path = tmp_path / "link.mov"
    path.write_bytes(with_external_data(secret.read_bytes(), "secret.mp4"))
    with av.open(str(path), options={"enable_drefs": "1"}) as container:
        followed = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    expected = all_frames(decode(secret, "pyav"))[1]
    assert len(followed) == 10, "the made file leads to the secret if FFmpeg is told to follow"
    assert np.abs(np.stack(followed).astype(np.int16) - expected).max() < 3
    for decoder in ("pyav", "auto", "torchcodec"):
        with pytest.raises(HrproError, match=r"link\.mov"):
            list(decode(path, decoder))
