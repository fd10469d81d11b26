"""A training run from start to end: both stages, checkpoints, evaluation, resume."""

import errno
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.configs.load import dump_settings
from hrpro_pipeline.configs.schema import InstanceSettings, Settings, SnippetSettings
from hrpro_pipeline.data.dataset import TrainingSet
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import (
    FILE_NAME,
    Notes,
    TrainedModel,
    build_instance,
    build_snippet,
    load_torch,
    save_model,
    save_torch,
)
from hrpro_pipeline.models.precision import resolve_precision
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.show import training as pictures
from hrpro_pipeline.show.training import Shown
from hrpro_pipeline.train import instance_stage, parallel, snippet_stage
from hrpro_pipeline.train.feature_bank import FeatureBank
from hrpro_pipeline.train.instance_stage import ProposalSet
from hrpro_pipeline.train.journal import METRICS, Journal, rewind
from hrpro_pipeline.train.moments import find_reliable, observed_videos, write_moment

log = logging.getLogger(__name__)

Evaluate = Callable[[TrainedModel], dict[str, Any]]
UNITS = {"snippet": "step", "instance": "epoch"}
_CHECKPOINT = Path("checkpoints") / "last.pt"
# Steps whose losses stay on the device before they are written down: reading each would wait for each.
_LOSSES_HELD = 10
# Moments of stage 1, after its start, at which what it takes for reliable is written down.
NUM_MOMENTS = 4
# Share of the time that may go into checkpoints.
_CHECKPOINT_SHARE = 0.05
# Share of the time that may go into pictures for TensorBoard, and what the first ones are taken to need.
_PICTURE_SHARE = 0.01
_PICTURE_SECONDS = 0.3


@dataclass(frozen=True)
class Selection:
    """Keep the checkpoint that scores best instead of the last.

    Attributes:
        key: the number of an evaluation that decides.
        where: what it was measured on, in words: the model says so for ever after.
    """

    key: str
    where: str


def train(
    data: TrainingSet,
    settings: Settings,
    run: Path,
    *,
    seed: int = 0,
    device: torch.device | None = None,
    evaluate: Evaluate | None = None,
    select: Selection | None = None,
    resume: bool = False,
    stage1: SnippetModel | None = None,
    shown: Shown | None = None,
) -> TrainedModel:
    """Train both stages and write RUN: `model.pt`, `metrics.jsonl`, events, `config.yaml`, checkpoints.

    The model is the last checkpoint unless `select` says otherwise. Under `torchrun`, each process trains on its share
    of each batch; the first one evaluates and writes.

    Args:
        evaluate: called with the model so far; must give `average`, or the key of `select`, and may give more numbers.
        resume: go on from the last checkpoint in `run`, with as many processes; start from the beginning where there
            is none. On the CPU the result is that of an undisturbed run to the bit; CUDA sums in no fixed order.
        stage1: a trained network of the same settings, instead of training stage 1.
        shown: videos whose timelines TensorBoard shows.

    A step that the GPU has no memory for is repeated in twice as many parts, and so are those after it: from there on
    the run is the one that had `accumulate` set so.

    Raises:
        HrproError: `run` already holds a run and `resume` is not set, or holds one of other settings; a loss that is
            not finite; a full disk; too little GPU memory for one video.
    """
    with parallel.process_group(device or torch.device("cpu")) as own:
        try:
            return _Run(data, settings, run, seed, own, evaluate, select, shown).go(resume, stage1)
        except torch.OutOfMemoryError:
            raise HrproError(
                f"{run}: out of GPU memory; keep the features off the GPU with --set compute.features=host, "
                "or train with --device cpu"
            ) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise HrproError(f"{run}: no space is left on the disk; make room and go on with --resume") from None


