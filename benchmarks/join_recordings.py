"""Long training recordings out of short ones: an archive like another, its training recordings one after the other.

    python benchmarks/join_recordings.py archives/shrec joined --fps 160 --recordings 4
    python benchmarks/accuracy.py joined=joined:160 --seeds 0

The archive is a folder as accuracy.py takes it. The test split stays as it is.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from hrpro_pipeline.data.annotations import read_annotations, read_ids
from hrpro_pipeline.data.points import Point, points_csv, read_points

SNIPPET_FRAMES = 16


def main() -> None:
    arguments = _arguments()
    archive, out = arguments.archive, arguments.out
    shutil.copytree(archive, out, ignore=shutil.ignore_patterns("train", "point_labels", "split_train.txt"))
    (out / "features" / "train").mkdir()
    (out / "point_labels").mkdir()
    names = read_ids(archive / "split_train.txt")
    groups = [group.tolist() for group in np.array_split(np.array(names), arguments.recordings)]
    joined = {f"joined_{number:03d}": group for number, group in enumerate(groups)}
    database = json.loads((archive / "gt_full.json").read_text())["database"]
    points: list[Point] = []
    for name, group in joined.items():
        database[name], of_group = _join(archive, name, group, SNIPPET_FRAMES / arguments.fps, out)
        points += of_group
    kept = {name: video for name, video in database.items() if name not in names}
    (out / "gt_full.json").write_text(json.dumps({"database": kept}))
    (out / "split_train.txt").write_text("\n".join(joined) + "\n")
    (out / "point_labels" / "points.csv").write_text(points_csv(points))


def _join(archive: Path, name: str, group: list[str], seconds: float, out: Path) -> tuple[dict[str, Any], list[Point]]:
    """Write the features of one long recording -> its annotation and its points; `seconds` a snippet."""
    truth = read_annotations(archive / "gt_full.json")
    given = read_points(sorted((archive / "point_labels").glob("*.csv"))[0])
    arrays, segments, points, start = [], [], [], 0.0
    for video_id in group:
        video = truth[video_id]
        arrays.append(np.load(archive / "features" / "train" / f"{video_id}.npy"))
        for item in video.segments:
            bounds = [start + item.start_seconds, start + item.end_seconds]
            segments.append({"label": item.label, "segment": bounds})
        for point in given:
            if point.video_id == video_id:
                points.append(Point(name, point.label, start + _seconds(point, video.fps), None, 0))
        start += len(arrays[-1]) * seconds
    np.save(out / "features" / "train" / f"{name}.npy", np.concatenate(arrays))
    subset = truth[group[0]].subset
    return {"subset": subset, "duration": start, "fps": truth[group[0]].fps, "annotations": segments}, points


def _seconds(point: Point, fps: float | None) -> float:
    if point.seconds is not None:
        return point.seconds
    assert point.frame is not None and fps is not None
    return point.frame / fps


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("archive", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--fps", type=float, default=25, help="of the clock of the features")
    parser.add_argument("--recordings", type=int, default=4, help="how many long ones")
    return parser.parse_args()


if __name__ == "__main__":
    main()
