"""Training that goes on from a model, with other points: its weights and prototypes, and fewer steps."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from hrpro_pipeline.configs.schema import Settings
from hrpro_pipeline.data.dataset import TrainingSet
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import TrainedModel
from hrpro_pipeline.models.instance import InstanceModel
from hrpro_pipeline.models.pyramid import PyramidModel
from hrpro_pipeline.models.snippet import SnippetModel
from hrpro_pipeline.train.duration import with_duration

# Part of the steps that a model needs which has learned from most of the points before.
_PART_OF_STEPS = 4
# Values with a row for each class; stage 1 has one more row in its classifier, for background.
_ROWS_OF_CLASSES = {"classify.weight", "classify.output.weight", "classify.output.bias", "prototypes"}


def warm_settings(settings: Settings, start: TrainedModel, data: TrainingSet) -> Settings:
    """A quarter of the steps, for the stages that the model has; no run before the run."""
    settings = with_duration(settings, data)

    def fewer(rounds: int) -> int:
        return -(-rounds // _PART_OF_STEPS)

    snippet = {"steps": fewer(settings.snippet.steps), "passes": 0}
    instance = {"epochs": fewer(settings.instance.epochs) if start.instance is not None else 0}
    pyramid = {"steps": fewer(settings.pyramid.steps) if start.pyramid is not None else 0, "passes": 0}
    return settings.model_copy(
        update={
            "snippet": settings.snippet.model_copy(update=snippet),
            "instance": settings.instance.model_copy(update=instance),
            "pyramid": settings.pyramid.model_copy(update=pyramid),
        }
    )


def describe_start(start: TrainedModel, data: TrainingSet, settings: Settings) -> str:
    """Such as: 3 of 4 classes are known, new: stir; 50 steps of stage 1 and 38 of stage 3.

    Raises:
        HrproError: the model was made of other features.
    """
    if start.widths != data.widths or (start.clock != data.clock and not start.own_clocks):
        raise HrproError(
            f"`warm_start`: the model was made of features of {_kind(start)}, these are of {_kind(data)}; "
            "extract them alike, or train anew"
        )
    new = [label for label in data.classes if label not in start.classes]
    known = f"{len(data.classes) - len(new)} of {len(data.classes)} classes are known"
    steps = f"{settings.snippet.steps} steps of stage 1"
    later = f"{settings.instance.epochs} epochs of stage 2" if settings.instance.epochs else ""
    later = f"{settings.pyramid.steps} of stage 3" if settings.pyramid.steps else later
    return f"{known}{', new: ' + ', '.join(new) if new else ''}; {steps}{' and ' + later if later else ''}"


def _kind(made: TrainedModel | TrainingSet) -> str:
    widths = " + ".join(f"{name} {width}" for name, width in made.widths.items())
    return f"{widths} at {made.clock.fps:g} fps / {made.clock.snippet_frames} frames / stride {made.clock.stride}"


def take_weights(
    network: SnippetModel | InstanceModel | PyramidModel,
    trained: nn.Module,
    known: Sequence[str],
    classes: Sequence[str],
) -> None:
    """Set a network to the weights of a trained one; what belongs to a class, for the classes that both have.

    Args:
        known: classes of the trained network. classes: those of the network.

    Raises:
        HrproError: the networks are not built alike.
    """
    state = trained.state_dict()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name in _ROWS_OF_CLASSES:
                _take_rows(value, state, name, known, classes)
            elif name not in state or state[name].shape != value.shape:
                raise _built_otherwise(name)
            else:
                value.copy_(state[name])


def take_prototypes(network: SnippetModel, trained: SnippetModel, known: Sequence[str], classes: Sequence[str]) -> None:
    """Set the prototypes of the classes that a trained network has seen points of."""
    seen = [label for label, row in zip(known, trained.prototypes, strict=True) if bool(row.any())]
    rows = {"prototypes": trained.prototypes[[known.index(label) for label in seen]]}
    _take_rows(network.prototypes, rows, "prototypes", seen, classes)


def _take_rows(
    value: Tensor, state: Mapping[str, Tensor], name: str, known: Sequence[str], classes: Sequence[str]
) -> None:
    """Copy the rows of the classes that both have; rows after those of the classes, too."""
    if name not in state or state[name].shape[1:] != value.shape[1:]:
        raise _built_otherwise(name)
    for row, label in enumerate(classes):
        if label in known:
            value[row] = state[name][known.index(label)]
    value[len(classes) :] = state[name][len(known) :]


def _built_otherwise(name: str) -> HrproError:
    return HrproError(
        f"`warm_start`: the model's network is built otherwise ({name}); train with the settings of the model"
    )