class _Run:
    """The state of one run: networks, optimizer, place."""

    def __init__(
        self,
        data: TrainingSet,
        settings: Settings,
        folder: Path,
        seed: int,
        device: torch.device,
        evaluate: Evaluate | None,
        select: Selection | None,
        shown: Shown | None,
    ) -> None:
        self.data, self.settings, self.folder = data, settings, folder
        self.seed, self.device, self.evaluate, self.select = seed, device, evaluate, select
        self.precision = resolve_precision(settings.compute.precision, device)
        self.identity = {
            "settings": settings.model_dump(mode="json"),
            "seed": seed,
            "classes": list(data.classes),
            "videos": [video.video_id for video in data.videos],
            "features": [list(data.widths.items()), data.weights, data.extraction],
            "points": [[video.positions.tolist(), video.labels.tolist()] for video in data.videos],
            "selection": None if select is None else [select.key, select.where],
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
            notes=Notes(seed, len(data.videos), self.precision, checkpoint="last"),
        )
        self.best: dict[str, Any] | None = None
        self.saved_at = self.saving_took = 0.0
        self.shown, self.drawn_at, self.drawing_took = shown, time.monotonic(), _PICTURE_SECONDS
        # Parts of a step: as set, or more where the device has no memory for so few.
        self.parts = {"snippet": settings.snippet.accumulate, "instance": settings.instance.accumulate}

    def go(self, resume: bool, stage1: SnippetModel | None) -> TrainedModel:
        state = self._start_together(resume)
        self.bank = FeatureBank(self.data.videos, self.device, self.settings.compute.features)
        log.info("training on %s", self.data)
        log.info("matrix products in %s on %s", self.precision, self.device)
        resumed = (state["stage"], state["step"]) if state is not None else ("snippet", -1) if resume else None
        steps = self.settings.snippet.steps
        with Journal(self.folder, steps, resumed, writes=parallel.rank() == 0) as self.journal:
            if state is not None:
                self.model.notes = Notes.from_json(state["notes"])
                self.parts |= state.get("parts", {})
            in_stage_2 = state is not None and state["stage"] == "instance"
            if in_stage_2:
                assert state is not None
                self.model.snippet.load_state_dict(state["snippet"])
            elif stage1 is not None:
                self.model.snippet.load_state_dict(stage1.state_dict())
            else:
                self._snippet_stage(state)
                self._save_model()
            if self.settings.instance.epochs:
                self._instance_stage(state if in_stage_2 else None)
            if self.evaluate is not None and not self.model.notes.evaluation:  # nothing was trained
                self._evaluate("snippet", self.settings.snippet.steps, self.model.snippet, 0.0)
                self._take_best("snippet", self.model.snippet)
            end = ("snippet", steps) if self.model.instance is None else ("instance", self.settings.instance.epochs)
            if resumed != end:  # else they are there
                self._draw(*end, last=True)
        self._advise()
        self.model.to(torch.device("cpu"))
        self._save_model()
        return self.model

    def _start_together(self, resume: bool) -> dict[str, Any] | None:
        """`_start` on the first process; all have its result, or its error."""
        state, problem = None, None
        if parallel.rank() == 0:
            try:
                state = self._start(resume)
            except HrproError as error:
                problem = str(error)
        state, problem = parallel.same_everywhere((state, problem))
        if problem is not None:
            raise HrproError(problem)
        return state

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
                    what = _differences(state["identity"][name], value) if name == "settings" else ""
                    raise HrproError(
                        f"{self.folder}: was made with other {name}{what}; resume with the same, or use another --out"
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
        settings, model, data = self.settings.snippet, self.model.snippet, self.data
        optimizer = _adam(model, settings)
        first = 0
        if state is None:
            alone = [[index] for index in range(len(data.videos))]
            with progress("stage 1 (prototypes)", len(alone), "videos", minor=True) as task:
                snippet_stage.initialize_prototypes(model, task.each(self._snippet_batches(alone)))
        else:
            first = self._restore(state, model, optimizer)
        moments = {round(settings.steps * part / NUM_MOMENTS) for part in range(1, NUM_MOMENTS + 1)}
        if first == 0:
            self._record_reliable(0)
        model.train()
        orders = [
            snippet_stage.batch_order(step, len(data.videos), settings.batch_size, self.seed)
            for step in range(first, settings.steps)
        ]

        def take(parts: Iterator[Any], batch_size: int) -> Tensor:
            return snippet_stage.train_step(model, parts, batch_size, optimizer, settings, self.precision)

        steps = self._steps(
            "snippet", orders, self._snippet_batches, take, lambda index: self._seed_step(1, first + index + 1)
        )
        losses = _HeldLosses(self, "snippet", snippet_stage.LOSSES)
        started = time.monotonic()
        with progress("stage 1 (snippets)", settings.steps, "steps", done=first) as task:
            for step, (videos, found, batch_size) in enumerate(steps, start=first + 1):
                losses.add(step, videos, found, batch_size)
                due = step % settings.evaluate_every == 0 or step == settings.steps
                if due or losses.full or step in moments:
                    task.update(step, note=f"loss {losses.write():.3f}")
                if step in moments:
                    self._record_reliable(step)
                    model.train()
                if due:
                    self._evaluate("snippet", step, model, time.monotonic() - started)
                    self._draw("snippet", step)
                    model.train()
                    self._save("snippet", step, model, optimizer)
        self._take_best("snippet", model)
        model.eval()

    def _instance_stage(self, state: dict[str, Any] | None) -> None:
        settings = self.settings.instance
        self.model.snippet.eval()
        videos = self._proposals()
        if not videos:
            log.warning("stage 2 is left out: stage 1 found no proposals; the model has stage 1 alone")
            return
        # Seeded anew, so that stage 2 does not depend on how stage 1 came to its end (resumed or not).
        torch.manual_seed(self.seed)
        instance = build_instance(self.settings, sum(self.data.widths.values())).to(self.device)
        self.model.instance = instance
        optimizer = _adam(instance, settings)
        first = self._restore(state, instance, optimizer) if state is not None else 0
        batch_size = min(settings.batch_size, len(videos))
        losses = _HeldLosses(self, "instance", instance_stage.LOSSES)

        def take(parts: Iterator[Any], batch_size: int) -> Tensor:
            return instance_stage.train_step(instance, parts, batch_size, optimizer, settings, self.precision)

        started = time.monotonic()
        with progress("stage 2 (instances)", settings.epochs, "epochs", done=first) as task:
            for epoch in range(first + 1, settings.epochs + 1):
                instance.train()
                self._seed_step(2, epoch)
                order = np.random.default_rng([self.seed, 3, epoch]).permutation(len(videos))
                # The tail that fills no batch is dropped.
                orders = [order[at : at + batch_size] for at in range(0, len(order) - batch_size + 1, batch_size)]
                pack = partial(self._instance_batches, videos=videos, epoch=epoch)
                for indices, found, size in self._steps("instance", orders, pack, take):
                    losses.add(epoch, [videos[index].index for index in indices], found, size)
                task.update(epoch, note=f"loss {losses.write():.3f}")
                instance.eval()
                if epoch % settings.evaluate_every == 0 or epoch == settings.epochs:
                    self._evaluate("instance", epoch, instance, time.monotonic() - started)
                    self._draw("instance", epoch)
                self._save("instance", epoch, instance, optimizer)
        self._take_best("instance", instance)

    def _steps(
        self,
        stage: str,
        orders: Sequence[Sequence[int] | np.ndarray],
        pack: Callable[[list[list[int]]], Iterator[Any]],
        take: Callable[[Iterator[Any], int], Tensor],
        seed: Callable[[int], None] | None = None,
    ) -> Iterator[tuple[list[int], Tensor, int]]:
        """Take a step over each of the orders -> this process's videos, their losses, and how many videos there were.

        A step for which there is no memory is repeated with the same random state, in twice as many parts.

        Args:
            pack: makes batches of lists of videos; take: steps over the parts of one order.
            seed: called with a step's index before it.
        """
        done = 0
        while done < len(orders):
            cut = [self._split(order, self.parts[stage]) for order in orders[done:]]
            batches = pack([part for parts in cut for part in parts if part])
            for order, parts in zip(orders[done:], cut, strict=True):
                if seed is not None:
                    seed(done)
                go_back = self._come_back()
                try:
                    found = take((next(batches) if part else None for part in parts), len(order))
                except torch.OutOfMemoryError:
                    break
                yield [index for part in parts for index in part], found, len(order)
                done += 1
            else:
                return
            del batches
            self._cut_finer(stage, len(orders[done]))
            go_back()

    def _come_back(self) -> Callable[[], None]:
        """Remember what a step draws from and changes before it is complete -> a function that goes back to it."""
        device = self.device
        memory, drawn = self.model.snippet.prototypes, torch.random.get_rng_state()
        drawn_there = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

        def go_back() -> None:
            self.model.snippet.prototypes = memory  # a step never changes it in place
            torch.random.set_rng_state(drawn)
            if drawn_there is not None:
                torch.cuda.set_rng_state(drawn_there, device)

        return go_back

    def _cut_finer(self, stage: str, videos: int) -> None:
        """Cut the steps of a stage into twice as many parts. Raises HrproError if that cannot be."""
        key, parts = f"{stage}.accumulate", self.parts[stage]
        if parallel.size() > 1:  # the other processes are in the middle of the same step
            raise HrproError(f"out of GPU memory in a step of {key}={parts}; run again with --set {key}={2 * parts}")
        if parts >= videos:
            lower = "" if stage == "snippet" else ", lower instance.max_proposals"
            raise HrproError(
                f"out of GPU memory with one video at a time ({key}={parts}); keep the features off the GPU with "
                f"--set compute.features=host{lower}, leave the longest videos out with --videos, or use --device cpu"
            )
        self.parts[stage] = min(2 * parts, videos)
        log.warning("out of GPU memory: steps are cut into %d parts from here on (%s)", self.parts[stage], key)
        torch.cuda.empty_cache()

    def _advise(self) -> None:
        """Say what to set, where steps had to be cut finer than set."""
        for stage, set_to in (("snippet", self.settings.snippet), ("instance", self.settings.instance)):
            if (parts := self.parts[stage]) > set_to.accumulate:
                notes = self.model.notes
                self.model.notes = replace(notes, accumulate=notes.accumulate | {stage: parts})
                log.warning("the GPU has no memory for whole steps: set --set %s.accumulate=%d next time", stage, parts)

    def _record_reliable(self, step: int) -> None:
        """Write down what stage 1 takes for reliable at this step, in a few videos."""
        if parallel.rank() > 0:
            return
        self.model.snippet.eval()
        chosen = observed_videos(self.data.videos)
        found = {}
        for index, features in zip(chosen, self.bank.batches([[index] for index in chosen]), strict=True):
            video = self.data.videos[index]
            found[video.video_id] = find_reliable(self.model.snippet, video, features, self.settings)
        write_moment(self.folder, step, found)

    def _split(self, order: Sequence[int] | np.ndarray, parts: int) -> list[list[int]]:
        """The videos of this process in each of the parts that a step is cut into; a part may be empty."""
        pieces = np.array_split(np.asarray(order), min(parts, len(order)))
        return [piece[parallel.rank() :: parallel.size()].tolist() for piece in pieces]

    def _seed_step(self, stage: int, step: int) -> None:
        """Dropout depends on the step and the process alone, so that no state of it needs to be kept."""
        sequence = np.random.SeedSequence([self.seed, stage, step, parallel.rank()])
        torch.manual_seed(int(sequence.generate_state(1)[0]))

    def _snippet_batches(self, orders: list[list[int]]) -> Iterator[snippet_stage.SnippetBatch]:
        for order, features in zip(orders, self.bank.batches(orders), strict=True):
            yield snippet_stage.pack([self.data.videos[index] for index in order], features, len(self.data.classes))

    def _instance_batches(
        self, orders: list[list[int]], videos: list[ProposalSet], epoch: int
    ) -> Iterator[instance_stage.InstanceBatch]:
        packed = self.bank.batches([[videos[index].index for index in order] for order in orders])
        for order, features in zip(orders, packed, strict=True):
            chosen = [videos[index] for index in order]
            rngs = [np.random.default_rng([self.seed, 4, epoch, video.index]) for video in chosen]
            yield instance_stage.pack(chosen, features, self.settings.instance.max_proposals, rngs)

    def _proposals(self) -> list[ProposalSet]:
        """What stage 2 learns from, by video; videos without proposals are left out."""
        own = list(range(len(self.data.videos)))[parallel.rank() :: parallel.size()]
        features = self.bank.batches([[index] for index in own])
        with progress("stage 2 (proposals)", len(own), "videos", minor=True) as task:
            found = [
                instance_stage.propose(
                    self.model.snippet,
                    self.data.videos[index],
                    index,
                    packed,
                    self.settings,
                    np.random.default_rng([self.seed, 2, index]),
                )
                for index, packed in task.each(zip(own, features, strict=True))
            ]
        found = parallel.gather_objects(found)
        videos = [video for video in found if len(video.proposals)]
        if len(videos) < len(found):
            log.warning(
                "stage 2: %d of %d videos have no proposals and are left out", len(found) - len(videos), len(found)
            )
        return videos

    def _evaluate(self, stage: str, step: int, network: torch.nn.Module, seconds: float) -> None:
        """Evaluate on the first process; `seconds` are those of the stage in this process, evaluations included."""
        if self.evaluate is None or parallel.rank() > 0:
            return
        started = time.monotonic()
        values = self.evaluate(self.model.to(self.device))
        times = {"seconds": round(seconds, 3), "evaluation_seconds": round(time.monotonic() - started, 3)}
        self.journal.write(stage, step, "evaluation", {**values, **times})
        if self.select is None:
            evaluation = {"stage": stage, "step": step, **values}
            self.model.notes = replace(self.model.notes, evaluation=evaluation)
        numbers = ", ".join(f"{name} {100 * values[name]:.2f}" for name in ("average", "point_mAP") if name in values)
        log.info("%s, %s %d: %s", stage, UNITS[stage], step, numbers)
        if self.select is not None and (self.best is None or values[self.select.key] > self.best["score"]):
            state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
            self.best = {"score": values[self.select.key], "step": step, "network": state, "evaluation": values}

    def _draw(self, stage: str, step: int, last: bool = False) -> None:
        """Pictures for TensorBoard, unless the time for them is used up; the last ones are drawn in any case."""
        if parallel.rank() > 0:
            return
        started = time.monotonic()
        similarity = pictures.similarity(self.model.snippet.prototypes)
        if stage == "snippet" and not last:
            self.journal.scalar(stage, step, "snippet/prototypes/mean_cosine", pictures.mean_off_diagonal(similarity))
        if not last and (started - self.drawn_at) * _PICTURE_SHARE < self.drawing_took:
            return
        if stage == "snippet" or last:
            self.journal.picture(stage, step, "snippet/prototypes", pictures.heat_map(similarity, self.data.classes))
        for sample in self.shown.samples if self.shown is not None else ():
            assert self.shown is not None
            image = pictures.timeline(self.model.to(self.device), sample, self.shown.detect)
            self.journal.picture(stage, step, f"timeline/{sample.video_id}", image)
        self.drawn_at = time.monotonic()
        self.drawing_took = self.drawn_at - started

    def _take_best(self, stage: str, network: torch.nn.Module) -> None:
        """End of a stage: go back to its best checkpoint where a selection was asked for."""
        if self.select is None:
            return
        self.best = parallel.same_everywhere(self.best)
        if self.best is None:  # no step, no evaluation
            return
        network.load_state_dict(self.best["network"])
        step = self.best["step"]
        evaluation = {"stage": stage, "step": step, **self.best["evaluation"]}
        self.model.notes = replace(self.model.notes, checkpoint=f"best on {self.select.where}", evaluation=evaluation)
        log.info("%s: took the checkpoint of %s %d, the best on %s", stage, UNITS[stage], step, self.select.where)
        self.best = None

    def _save_model(self) -> None:
        if parallel.rank() == 0:
            save_model(self.folder / FILE_NAME, self.model)

    def _save(self, stage: str, step: int, network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Write a checkpoint, unless writing the last one took too long for another one so soon."""
        started = time.monotonic()
        if parallel.rank() > 0 or (started - self.saved_at) * _CHECKPOINT_SHARE < self.saving_took:
            return
        state = {
            "identity": self.identity,
            "stage": stage,
            "step": step,
            "network": network.state_dict(),
            "snippet": self.model.snippet.state_dict() if stage == "instance" else None,
            "notes": self.model.notes.as_json(),
            "optimizer": optimizer.state_dict(),
            "best": self.best,
            "parts": self.parts,
        }
        save_torch(self.folder / _CHECKPOINT, state)
        self.journal.flush()
        self.saved_at = time.monotonic()
        self.saving_took = self.saved_at - started

    def _restore(self, state: dict[str, Any], network: torch.nn.Module, optimizer: torch.optim.Optimizer) -> int:
        network.load_state_dict(state["network"])
        optimizer.load_state_dict(state["optimizer"])
        self.best = state["best"]
        return int(state["step"])


class _HeldLosses:
    """Losses that stay on the device until a few steps are together; then they are checked and written down."""

    def __init__(self, run: _Run, stage: str, names: Sequence[str]) -> None:
        self._run, self._stage, self._names = run, stage, names
        self._held: list[tuple[int, list[int], Tensor, int]] = []

    @property
    def full(self) -> bool:
        return len(self._held) >= _LOSSES_HELD

    def add(self, step: int, videos: list[int], losses: Tensor, batch_size: int) -> None:
        """Losses [b, K] of this process's videos, of `batch_size` of all processes."""
        self._held.append((step, videos, losses, batch_size))

    def write(self) -> float:
        """Write a line for each step, the mean of its batches -> the last total.

        Raises:
            HrproError: a loss is not finite; names the video.
        """
        run = self._run
        broken = torch.cat([losses[:, -1] for _, _, losses, _ in self._held]).isfinite().logical_not().cpu()
        if broken.any():
            videos = [index for _, indices, _, _ in self._held for index in indices]
            video = run.data.videos[videos[int(broken.nonzero()[0])]].video_id
            raise HrproError(f"{video}: the loss is not finite; lower {self._stage}.learning_rate")
        sums = torch.stack([losses.sum(dim=0) / batch_size for _, _, losses, batch_size in self._held])
        means = parallel.total(sums).cpu()
        steps = [step for step, *_ in self._held]
        for step in dict.fromkeys(steps):
            own = means[[index for index, other in enumerate(steps) if other == step]].mean(dim=0)
            run.journal.write(self._stage, step, "loss", dict(zip(self._names, own.tolist(), strict=True)))
        self._held.clear()
        return float(means[-1, -1])


def _differences(then: dict[str, Any], now: Any) -> str:
    """The first few settings of two runs that differ."""
    found = [
        f"{section}.{name}={then.get(section, {}).get(name)}, now {value}"
        for section, values in now.items()
        if isinstance(values, dict)
        for name, value in values.items()
        if then.get(section, {}).get(name) != value
    ]
    return f" ({'; '.join(found[:3])})" if found else ""


def _adam(network: torch.nn.Module, settings: SnippetSettings | InstanceSettings) -> torch.optim.Adam:
    return torch.optim.Adam(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
    )
