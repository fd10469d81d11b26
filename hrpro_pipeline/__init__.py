"""hrpro: from raw, untrimmed videos and one labeled point per action to a trained temporal action detector.

from hrpro_pipeline import extract_features, train_detector, Detector, evaluate_detections, report_detections
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from hrpro_pipeline._version import __version__
from hrpro_pipeline.errors import HrproError

if TYPE_CHECKING:
    from hrpro_pipeline.commands.ablation import run_ablation
    from hrpro_pipeline.commands.convert import convert_labels
    from hrpro_pipeline.commands.detect import detect_folder
    from hrpro_pipeline.commands.evaluate import evaluate_detections
    from hrpro_pipeline.commands.exports import export_features, export_pseudo_labels
    from hrpro_pipeline.commands.extract import extract_features
    from hrpro_pipeline.commands.figures import write_figures
    from hrpro_pipeline.commands.imports import import_checkpoint, import_features
    from hrpro_pipeline.commands.info import describe
    from hrpro_pipeline.commands.label import label_videos
    from hrpro_pipeline.commands.points import write_points
    from hrpro_pipeline.commands.report import report_detections
    from hrpro_pipeline.commands.seeds import train_seeds
    from hrpro_pipeline.commands.suggest import suggest_labels
    from hrpro_pipeline.commands.summary import compare_labels, summarize_labels
    from hrpro_pipeline.commands.train import Training, train_detector
    from hrpro_pipeline.extract.networks.network import Network
    from hrpro_pipeline.infer.detector import Detector

__all__ = [
    "Detector",
    "HrproError",
    "Network",
    "Training",
    "__version__",
    "compare_labels",
    "convert_labels",
    "describe",
    "detect_folder",
    "evaluate_detections",
    "export_features",
    "export_pseudo_labels",
    "extract_features",
    "import_checkpoint",
    "import_features",
    "label_videos",
    "report_detections",
    "run_ablation",
    "suggest_labels",
    "summarize_labels",
    "train_detector",
    "train_seeds",
    "write_figures",
    "write_points",
]

# Where each name is: torch takes seconds to load, so that it waits until a name is asked for.
_MODULES = {
    "Detector": "infer.detector",
    "Network": "extract.networks.network",
    "Training": "commands.train",
    "compare_labels": "commands.summary",
    "convert_labels": "commands.convert",
    "describe": "commands.info",
    "detect_folder": "commands.detect",
    "evaluate_detections": "commands.evaluate",
    "export_features": "commands.exports",
    "export_pseudo_labels": "commands.exports",
    "extract_features": "commands.extract",
    "import_checkpoint": "commands.imports",
    "import_features": "commands.imports",
    "label_videos": "commands.label",
    "report_detections": "commands.report",
    "run_ablation": "commands.ablation",
    "suggest_labels": "commands.suggest",
    "summarize_labels": "commands.summary",
    "train_detector": "commands.train",
    "train_seeds": "commands.seeds",
    "write_figures": "commands.figures",
    "write_points": "commands.points",
}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(import_module(f"hrpro_pipeline.{_MODULES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
