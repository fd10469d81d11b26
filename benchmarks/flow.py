"""Speed and parity of TV-L1 flow beside OpenCV's, in one run; JSON lines on standard output.

    python benchmarks/flow.py VIDEO... [--pairs 20] [--size 340x256] [--device auto]

For each video: pairs a second of `tvl1` on the device and of `cv2.optflow.DualTVL1OpticalFlow` on the same cores, both
with as many pairs in parallel as there are cores, and how far their answers are apart: mean end-point error in pixels,
and the share of 8-bit levels (clamp 20) that are within one step. The arithmetic and memory traffic of the iterations
are estimated from how many there were (counted by the compiled CPU kernel), and set against the rates that the machine
reaches in a matrix product and in a copy.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from machine import copy_rate, describe, emit, matmul_rate, timed

from hrpro_pipeline.extract.flow import tvl1, tvl1_cpu
from hrpro_pipeline.extract.flow.levels import flow_levels
from hrpro_pipeline.extract.preprocess import gray
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.resize import resize_frame
from hrpro_pipeline.models.device import resolve_device

# An iteration reads six fields of state and three of coefficients a pixel and writes the six, in float32; and adds,
# compares, multiplies, divides or takes a root about 60 times.
_BYTES = 4 * (6 + 3 + 6)
_FLOP = 60


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--size", default="340x256")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--skip-opencv", action="store_true", help="our speed alone")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    width, height = (int(side) for side in arguments.size.split("x"))
    machine = describe(device)
    peaks = {"flop_per_second": matmul_rate(device, torch.float32), "bytes_per_second": copy_rate(device)}
    emit({"what": "machine", **machine, **peaks})
    totals = {"pairs": 0, "seconds": 0.0, "opencv_seconds": 0.0}
    for video in arguments.videos:
        frames = _frames(video, arguments.pairs + 1, (width, height))
        if len(frames) < 2:
            continue
        tvl1(frames[:2], device=device)  # compiles
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        seconds, ours = timed(lambda frames=frames: tvl1(frames, device=device), device)
        iterations = _iterations(frames)
        pixels = height * width
        line = {
            "what": "flow",
            "video": video.name,
            "pairs": len(ours),
            "size": arguments.size,
            "pairs_per_second": len(ours) / seconds,
            "full_size_iterations_a_pair": iterations / len(ours),
            "share_of_arithmetic": iterations * pixels * _FLOP / seconds / peaks["flop_per_second"],
            "traffic_over_copy_rate": iterations * pixels * _BYTES / seconds / peaks["bytes_per_second"],
        }
        if device.type == "cuda":
            line["peak_gpu_bytes_a_pair"] = torch.cuda.max_memory_allocated(device) / len(ours)
        if not arguments.skip_opencv:
            opencv_seconds, theirs = timed(lambda frames=frames: tvl1(frames, "opencv"))
            ours = ours.cpu()
            apart = (flow_levels(ours, 20.0).int() - flow_levels(theirs, 20.0).int()).abs()
            line |= {
                "opencv_pairs_per_second": len(ours) / opencv_seconds,
                "times_faster": opencv_seconds / seconds,
                "mean_end_point_error": torch.linalg.vector_norm(ours - theirs, dim=1).mean().item(),
                "levels_within_one": (apart <= 1).float().mean().item(),
            }
            totals["opencv_seconds"] += opencv_seconds
        totals["pairs"] += len(ours)
        totals["seconds"] += seconds
        emit({**line, **machine})
    whole = {"what": "all videos", "pairs": totals["pairs"], "pairs_per_second": totals["pairs"] / totals["seconds"]}
    if not arguments.skip_opencv:
        whole["opencv_pairs_per_second"] = totals["pairs"] / totals["opencv_seconds"]
        whole["times_faster"] = totals["opencv_seconds"] / totals["seconds"]
    emit({**whole, **machine})


def _frames(video: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    """The first gray frames, resized."""
    frames = []
    for _, frame in decode(video, "auto"):
        frames.append(resize_frame(frame, size))
        if len(frames) == count:
            break
    return gray(torch.from_numpy(np.stack(frames))).numpy()


def _iterations(frames: np.ndarray) -> float:
    """Iterations of all pairs, those of smaller scales counted by their share of the pixels."""
    counted = 0.0
    pixels = frames[0].size
    original = tvl1_cpu._iterate

    def counting(coefficients: np.ndarray, flow: np.ndarray, dual: np.ndarray, limit: float, count: int) -> bool:
        nonlocal counted
        rows, squares = np.empty((2, flow.shape[2]), np.float32), np.empty(flow.shape[1:], np.float32)
        for _ in range(count):
            counted += squares.size / pixels
            if tvl1_cpu._iteration(coefficients, flow, dual, rows, squares) <= limit:
                return True
        return False

    tvl1_cpu._iterate = counting
    try:
        for first, second in zip(frames[:-1], frames[1:], strict=True):
            tvl1_cpu.tvl1_pair(first.astype(np.float32), second.astype(np.float32))
    finally:
        tvl1_cpu._iterate = original
    return counted


if __name__ == "__main__":
    main()
