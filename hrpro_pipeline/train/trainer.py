"""A training run from start to end: the stages one after the other, evaluation, checkpoints, resume."""

import errno
import logging
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.configs.load import dump_settings
from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingSet
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.parts import in_parts
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.checkpoint import (
    FILE_NAME,
    Notes,
    TrainedModel,
    build_instance,
    build_pyramid,
    build_snippet,
    save_model,
)
from hrpro_pipeline.models.device import is_out_of_memory
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.precision import resolve_precision
from hrpro_pipeline.models.pyramid import PyramidModel
from hrpro_pipeline.models.snippet import SnippetModel, prototype_similarity
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.checkpoints import Checkpoint, Checkpoints, run_identity
from hrpro_pipeline.train.duration import with_duration, with_stages
from hrpro_pipeline.train.feature_bank import FeatureBank
from hrpro_pipeline.train.instance_stage import find_proposals, instance_stage
from hrpro_pipeline.train.journal import STAGES, Journal
from hrpro_pipeline.train.loss_log import LossLog
from hrpro_pipeline.train.prototypes import initialize_prototypes, mean_off_diagonal, starting_batches
from hrpro_pipeline.train.pyramid_stage import find_segments, pyramid_stage, standardize
from hrpro_pipeline.train.snapshots import find_reliable, observed_videos, write_snapshot
from hrpro_pipeline.train.snippet_stage import snippet_batches, snippet_stage
from hrpro_pipeline.train.stage import Compute, Stage
from hrpro_pipeline.train.steps import StepRunner
from hrpro_pipeline.train.warm_start import take_prototypes, take_weights
from hrpro_pipeline.train.watch import Watch

log = logging.getLogger(__name__)

# Evaluations without a better score, and how much lower the last one is, that are worth a warning.
_FALLING_FOR = 3
_FALLEN_BY = 0.02
# How much worse stage 3 may be on held-out points: they do not tell how precise bounds are, and its are better.
_WORSE_ON_POINTS = 0.05
# Snapshots of stage 1 after its start.
NUM_SNAPSHOTS = 4
# Share of the time that may go into pictures for TensorBoard, and what the first ones are taken to need.
_PICTURE_SHARE = 0.01
_PICTURE_SECONDS = 0.3


