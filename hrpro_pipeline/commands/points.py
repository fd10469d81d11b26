"""`hrpro points`: point labels drawn from segments."""

from pathlib import Path

from hrpro_pipeline.data.annotations import in_subset, read_annotations
from hrpro_pipeline.data.distributions import Distribution
from hrpro_pipeline.data.drawn_points import draw_points
from hrpro_pipeline.data.files import write_text
from hrpro_pipeline.data.points import points_csv
from hrpro_pipeline.errors import HrproError


def write_points(
    annotations: str | Path,
    out: str | Path,
    distribution: Distribution,
    *,
    subset: str | None = None,
    seed: int = 0,
) -> int:
    """Draw a point label in each annotated segment and write them as CSV -> how many.

    Args:
        annotations: ActivityNet-style JSON with segments.
        out: CSV to write.
        distribution: `uniform` over the segment, its `center`, `gaussian` about the center, or `human`, as people set
            points: off the center, some outside of the action, some actions forgotten.
        subset: of this subset alone; of all annotated videos otherwise.
        seed: of the random numbers.

    Examples:
        >>> from hrpro_pipeline import write_points
        >>> write_points("annotations.json", "drawn.csv", "center")
        3
        >>> print(Path("drawn.csv").read_text(), end="")
        video_id,class,time
        kitchen_01,pour,1.500
        kitchen_01,stir,3.500
        kitchen_02,stir,2.000
    """
    truth = read_annotations(Path(annotations))
    if subset is not None:
        truth = in_subset(truth, subset)
    points = draw_points(truth.values(), distribution, seed)
    if not points:
        raise HrproError(f"{annotations}: no segments to draw points from")
    write_text(Path(out), points_csv(points))
    return len(points)
