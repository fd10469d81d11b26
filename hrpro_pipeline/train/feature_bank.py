"""The training features of a run: on the device, in host memory, or on disk."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.data.dataset import TrainingVideo
from hrpro_pipeline.data.features import StoredFeatures

log = logging.getLogger(__name__)

Place = Literal["auto", "device", "host", "disk"]


class FeatureBank:
    """Features of the training videos, packed into batches on the device.

    Args:
        place: `device` copies all of them there; `host` keeps them in memory and `disk` in their files, and both
            bring the next batch while the device works on this one. `auto` takes the first of these that has room.
    """

    def __init__(self, videos: Sequence[TrainingVideo], device: torch.device, place: Place = "auto") -> None:
        self._videos, self._device = videos, device
        stored = any(isinstance(video.features, StoredFeatures) for video in videos)
        width = np.asarray(videos[0].features).shape[1]
        size = 4 * width * sum(len(video.features) for video in videos)
        self.place = place if place != "auto" else _choose(size, device, stored)
        log.info("features of %d training videos: %.2f GB, kept on %s", len(videos), size / 1e9, self._place_name())
        self._on_device: list[Tensor] | None = None
        if self.place == "device":
            self._on_device = [torch.from_numpy(np.asarray(video.features)).to(device) for video in videos]

    def _place_name(self) -> str:
        return {"device": f"the device ({self._device})", "host": "the host", "disk": "disk"}[self.place]

    def batches(self, orders: Iterable[Sequence[int]]) -> Iterator[Tensor]:
        """Packed features [N, D] on the device, for each list of videos in turn."""
        if self._on_device is not None:
            for order in orders:
                yield torch.cat([self._on_device[index] for index in order])
            return
        with ThreadPoolExecutor(max_workers=1) as pool:
            current: Future[Tensor] | None = None
            for order in orders:
                following = pool.submit(self._gather, list(order))
                if current is not None:
                    yield current.result().to(self._device, non_blocking=True)
                current = following
            if current is not None:
                yield current.result().to(self._device, non_blocking=True)

    def _gather(self, order: Sequence[int]) -> Tensor:
        packed = torch.from_numpy(np.concatenate([np.asarray(self._videos[index].features) for index in order]))
        return packed.pin_memory() if self._device.type == "cuda" else packed


def _choose(size: int, device: torch.device, stored: bool) -> Literal["device", "host", "disk"]:
    """The first place with room: half of what a GPU has free, since networks and batches need the rest."""
    if device.type == "cuda" and size < torch.cuda.mem_get_info(device)[0] / 2:
        return "device"
    return "disk" if stored else ("host" if device.type == "cuda" else "device")
