"""How far two people, or a person and a detector, agree on labels: matched points, and Cohen's kappa over time bins."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from hrpro_pipeline.data.formats.label import Label
from hrpro_pipeline.data.labels import by_video
from hrpro_pipeline.errors import HrproError

_MOST_BINS = 50_000_000  # of all videos: some tens of megabytes


@dataclass(frozen=True)
class ClassAgreement:
    """Two sets of labels of one class.

    Attributes:
        num_first, num_second: labels of each set.
        num_matched: pairs, each label in one at most, whose middles lie within the tolerance.
        f1: matched labels of both sets among all of them, from 0 to 1.
        mean_difference_seconds: between the middles of a pair; None without pairs.
        kappa: Cohen's kappa over bins that have the class or not; None where both have it nowhere or everywhere.
    """

    label: str
    num_first: int
    num_second: int
    num_matched: int
    f1: float
    mean_difference_seconds: float | None
    kappa: float | None


@dataclass(frozen=True)
class Agreement:
    """Two sets of labels, compared on the videos that both have.

    Attributes:
        videos: the ids of these.
        only_first, only_second: videos that one set alone has; left out.
        classes: by name.
    """

    videos: tuple[str, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    tolerance_seconds: float
    bin_seconds: float
    classes: tuple[ClassAgreement, ...]


def agreement(
    first: Sequence[Label],
    second: Sequence[Label],
    durations: Mapping[str, float],
    tolerance_seconds: float,
    bin_seconds: float,
) -> Agreement:
    """Compare two sets of labels, given the lengths of videos where known.

    Raises:
        HrproError: no video is in both, or there are too many bins.
    """
    firsts, seconds = by_video(first), by_video(second)
    videos = sorted(firsts.keys() & seconds.keys())
    if not videos:
        names = next(iter(firsts), "none"), next(iter(seconds), "none")
        raise HrproError(f"no video is in both: {names[0]}, ... and {names[1]}, ...; compare labels of the same videos")
    num_bins = _bins_of_videos(videos, firsts, seconds, durations, bin_seconds)
    names_of_classes = {label.label for items in (firsts, seconds) for video in videos for label in items[video]}
    classes = []
    for name in sorted(names_of_classes):
        pairs = [
            (
                [label for label in firsts[video] if label.label == name],
                [label for label in seconds[video] if label.label == name],
            )
            for video in videos
        ]
        differences = [item for one, other in pairs for item in matched_differences(one, other, tolerance_seconds)]
        counts = sum(len(one) for one, _ in pairs), sum(len(other) for _, other in pairs)
        bins = [
            np.concatenate(
                [occupied(pair[side], count, bin_seconds) for pair, count in zip(pairs, num_bins, strict=True)]
            )
            for side in (0, 1)
        ]
        classes.append(
            ClassAgreement(
                name,
                *counts,
                len(differences),
                2 * len(differences) / sum(counts),
                fmean(differences) if differences else None,
                cohen_kappa(bins[0], bins[1]),
            )
        )
    only = [tuple(sorted(one.keys() - other.keys())) for one, other in ((firsts, seconds), (seconds, firsts))]
    return Agreement(tuple(videos), only[0], only[1], tolerance_seconds, bin_seconds, tuple(classes))


def _bins_of_videos(
    videos: Sequence[str],
    firsts: Mapping[str, Sequence[Label]],
    seconds: Mapping[str, Sequence[Label]],
    durations: Mapping[str, float],
    bin_seconds: float,
) -> list[int]:
    """Bins of each video: up to its end, or to its last label."""
    ends = [
        max(durations.get(video, 0.0), *(label.last_seconds for label in (*firsts[video], *seconds[video])))
        for video in videos
    ]
    if sum(ends) / bin_seconds > _MOST_BINS:
        raise HrproError(
            f"{sum(ends):g} s of video in bins of {bin_seconds:g} s are too many; give longer `bin_seconds`"
        )
    return [math.floor(end / bin_seconds) + 1 for end in ends]


def matched_differences(first: Sequence[Label], second: Sequence[Label], tolerance_seconds: float) -> list[float]:
    """Seconds between the middles of matched labels of one class and video; as many pairs as there can be."""
    ones, others = (sorted(label.middle_seconds for label in labels) for labels in (first, second))
    differences = []
    one = other = 0
    # On a line, taking the earliest pair that fits, again and again, gives the most pairs.
    while one < len(ones) and other < len(others):
        difference = ones[one] - others[other]
        if abs(difference) <= tolerance_seconds:
            differences.append(abs(difference))
            one, other = one + 1, other + 1
        elif difference < 0:
            one += 1
        else:
            other += 1
    return differences


def occupied(labels: Sequence[Label], num_bins: int, bin_seconds: float) -> np.ndarray:
    """Whether each bin has a label: its middle is in a segment, or the middle of a label is in it, [bins]."""
    bins = np.zeros(num_bins, dtype=bool)
    for label in labels:
        bins[min(int(label.middle_seconds / bin_seconds), num_bins - 1)] = True
        first = math.ceil(label.start_seconds / bin_seconds - 0.5)
        last = math.ceil(label.last_seconds / bin_seconds - 0.5)
        bins[max(first, 0) : last] = True
    return bins


def cohen_kappa(first: np.ndarray, second: np.ndarray) -> float | None:
    """Agreement of two rows of yes and no beyond that of chance; None where chance explains all."""
    rates = float(first.mean()), float(second.mean())
    observed = float((first == second).mean())
    expected = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
    return None if expected == 1 else (observed - expected) / (1 - expected)
