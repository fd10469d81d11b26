"""How long a run trains, where that depends on how many videos and points there are."""

import logging
import math

from hrpro_pipeline.configs.schema import PyramidSettings, Settings, SnippetSettings

log = logging.getLogger(__name__)


def with_duration(settings: Settings, num_videos: int) -> Settings:
    """Settings whose `snippet.steps` and `pyramid.steps` are enough for `passes` over the training videos."""
    snippet, pyramid = settings.snippet, settings.pyramid
    return settings.model_copy(
        update={
            "snippet": snippet.model_copy(update={"steps": _steps(snippet, num_videos)}),
            "pyramid": pyramid.model_copy(update={"steps": _steps(pyramid, num_videos)}),
        }
    )


def with_stages(settings: Settings, num_points: int) -> Settings:
    """Settings without stage 3 where it has too few points to learn from: stage 1 alone is better there."""
    pyramid = settings.pyramid
    if not pyramid.steps or num_points >= pyramid.min_points:
        return settings
    log.info("stage 3 is left out: it needs %d points (`pyramid.min_points`), not %d", pyramid.min_points, num_points)
    return settings.model_copy(update={"pyramid": pyramid.model_copy(update={"steps": 0})})


def _steps(stage: SnippetSettings | PyramidSettings, num_videos: int) -> int:
    if not stage.steps:
        return 0
    return max(stage.steps, math.ceil(stage.passes * num_videos / stage.batch_size))
