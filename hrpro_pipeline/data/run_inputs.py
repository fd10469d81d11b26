"""`inputs.json` of a run: where its features, points and annotations lie, for `hrpro figures`."""

import json
from pathlib import Path

from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.inputs import Inputs
from hrpro_pipeline.errors import HrproError

FILE_NAME = "inputs.json"


def write_inputs(run: Path, inputs: Inputs, evaluate_on: str | None) -> None:
    """Write `inputs.json` of a run: the paths of what it was trained on, and the evaluated subset."""
    given = {
        "features": inputs.features,
        "points": inputs.points,
        "annotations": inputs.annotations,
        "videos": inputs.videos,
    }
    paths = {name: str(path.resolve()) for name, path in given.items() if path is not None}
    write_text(run / FILE_NAME, json.dumps(paths | {"evaluate_on": evaluate_on}, indent=1) + "\n")


def read_inputs(run: Path) -> tuple[dict[str, Path], str | None]:
    """Paths of a run's inputs by name, and the subset it was evaluated on; `({}, None)` for a run without the file.

    Raises:
        HrproError: the file is damaged.
    """
    file = run / FILE_NAME
    if not file.is_file():
        return {}, None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        subset = content.pop("evaluate_on")
        return {name: Path(path) for name, path in content.items()}, subset
    except (ValueError, TypeError, AttributeError, KeyError):
        raise HrproError(f"{file}: damaged; delete it, and give `features`, `annotations` and `points`") from None
