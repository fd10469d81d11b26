"""Speed of each RGB network beside two-stream I3D with flow, in one run; JSON lines on standard output.

    python benchmarks/backbones.py [NETWORK...] [--seconds 10] [--clips 8] [--device auto] [--precision auto]

A line for each network, all by default, and one for two-stream I3D with flow. First the networks alone: FLOP of a clip
as PyTorch counts them, clips a second, and which share of the measured rate of matrix products that is. Then the whole
chain, `hrpro extract` on a made video: frames a second, seconds for a minute of video, and how many times faster that
is than two-stream I3D with flow on the same video. Weights are random: speed does not depend on them.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from machine import describe, emit, matmul_rate, timed
from made_videos import write_drifting
from torch.utils.flop_counter import FlopCounterMode

from hrpro_pipeline.configs.schema import NETWORKS, ExtractSettings
from hrpro_pipeline.extract.backbones import Backbone
from hrpro_pipeline.extract.extractor import Extractor, load_extractor
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_video
from hrpro_pipeline.models.device import resolve_device

FPS = 25
TWO_STREAM = "i3d, RGB and flow"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(NETWORKS)}")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the made video")
    parser.add_argument("--clips", type=int, default=8, help="for the networks alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", default="auto", choices=["auto", "float32", "bf16"])
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    machine = describe(device)
    rates = {dtype: matmul_rate(device, dtype) for dtype in (torch.float32, torch.bfloat16)}
    settings = {TWO_STREAM: ExtractSettings(precision=arguments.precision)}
    for name in arguments.networks or NETWORKS:
        settings[name] = ExtractSettings(precision=arguments.precision, streams=("rgb",), backbone=name)
    with tempfile.TemporaryDirectory() as folder:
        video = write_drifting(Path(folder) / "drifting.mp4", round(arguments.seconds * FPS))
        for line in _lines(settings, video, arguments.clips, device, rates):
            emit({**line, **machine})


def _lines(
    settings: dict[str, ExtractSettings], video: Path, clips: int, device: torch.device, rates: dict[torch.dtype, float]
) -> Iterator[dict[str, Any]]:
    two_stream = None
    for name, chosen in settings.items():
        extractor = load_extractor(chosen, ExtractOptions(weights="random", device=str(device)))
        alone = [_alone(extractor, stream, clips, rates) for stream in extractor.backbones]
        seconds = _chain(extractor, video)
        two_stream = two_stream or seconds  # it comes first
        frames = _num_frames(video)
        yield {
            "what": name,
            "widths": [backbone.width for backbone in extractor.backbones.values()],
            "networks": alone,
            "frames_per_second": frames / seconds,
            "seconds_for_a_minute": 60 * FPS * seconds / frames,
            "times_faster_than_two_stream": two_stream / seconds,
        }


def _alone(extractor: Extractor, stream: str, clips: int, rates: dict[torch.dtype, float]) -> dict[str, Any]:
    """A network without decoding and flow, in batches of the size that extraction uses."""
    backbone, device = extractor.backbones[stream], extractor.device
    ticks, side = extractor.clip_ticks()[stream], extractor.settings.crop
    channels = 2 if stream == "flow" else 3
    levels = torch.randint(
        0, 256, (extractor.batch, channels, len(ticks), side, side), dtype=torch.uint8, device=device
    )
    batches = max(1, clips // extractor.batch)
    with torch.inference_mode():
        flop = _flop(backbone, levels[:1])
        backbone.features(levels)  # warm
        seconds, _ = timed(lambda: [backbone.features(levels) for _ in range(batches)], device)
    rate = batches * extractor.batch / seconds
    return {
        "stream": stream,
        "precision": str(backbone.dtype).removeprefix("torch."),
        "frames_of_a_clip": len(ticks),
        "gigaflop_a_clip": flop / 1e9,
        "clips_per_second": rate,
        "share_of_matmul_rate": flop * rate / rates[backbone.dtype],
    }


def _flop(backbone: Backbone, levels: torch.Tensor) -> int:
    """Of one clip: a multiplication and an addition are two."""
    with FlopCounterMode(display=False) as counter:
        backbone.features(levels)
    return int(counter.get_total_flops())


def _chain(extractor: Extractor, video: Path) -> float:
    """Seconds that extraction takes of a video, after a first one that compiles and starts what is needed."""
    extract_video(write_drifting(video.with_name("warm.mp4"), 32), extractor)
    seconds, _ = timed(lambda: extract_video(video, extractor), extractor.device)
    return seconds


def _num_frames(video: Path) -> int:
    import av

    with av.open(str(video)) as container:
        return sum(1 for _ in container.decode(video=0))


if __name__ == "__main__":
    main()
