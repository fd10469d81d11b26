"""Small made videos for tests: a bright square that moves over a textured ground, in every kind of file."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

# Irregular times, and times with B-frames' usual trouble: a start that is not 0.
IRREGULAR = [40 * k + 400 * (k > 9) + 17 * (k % 3 == 1) + 1000 * (k > 20) for k in range(30)]
LATE = [1234 + 40 * k for k in range(30)]
EARLY = [40 * k - 280 for k in range(30)]
B_FRAMES = {"bf": "2", "g": "12"}
X264_B = {"x264-params": "bframes=3:b-adapt=0:keyint=12:scenecut=0"}
X264_PLAIN = {"x264-params": "bframes=0:keyint=12"}

# File name -> arguments of `write_video`, for files of 30 frames.
MADE: dict[str, dict[str, Any]] = {
    "h264.mp4": {"codec": "libx264", "options": X264_PLAIN},
    "h264_b.mp4": {"codec": "libx264", "options": X264_B},
    "h264_b.mov": {"codec": "libx264", "options": X264_B},
    "h264_b.mkv": {"codec": "libx264", "options": X264_B},
    "h264_b.ts": {"codec": "libx264", "options": X264_B},
    "h264_b.flv": {"codec": "libx264", "options": X264_B},
    "h264_b.avi": {"codec": "libx264", "options": X264_B},
    "h264_b_no_edit_list.mp4": {
        "codec": "libx264",
        "options": X264_B,
        "container_options": {"use_editlist": "0", "movflags": "negative_cts_offsets"},
    },
    "h264_fragments.mp4": {
        "codec": "libx264",
        "options": X264_B,
        "container_options": {"movflags": "frag_keyframe+empty_moov"},
    },
    "h264_10bit.mkv": {"codec": "libx264", "pix_fmt": "yuv420p10le", "options": X264_B},
    "h264_odd.mp4": {"codec": "libx264", "pix_fmt": "yuv444p", "size": (35, 45), "options": X264_B},
    "h264_audio.mp4": {"codec": "libx264", "options": X264_B, "audio": "aac"},
    "h264_audio.ts": {"codec": "libx264", "options": X264_B, "audio": "aac"},
    "h264_irregular.mp4": {"codec": "libx264", "options": X264_B, "milliseconds": IRREGULAR},
    "h264_irregular.mkv": {"codec": "libx264", "options": X264_B, "milliseconds": IRREGULAR},
    "h264_late.mp4": {"codec": "libx264", "options": X264_B, "milliseconds": LATE},
    "h264_late.mkv": {"codec": "libx264", "options": X264_B, "milliseconds": LATE},
    "h264_late.ts": {"codec": "libx264", "options": X264_B, "milliseconds": LATE},
    "h264_full_range.mp4": {"codec": "libx264", "pix_fmt": "yuvj420p", "options": X264_B},
    "h264_rotated_90.mp4": {"codec": "libx264", "options": X264_B, "rotation": 90},
    "h264_rotated_180.mov": {"codec": "libx264", "options": X264_B, "rotation": 180},
    "h264_rotated_270.mp4": {"codec": "libx264", "options": X264_PLAIN, "rotation": 270},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none"}},
    "hevc_10bit.mkv": {"codec": "libx265", "pix_fmt": "yuv420p10le", "options": {"x265-params": "log-level=none"}},
    "mpeg4.mp4": {"codec": "mpeg4"},
    "mpeg4.avi": {"codec": "mpeg4"},
    "mpeg4_b.avi": {"codec": "mpeg4", "options": B_FRAMES},
    "mpeg4_b.mkv": {"codec": "mpeg4", "options": B_FRAMES},
    "mpeg4_b.mov": {"codec": "mpeg4", "options": B_FRAMES},
    "mpeg4_irregular.mkv": {"codec": "mpeg4", "milliseconds": IRREGULAR},
    "mpeg2_b.ts": {"codec": "mpeg2video", "options": B_FRAMES},
    "mpeg2_b.mpg": {"codec": "mpeg2video", "options": B_FRAMES},
    "mpeg1_audio.mpg": {"codec": "mpeg1video", "options": B_FRAMES, "audio": "mp2"},
    "vp8.webm": {"codec": "libvpx", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp9_alt_ref.webm": {
        "codec": "libvpx-vp9",
        "options": {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "vp9_irregular.webm": {
        "codec": "libvpx-vp9",
        "milliseconds": IRREGULAR,
        "options": {"deadline": "realtime", "cpu-used": "8"},
    },
    "vp8_alt_ref.webm": {
        "codec": "libvpx",
        "options": {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1", "lag-in-frames": "16"},
    },
    "h264_cut.mp4": {"codec": "libx264", "options": X264_B, "milliseconds": EARLY},
    "h264_cut.mov": {"codec": "libx264", "options": X264_B, "milliseconds": EARLY},
    "mpeg4_cut.mp4": {"codec": "mpeg4", "milliseconds": EARLY},
    "h264_cut.mkv": {"codec": "libx264", "options": X264_B, "milliseconds": EARLY},
    "h264_interlaced.mp4": {"codec": "libx264", "options": {"x264-params": "bframes=2:b-adapt=0:keyint=12:tff=1"}},
    "h264_interlaced.ts": {"codec": "libx264", "options": {"x264-params": "bframes=2:b-adapt=0:keyint=12:tff=1"}},
    "h264_open_gop.mp4": {"codec": "libx264", "options": {"x264-params": "bframes=3:b-adapt=0:keyint=12:open-gop=1"}},
    "h264_pyramid.avi": {
        "codec": "libx264",
        "options": {"x264-params": "bframes=5:b-adapt=0:b-pyramid=normal:keyint=30"},
    },
    "hevc_open_gop.ts": {
        "codec": "libx265",
        "options": {"x265-params": "log-level=none:keyint=12:open-gop=1:bframes=3"},
    },
    "hevc_odd.mkv": {
        "codec": "libx265",
        "pix_fmt": "yuv444p",
        "size": (67, 47),
        "options": {"x265-params": "log-level=none"},
    },
    "hevc_cut.mp4": {"codec": "libx265", "milliseconds": EARLY, "options": {"x265-params": "log-level=none"}},
    "h264_30.mp4": {"codec": "libx264", "options": X264_B, "fps": 30},
    "h264_ntsc.mkv": {"codec": "libx264", "options": X264_B, "fps": Fraction(30000, 1001)},
    "h264_ntsc.ts": {"codec": "libx264", "options": X264_B, "fps": Fraction(30000, 1001)},
    "vp9_odd.webm": {"codec": "libvpx-vp9", "size": (61, 45), "options": {"deadline": "realtime", "cpu-used": "8"}},
    "vp8_odd.mkv": {"codec": "libvpx", "size": (61, 45), "options": {"deadline": "realtime", "cpu-used": "8"}},
    "ffv1_odd_420.mkv": {"codec": "ffv1", "size": (61, 45)},
    "ffv1_odd_410.mkv": {"codec": "ffv1", "pix_fmt": "yuv410p", "size": (61, 45)},
    "av1_10bit.mp4": {"codec": "libsvtav1", "pix_fmt": "yuv420p10le", "options": {"preset": "12"}},
    "h264_709.mp4": {
        "codec": "libx264",
        "options": {"x264-params": "bframes=0:colormatrix=bt709:colorprim=bt709:transfer=bt709"},
    },
    "h264_2020.mp4": {
        "codec": "libx264",
        "pix_fmt": "yuv420p10le",
        "options": {"x264-params": "bframes=0:colormatrix=bt2020nc:colorprim=bt2020:transfer=smpte2084"},
    },
    "h264_full709.mp4": {"codec": "libx264", "options": {"x264-params": "bframes=0:colormatrix=bt709:fullrange=on"}},
    "h264_rgb.mp4": {"codec": "libx264rgb", "pix_fmt": "rgb24"},
    "h264_gbr.mkv": {"codec": "libx265", "pix_fmt": "gbrp", "options": {"x265-params": "log-level=none"}},
    "h264_422.mov": {"codec": "libx264", "pix_fmt": "yuv422p", "size": (66, 46), "options": X264_B},
    "mpeg2_422_interlaced.ts": {"codec": "mpeg2video", "pix_fmt": "yuv422p", "options": {"flags": "+ilme+ildct"}},
    "mpeg2_interlaced.mkv": {"codec": "mpeg2video", "options": {"flags": "+ilme+ildct"}},
    "pal8.mov": {"codec": "png", "pix_fmt": "gray"},
    "rgba.mov": {"codec": "png", "pix_fmt": "rgba"},
    "vc.gif": {"codec": "gif", "pix_fmt": "rgb8"},
    "vp9_audio.webm": {"codec": "libvpx-vp9", "audio": "libopus", "options": {"deadline": "realtime", "cpu-used": "8"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "av1.webm": {"codec": "libsvtav1", "options": {"preset": "12"}},
    "ffv1_odd.mkv": {"codec": "ffv1", "pix_fmt": "yuv444p", "size": (63, 47)},
    "ffv1_rgb.mkv": {"codec": "ffv1", "pix_fmt": "bgr0", "size": (63, 47)},
    "mjpeg_odd.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p", "size": (63, 47)},
    "mjpeg.mov": {"codec": "mjpeg", "pix_fmt": "yuvj422p"},
    "png.mov": {"codec": "png", "pix_fmt": "rgb24", "size": (35, 45)},
    "raw.avi": {"codec": "rawvideo", "pix_fmt": "yuv420p"},
    "prores.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "flv1.flv": {"codec": "flv"},
    "wmv2.wmv": {"codec": "wmv2"},
    "gray.mkv": {"codec": "ffv1", "pix_fmt": "gray"},
    "wide_pixels.mp4": {"codec": "libx264", "options": X264_B, "pixel_aspect": Fraction(4, 3)},
}


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
    rotation: int = 0,
    pixel_aspect: Fraction | None = None,
) -> Path:
    """Write frames at a constant rate, or each at its own time (`milliseconds`).

    Args:
        options, container_options: FFmpeg's, for the codec and the container.
        audio: the codec of an audio track (a second of silence).
        rotation: degrees counter-clockwise in the display matrix.
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
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        sound = container.add_stream(audio, rate=48000) if audio else None
        if isinstance(sound, av.AudioStream):
            for start in range(0, 48000, 960):
                silence = av.AudioFrame.from_ndarray(np.zeros((1, 1920), np.int16), format="s16", layout="stereo")
                silence.sample_rate, silence.pts, silence.time_base = 48000, start, Fraction(1, 48000)
                container.mux(sound.encode(silence))
            container.mux(sound.encode())
        for k, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts = k if milliseconds is None else milliseconds[k]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
