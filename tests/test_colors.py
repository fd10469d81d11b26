"""Levels to RGB: 10 bits, BT.2020, HDR, both ranges. Every decoder gives the colors that were encoded."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from make_videos import moving_square, write_video
from players import decoded_by_each, ffmpeg, levels_apart, need_ffmpeg

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.video import torchcodec as torchcodec_frames
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.probe import probe
from hrpro_pipeline.show.render import RenderJob, render
from hrpro_pipeline.show.thumbnails import film_strip

WIDTH, HEIGHT = 96, 64
LEVELS = 3
# Matrix by its code: weights of red and blue in brightness. 2: the file does not say, which means BT.601.
WEIGHTS = {
    1: (0.2126, 0.0722),
    2: (0.299, 0.114),
    6: (0.299, 0.114),
    9: (0.2627, 0.0593),
    10: (0.2627, 0.0593),  # of constant luminance, which all programs take for the other one
}
NOT_SAID, LIMITED, FULL = range(3)
SDR, PQ, HLG = 1, 16, 18
X265 = {"codec": "libx265", "options": {"x265-params": "lossless=1:log-level=none"}}
X264 = {"codec": "libx264", "options": {"qp": "0"}}
FFV1 = {"codec": "ffv1"}

# Name -> encoder, pixel format, matrix, transfer, range.
CODED: dict[str, tuple[Mapping[str, Any], str, int, int, int]] = {
    "hdr10.mp4": (X265, "yuv420p10le", 9, PQ, LIMITED),
    "hdr10.mkv": (X265, "yuv420p10le", 9, PQ, LIMITED),
    "hdr10_full.mp4": (X265, "yuv420p10le", 9, PQ, FULL),
    "hlg.mov": (X265, "yuv420p10le", 9, HLG, LIMITED),
    "hlg_full.mov": (X265, "yuv420p10le", 9, HLG, FULL),
    "hdr10_12bit.mp4": (X265, "yuv420p12le", 9, PQ, LIMITED),
    "hdr10_444.mkv": (FFV1, "yuv444p10le", 9, PQ, LIMITED),
    "hdr10_444_full.mkv": (FFV1, "yuv444p10le", 9, PQ, FULL),
    "hdr10_8bit.mp4": (X264, "yuv420p", 9, PQ, LIMITED),
    "constant.mkv": (FFV1, "yuv444p10le", 10, PQ, LIMITED),
    "constant_8bit.mp4": (X264, "yuv420p", 10, SDR, LIMITED),
    "bt709_10bit.mp4": (X264, "yuv420p10le", 1, SDR, LIMITED),
    "bt709_10bit_full.mp4": (X264, "yuv420p10le", 1, SDR, FULL),
    "bt601_10bit.mp4": (X265, "yuv420p10le", 6, SDR, LIMITED),
    "untagged_10bit.mkv": (FFV1, "yuv420p10le", 2, 2, NOT_SAID),
    "bt709.mp4": (X264, "yuv420p", 1, SDR, LIMITED),
    "bt709_full.mp4": (X264, "yuv420p", 1, SDR, FULL),
    "bt601.mp4": (X264, "yuv420p", 6, SDR, LIMITED),
    "bt601_full.mkv": (FFV1, "yuv420p", 6, SDR, FULL),
    "untagged.mp4": (X264, "yuv420p", 2, 2, NOT_SAID),
    "four_rows.mkv": (FFV1, "yuv410p", 1, SDR, LIMITED),
    "half_rows.mkv": (FFV1, "yuv440p", 1, SDR, LIMITED),
}


def smooth_frames(count: int = 4) -> np.ndarray:
    """RGB frames [count, H, W, 3], uint8, without edges; the first one is black, which does not tell how."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    frames = [
        np.stack([40 + 170 * x / WIDTH, 200 - 140 * y / HEIGHT, 128 + 80 * np.sin((x + y + 4 * k) / 40)], -1)
        for k in range(count)
    ]
    frames[0][:] = 0
    return np.stack(frames).round().astype(np.uint8)


def planes_of(image: np.ndarray, pixels: av.VideoFormat, matrix: int, *, full: bool) -> list[np.ndarray]:
    """Brightness and colors of an RGB image by the equations of the standards, as levels of a pixel format."""
    red_weight, blue_weight = WEIGHTS[matrix]
    red, green, blue = np.moveaxis(image / 255, -1, 0)
    bright = red_weight * red + (1 - red_weight - blue_weight) * green + blue_weight * blue
    bits = pixels.components[0].bits
    top = 2**bits - 1
    low, span, color_span = (0, top, top) if full else (16 << bits - 8, 219 << bits - 8, 224 << bits - 8)
    planes = [low + span * bright]
    size = (pixels.chroma_width(WIDTH), pixels.chroma_height(HEIGHT))
    for color, weight in ((blue, blue_weight), (red, red_weight)):
        difference = (color - bright) / (2 - 2 * weight)
        planes.append((1 << bits - 1) + color_span * cv2.resize(difference, size, interpolation=cv2.INTER_AREA))
    return [plane.round().clip(0, top).astype(np.uint8 if bits == 8 else np.uint16) for plane in planes]


