"""`hrpro info`: the content of features and models in lines of text."""

import json
from collections.abc import Iterator
from pathlib import Path

from torch.nn import Module

from hrpro_pipeline.base.progress import progress
from hrpro_pipeline.data.features import FeatureHeader, list_features, read_header
from hrpro_pipeline.data.snippets import in_words
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.models.checkpoint import FILE_NAME, load_model


def describe(path: str | Path, snippets: bool = False) -> Iterator[str]:
    """Describe a FEATURES folder, a feature file, a RUN or a model.pt, line by line.

    Args:
        path: of the folder or file.
        snippets: of a feature file, the seconds of each snippet as CSV instead.

    Raises:
        HrproError: `path` is none of these.
    """
    path = Path(path)
    if snippets:
        yield from _snippets(path)
    elif path.suffix == ".h5":
        yield from _feature_file(read_header(path))
    elif path.is_dir() and not (path / FILE_NAME).exists() and any(path.glob("*.h5")):
        yield from _feature_folder(path)
    elif path.suffix == ".pt" or (path / FILE_NAME).exists():
        yield from _model(path)
    else:
        has_json = path.is_dir() and any(path.glob("*.json"))
        hint = "; if these are detections, `hrpro report` and `hrpro evaluate` read them" if has_json else ""
        raise HrproError(f"{path}: neither features (*.h5) nor a model ({FILE_NAME}){hint}")


def _feature_file(header: FeatureHeader) -> Iterator[str]:
    clock = header.clock
    first, last = clock.window_seconds(0), clock.window_seconds(header.num_snippets - 1)
    yield f"video {header.video_id}: {header.duration_seconds:.2f} s, {header.num_frames} frames at {clock.fps:g} fps"
    yield (
        f"snippets: {header.num_snippets} of {clock.snippet_frames} frames every {clock.stride}; "
        f"the first covers {first[0]:.2f}-{first[1]:.2f} s, the last {last[0]:.2f}-{last[1]:.2f} s"
    )
    if reason := header.partial_reason:
        yield f"in part: {reason}"
    yield from _extraction(header)
    for name in ("source", "record"):
        if content := getattr(header, name):
            yield f"{name}: {json.dumps(content, sort_keys=True)}"


def _snippets(path: Path) -> Iterator[str]:
    if path.suffix != ".h5":
        raise HrproError(f"{path}: snippets are listed of one video; give its feature file (*.h5)")
    header = read_header(path)
    yield "snippet,start,end"
    for index in range(header.num_snippets):
        start, end = header.clock.window_seconds(index)
        yield f"{index},{start:g},{end:g}"


def _feature_folder(path: Path) -> Iterator[str]:
    files = list_features(path)
    with progress("reading", len(files), "files", minor=True) as task:
        headers = [read_header(file) for file in task.each(files.values())]
    snippets = sum(header.num_snippets for header in headers)
    hours = sum(header.duration_seconds for header in headers) / 3600
    yield f"features of {len(headers)} videos: {hours:.2f} hours, {snippets} snippets"
    yield f"snippets of {in_words(header.clock for header in headers)}"
    if partial := [header.video_id for header in headers if header.partial_reason]:
        yield f"in part: {', '.join(partial)}"
    kinds = {json.dumps([header.settings, header.weights], sort_keys=True): header for header in headers}
    if len(kinds) > 1:
        yield f"made with {len(kinds)} different settings; of the first:"
    yield from _extraction(next(iter(kinds.values())))


def _extraction(header: FeatureHeader) -> Iterator[str]:
    """Streams, weights and settings that features were made with."""
    yield "streams: " + ", ".join(f"{name} {width}" for name, width in header.widths.items())
    for name, digest in header.weights.items():
        yield f"weights of {name}: {digest}"
    yield f"settings: {json.dumps(header.settings, sort_keys=True)}"


def _model(path: Path) -> Iterator[str]:
    model = load_model(path)
    yield f"model: stage 1, {_millions(model.snippet):.1f} M parameters"
    yield f"stage 2: {_millions(model.instance):.1f} M parameters" if model.instance is not None else "stage 2: none"
    yield f"stage 3: {_millions(model.pyramid):.1f} M parameters" if model.pyramid is not None else "stage 3: none"
    yield f"classes ({len(model.classes)}): {', '.join(model.classes)}"
    own = "; each video has its own clock, and this is one of them" if model.own_clocks else ""
    yield f"snippets of {in_words([model.clock])}{own}"
    yield "streams: " + ", ".join(f"{name} {width}" for name, width in model.widths.items())
    for name, digest in model.weights.items():
        yield f"weights of {name}: {digest}"
    yield f"notes: {json.dumps(model.notes.as_json(), sort_keys=True)}"
    yield f"settings: {json.dumps(model.settings.model_dump(mode='json'), sort_keys=True)}"


def _millions(network: Module) -> float:
    """Millions of parameters."""
    return sum(parameter.numel() for parameter in network.parameters()) / 1e6
