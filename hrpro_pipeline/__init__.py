"""hrpro: from raw, untrimmed videos and one labeled point per action to a trained temporal action detector.

from hrpro_pipeline import extract_features, train_detector, Detector, evaluate_detections, report_detections
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hrpro_pipeline._version import __version__
from hrpro_pipeline.errors import HrproError

if TYPE_CHECKING:
    from hrpro_pipeline.api import evaluate_detections, extract_features, report_detections, train_detector
    from hrpro_pipeline.infer.detector import Detector

__all__ = [
    "Detector",
    "HrproError",
    "__version__",
    "evaluate_detections",
    "extract_features",
    "report_detections",
    "train_detector",
]

_HOME = {
    "Detector": "hrpro_pipeline.infer.detector",
    "evaluate_detections": "hrpro_pipeline.api",
    "extract_features": "hrpro_pipeline.api",
    "report_detections": "hrpro_pipeline.api",
    "train_detector": "hrpro_pipeline.api",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for: torch takes seconds to load."""
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