def write_coded(path: Path, frames: np.ndarray) -> Path:
    """Write frames as the entry of `CODED` with the file's name says."""
    encoder, pix_fmt, matrix, transfer, levels = CODED[path.name]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder["codec"], rate=25, options=dict(encoder.get("options", {})))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_range = matrix, transfer, levels
        context.color_primaries = 9 if matrix in (9, 10) else 2 if matrix == 2 else 1
        for number, image in enumerate(frames):
            frame = av.VideoFrame(WIDTH, HEIGHT, pix_fmt)
            frame.colorspace, frame.color_range, frame.pts = matrix, levels, number
            planes = planes_of(image, frame.format, matrix, full=levels == FULL)
            for plane, values in zip(frame.planes, planes, strict=True):
                rows = np.frombuffer(plane, values.dtype).reshape(plane.height, -1)  # type: ignore[call-overload]
                rows[:, : values.shape[1]] = values
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize("name", CODED)
def test_every_decoder_gives_the_colors_that_were_encoded(tmp_path: Path, name: str, torchcodec: None) -> None:
    drawn = smooth_frames()
    path = write_coded(tmp_path / name, drawn)
    _, pix_fmt, matrix, _, levels = CODED[name]
    info = probe(path)
    assert (info.matrix, info.full_range) == (matrix, levels == FULL)
    assert info.pixel_format in (pix_fmt, pix_fmt.replace("yuv", "yuvj"))
    results = decoded_by_each(path)
    for decoder, (_, _, frames) in results.items():
        difference = np.abs(frames.astype(np.int16) - results["pyav"][2])
        assert (difference.max() <= LEVELS) and (difference.mean() <= LEVELS), decoder
        # Where color has fewer pixels, they lie up to half a pixel beside, and farther at the borders of the picture.
        inner = np.abs(frames.astype(np.int16) - drawn)[:, 8:-8, 8:-8]
        assert (inner.mean() < 2) and (inner.max() <= 2 * LEVELS), (decoder, inner.mean(), inner.max())


def test_colors_are_those_of_ffmpeg(tmp_path: Path) -> None:
    need_ffmpeg()
    for name in CODED:
        path = write_coded(tmp_path / name, smooth_frames(2))
        raw = ffmpeg("-i", path, "-vf", "scale=flags=bicubic,format=rgb24", "-f", "rawvideo", "-")
        expected = np.frombuffer(raw, np.uint8).reshape(-1, HEIGHT, WIDTH, 3)
        frames = np.stack([frame for _, frame in decode(path)])
        assert levels_apart(frames, expected) <= LEVELS, name


@pytest.mark.parametrize("levels", ["tv", "pc"])
def test_vp9_of_ten_bits(tmp_path: Path, levels: str, torchcodec: None) -> None:
    """Written by ffmpeg: PyAV's encoder takes 8 bits."""
    need_ffmpeg()
    drawn = smooth_frames()
    source = write_video(tmp_path / "source.mkv", drawn, codec="ffv1", pix_fmt="bgr0")
    path = tmp_path / "hlg.webm"
    tags = [
        "-colorspace",
        "bt2020nc",
        "-color_primaries",
        "bt2020",
        "-color_trc",
        "arib-std-b67",
        "-color_range",
        levels,
    ]
    scale = f"scale=out_color_matrix=bt2020:out_range={levels},format=yuv420p10le"
    ffmpeg("-i", source, "-vf", scale, "-c:v", "libvpx-vp9", "-lossless", "1", *tags, path)
    for decoder, (_, _, frames) in decoded_by_each(path).items():
        inner = np.abs(frames.astype(np.int16) - drawn)[:, 8:-8, 8:-8]
        assert (inner.mean() < 2) and (inner.max() <= 2 * LEVELS), (decoder, inner.mean(), inner.max())


def test_pictures_of_hdr_have_the_same_colors(tmp_path: Path) -> None:
    """Overlay, clips and thumbnails of it show what was detected in."""
    drawn = smooth_frames(25)
    for name in ("hdr10_full.mp4", "constant.mkv"):
        path = write_coded(tmp_path / name, drawn)
        render(path, RenderJob(tmp_path / "over.mp4", None, (), (), {}))
        shown = np.stack([frame for _, frame in decode(tmp_path / "over.mp4", "pyav")])
        assert np.abs(shown[1:].astype(int) - drawn[1:])[:, :40].mean() < LEVELS  # its timeline is below
        strip = film_strip(path, 1)
        sheet = cv2.imdecode(np.frombuffer(strip.jpeg, np.uint8), cv2.IMREAD_COLOR)[:, :, ::-1]
        expected = cv2.resize(drawn[round(strip.seconds[0] * 25)], (strip.width, strip.height))
        assert np.abs(sheet.astype(int) - expected).mean() < LEVELS


def test_colors_that_cannot_be_converted_are_named(tmp_path: Path) -> None:
    """YCgCo, which PyAV's FFmpeg does not convert and others take for BT.601."""
    path = write_video(tmp_path / "a.mp4", moving_square(5), codec="libx264", options={"colorspace": "ycgco"})
    for decoder in ("auto", "pyav", "torchcodec"):
        with pytest.raises(HrproError, match=r"a\.mp4: .*colors .*YCgCo.*; re-encode"):
            list(decode(path, decoder))


@pytest.mark.parametrize("name", ["hdr10.mp4", "hdr10_8bit.mp4", "bt709_full.mp4", "untagged_10bit.mkv", "bt709.mp4"])
def test_nvdec_gets_ordinary_colors_alone(tmp_path: Path, name: str) -> None:
    info = probe(write_coded(tmp_path / name, smooth_frames(2)))
    if name == "bt709.mp4":
        torchcodec_frames._check_colors(info, "cuda:0")
    else:
        with pytest.raises(RuntimeError, match="NVDEC converts HDR and levels of full range otherwise"):
            torchcodec_frames._check_colors(info, "cuda:0")
