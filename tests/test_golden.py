"""Parity with the published HR-Pro code: the same numbers for the same inputs (golden/README.md)."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from hrpro_pipeline.configs.load import load_settings
from hrpro_pipeline.data.annotations import in_subset, read_ambiguous, read_annotations
from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.infer.evaluation import evaluate
from hrpro_pipeline.infer.postprocess import classwise_soft_nms, outside_ambiguous, soft_nms
from hrpro_pipeline.models.candidates import cut_candidates
from hrpro_pipeline.models.instance import InstanceModel, pool_parts, roi_features
from hrpro_pipeline.models.published import rename_instance, rename_snippet
from hrpro_pipeline.models.snippet import Packing, SnippetModel, video_scores
from hrpro_pipeline.train.losses import best_tiou, regression_loss, score_loss
from hrpro_pipeline.train.prototypes import initialize_prototypes
from hrpro_pipeline.train.pseudo_labels import pseudo_labels
from hrpro_pipeline.train.reliable import reliable_proposals
from hrpro_pipeline.train.snippet_stage import SnippetBatch, train_step

SECONDS_PER_SNIPPET = 16 / 25


@pytest.fixture(scope="module")
def golden() -> Path:
    return GOLDEN / "hrpro"


def tensors(file: np.lib.npyio.NpzFile, prefix: str) -> dict[str, torch.Tensor]:
    return {name.removeprefix(prefix): torch.from_numpy(file[name]) for name in file if name.startswith(prefix)}


def snippet_model(state: dict[str, torch.Tensor]) -> SnippetModel:
    model = SnippetModel(64, 5, dropout=0, attention_dropout=0, classifier_dropout=0)
    model.load_state_dict(rename_snippet(state))
    return model


def test_snippet_model(golden: Path) -> None:
    file = np.load(golden / "snippet_model.npz")
    model = snippet_model(tensors(file, "state/")).eval()
    with torch.inference_mode():
        features = torch.from_numpy(file["features"])  # [B, T, D]
        lengths = [features.shape[1]] * len(features)
        scores = model(features.flatten(0, 1), Packing.of(lengths, features.device))
        plain = video_scores(scores.class_scores, lengths, 8)
        given = video_scores(scores.class_scores, lengths, 8, torch.from_numpy(file["video_label"]))
    fused = torch.cat([scores.fused, scores.background[:, None]], dim=1)
    for ours, name in (
        (fused, "cas_fuse"),
        (scores.class_scores, "cas_S"),
        (plain, "vid_score"),
        (scores.embedding, "embeded_feature"),
        (given, "vid_score_given_label"),
    ):
        expected = file[f"out/{name}"]
        np.testing.assert_allclose(ours.reshape(expected.shape), expected, rtol=1e-4, atol=1e-6, err_msg=name)


def test_pseudo_labels_are_exactly_equal(golden: Path) -> None:
    file = np.load(golden / "pseudo_labels.npz")
    cases = sorted({name.split("/")[0] for name in file}, key=int)
    assert len(cases) == 40
    for case in cases:
        action, background = pseudo_labels(
            torch.from_numpy(file[f"{case}/background_score"]),
            points := torch.from_numpy(file[f"{case}/point_label"]),
            Packing.of([len(points)], points.device),
        )
        np.testing.assert_array_equal(action, file[f"{case}/action"], err_msg=f"case {case}, action")
        np.testing.assert_array_equal(background, file[f"{case}/background"], err_msg=f"case {case}, background")


def test_snippet_training_trace(golden: Path) -> None:
    file = np.load(golden / "snippet_training.npz")
    settings = load_settings("thumos14").snippet
    model = snippet_model(tensors(file, "initial/"))
    videos = [
        (torch.from_numpy(file[f"video{i}/features"]), torch.from_numpy(file[f"video{i}/point_label"]))
        for i in range(6)
    ]

    def batch(chosen: list[tuple[torch.Tensor, torch.Tensor]]) -> SnippetBatch:
        features, points = zip(*chosen, strict=True)
        packing = Packing.of([len(each) for each in features], torch.device("cpu"))
        return SnippetBatch([], torch.cat(features), torch.cat(points), packing)

    assert not model.prototypes.any()
    initialize_prototypes(model, [batch([video]) for video in videos])
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4, weight_decay=5e-4, fused=True)
    model.train()
    expected = file["losses"]
    for step in range(6):
        chosen = videos[:3] if step % 2 == 0 else videos[3:]
        ours = train_step(model, [batch(chosen)], 3, optimizer, settings)
        np.testing.assert_allclose(ours, expected[step], rtol=1e-4, atol=1e-6, err_msg=f"step {step}")
    initial, final = rename_snippet(tensors(file, "initial/")), rename_snippet(tensors(file, "final/"))
    for name, value in model.state_dict().items():
        # Within 1e-4 of the weights, or within 1% of the way that they went: some start at zero. Not element by
        # element: Adam takes full steps along gradients that are rounding noise.
        moved = torch.linalg.vector_norm(final[name] - initial[name])
        error = torch.linalg.vector_norm(value - final[name])
        assert error < 1e-4 * torch.linalg.vector_norm(final[name]) + 0.01 * moved, (name, error)


def golden_candidates(golden: Path) -> Iterator[tuple[dict, np.ndarray]]:
    content = json.loads((golden / "proposals.json").read_text())
    settings = load_settings("thumos14").detect
    for video in content["videos"]:
        scores = np.array(video["cas"], np.float32)
        video_score = np.array(video["video_score"], np.float32)
        candidates = cut_candidates(scores[:, :-1], scores[:, -1], video_score, settings)
        candidates[:, :2] *= SECONDS_PER_SNIPPET
        yield video, candidates


def in_order(rows: np.ndarray) -> np.ndarray:
    """Sorted by class, start, end, score: the published order depends on its loops."""
    rows = np.asarray(rows, np.float64)
    return rows[np.lexsort(np.round(rows, 7)[:, [3, 1, 0, 2]].T)]


def test_candidates(golden: Path) -> None:
    videos = list(golden_candidates(golden))
    assert videos
    for video, candidates in videos:
        expected = np.array(video["candidates"])
        assert len(candidates) == len(expected) > 0
        np.testing.assert_allclose(in_order(candidates), in_order(expected), rtol=1e-5, atol=1e-6)


def test_detections_of_candidates(golden: Path) -> None:
    for video, candidates in golden_candidates(golden):
        ours = classwise_soft_nms(candidates, sigma=0.3, added_seconds=1.0)
        expected = np.array(
            [
                [*item["segment"], int(item["label"].removeprefix("class")), item["score"]]
                for item in video["detections"]
            ]
        )
        np.testing.assert_allclose(in_order(ours), in_order(expected), rtol=1e-5, atol=1e-6)


def test_soft_nms(golden: Path) -> None:
    cases = json.loads((golden / "soft_nms.json").read_text())
    assert cases
    for case in cases:
        ours = soft_nms(np.array(case["detections"]), sigma=0.3, added_seconds=1.0)
        np.testing.assert_allclose(ours, case["kept"], rtol=1e-9)


def test_reliable_proposals(golden: Path) -> None:
    cases = json.loads((golden / "reliable_proposals.json").read_text())
    assert cases
    for case in cases:
        labels = sorted({*case["candidates"], *(label for _, label in case["points"])})
        rows = np.array(
            [[s, e, labels.index(label), score] for label, items in case["candidates"].items() for s, e, score in items]
        ).reshape(-1, 4)
        times = np.array([time for time, _ in case["points"]])
        own = np.array([labels.index(label) for _, label in case["points"]])
        order = np.argsort(times, kind="stable")
        found = reliable_proposals(rows, times[order], own[order])
        expected = {label: list(items) for label, items in case["reliable"].items()}
        for label, index in zip(own[order], found, strict=True):
            wanted = expected[labels[label]].pop(0)
            if wanted is None:
                assert index == -1
            else:
                np.testing.assert_allclose(rows[index, [0, 1, 3]], wanted, rtol=1e-12)


def test_instance_model(golden: Path) -> None:
    file = np.load(golden / "instance_model.npz")
    model = InstanceModel(64, dropout=0).eval()
    model.load_state_dict(rename_instance(tensors(file, "state/")))
    regression, score = [], []
    for i in range(2):
        features, proposals, reliable = (
            torch.from_numpy(file[f"video{i}/{name}"]) for name in ("features", "proposals", "reliable")
        )
        count = len(proposals)
        first, length = torch.tensor([0]), torch.tensor([len(features)])
        one = torch.zeros(count, dtype=torch.long)
        with torch.inference_mode():
            roi = roi_features(features, first, length, proposals, one)
            scores = model(pool_parts(features, first, length, proposals, one), proposals)
            again = model.score(pool_parts(features, first, length, scores.refined, one))
            target = best_tiou(proposals, reliable[None], one)
            regression.append(regression_loss(scores.refined, target, reliable[None], 0.3, one))
            # All draws at 1: every proposal below the threshold takes part.
            score.append(score_loss(scores.completeness, target, torch.ones(count), 0.3, one, 1))
        np.testing.assert_allclose(roi, file["roi_features"][i, :count], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(scores.completeness, file["completeness"][i, :count, 0], rtol=1e-4)
        np.testing.assert_allclose(scores.refined, file[f"video{i}/refined"], rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(again, file["completeness_refined"][i, :count, 0], rtol=1e-4)
    np.testing.assert_allclose(np.mean(regression), file["regression_loss"], rtol=1e-4)
    np.testing.assert_allclose(np.mean(score), file["score_loss"], rtol=1e-4)


def test_mean_average_precision(golden: Path, annotations: Path) -> None:
    expected = json.loads((golden / "evaluation_scores.json").read_text())
    predictions = json.loads((golden / "evaluation_predictions.json").read_text())["results"]
    truth = in_subset(read_annotations(annotations / "THUMOS14" / "gt_full.json"), expected["subset"])
    detections = {
        video: [Detection(item["label"], item["score"], *item["segment"]) for item in items]
        for video, items in predictions.items()
    }
    ours = evaluate(detections, truth, expected["tiou_thresholds"], expected["excluded_videos"])
    np.testing.assert_allclose(ours.mean_average_precision, expected["mAP"], rtol=0, atol=1e-9)
    assert ours.average == pytest.approx(expected["average"], abs=1e-9)
    assert ours.classes.keys() == expected["average_precision"].keys()
    for label, values in expected["average_precision"].items():
        np.testing.assert_allclose(ours.classes[label], values, rtol=0, atol=1e-9, err_msg=label)


def test_ambiguous_filter(golden: Path, annotations: Path) -> None:
    case = json.loads((golden / "ambiguous.json").read_text())
    segments = read_ambiguous(annotations / "THUMOS14" / "Ambiguous_test.txt")[case["video"]]
    kept = outside_ambiguous(np.array(case["detections"]), segments)
    np.testing.assert_array_equal(kept, np.array(case["kept"]))
    assert len(kept) < len(case["detections"])
