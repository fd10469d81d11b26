"""Long videos are detected in windows: each snippet once, in memory that does not grow with the square."""

import subprocess
import sys

import pytest

from hrpro_pipeline.models.candidates import windows


@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 12, 13, 100, 101])
@pytest.mark.parametrize("size", [2, 3, 8])
def test_windows_give_every_snippet_once(length: int, size: int) -> None:
    given = []
    for window, kept in windows(length, size):
        assert 0 <= window.start < window.stop <= min(length, window.start + size)
        inside = range(window.start, window.stop)[kept]
        given += list(inside)
        # What is kept is not at the edge of its window, unless that is the video's.
        assert inside[0] == 0 or inside[0] - window.start >= size // 4
        assert inside[-1] == length - 1 or window.stop - 1 - inside[-1] >= size // 4
    assert given == list(range(length))


def test_a_day_long_video() -> None:
    """135,000 snippets in windows: what is used beside the features does not grow with the square of the length."""
    script = """
import resource, sys, torch
from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.infer.detector import detect_actions
from hrpro_pipeline.models.candidates import find_candidates
from hrpro_pipeline.data.snippets import SnippetClock
from hrpro_pipeline.models.checkpoint import TrainedModel, build_instance, build_snippet

torch.manual_seed(0)
few = ["detect.class_grid=[0, 0.25, 0.125]", "detect.attention_grid=[0.5, 0.725, 0.1]"]  # soft-NMS takes its time
settings = load_settings("thumos14", ["detect.window=1024", *few])
model = TrainedModel(build_snippet(settings, 32, 3), build_instance(settings, 32), ("a", "b", "c"), settings,
                     SnippetClock(), {"rgb": 16, "flow": 16}).to(torch.device("cpu"))
features = torch.rand(int(sys.argv[1]), 32)
for start in range(0, len(features), 1000):
    features[start : start + 30] += 3
model.snippet.classify.weight.data[0] *= 20
found = detect_actions(model, features)
assert len(found) and found[:, 0].min() < 1000 and found[:, 1].max() > 0.63 * len(features)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    peaks = [
        int(subprocess.run([sys.executable, "-c", script, str(n)], check=True, capture_output=True, text=True).stdout)
        for n in (2000, 135_000)
    ]
    assert peaks[1] - peaks[0] < 600_000  # KiB; attention over the whole would take 580 GB
