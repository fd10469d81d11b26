"""Small made videos for tests: a bright square that moves over a textured ground, in every kind of file."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.stream import Disposition

# Times in milliseconds: irregular ones, a start that is not 0, and frames before 0, which an edit list cuts off.
IRREGULAR = [40 * k + 400 * (k > 9) + 17 * (k % 3 == 1) + 1000 * (k > 20) for k in range(30)]
LATE = [1234 + 40 * k for k in range(30)]
EARLY = [40 * k - 280 for k in range(30)]

X264 = {"codec": "libx264", "options": {"x264-params": "bframes=0:keyint=12"}}
X264_B = {"codec": "libx264", "options": {"x264-params": "bframes=3:b-adapt=0:keyint=12:scenecut=0"}}
X264_INTERLACED = {"codec": "libx264", "options": {"x264-params": "bframes=2:b-adapt=0:keyint=12:tff=1"}}
X265 = {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=12:bframes=3:open-gop=1"}}
MPEG4_B = {"codec": "mpeg4", "options": {"bf": "2", "g": "12"}}
MPEG2_B = {"codec": "mpeg2video", "options": {"bf": "2", "g": "12"}}
VP8 = {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}}
VP9 = {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}}
HIDDEN = {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"}  # frames never shown

# File name -> arguments of `write_video`, for files of 30 frames.
MADE: dict[str, dict[str, Any]] = {
    # Containers, with frames out of order.
    "h264.mp4": X264_B,
    "h264.mov": X264_B,
    "h264.mkv": X264_B,
    "h264.ts": X264_B,
    "h264.flv": X264_B,
    "h264.avi": X264_B,
    "h264_fragments.mp4": X264_B | {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "h264_no_edits.mp4": X264_B | {"container_options": {"use_editlist": "0", "movflags": "negative_cts_offsets"}},
    "mpeg4.avi": MPEG4_B,
    "mpeg4.mkv": MPEG4_B,
    "mpeg4.mov": MPEG4_B,
    "mpeg2.ts": MPEG2_B,
    "mpeg2.mpg": MPEG2_B,
    "hevc.ts": X265,
    "hevc.mp4": X265,
    # In order.
    "h264_in_order.mp4": X264,
    "mpeg4_in_order.avi": {"codec": "mpeg4"},
    "vp8.webm": VP8,
    "vp9.webm": VP9,
    "vp8_hidden.webm": VP8 | {"options": HIDDEN},
    "vp9_hidden.webm": VP9 | {"options": HIDDEN},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj422p"},
    "raw.avi": {"codec": "rawvideo"},
    "flv1.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    # Times.
    "irregular.mp4": X264_B | {"milliseconds": IRREGULAR},
    "irregular.mkv": X264_B | {"milliseconds": IRREGULAR},
    "irregular.webm": VP9 | {"milliseconds": IRREGULAR},
    "late.mp4": X264_B | {"milliseconds": LATE},
    "late.mkv": X264_B | {"milliseconds": LATE},
    "late.ts": X264_B | {"milliseconds": LATE},
    "cut.mp4": X264_B | {"milliseconds": EARLY},
    "cut.mov": MPEG4_B | {"milliseconds": EARLY},
    "cut_hevc.mp4": X265 | {"milliseconds": EARLY},
    "ntsc.mkv": X264_B | {"fps": Fraction(30000, 1001)},
    "ntsc.ts": X264_B | {"fps": Fraction(30000, 1001)},
    # Rotation.
    "rotated_90.mp4": X264_B | {"rotation": 90},
    "rotated_180.mov": X264_B | {"rotation": 180},
    "rotated_270.mp4": X264 | {"rotation": 270},
    # Sound.
    "sound.mp4": X264_B | {"audio": "aac"},
    "sound.ts": X264_B | {"audio": "aac"},
    "sound.mpg": {"codec": "mpeg1video", "audio": "mp2"},
    "sound.webm": VP9 | {"audio": "libopus"},
    # Odd sizes and other pixels.
    "odd.mp4": X264_B | {"pix_fmt": "yuv444p", "size": (65, 45)},
    "odd.webm": VP9 | {"size": (61, 45)},
    "odd.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "size": (63, 47)},
    "odd_444.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (63, 47)},
    "odd_420.mkv": {"codec": "ffv1", "size": (61, 45)},
    "h264_10bit.mkv": X264_B | {"pix_fmt": "yuv420p10le"},
    "hevc_10bit.mp4": X265 | {"pix_fmt": "yuv420p10le"},
    "av1_10bit.mp4": {"codec": "libsvtav1", "pix_fmt": "yuv420p10le", "options": {"preset": "12"}},
    "prores_10bit.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "bt709.mp4": {"codec": "libx264", "options": {"x264-params": "colormatrix=bt709:fullrange=on"}},
    "rgb.mp4": {"codec": "libx264rgb", "pix_fmt": "rgb24"},
    "rgba.mov": {"codec": "png", "pix_fmt": "rgba"},
    "gray.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "wide_pixels.mp4": X264_B | {"pixel_aspect": Fraction(4, 3)},
    "interlaced.mp4": X264_INTERLACED,
    "interlaced.ts": X264_INTERLACED,
    "interlaced.mkv": {"codec": "mpeg2video", "options": {"flags": "+ilme+ildct"}},
}
# Containers without an index: decoders have to search for their place in them.
MPEG_STREAMS = {name for name in MADE if name.endswith((".ts", ".mpg"))}


def write_made(folder: Path, name: str) -> Path:
    """Write the file of `MADE` with this name."""
    arguments = dict(MADE[name])
    width, height = arguments.pop("size", (64, 48))
    return write_video(folder / name, moving_square(30, width, height, step=5), **arguments)


def moving_square(count: int, width: int = 64, height: int = 48, step: int = 2, seed: int = 0) -> np.ndarray:
    """RGB frames [count, height, width, 3], uint8; the square moves `step` pixels right a frame."""
    rng = np.random.default_rng(seed)
    ground = np.kron(rng.integers(30, 130, (height // 4 + 1, width // 4 + 1, 3)), np.ones((4, 4, 1)))
    frames = np.repeat(ground[None, :height, :width].astype(np.uint8), count, axis=0)
    for k in range(count):
        left = (4 + step * k) % (width - 16)
        frames[k, height // 3 : height // 3 + 14, left : left + 14] = (230, 220, 60)
    return frames


SILENCE = np.zeros(48000, np.int16)  # a second


def write_video(
    path: Path,
    frames: np.ndarray,
    fps: int | Fraction = 25,
    milliseconds: Sequence[int] | None = None,
    codec: str = "mpeg4",
    *,
    pix_fmt: str = "yuv420p",
    options: Mapping[str, str] | None = None,
    container_options: Mapping[str, str] | None = None,
    audio: str | None = None,
    samples: np.ndarray = SILENCE,
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
    cover: bool = False,
) -> Path:
    """Write frames at a constant rate, or each at its own time (`milliseconds`).

    Args:
        options, container_options: FFmpeg's, for the codec and the container.
        audio: the codec of an audio track.
        samples: of the audio track, int16 at 48 kHz, the same on both sides; a second of silence.
        rotation: degrees counter-clockwise in the display matrix.
        cover: the video stream is an attached picture.
    """
    base = 1 / Fraction(fps) if milliseconds is None else Fraction(1, 1000)
    with av.open(str(path), "w", container_options=dict(container_options or {})) as container:
        stream = container.add_stream(codec, rate=fps, options=dict(options or {}))
        assert isinstance(stream, av.VideoStream)
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = pix_fmt
        stream.codec_context.time_base = base
        stream.codec_context.thread_count = 1
        if rotation:
            stream.set_display_rotation(rotation)
        if cover:
            stream.disposition = Disposition.attached_pic
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        sound = container.add_stream(audio, rate=48000) if audio else None
        if isinstance(sound, av.AudioStream):
            for start in range(0, len(samples), 960):
                both = np.repeat(samples[start : start + 960], 2)[None]
                part = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
                part.sample_rate, part.pts, part.time_base = 48000, start, Fraction(1, 48000)
                container.mux(sound.encode(part))
            container.mux(sound.encode())
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = k if milliseconds is None else milliseconds[k]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_damaged(path: Path) -> Path:
    """50 frames at 10 fps, the 29th overwritten with zeros: `.mov` or `.mp4`, whose index stays whole."""
    write_video(path, moving_square(50, 32, 32), fps=10, codec="png", pix_fmt="rgb24")
    data = bytearray(path.read_bytes())
    start = -1
    for _ in range(29):
        start = data.index(b"\x89PNG", start + 1)
    data[start : start + 50] = bytes(50)
    path.write_bytes(data)
    return path


def write_sound(path: Path) -> Path:
    """A media file without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
