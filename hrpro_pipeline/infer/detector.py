"""Detection: features of a video in, scored segments out. No ground truth is needed."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from hrpro_pipeline.data.detections import Curves, Detection
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.extractor import Extractor
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_video
from hrpro_pipeline.infer.answer import answers
from hrpro_pipeline.infer.curves import curves_of
from hrpro_pipeline.infer.postprocess import classwise_soft_nms, outside_ambiguous
from hrpro_pipeline.infer.raw import extractor_for
from hrpro_pipeline.models.calibration import Calibration
from hrpro_pipeline.models.candidates import VideoScores, find_candidates, score_snippets
from hrpro_pipeline.models.checkpoint import TrainedModel, load_model
from hrpro_pipeline.models.device import or_on_cpu, resolve_device
from hrpro_pipeline.models.instance import pool_parts
from hrpro_pipeline.models.pyramid import segments_of
from hrpro_pipeline.models.snippet import Packing

# Proposals scored at once: bounds the memory of a long video's pooled features (3 x D floats each).
_CHUNK = 1024
# Segments of stage 3 that go into soft-NMS: those of at least this probability, so many in a video, or one a snippet.
_LOWEST_PROBABILITY = 0.005
_MOST_SEGMENTS = 2000
# Of probabilities.
_DIGITS = 4
# Extraction settings in which features and model must agree; the clock is compared by itself.
_COMPARED = {
    "resize",
    "crop",
    "crops",
    "crop_fusion",
    "backbone",
    "backbones",
    "flow_clamp",
    "flow_variant",
    "flow_rounding",
}

Ambiguous = Sequence[tuple[float, float]]


def detect_actions(
    model: TrainedModel, features: Tensor, ambiguous: Ambiguous = (), candidates: np.ndarray | None = None
) -> np.ndarray:
    """Detect actions in one video.

    Each candidate gives two detections: its bounds scored OIC + completeness, and the refined bounds scored OIC +
    their completeness. With stage 1 alone it gives one, scored OIC. A model with stage 3 detects with that alone, and
    scores are its probabilities.

    Args:
        model: networks in eval mode.
        features: [T, D] on the model's device.
        ambiguous: segments in seconds; detections that overlap one are dropped (THUMOS14's protocol).
        candidates: the video's candidates [M, 4] from stage 1, if they are known already.

    Returns:
        [M, 4] rows of start and end in seconds, class, score; best first.
    """
    scored = _scored_segments(model, features, candidates)
    detections = scored.copy()
    detections[:, :2] = model.clock.to_seconds(scored[:, :2])
    detect = model.settings.detect
    detections = classwise_soft_nms(detections, detect.nms_sigma, detect.nms_added_seconds)
    detections = detections[detections[:, 0] < detections[:, 1]]  # regression can reverse very short proposals
    return outside_ambiguous(detections, ambiguous)


def scores_and_detections(
    model: TrainedModel, features: Tensor, ambiguous: Ambiguous = ()
) -> tuple[VideoScores, np.ndarray]:
    """What stage 1 says of a video [T, D], and the detections of `detect_actions`; stage 1 computes once."""
    if model.pyramid is not None:  # which detects without candidates
        scores = score_snippets(model.snippet, features, model.settings)
        return scores, detect_actions(model, features, ambiguous)
    candidates = find_candidates(model.snippet, features, model.settings)
    return candidates, detect_actions(model, features, ambiguous, candidates.proposals)


def _scored_segments(model: TrainedModel, features: Tensor, candidates: np.ndarray | None) -> np.ndarray:
    """What the last stage of a model makes of a video, before soft-NMS: rows [M, 4] on the snippet axis."""
    if model.pyramid is not None:
        most = max(_MOST_SEGMENTS, len(features))
        return segments_of(model.pyramid, features, _LOWEST_PROBABILITY, most).double().cpu().numpy()
    if candidates is None:
        candidates = find_candidates(model.snippet, features, model.settings).proposals
    return candidates if model.instance is None else apply_stage_2(model, features, candidates)


@torch.inference_mode()
def apply_stage_2(model: TrainedModel, features: Tensor, candidates: np.ndarray) -> np.ndarray:
    """Candidates [M, 4] -> [2 M, 4]: their bounds, then the refined ones, both with the completeness score added.

    A model that was trained without the score loss adds no score; one without the regression loss gives [M, 4].
    """
    instance, trained = model.instance, model.settings.instance
    assert instance is not None
    unrefined, refined = candidates.copy(), candidates.copy()
    bounds = torch.from_numpy(candidates[:, :2].astype(np.float32)).to(features.device)
    video = torch.zeros(len(bounds), dtype=torch.long, device=features.device)  # all proposals are of video 0
    packing = Packing.of([len(features)], features.device)
    snippets = features, packing.first, packing.count
    for first in range(0, len(bounds), _CHUNK):
        rows = slice(first, first + _CHUNK)
        scores = instance(pool_parts(*snippets, bounds[rows], video[rows]), bounds[rows])
        if trained.score_weight > 0:
            unrefined[rows, 3] += scores.completeness.cpu().numpy()
        if trained.regression_weight > 0:
            refined[rows, :2] = scores.refined.cpu().numpy()
            if trained.score_weight > 0:
                parts = pool_parts(*snippets, scores.refined, video[rows])
                refined[rows, 3] += instance.score(parts).cpu().numpy()
    return np.concatenate([unrefined, refined]) if trained.regression_weight > 0 else unrefined


class Detector:
    """A trained model that takes videos or features.

    Args:
        model: from `train_detector` or `load_model`.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, or a torch device.

    Attributes:
        model: the networks on the device, with classes and settings.

    Examples:
        >>> from hrpro_pipeline import Detector
        >>> detector = Detector.load("runs/kitchen", device="cpu")
        >>> detector.model.classes
        ('pour', 'stir')
        >>> detections = detector("new_videos/kitchen_03.mp4")
        >>> best = detections[0]
        >>> line = f"{best.label} {best.start:.1f}-{best.end:.1f} s: {best.score:.2f}"
        >>> best.score == max(detection.score for detection in detections)
        True

        From features that were extracted before:

        >>> from pathlib import Path
        >>> from hrpro_pipeline.data.features import read_features
        >>> detections == detector.detect(read_features(Path("more_features/kitchen_03.h5")))
        True
    """

    def __init__(self, model: TrainedModel, device: torch.device | str = "auto") -> None:
        self.device = resolve_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device)
        # By weights and own networks: they are loaded once.
        self._extractors: dict[tuple[str, ...], Extractor] = {}

    @classmethod
    def load(cls, path: str | Path, device: str = "auto") -> "Detector":
        """Load a RUN folder or a `model.pt`. Raises HrproError for anything else."""
        return cls(load_model(Path(path)), device)

    def __call__(self, video: str | Path, weights: str = "auto", backbone: Sequence[str] = ()) -> list[Detection]:
        """Detect the actions of a video file, best first.

        Args:
            video: path of the file.
            weights: `auto` for what the model's features were made with, or a folder of weight files.
            backbone: your own networks that the model was trained with, PATH.py:FUNCTION; their code is run.

        Raises:
            HrproError: the video cannot be decoded, or the weights are not available.
        """
        key = (weights, *backbone)
        if key not in self._extractors:
            options = ExtractOptions(weights=weights, device=str(self.device), own=tuple(backbone))
            self._extractors[key] = extractor_for(self.model, options)
        return self.detect(extract_video(Path(video), self._extractors[key]))

    def detect(self, features: VideoFeatures, ambiguous: Ambiguous = ()) -> list[Detection]:
        """Detect the actions in features, best first.

        Args:
            features: of a video, from `read_features`.
            ambiguous: segments (start, end) in seconds; detections that overlap one are dropped.

        Raises:
            HrproError: the features do not fit the model.
        """
        return self.detect_with_curves(features, ambiguous)[0]

    def detect_with_curves(self, features: VideoFeatures, ambiguous: Ambiguous = ()) -> tuple[list[Detection], Curves]:
        """`detect`, and the snippet scores that the candidates were cut from."""
        check_features(self.model, features.header)
        model = self.model.on_clock(features.header.clock)

        joined = torch.from_numpy(features.joined(tuple(model.widths)))
        compute = partial(scores_and_detections, model, ambiguous=ambiguous)
        scores, rows = or_on_cpu(compute, model, joined, self.device, features.video_id)
        curves = curves_of(scores, model.classes, model.clock, model.settings.detect.class_threshold)
        return to_detections(rows, model.classes, model.calibration), curves


def to_detections(rows: np.ndarray, classes: Sequence[str], calibration: Calibration | None = None) -> list[Detection]:
    """Rows [M, 4] of start, end, class, score, best first -> detections in the same order."""
    detections = [Detection(classes[int(label)], score, start, end) for start, end, label, score in rows.tolist()]
    if calibration is None:
        return detections
    learned = zip(*(values.tolist() for values in answers(rows, calibration)), strict=True)
    return [
        replace(detection, probability=round(probability, _DIGITS), answer=answer)
        for detection, (probability, answer) in zip(detections, learned, strict=True)
    ]


def check_features(model: TrainedModel, header: FeatureHeader) -> None:
    """Check that features were made like those that the model was trained on: clock, streams, widths, weights.

    Raises:
        HrproError: names everything that differs.
    """
    problems = []
    expected_clock = replace(model.clock, fps=header.clock.fps) if model.own_clocks else model.clock
    if header.clock != expected_clock:
        problems.append(f"clock {_clock_text(header.clock)}, expected {_clock_text(expected_clock)}")
    for stream, width in model.widths.items():
        expected, given = model.weights.get(stream), header.weights.get(stream)
        if stream not in header.widths:
            problems.append(f"no {stream} stream, which the model needs")
        elif header.widths[stream] != width:
            problems.append(f"{stream} is {header.widths[stream]} wide, expected {width}")
        elif expected and given and expected != given:
            problems.append(f"{stream} was made with weights {given}, expected {expected}")
    for name in _COMPARED & model.extraction.keys() & header.settings.keys():
        if header.settings[name] != model.extraction[name]:
            problems.append(f"{name} {header.settings[name]}, expected {model.extraction[name]}")
    if problems:
        raise HrproError(
            f"{header.video_id}: features do not fit the model: {'; '.join(problems)}; "
            "extract them with the settings that the model was trained with"
        )


def _clock_text(clock: SnippetClock) -> str:
    return f"{clock.fps:g} fps / {clock.snippet_frames} frames / stride {clock.stride}"
