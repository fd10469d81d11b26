"""Extraction from made videos of many kinds: what other tests of extraction ask of the real videos of ../shared."""

from pathlib import Path

import numpy as np
import pytest
import torch
from make_videos import write_damaged, write_made

from hrpro_pipeline.configs.schema import ExtractSettings
from hrpro_pipeline.data.features import list_features, read_features
from hrpro_pipeline.extract.backbones import load_backbones
from hrpro_pipeline.extract.extractor import Extractor
from hrpro_pipeline.extract.folder import extract_folder
from hrpro_pipeline.extract.options import ExtractOptions
from hrpro_pipeline.extract.pipeline import extract_video

CPU = torch.device("cpu")


def test_a_folder_of_many_kinds_and_one_that_fails(tmp_path: Path) -> None:
    videos, out = tmp_path / "videos", tmp_path / "features"
    videos.mkdir()
    names = ("h264.mp4", "hevc.ts", "irregular.mkv", "mpeg4.avi", "odd.webm", "rotated_90.mp4", "sound.mpg")
    for name in names:
        path = write_made(tmp_path, name)
        path.rename(videos / f"{path.stem}_{path.suffix[1:]}{path.suffix}")
    write_damaged(videos / "damaged.mov")
    settings = ExtractSettings(resize=32, crop=32, streams=("rgb",))
    seen: dict[str, str] = {}
    summary = extract_folder(
        [videos], out, settings, ExtractOptions(weights="random", device="cpu"), on_video=seen.__setitem__
    )
    lengths = {video_id: read_features(path).header.num_snippets for video_id, path in list_features(out).items()}
    assert lengths == {name.replace(".", "_"): 1 for name in names} | {"irregular_mkv": 4}
    assert [failure.video_id for failure in summary.failed] == ["damaged"]
    assert "decoding stopped after 28 of 50 frames" in summary.failed[0].reason
    assert "\n" not in summary.failed[0].reason
    assert sorted(summary.done) == sorted(lengths)
    assert seen == dict.fromkeys(lengths, "done") | {"damaged": "failed"}


def test_both_streams_of_videos_out_of_order_and_turned(tmp_path: Path) -> None:
    settings = ExtractSettings(precision="float32", resize=40, crop=32)
    extractor = Extractor(settings, load_backbones(settings, "random", CPU), "opencv", CPU)
    for name in ("h264.mov", "rotated_90.mp4"):
        features = extract_video(write_made(tmp_path, name), extractor)
        assert features.streams["rgb"].shape == features.streams["flow"].shape == (1, 1024)
        assert np.isfinite(features.joined()).all()


@pytest.mark.parametrize("name", ["h264.mov", "rotated_180.mov"])
def test_features_do_not_care_whose_flow_it_is(tmp_path: Path, name: str) -> None:
    settings = ExtractSettings(resize=64, crop=64, streams=("flow",))
    backbones = load_backbones(settings, "random", CPU)
    path = write_made(tmp_path, name)
    ours, opencv = (
        extract_video(path, Extractor(settings, backbones, backend, CPU)).streams["flow"]
        for backend in ("torch", "opencv")
    )
    cosine = (ours * opencv).sum(axis=1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(opencv, axis=1)
    assert cosine.min() >= 0.999
