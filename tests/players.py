"""What a player shows of a file, by ffmpeg; and MP4 files with other edit lists and display matrices."""

import shutil
import struct
import subprocess
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from conftest import skip_or_fail

from hrpro_pipeline.extract.options import DECODERS
from hrpro_pipeline.extract.video.decoding import Decoding, decode

# How an image [H, W] is turned and mirrored by a display matrix (a, b, c, d) with x' = ax + cy, y' = bx + dy.
ORIENTATIONS = {
    "as it is": (1, 0, 0, 1),
    "turned by 90": (0, -1, 1, 0),
    "turned by 180": (-1, 0, 0, -1),
    "turned by 270": (0, 1, -1, 0),
    "left to right": (-1, 0, 0, 1),
    "upside down": (1, 0, 0, -1),
    "transposed": (0, 1, 1, 0),
    "transposed and turned": (0, -1, -1, 0),
}


def oriented(image: np.ndarray, name: str) -> np.ndarray:
    """An image [H, W, ...] as a display matrix of this name shows it, pixel by pixel."""
    a, b, c, d = ORIENTATIONS[name]
    rows, columns = np.indices(image.shape[:2])
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    shown = np.empty((y.max() + 1, x.max() + 1, *image.shape[2:]), image.dtype)
    shown[y, x] = image
    return shown


def with_matrix(source: Path, path: Path, name: str) -> Path:
    """A copy of an MP4 file with another display matrix."""
    content = bytearray(source.read_bytes())
    a, b, c, d = (65536 * number for number in ORIENTATIONS[name])
    struct.pack_into(">9i", content, content.find(b"tkhd") + 44, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
    return path


def with_edits(source: Path, path: Path, edits: Sequence[tuple[float, float | None]]) -> Path:
    """A copy of an MP4 file of one stream with another edit list.

    Args:
        edits: seconds, and from which second of the media on; None for nothing to be shown.
    """
    content = bytearray(source.read_bytes())
    movie_scale = struct.unpack_from(">I", content, content.find(b"mvhd") + 16)[0]
    scale = struct.unpack_from(">I", content, content.find(b"mdhd") + 16)[0]
    box = content.find(b"edts") - 4
    old_size = struct.unpack_from(">I", content, box)[0]
    first = struct.unpack_from(">i", content, content.find(b"elst") + 16)[0]  # B-frames: the media begin later
    rows = b"".join(
        struct.pack(">IiI", round(length * movie_scale), -1 if start is None else first + round(start * scale), 1 << 16)
        for length, start in edits
    )
    new = struct.pack(">I4sI4sII", 24 + len(rows), b"edts", 16 + len(rows), b"elst", 0, len(edits)) + rows
    for name in (b"moov", b"trak"):
        place = content.find(name) - 4
        struct.pack_into(">I", content, place, struct.unpack_from(">I", content, place)[0] + len(new) - old_size)
    assert content.find(b"moov") > content.find(b"mdat"), "else its offsets would have to move"
    content[box : box + old_size] = new
    path.write_bytes(content)
    return path


def need_ffmpeg() -> None:
    """Skip the test where there is no ffmpeg."""
    if shutil.which("ffmpeg") is None or shutil.which("ffprobe") is None:
        skip_or_fail("ffmpeg is not installed")


def ffmpeg(*arguments: str | Path) -> bytes:
    """Standard output of ffmpeg."""
    return subprocess.run(["ffmpeg", "-v", "error", "-y", *arguments], check=True, stdout=subprocess.PIPE).stdout


def shown_by_ffmpeg(path: Path, height: int, width: int) -> np.ndarray:
    """The frames that ffmpeg shows of a file, each once: RGB [N, H, W, 3]."""
    raw = ffmpeg("-i", path, "-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-")
    return np.frombuffer(raw, np.uint8).reshape(-1, height, width, 3)


def rate_by_ffprobe(path: Path) -> Fraction:
    """The frame rate that ffprobe believes."""
    arguments = ["-select_streams", "v:0", "-show_entries", "stream=r_frame_rate", "-of", "csv=p=0"]
    output = subprocess.run(["ffprobe", "-v", "error", *arguments, path], check=True, capture_output=True, text=True)
    return Fraction(output.stdout.strip().strip(","))


def decoded_by_each(path: Path) -> dict[str, tuple[Decoding, np.ndarray, np.ndarray]]:
    """By decoder asked for: how it went, seconds [N] and RGB frames [N, H, W, 3]."""
    results = {}
    for name in ("auto", *DECODERS):
        decoding = decode(path, name)
        seconds, frames = zip(*decoding, strict=True)
        results[name] = (decoding, np.array(seconds), np.stack(frames))
    return results


def levels_apart(first: np.ndarray, second: np.ndarray) -> int:
    """The largest difference of two pictures or films, in levels; 255 for those of different shapes."""
    if first.shape != second.shape:
        return 255
    return int(np.abs(first.astype(np.int16) - second).max())
