"""Videos that are cut off or damaged: one error, or with `keep_partial` the part before it."""

from pathlib import Path

import numpy as np
import pytest
from make_videos import MADE, X264_B, moving_square, write_damaged, write_made, write_video

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video.clock import num_clock_frames, resample
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe


@pytest.fixture(params=["made", pytest.param("real", marks=pytest.mark.shared)])
def damaged_video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """50 frames at 10 fps of which the 29th cannot be decoded."""
    if request.param == "made":
        return write_damaged(tmp_path / "damaged.mov")
    return request.getfixturevalue("shared") / "videos" / "corrupted.mp4"


def cut_bytes(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    return path


@pytest.mark.parametrize("decoder", ["auto", "pyav"])
def test_a_corrupted_video_fails_in_one_line(damaged_video: Path, decoder: str) -> None:
    decoding = decode(damaged_video, decoder)
    with pytest.raises(HrproError) as caught:
        for _ in decoding:
            pass
    text = str(caught.value)
    assert text.startswith(f"{damaged_video.name}: decoding stopped after 28 of 50 frames (2.8 s): ")
    assert text.endswith("; re-encode it, or keep what there is by `keep_partial`")
    assert "\n" not in text


@pytest.mark.parametrize("name", ["h264.mkv", "vp9.webm", "mpeg4.avi", "raw.avi", "odd_444.mkv", "faststart.mp4"])
def test_a_file_that_was_cut_off_is_not_taken_for_a_shorter_video(tmp_path: Path, name: str) -> None:
    if name in MADE:
        path = write_made(tmp_path, name)
    else:
        options = {"movflags": "faststart"}
        path = write_video(tmp_path / name, moving_square(30, step=5), **X264_B, container_options=options)
    whole = [frame for _, frame in decode(path, "pyav")]
    assert probe(path).incomplete is None
    size = path.stat().st_size
    cut_bytes(path)
    have = path.stat().st_size
    with pytest.raises(HrproError, match=rf"{name}: cut off: {have} of {size} bytes; copy or download it again"):
        decode(path)
    decoding = decode(path, keep_partial=True)
    frames = [frame for _, frame in decoding]
    assert 0 < len(frames) < 30
    assert decoding.partial_reason is not None
    # The last packet may be in the file by half.
    assert all(np.array_equal(a, b) for a, b in zip(frames[:-1], whole, strict=False))


def test_a_damaged_structure_is_not_taken_for_a_shorter_video(tmp_path: Path) -> None:
    """Matroska whose reader loses its way ends early without an error."""
    path = write_made(tmp_path, "h264.mkv")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 200] = np.random.default_rng(0).integers(0, 256, 200, dtype=np.uint8).tobytes()
    path.write_bytes(data)
    with pytest.raises(HrproError, match=r"h264.mkv: 0.5 of 1.2 s are in the file; copy or download it again"):
        decode(path)


@pytest.mark.parametrize("name", ["h264.mp4", "mjpeg.mov"])
def test_a_file_without_its_index(tmp_path: Path, name: str) -> None:
    path = cut_bytes(write_made(tmp_path, name))
    with pytest.raises(HrproError, match=f"{name}: not a video that can be read"):
        decode(path, keep_partial=True)


@pytest.mark.parametrize("name", ["h264.ts", "mpeg2.mpg"])
def test_streams_end_where_they_end(tmp_path: Path, name: str) -> None:
    """They have no length that says otherwise; what is there is decoded or the error says how far."""
    path = cut_bytes(write_made(tmp_path, name), 0.6)
    decoding = decode(path, keep_partial=True)
    assert 10 <= len(list(decoding)) < 30


def test_the_part_before_the_damage_is_kept_if_asked_for(damaged_video: Path) -> None:
    decoding = decode(damaged_video, keep_partial=True)
    info = decoding.info
    shown = list(resample(decoding, info, 25, lambda: decoding.partial_reason is not None))
    assert decoding.num_decoded == 28
    reason = "decoding stopped after 28 of 50 frames (2.8 s): Invalid data found when processing input"
    assert decoding.partial_reason == reason
    part = decoding.decoded_part
    assert part.num_packets == 28
    assert part.duration_seconds == pytest.approx(info.timestamps[28])
    assert len(shown) == num_clock_frames(part, 25) == round(25 * info.timestamps[28])
    assert num_clock_frames(info, 25) > len(shown)
    with pytest.raises(HrproError, match="decoding stopped after 28 of 50 frames"):
        list(decode(damaged_video))


def test_a_complete_video_is_the_same_with_keep_partial(tmp_path: Path) -> None:
    path = write_made(tmp_path, "irregular.mkv")
    decoding = decode(path, keep_partial=True)
    kept = list(resample(decoding, decoding.info, 25, lambda: decoding.partial_reason is not None))
    whole = list(resample(decode(path), probe(path), 25))
    assert decoding.partial_reason is None
    assert decoding.decoded_part is decoding.info
    assert len(kept) == len(whole)
    assert all(np.array_equal(a, b) for a, b in zip(kept, whole, strict=True))


def test_a_video_without_any_frame_is_no_partial_one(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", moving_square(30), codec="ffv1")
    data = bytearray(path.read_bytes())
    first = data.index(b"\xa3", len(data) // 40)
    data[first + 20 :] = bytes(len(data) - first - 20)
    path.write_bytes(data)
    with pytest.raises(HrproError, match="^a.mkv: "):
        list(decode(path, keep_partial=True))
