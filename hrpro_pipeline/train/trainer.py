"""A training run from start to end: both stages, checkpoints, evaluation, resume."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrpro_pipeline.configs.load import dump_settings
from hrpro_pipeline.configs.schema import InstanceSettings, Settings, SnippetSettings
from hrpro_pipeline.data.dataset import TrainingSet
from hrpro_pipeline.data.files import replacing, write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import (
    FILE_NAME,
    TrainedModel,
    build_instance,
    build_snippet,
    load_torch,
    save_model,
)
from hrpro_pipeline.progress import progress_bar
from hrpro_pipeline.train import instance_stage, snippet_stage
from hrpro_pipeline.train.journal import METRICS, Journal, rewind

log = logging.getLogger(__name__)

Evaluate = Callable[[TrainedModel], dict[str, Any]]
_CHECKPOINT = Path("checkpoints") / "last.pt"


def train(
    data: TrainingSet,
    settings: Settings,
    run: Path,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    evaluate: Evaluate | None = None,
    resume: bool = False,
) -> TrainedModel:
    """Train both stages and write RUN: `model.pt`, `metrics.jsonl`, events, `config.yaml`, checkpoints.

    The model is the last checkpoint, never the one that scored best on the evaluated subset.

    Args:
        evaluate: called with the model so far; must give `average` and may give more numbers.
        resume: go on from the last checkpoint in `run`, to the same result as an undisturbed run; start from the
            beginning where there is none.

    Raises:
        HrproError: `run` already holds a run and `resume` is not set, or holds one of other settings; a loss that is
            not finite.
    """
    return _Run(data, settings, run, seed, device or torch.device("cpu"), evaluate).go(resume)


class _Run:
    """The state of one run: networks, optimiser, place."""

    def __init__(
        self,
        data: TrainingSet,
        settings: Settings,
        folder: Path,
        seed: int,
        device: torch.device,
        evaluate: Evaluate | None,
    ) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.seed, self.device, self.evaluate = seed, device, evaluate
        self.identity = {
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "classes": list(data.classes),
            "videos": [video.video_id for video in data.videos],
            "features": [list(data.widths.items()), data.weights, data.extraction],
            "points": [[video.positions.tolist(), video.labels.tolist()] for video in data.videos],
        }
        width = sum(data.widths.values())
        torch.manual_seed(seed)
        self.model = TrainedModel(
            snippet=build_snippet(settings, width, len(data.classes)).to(device),
            instance=None,
            classes=data.classes,
            settings=settings,
            clock=data.clock,
            widths=data.widths,
            extraction=data.extraction,
            weights=data.weights,
            notes={"seed": seed, "videos": len(data.videos), "checkpoint": "last"},
        )

    def go(self, resume: bool) -> TrainedModel:
        state = self._start(resume)
        with Journal(self.folder) as self.journal:
            in_stage_2 = state is not None and state["stage"] == "instance"
            if in_stage_2:
                assert state is not None
                self.model.snippet.load_state_dict(state["snippet"])
            else:
                self._snippet_stage(state)
                save_model(self.folder / FILE_NAME, self.model)
            if self.settings.instance.epochs:
                self._instance_stage(state if in_stage_2 else None)
        save_model(self.folder / FILE_NAME, self.model.to(torch.device("cpu")))
        return self.model

    def _start(self, resume: bool) -> dict[str, Any] | None:
        """The checkpoint to go on from, if any; the folder is ready for the run afterwards."""
        checkpoint = self.folder / _CHECKPOINT
        if not resume:
            if checkpoint.exists() or (self.folder / METRICS).exists() or (self.folder / FILE_NAME).exists():
                raise HrproError(f"{self.folder}: already holds a run; go on with --resume, or choose another --out")
            state = None
        elif checkpoint.is_file():
            state = load_torch(checkpoint, "a checkpoint of this run")
            if not isinstance(state, dict) or not isinstance(state.get("identity"), dict):
                raise HrproError(f"{checkpoint}: not a checkpoint of a run; delete the folder and train again")
            for name, value in self.identity.items():
                if state["identity"].get(name) != value:
                    raise HrproError(
                        f"{self.folder}: was made with other {name}; resume with the same, or use another --out"
                    )
            rewind(self.folder, state["stage"], state["step"])
            log.info("resuming after %s step %d", state["stage"], state["step"])
        elif (self.folder / FILE_NAME).exists():
            raise HrproError(f"{self.folder}: holds a model but no checkpoint to resume from; choose another --out")
        else:
            state = None
            (self.folder / METRICS).unlink(missing_ok=True)
            log.info("no checkpoint in %s: starting from the beginning", self.folder)
        write_text(self.folder / "config.yaml", f"# seed: {self.seed}\n{dump_settings(self.settings)}")
        return state

    def _snippet_stage(self, state: dict[str, Any] | None) -> None:
        settings, model = self.settings.snippet, self.model.snippet
        num_classes = len(self.data.classes)
        videos = [
            snippet_stage.to_tensors(video.video_id, video.features, video.point_label(num_classes))
            for video in self.data.videos
        ]
        optimizer = _adam(model, settings)
        first = 0
        if state is None:
            snippet_stage.initialise_prototypes(model, videos)
        else:
            first = self._restore(state, model, optimizer)
        started = time.monotonic()
        model.train()
        with progress_bar() as bar:
            task = bar.add_task("stage 1: snippets", total=settings.steps, completed=first, note="")
            for step in range(first, settings.steps):
                order = snippet_stage.batch_order(step, len(videos), settings.batch_size, self.seed)
                losses = snippet_stage.train_step(model, [videos[i] for i in order], optimizer, settings)
                means = {name: value.mean().item() for name, value in losses.items()}
                self.journal.write("snippet", step + 1, "loss", means)
                bar.update(task, advance=1, note=f"loss {means['total']:.3f}")
                if (step + 1) % settings.evaluate_every == 0 or step + 1 == settings.steps:
                    self._evaluate("snippet", step + 1, time.monotonic() - started)
                    model.train()
                    self._save("snippet", step + 1, model, optimizer)
        model.eval()

    def _instance_stage(self, state: dict[str, Any] | None) -> None:
        settings = self.settings.instance
        self.model.snippet.eval()
        rng = np.random.default_rng([self.seed, 2])
        found = [
            instance_stage.propose(
                self.model.snippet, video, torch.from_numpy(video.features).to(self.device), self.settings, rng
            )
            for video in self.data.videos
        ]
        videos = [video for video in found if len(video.proposals)]
        if len(videos) < len(found):
            log.warning(
                "stage 2: %d of %d videos have no proposals and are left out", len(found) - len(videos), len(found)
            )
        if not videos:
            log.warning("stage 2 is left out: stage 1 found no proposals; the model has stage 1 alone")
            return
        # Seeded anew, so that stage 2 does not depend on how stage 1 came to its end (resumed or not).
        torch.manual_seed(self.seed)
        instance = build_instance(self.settings, sum(self.data.widths.values())).to(self.device)
        self.model.instance = instance
        optimizer = _adam(instance, settings)
        first = self._restore(state, instance, optimizer) if state is not None else 0
        started = time.monotonic()
        with progress_bar() as bar:
            task = bar.add_task("stage 2: instances", total=settings.epochs, completed=first, note="")
            for epoch in range(first, settings.epochs):
                instance.train()
                epoch_rng = np.random.default_rng([self.seed, 3, epoch])
                losses = instance_stage.train_epoch(instance, videos, optimizer, settings, epoch_rng)
                instance.eval()
                self.journal.write("instance", epoch + 1, "loss", losses)
                bar.update(task, advance=1, note=f"loss {losses['total']:.3f}")
                if (epoch + 1) % settings.evaluate_every == 0 or epoch + 1 == settings.epochs:
                    self._evaluate("instance", epoch + 1, time.monotonic() - started)
                self._save("instance", epoch + 1, instance, optimizer)

    def _evaluate(self, stage: str, step: int, seconds: float) -> None:
        if self.evaluate is None:
            return
        self.model.to(self.device)
        values = self.evaluate(self.model)
        self.journal.write(stage, step, "evaluation", {**values, "seconds": round(seconds, 3)})
        log.info(
            "%s, %s %d: average mAP %.2f",
            stage,
            "step" if stage == "snippet" else "epoch",
            step,
            100 * values["average"],
        )

    def _save(self, stage: str, step: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        state = {
            "identity": self.identity,
            "stage": stage,
            "step": step,
            "network": network.state_dict(),
            "snippet": self.model.snippet.state_dict() if stage == "instance" else None,
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
            "random_cuda": torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None,
        }
        with replacing(self.folder / _CHECKPOINT) as temporary:
            torch.save(state, temporary)

    def _restore(self, state: dict[str, Any], network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["random"])
        if state["random_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["random_cuda"], self.device)
        return int(state["step"])


def _adam(network: torch.nn.Module, settings: SnippetSettings | InstanceSettings) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