def train(
    data: TrainingSet,
    settings: Settings,
    run: Path,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    watch: Watch | None = None,
    resume: bool = False,
    stage1: SnippetModel | None = None,
    calibration: Calibration | None = None,
    start: TrainedModel | None = None,
) -> TrainedModel:
    """Train all stages and write RUN: `model.pt`, `metrics.jsonl`, events, `config.yaml`, checkpoints.

    The model is the last checkpoint unless `watch` selects another; then a stage that is worse than what comes before
    it is left out. Under `torchrun`, each process trains on its share of each batch; the first one evaluates and
    writes. A step that the GPU has no memory for is repeated in twice as many parts, and so are those after it: from
    there on the run is the one that had `accumulate` set so.

    Args:
        resume: go on from the last checkpoint in `run`, with as many processes; start from the beginning where there
            is none. On the CPU the result is that of an undisturbed run to the bit; CUDA sums in no fixed order.
        stage1: a trained network of the same settings, instead of training stage 1.
        calibration: of a model that was trained alike, for the model's answer.
        start: a model to go on from; `settings` say how long (see `warm_start`).

    Raises:
        HrproError: `run` already holds a run and `resume` is not set, or holds one of other settings; a loss that is
            not finite; a full disk; too little GPU memory for one video.
    """
    with parallel.process_group(device or torch.device("cpu")) as process_device:
        try:
            settings = with_stages(with_duration(settings, data), data)
            trainer = Trainer(data, settings, run, seed, process_device, watch or Watch(), start)
            trainer.model.calibration = calibration
            return trainer.train(resume, stage1)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise HrproError(
                f"{run}: out of GPU memory; keep the features off the GPU with `compute.features=host`, "
                "or train with `device=cpu`"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise HrproError(f"{run}: no space is left on the disk; make room and go on with `resume`") from None


@dataclass
class _Best:
    """The best evaluation of a stage so far, and the network that it was made with."""

    score: float
    step: int
    network: dict[str, torch.Tensor]
    evaluation: dict[str, Any]


@dataclass
class Trainer:
    """One run: the model on its way, and what it is written and looked at with."""

    data: TrainingSet
    settings: Settings
    folder: Path
    seed: int
    device: torch.device
    watch: Watch
    start: TrainedModel | None = None
    model: TrainedModel = field(init=False)
    # The videos as the stage at hand takes them, the long ones in parts, and what it computes with.
    cut: TrainingSet | None = field(init=False, default=None)
    compute: Compute = field(init=False)
    journal: Journal = field(init=False)
    checkpoints: Checkpoints = field(init=False)
    best: _Best | None = field(init=False, default=None)
    # Parts that steps are cut into, by stage, where there was no memory for as few as set.
    parts: dict[str, int] = field(init=False, default_factory=dict)
    # Scores on held-out points so far in this process, by stage.
    point_scores: dict[str, list[float]] = field(init=False, default_factory=dict)
    drawn_at: float = field(init=False, default_factory=time.monotonic)
    drawing_seconds: float = field(init=False, default=_PICTURE_SECONDS)

    def __post_init__(self) -> None:
        data, settings, select = self.data, self.settings, self.watch.select
        selection = None if select is None else [select.key, select.data]
        self.checkpoints = Checkpoints(self.folder, run_identity(data, settings, self.seed, selection))
        precision = resolve_precision(settings.compute.precision, self.device)
        torch.manual_seed(self.seed)
        self.model = TrainedModel(
            snippet=build_snippet(settings, sum(data.widths.values()), len(data.classes)).to(self.device),
            instance=None,
            classes=data.classes,
            settings=settings,
            clock=data.clock,
            widths=data.widths,
            extraction=data.extraction,
            weights=data.weights,
            own_clocks=data.own_clocks,
            notes=Notes(seed=self.seed, videos=len(data.videos), precision=precision, checkpoint="last"),
        )

    def train(self, resume: bool, stage1: SnippetModel | None) -> TrainedModel:
        checkpoint = self.checkpoints.start(resume)
        if parallel.rank() == 0:
            write_text(self.folder / "config.yaml", f"# seed: {self.seed}\n{dump_settings(self.settings)}")
        log.info("training on %s", self.data)
        log.info("matrix products in %s on %s", self.model.notes.precision, self.device)
        resumed = ("snippet", -1) if resume else None
        if checkpoint is not None:
            resumed = (checkpoint.stage, checkpoint.step)
            self.model.notes = Notes.from_json(checkpoint.notes)
            self.parts |= checkpoint.parts
        with Journal(self.folder, self._rounds(), resumed, writes=parallel.rank() == 0) as self.journal:
            self._train_stages(checkpoint, stage1)
            if self.watch.evaluate is not None and not self.model.notes.evaluation:  # nothing was trained
                self._evaluate("snippet", "step", self.settings.snippet.steps, self.model.snippet, 0.0)
                self._take_best("snippet", "step", self.model.snippet)
            networks = (self.model.snippet, self.model.instance, self.model.pyramid)
            last = [stage for stage, network in zip(STAGES, networks, strict=True) if network is not None][-1]
            end = (last, self._rounds()[last])
            if resumed != end:  # else they are there
                self._draw(*end, last=True)
        self._note_parts()
        self.model.to(torch.device("cpu"))
        self._save_model()
        return self.model

    def _rounds(self) -> dict[str, int]:
        settings = self.settings
        return {
            "snippet": settings.snippet.steps,
            "instance": settings.instance.epochs,
            "pyramid": settings.pyramid.steps,
        }

    def _train_stages(self, checkpoint: Checkpoint | None, stage1: SnippetModel | None) -> None:
        in_stage = None if checkpoint is None else checkpoint.stage
        if checkpoint is not None and checkpoint.snippet is not None:
            self.model.snippet.load_state_dict(checkpoint.snippet)
        elif stage1 is not None:
            self.model.snippet.load_state_dict(stage1.state_dict())
        else:
            self._train_snippets(checkpoint)
            self._save_model()
        if checkpoint is not None and checkpoint.instance is not None:
            self.model.instance = self._new_instance()
            self.model.instance.load_state_dict(checkpoint.instance)
        elif self.settings.instance.epochs and in_stage != "pyramid":
            self._train_instances(checkpoint if in_stage == "instance" else None)
        if self.settings.pyramid.steps:
            self._train_pyramid(checkpoint if in_stage == "pyramid" else None)

    def _take(self, window: int) -> TrainingSet:
        """The videos as a stage takes them, those of more snippets than a window in parts."""
        data = in_parts(self.data, window)
        if data is not self.cut:
            if data is not self.data:
                log.info("%d videos in %d parts of up to %d snippets", len(self.data.videos), len(data.videos), window)
            bank = FeatureBank(data.videos, self.device, self.settings.compute.features)
            precision = resolve_precision(self.settings.compute.precision, self.device)
            self.cut, self.compute = data, Compute(bank, self.device, precision)
        return data

    def _train_snippets(self, checkpoint: Checkpoint | None) -> None:
        model, data = self.model.snippet, self._take(self.settings.snippet.window)
        stage = snippet_stage(model, data, self.settings.snippet, self.compute, self.seed, NUM_SNAPSHOTS)
        if checkpoint is None:
            orders = list(starting_batches([len(video.features) for video in data.videos]))
            self._take_weights(model, "snippet")
            with progress("stage 1 (prototypes)", len(orders), "batches", minor=True) as task:
                initialize_prototypes(model, task.each(snippet_batches(data, self.compute, orders)))
            if self.start is not None:
                take_prototypes(model, self.start.snippet, self.start.classes, data.classes)
            self._write_snapshot(0)
        self._train_stage(stage, checkpoint)

    def _train_instances(self, checkpoint: Checkpoint | None) -> None:
        self.model.snippet.eval()
        data = self._take(0)
        videos = find_proposals(self.model.snippet, data, self.settings, self.compute, self.seed)
        if not videos:
            log.warning("stage 2 is left out: stage 1 found no proposals; the model has stage 1 alone")
            return
        # Seeded anew, so that stage 2 does not depend on how stage 1 came to its end (resumed or not).
        torch.manual_seed(self.seed)
        network = self.model.instance = self._new_instance()
        self._take_weights(network, "instance")
        self._train_stage(instance_stage(network, videos, self.settings.instance, self.compute, self.seed), checkpoint)

    def _new_instance(self) -> InstanceModel:
        return build_instance(self.settings, sum(self.data.widths.values())).to(self.device)

    def _train_pyramid(self, checkpoint: Checkpoint | None) -> None:
        self.model.snippet.eval()
        data = self._take(self.settings.pyramid.window)
        segments = find_segments(self.model.snippet, data, self.settings, self.compute)
        torch.manual_seed(self.seed)
        width, num_classes = sum(data.widths.values()), len(data.classes)
        network = self.model.pyramid = build_pyramid(self.settings, width, num_classes).to(self.device)
        if not self._take_weights(network, "pyramid"):
            standardize(network, data, self.compute)
        stage = pyramid_stage(network, data, segments, self.settings.pyramid, self.compute, self.seed)
        self._train_stage(stage, checkpoint)

    def _take_weights(self, network: SnippetModel | InstanceModel | PyramidModel, stage: str) -> bool:
        """Start the network of a stage from that of the model to go on from, if there is one."""
        trained = getattr(self.start, stage, None)
        if self.start is None or trained is None:
            return False
        take_weights(network, trained, self.start.classes, self.data.classes)
        return True

    def _train_stage(self, stage: Stage, checkpoint: Checkpoint | None) -> None:
        """All rounds of a stage, from those of the checkpoint on."""
        first = 0
        if checkpoint is not None:
            stage.network.load_state_dict(checkpoint.network)
            stage.optimizer.load_state_dict(checkpoint.optimizer)
            self.best = None if checkpoint.best is None else _Best(**checkpoint.best)
            first = checkpoint.step
        runner = StepRunner(stage, self.model.snippet, self.device, self.seed, self.parts.get(stage.name))
        assert self.cut is not None
        losses = LossLog(stage, self.journal, [video.video_id for video in self.cut.videos])
        started = time.monotonic()
        stage.network.train()
        with progress(stage.title, stage.num_rounds, f"{stage.unit}s", done=first) as task:
            for number, steps in runner.rounds(first + 1):
                self.parts[stage.name] = runner.parts
                losses.add(steps)
                is_last = number == stage.num_rounds
                is_evaluated = number % stage.evaluate_every == 0 or is_last
                if is_evaluated or losses.is_full or number in stage.snapshots:
                    task.update(number, note=f"loss {losses.write():.3f}")
                stage.network.eval()
                if number in stage.snapshots:
                    self._write_snapshot(number)
                if is_evaluated:
                    self._evaluate(stage.name, stage.unit, number, stage.network, time.monotonic() - started)
                    self._draw(stage.name, number)
                if (number % stage.save_every == 0 or is_last) and self.checkpoints.is_due():
                    self._save_checkpoint(stage, number)
                stage.network.train()
        self._take_best(stage.name, stage.unit, stage.network)
        stage.network.eval()

    def _write_snapshot(self, step: int) -> None:
        """Write down what is reliable at this step of stage 1, in a few videos."""
        if parallel.rank() > 0:
            return
        self.model.snippet.eval()
        assert self.cut is not None
        videos = self.cut.videos
        indices = observed_videos(videos)
        reliable = {}
        for index, features in zip(indices, self.compute.bank.batches([[index] for index in indices]), strict=True):
            video = videos[index]
            reliable[video.video_id] = find_reliable(self.model.snippet, video, features, self.settings)
        write_snapshot(self.folder, step, reliable)

    def _evaluate(self, stage: str, unit: str, step: int, network: torch.nn.Module, seconds: float) -> None:
        """Evaluate on the first process; `seconds` are those of the stage in this process, evaluations included."""
        if self.watch.evaluate is None or parallel.rank() > 0:
            return
        started = time.monotonic()
        values = self.watch.evaluate(self.model.to(self.device))
        times = {"seconds": round(seconds, 3), "evaluation_seconds": round(time.monotonic() - started, 3)}
        self.journal.write(stage, step, "evaluation", {**values, **times})
        numbers = ", ".join(f"{name} {100 * values[name]:.2f}" for name in ("average", "point_mAP") if name in values)
        log.info("%s, %s %d: %s", stage, unit, step, numbers)
        self._warn_if_falling(stage, values)
        if self.watch.select is None:
            self._note(evaluation={"stage": stage, "step": step, **values})
        elif self.best is None or values[self.watch.select.key] > self.best.score:
            state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            self.best = _Best(values[self.watch.select.key], step, state, values)

    def _warn_if_falling(self, stage: str, values: dict[str, Any]) -> None:
        """Say so, once a stage, where the score on held-out points has fallen over several evaluations."""
        if "point_mAP" not in values:
            return
        scores = self.point_scores.setdefault(stage, [])
        scores.append(values["point_mAP"])
        since = len(scores) - 1 - int(np.argmax(scores))
        if since == _FALLING_FOR and max(scores) - scores[-1] > _FALLEN_BY:
            log.warning(
                "%s: the score on held-out points fell from %.1f to %.1f; train for fewer %ss, or label more videos",
                *(stage, 100 * max(scores), 100 * scores[-1], "epoch" if stage == "instance" else "step"),
            )

    def _take_best(self, stage: str, unit: str, network: torch.nn.Module) -> None:
        """End of a stage, where a selection was asked for: go back to its best checkpoint.

        A stage that is worse at its best than what comes before it is left out; by points alone, a stage 3 that is
        clearly worse.
        """
        select = self.watch.select
        if select is None:
            return
        best = parallel.same_everywhere(self.best)
        self.best = None
        if best is None:  # no step, no evaluation
            return
        before = self.model.notes.evaluation
        allowed = _WORSE_ON_POINTS if stage == "pyramid" and select.key == "point_mAP" else 0.0
        if select.key in before and best.score < before[select.key] - allowed:
            setattr(self.model, stage, None)
            log.warning(
                "%s: left out; %s is %.1f at best, and %.1f without it",
                *(stage, select.key, 100 * best.score, 100 * before[select.key]),
            )
            return
        network.load_state_dict(best.network)
        evaluation = {"stage": stage, "step": best.step, **best.evaluation}
        self._note(checkpoint=f"best on {select.data}", evaluation=evaluation)
        log.info("%s: took the checkpoint of %s %d, the best on %s", stage, unit, best.step, select.data)

    def _draw(self, stage: str, step: int, last: bool = False) -> None:
        """Pictures for TensorBoard, unless the time for them is used up; the last ones are drawn in any case."""
        if parallel.rank() > 0:
            return
        started = time.monotonic()
        if stage == "snippet" and not last:
            cosines = prototype_similarity(self.model.snippet.prototypes)
            self.journal.scalar(stage, step, "snippet/prototypes/mean_cosine", mean_off_diagonal(cosines))
        is_too_soon = (started - self.drawn_at) * _PICTURE_SHARE < self.drawing_seconds
        if self.watch.draw is None or (is_too_soon and not last):
            return
        for tag, image in self.watch.draw(self.model.to(self.device), stage == "snippet" or last):
            self.journal.picture(stage, step, tag, image)
        self.drawn_at = time.monotonic()
        self.drawing_seconds = self.drawn_at - started

    def _note(self, **values: Any) -> None:
        self.model.notes = replace(self.model.notes, **values)

    def _note_parts(self) -> None:
        """Say what to set, where steps had to be cut finer than set."""
        for stage in STAGES:
            if (parts := self.parts.get(stage, 0)) > getattr(self.settings, stage).accumulate:
                self._note(accumulate=self.model.notes.accumulate | {stage: parts})
                log.warning("the GPU has no memory for whole steps: set `%s.accumulate=%d` next time", stage, parts)

    def _save_model(self) -> None:
        if parallel.rank() == 0:
            save_model(self.folder / FILE_NAME, self.model)

    def _save_checkpoint(self, stage: Stage, number: int) -> None:
        best = self.best
        self.checkpoints.save(
            Checkpoint(
                stage=stage.name,
                step=number,
                network=stage.network.state_dict(),
                snippet=self.model.snippet.state_dict() if stage.name != "snippet" else None,
                instance=self.model.instance.state_dict() if stage.name == "pyramid" and self.model.instance else None,
                notes=self.model.notes.as_json(),
                optimizer=stage.optimizer.state_dict(),
                best=None if best is None else {name: getattr(best, name) for name in _Best.__dataclass_fields__},
                parts=self.parts,
            )
        )
        self.journal.flush()
