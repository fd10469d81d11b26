"""The curves of detection files: times, classes and means, worked out by hand; and that detections stay as they are."""

import numpy as np
import pytest
import torch

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.features import FeatureHeader, VideoFeatures
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.infer import detector
from hrpro_pipeline.infer.curves import curves_of
from hrpro_pipeline.infer.detector import detect_actions, to_detections
from hrpro_pipeline.models.candidates import Candidates, find_candidates
from hrpro_pipeline.models.checkpoint import TrainedModel, build_instance, build_snippet
from hrpro_pipeline.models.proposals import NO_PROPOSALS

CLOCK = SnippetClock(25.0, 16, 16)
NAMES = tuple("abcdefg")


def candidates(fused: np.ndarray, background: np.ndarray, video_scores: list[float]) -> Candidates:
    return Candidates(fused.astype(np.float32), background.astype(np.float32), np.array(video_scores), NO_PROPOSALS)


def test_each_snippet_is_a_point_at_its_middle() -> None:
    fused, background = np.array([[0.1, 0.12345], [0.2, 0.6]]), np.array([1.0, 0.25])
    curves = curves_of(candidates(fused, background, [0.2, 0.9]), NAMES[:2], CLOCK, 0.5)
    assert (curves.start_seconds, curves.seconds_per_point) == (0.32, 0.64)
    assert curves.classes == ("b",) and curves.scores == ((0.123, 0.6),) and curves.attention == (0.0, 0.75)


@pytest.mark.parametrize(
    ("video_scores", "classes"),
    [
        ([0.1, 0.3, 0.2, 0, 0, 0, 0], "b"),  # none reaches the threshold: the best
        ([0.5, 0.9, 0.2, 0, 0, 0, 0], "ba"),
        ([0.6, 0.61, 0.62, 0.63, 0.64, 0.65, 0.66], "gfedc"),  # five at most
    ],
)
def test_classes_are_those_that_are_localized(video_scores: list[float], classes: str) -> None:
    curves = curves_of(candidates(np.zeros((3, 7)), np.zeros(3), video_scores), NAMES, CLOCK, 0.5)
    assert "".join(curves.classes) == classes and len(curves.scores) == len(classes)


def test_long_videos_get_means() -> None:
    ramp = np.arange(2501) / 2501
    curves = curves_of(candidates(ramp[:, None], 1 - ramp, [1.0]), NAMES[:1], CLOCK, 0.5)
    assert len(curves.attention) == 834  # 833 threes, and the last two snippets
    assert curves.seconds_per_point == pytest.approx(3 * 0.64) and curves.start_seconds == 0.96
    assert curves.attention[:2] == pytest.approx([1 / 2501, 4 / 2501], abs=5e-4)
    assert curves.scores[0][-1] == pytest.approx(2499.5 / 2501, abs=5e-4)


def test_detections_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """With curves as without; and the video is scored once for both."""
    torch.manual_seed(0)
    settings = load_settings("thumos14")
    networks = build_snippet(settings, 32, 3), build_instance(settings, 32)
    model = TrainedModel(*networks, ("a", "b", "c"), settings, CLOCK, {"rgb": 16, "flow": 16}).to(torch.device("cpu"))
    features = torch.rand(50, 32)
    features[10:20] += 3
    expected = to_detections(detect_actions(model, features), model.classes)

    header = FeatureHeader("v", 50, dict(model.widths), CLOCK, 32.0, 800)
    stored = VideoFeatures({"rgb": features[:, :16].numpy(), "flow": features[:, 16:].numpy()}, header)
    calls = []
    monkeypatch.setattr(detector, "find_candidates", lambda *inputs: calls.append(1) or find_candidates(*inputs))
    found, curves = detector.Detector(model, "cpu").detect_with_curves(stored)
    assert found == expected and found
    assert len(calls) == 1 and len(curves.attention) == len(curves.scores[0]) == 50
