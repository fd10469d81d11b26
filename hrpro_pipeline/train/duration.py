"""How long a run trains, where that depends on how many videos and points there are."""

import logging
import math

from hrpro_pipeline.configs.schema import PyramidSettings, Settings, SnippetSettings
from hrpro_pipeline.data.dataset import TrainingSet
from hrpro_pipeline.data.parts import num_parts

log = logging.getLogger(__name__)


def with_duration(settings: Settings, data: TrainingSet) -> Settings:
    """Settings whose `snippet.steps` and `pyramid.steps` are enough for `passes` over the training videos."""
    snippet, pyramid = settings.snippet, settings.pyramid
    return settings.model_copy(
        update={
            "snippet": snippet.model_copy(update={"steps": _steps(snippet, data)}),
            "pyramid": pyramid.model_copy(update={"steps": _steps(pyramid, data)}),
        }
    )


def with_stages(settings: Settings, data: TrainingSet) -> Settings:
    """Settings without stage 3 where it has too few points to learn from: stage 1 alone is better there."""
    pyramid = settings.pyramid
    if not pyramid.steps or data.num_points >= pyramid.min_points:
        return settings
    needed = pyramid.min_points
    log.info("stage 3 is left out: it needs %d points (`pyramid.min_points`), not %d", needed, data.num_points)
    return settings.model_copy(update={"pyramid": pyramid.model_copy(update={"steps": 0})})


def _steps(stage: SnippetSettings | PyramidSettings, data: TrainingSet) -> int:
    if not stage.steps:
        return 0
    return max(stage.steps, math.ceil(stage.passes * num_parts(data, stage.window) / stage.batch_size))
