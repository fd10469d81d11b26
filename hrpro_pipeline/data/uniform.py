"""Feature files that are used together must have been made alike."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hrpro_pipeline.data.features import FeatureHeader
from hrpro_pipeline.errors import ProblemsError


def check_uniform(headers: Iterable[tuple[Path, FeatureHeader]], streams: Collection[str] | None = None) -> None:
    """Check that files were made alike: settings, and widths and weights of the streams to be used (by default all).

    Frame rates may differ where no settings say what they are: each video is read by its own clock.

    Raises:
        ProblemsError: files that differ from the first; features of different settings must not be mixed.
    """
    traits_by_path = {path: _traits(header, streams) for path, header in headers}
    if not traits_by_path:
        return
    first = next(iter(traits_by_path))
    files_by_difference: dict[str, list[str]] = {}
    for path, traits in traits_by_path.items():
        for difference in _differences(traits, traits_by_path[first], first.name):
            files_by_difference.setdefault(difference, []).append(path.name)
    if files_by_difference:
        problems = [f"{_first_and_count(files)}: {difference}" for difference, files in files_by_difference.items()]
        raise ProblemsError(f"{first.parent}: features that were not made alike; extract all the same way", problems)


def _traits(header: FeatureHeader, streams: Collection[str] | None) -> dict[str, Any]:
    """Everything that must be the same in all files that are used together."""
    used = header.widths if streams is None else streams
    return {
        **{name: value for name, value in header.settings.items() if name not in ("streams", "dtype")},
        **{name: getattr(header.clock, name) for name in ("snippet_frames", "stride")},
        **{f"width of {name}": width for name, width in header.widths.items() if name in used},
        **{f"weights of {name}": digest for name, digest in header.weights.items() if name in used},
    }


def _differences(traits: Mapping[str, Any], first_traits: Mapping[str, Any], first_name: str) -> list[str]:
    names = dict.fromkeys([*first_traits, *traits])
    pairs = {name: (traits.get(name, "none"), first_traits.get(name, "none")) for name in names}
    return [f"{name} {value}, but {first_name} has {first}" for name, (value, first) in pairs.items() if value != first]


def _first_and_count(files: Sequence[str]) -> str:
    return f"{files[0]} and {len(files) - 1} more" if len(files) > 1 else files[0]
