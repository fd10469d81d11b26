"""How long a run trains, where that depends on how many videos there are."""

import math

from hrpro_pipeline.configs.schema import PyramidSettings, Settings, SnippetSettings


def with_duration(settings: Settings, num_videos: int) -> Settings:
    """Settings whose `snippet.steps` and `pyramid.steps` are enough for `passes` over the training videos."""
    snippet, pyramid = settings.snippet, settings.pyramid
    return settings.model_copy(
        update={
            "snippet": snippet.model_copy(update={"steps": _steps(snippet, num_videos)}),
            "pyramid": pyramid.model_copy(update={"steps": _steps(pyramid, num_videos)}),
        }
    )


def _steps(stage: SnippetSettings | PyramidSettings, num_videos: int) -> int:
    if not stage.steps:
        return 0
    return max(stage.steps, math.ceil(stage.passes * num_videos / stage.batch_size))
