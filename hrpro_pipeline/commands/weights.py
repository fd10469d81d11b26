"""`hrpro weights`: the Kinetics weights of the feature networks."""

from typing import Literal

from hrpro_pipeline.extract.weights import WeightRow, download_all, list_all, verify_all

Action = Literal["list", "download", "verify"]


def check_weights(action: Action = "list") -> list[WeightRow]:
    """List, download or verify the weights -> a row for each file: its status, and whether all is well with it."""
    return {"list": list_all, "download": download_all, "verify": verify_all}[action]()
