"""Speed of extraction beside a plain chain, in one run; JSON lines on standard output.

    python benchmarks/extract.py VIDEO... [--seconds 4] [--clips 8] [--device auto] [--port pytorch_i3d.py] [--compile]

First the two I3D networks alone, in frames a second: as hrpro runs them, and as a plain float32 port does (the same
network without any of it; or a published file with a class `InceptionI3d`, given by --port). The cosine between the
features of both is printed, too; and with --compile what torch.compile makes of hrpro's networks. Then the whole chain
on the first seconds of each video: `hrpro extract`, and a chain of OpenCV's decoder, OpenCV's TV-L1 with a pair on each
core, and that port. Then the stages of hrpro alone, and on a GPU how busy it was.
"""

import argparse
import importlib.util
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import torch
from machine import describe, emit, timed

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import list_features, read_features
from hrpro_pipeline.extract.backbones import load_backbones
from hrpro_pipeline.extract.flow import tvl1
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.i3d import random_i3d
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.preprocess import gray
from hrpro_pipeline.extract.video.frames import FrameChunk
from hrpro_pipeline.extract.video.process import DecodeRequest, stream_video
from hrpro_pipeline.extract.video.resize import resize_frame, resized_size
from hrpro_pipeline.extract.weights import RANDOM_SEED
from hrpro_pipeline.models.device import resolve_device

CHANNELS = {"rgb": 3, "flow": 2}
Network = Callable[[torch.Tensor], torch.Tensor]  # clips [B, channels, 16, 224, 224] in [-1, 1] -> [B, 1024]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each video, for the whole chain")
    parser.add_argument("--clips", type=int, default=8, help="for the networks alone")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--port", type=Path, help="a published pytorch_i3d.py to run as the plain port")
    parser.add_argument("--compile", action="store_true", help="the networks under torch.compile, too")
    parser.add_argument("--skip-plain", action="store_true", help="our speed alone")
    arguments = parser.parse_args()
    device = resolve_device(arguments.device)
    machine = describe(device)
    ports = {stream: _port(stream, arguments.port, device) for stream in CHANNELS}
    with torch.inference_mode():
        emit({"what": "i3d", **_networks(ports, arguments.clips, device, arguments.compile), **machine})
    with tempfile.TemporaryDirectory() as folder:
        cuts = [_cut(video, arguments.seconds, Path(folder)) for video in arguments.videos]
        cuts = [cut for cut in cuts if cut is not None]
        for line in _chains(cuts, ports, device, arguments.skip_plain):
            emit({**line, **machine})
        emit({"what": "stages of hrpro, each alone", **_stages(cuts, device), **machine})


