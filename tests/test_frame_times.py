"""Points given as frames of videos whose rate is not constant lie at the times of these frames."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_videos import X264, X264_B, moving_square, write_video
from small_extraction import CPU, RGB_ONLY, extract

from hrpro_pipeline.data.dataset import load_training_set
from hrpro_pipeline.data.features import read_header, store_features
from hrpro_pipeline.data.frame_times import checked_steps, frame_steps, seconds_at
from hrpro_pipeline.data.points import read_points
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.backbones import load_backbones

SLOWING = [round(k * 1000 / 30) for k in range(300)] + [10000 + 500 * k for k in range(60)]


def test_points_lie_at_their_frames(tmp_path: Path) -> None:
    """10 s at 30 frames a second, then 30 s at 2; and a steady one beside it."""
    backbones = load_backbones(RGB_ONLY, "random", CPU)
    for name, times in (("slowing", SLOWING), ("steady", [40 * k for k in range(100)])):
        path = write_video(tmp_path / f"{name}.mkv", moving_square(len(times)), milliseconds=times, **X264)
        store_features(tmp_path / "features", extract(path, backbones, RGB_ONLY))
    headers = {name: read_header(tmp_path / "features" / f"{name}.h5") for name in ("slowing", "steady")}
    assert len(headers["slowing"].source["frame_steps"]) == 2
    assert "frame_steps" not in headers["steady"].source
    points = tmp_path / "points.csv"
    points.write_text("video_id,class,point\nslowing,a,150\nslowing,b,330\nsteady,a,50\n")
    slowing, steady = load_training_set(tmp_path / "features", read_points(points), {}).videos
    clock = headers["slowing"].clock
    np.testing.assert_allclose(slowing.positions, clock.to_positions(np.array([5.0, 25.0])), atol=0.01)
    np.testing.assert_allclose(steady.positions, clock.to_positions(np.array([2.0])), atol=0.01)
    points.write_text("video_id,class,point\nslowing,a,150\nslowing,b,500\n")
    with pytest.raises(HrproError, match=r"line 3: frame 500 at a variable rate, 110\.00 s is past the end of slowing"):
        load_training_set(tmp_path / "features", read_points(points), {})


def test_a_file_with_other_steps_is_damaged(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square(20), milliseconds=SLOWING[290:310], **X264_B)
    store_features(tmp_path, extract(path, load_backbones(RGB_ONLY, "random", CPU), RGB_ONLY))
    for steps in ("abc", [[1]], [["1", 2]], [[3, -1.0]], [[0, 1.0]], 7, {"a": 1}):
        with h5py.File(tmp_path / "a.h5", "r+") as file:
            file.attrs["source"] = json.dumps({"frame_steps": steps})
        with pytest.raises(HrproError, match=r"a\.h5: damaged attributes \(frame_steps: expected .*extract the video"):
            read_header(tmp_path / "a.h5")


@pytest.mark.parametrize("seed", range(20))
def test_any_times_are_kept_closely(seed: int) -> None:
    """Parts of random rates, and jitter of a few milliseconds: within 2 ms, and few numbers."""
    rng = np.random.default_rng(seed)
    steps = np.concatenate([np.full(rng.integers(1, 2000), rng.uniform(0.005, 2)) for _ in range(rng.integers(2, 30))])
    times = np.round(np.cumsum(np.r_[0, steps]), 3)
    kept = frame_steps(times, len(times) / (times[-1] + steps[-1]))
    assert len(kept) <= 60
    assert sum(count for count, _ in kept) == len(times) - 1
    assert max(abs(seconds_at(kept, frame) - times[frame]) for frame in range(0, len(times), 7)) <= 0.0012
    assert checked_steps(json.loads(json.dumps(kept))) == kept
    assert seconds_at(kept, len(times) + 1) == pytest.approx(times[-1] + 2 * kept[-1][1], abs=0.002)


def test_steady_times_need_none() -> None:
    rng = np.random.default_rng(0)
    for fps in (25, 30000 / 1001, 12.5):
        times = np.arange(5000) / fps
        assert frame_steps(times, fps) == []
        assert frame_steps(np.round(times, 3), fps) == []
        jitter = np.maximum(0, times + rng.uniform(-0.2, 0.2, len(times)) / fps)
        assert frame_steps(np.sort(jitter - jitter.min()), fps) == []
    assert frame_steps(np.zeros(1), 25) == []


def test_times_without_any_order_stay_few() -> None:
    times = np.cumsum(np.r_[0, np.random.default_rng(0).exponential(0.04, 200_000)])
    kept = frame_steps(times, len(times) / times[-1])
    assert len(json.dumps(kept)) < 60_000  # an attribute of HDF5 holds 64 kB
    errors = [abs(seconds_at(kept, frame) - times[frame]) for frame in range(0, len(times), 997)]
    assert max(errors) < 1.1