def _port(stream: str, file: Path | None, device: torch.device) -> Network:
    """Float32, batch norm and all, frames last in memory: as ports come."""
    own = random_i3d(stream, RANDOM_SEED)
    if file is None:
        network = own.to(device)
        return lambda clips: network(clips)[:, 0]
    spec = importlib.util.spec_from_file_location("published_i3d", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    published = module.InceptionI3d(400, in_channels=CHANNELS[stream]).eval().to(device)
    published.load_state_dict(own.state_dict(), strict=False)
    return lambda clips: published.extract_features(clips).flatten(1)


def _networks(ports: dict[str, Network], clips: int, device: torch.device, compiles: bool) -> dict[str, Any]:
    ours = load_backbones(ExtractSettings(), "random", device)
    batch = 2 if device.type == "cpu" else 16
    generator = torch.Generator().manual_seed(0)
    seconds = {"hrpro": 0.0, "plain": 0.0, "compiled": 0.0}
    compile_seconds = 0.0
    cosines = []
    for stream, channels in CHANNELS.items():
        levels = torch.randint(0, 256, (clips, channels, 16, 224, 224), generator=generator, dtype=torch.uint8)
        parts = levels.to(device).split(batch)
        runs: dict[str, Network] = {
            "hrpro": ours[stream].features,
            "plain": lambda part, stream=stream: ports[stream](part.float() / 255 * 2 - 1),
        }
        if compiles:
            module = torch.compile(ours[stream].module, options={"freezing": True})  # type: ignore[call-overload]
            network = replace(ours[stream].network, module=module)
            runs["compiled"] = replace(ours[stream], network=network).features
        features = {}
        for name, run in runs.items():
            took, _ = timed(lambda run=run, part=parts[0]: run(part), device)
            compile_seconds += took if name == "compiled" else 0.0
            took, found = timed(lambda run=run, parts=parts: torch.cat([run(part) for part in parts]), device)
            seconds[name] += took
            features[name] = found.float()
        cosines.append(torch.cosine_similarity(features["hrpro"], features["plain"]).min().item())
    line = {
        "precision": str(ours["rgb"].dtype),
        "frames_per_second": 16 * clips / seconds["hrpro"],
        "plain_frames_per_second": 16 * clips / seconds["plain"],
        "times_faster": seconds["plain"] / seconds["hrpro"],
        "least_cosine": min(cosines),
    }
    if compiles:
        line |= {"compiled_frames_per_second": 16 * clips / seconds["compiled"], "compile_seconds": compile_seconds}
    return line


def _chains(
    videos: list[Path], ports: dict[str, Network], device: torch.device, skip_plain: bool
) -> Iterator[dict[str, Any]]:
    settings, options = ExtractSettings(), ExtractOptions(weights="random", device=str(device))
    folder = videos[0].parent
    # Functions are compiled and thread pools started before the clock runs.
    extract_folder([videos[0]], folder / "warm", settings, options)
    with _Utilization(device) as usage:
        summary = extract_folder(videos, folder / "features", settings, options)
    line: dict[str, Any] = {
        "what": "whole chain",
        "videos": len(videos),
        "video_seconds": summary.video_seconds,
        "seconds": summary.seconds,
        "times_real_time": summary.video_seconds / summary.seconds,
        **usage.mean(),
    }
    if not skip_plain:
        with torch.inference_mode():
            plain_seconds, features = timed(
                lambda: {video.stem: _plain_chain(video, ports, device) for video in videos}
            )
        cosines = []
        for video_id, path in list_features(folder / "features").items():
            ours, theirs = read_features(path).streams, features[video_id]
            for stream, rows in ours.items():
                product = (rows * theirs[stream]).sum(axis=1)
                cosines.append(product / np.linalg.norm(rows, axis=1) / np.linalg.norm(theirs[stream], axis=1))
        line |= {
            "plain_seconds": plain_seconds,
            "times_faster": plain_seconds / summary.seconds,
            "least_cosine": float(np.concatenate(cosines).min()),
        }
    yield line


def _plain_chain(video: Path, ports: dict[str, Network], device: torch.device) -> dict[str, np.ndarray]:
    """One thing after the other: frames in a list, OpenCV's flow, clips through the networks."""
    settings = ExtractSettings()
    capture = cv2.VideoCapture(str(video))
    rate = capture.get(cv2.CAP_PROP_FPS)
    frames = []
    while (read := capture.read())[0]:
        frames.append(cv2.cvtColor(read[1], cv2.COLOR_BGR2RGB))
    capture.release()
    at_25 = [frames[min(int(k / 25 * rate + 1e-6), len(frames) - 1)] for k in range(int(len(frames) / rate * 25 + 0.5))]
    size = resized_size(frames[0].shape[1], frames[0].shape[0], settings.resize)
    resized = [resize_frame(frame, size) for frame in at_25]
    grays = [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in resized]

    def pair(i: int) -> np.ndarray:
        return cv2.optflow.DualTVL1OpticalFlow_create().calc(grays[i], grays[i + 1], None)

    cv2.setNumThreads(1)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        flows = list(pool.map(pair, range(len(grays) - 1)))
    flow = np.stack([*flows, flows[-1]]).clip(-20, 20)
    images = {"rgb": np.stack(resized), "flow": np.round((flow + 20) * (255 / 40))}
    top, left = (size[1] - 224) // 2, (size[0] - 224) // 2
    found = {}
    for stream, levels in images.items():
        crop = levels[:, top : top + 224, left : left + 224]
        count = max(1, len(crop) // 16)
        clips = torch.from_numpy(np.stack([crop[16 * t : 16 * t + 16] for t in range(count)])).permute(0, 4, 1, 2, 3)
        rows = [ports[stream]((part.float() / 255 * 2 - 1).to(device)) for part in clips.split(2)]
        found[stream] = torch.cat(rows).float().cpu().numpy()
    return found


def _stages(videos: list[Path], device: torch.device) -> dict[str, Any]:
    """Frames a second of each stage when it has the machine for itself."""
    settings = ExtractSettings()
    started, frames, chunks = time.perf_counter(), 0, []
    for video in videos:
        for item in stream_video(DecodeRequest(video, "auto", 25.0, settings.resize), str(device)):
            if isinstance(item, FrameChunk):
                frames += len(item.ticks)
                chunks.append(torch.as_tensor(item.frames).to(device))
    decode_seconds = time.perf_counter() - started
    tvl1(gray(chunks[0])[:2], device=device)
    flow_seconds, flows = timed(lambda: sum(len(tvl1(gray(chunk), device=device)) for chunk in chunks), device)
    return {
        "decode_and_resize_frames_per_second": frames / decode_seconds,
        "flow_frames_per_second": flows / flow_seconds,
    }


def _cut(video: Path, seconds: float, folder: Path) -> Path | None:
    """The first seconds of a video, packets as they are."""
    target = folder / f"{video.stem}.mkv"
    try:
        with av.open(str(video)) as source, av.open(str(target), "w") as sink:
            stream = source.streams.video[0]
            copy = sink.add_stream_from_template(stream)
            first = None
            for packet in source.demux(stream):
                if packet.pts is None or packet.time_base is None:
                    continue
                first = packet.pts if first is None else first
                if (packet.pts - first) * packet.time_base >= seconds:
                    break
                packet.stream = copy
                sink.mux(packet)
    except av.FFmpegError:
        return None
    return target


class _Utilization:
    """How busy a GPU is meanwhile, as nvidia-smi says twice a second."""

    def __init__(self, device: torch.device) -> None:
        self._wanted = device.type == "cuda" and shutil.which("nvidia-smi") is not None
        self._seen: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Utilization":
        if self._wanted:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()

    def mean(self) -> dict[str, float]:
        return {"gpu_utilization_percent": float(np.mean(self._seen))} if self._seen else {}

    def _watch(self) -> None:
        query = ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        while not self._stop.wait(0.5):
            text = subprocess.run(query, capture_output=True, text=True, check=False).stdout.split()
            self._seen += [float(text[0])] if text else []


if __name__ == "__main__":
    main()
