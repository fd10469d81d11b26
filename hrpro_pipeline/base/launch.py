"""Whether `torchrun` started this process, and which of its processes this one is. Nothing heavy: torch stays out."""

import os


def num_processes() -> int:
    """How many processes `torchrun` started, on all machines; 1 without it."""
    return _torchrun_variable("WORLD_SIZE", 1)


def num_local_processes() -> int:
    """How many of them run on this machine; 1 without it."""
    return _torchrun_variable("LOCAL_WORLD_SIZE", 1)


def rank() -> int:
    """Number of this process among all; 0 without it."""
    return _torchrun_variable("RANK", 0)


def local_rank() -> int:
    """Number of this process among those on this machine; 0 without it."""
    return _torchrun_variable("LOCAL_RANK", 0)


def _torchrun_variable(name: str, default: int) -> int:
    # Other launchers set the same names for their own ends: only torchrun's are followed.
    return int(os.environ[name]) if "TORCHELASTIC_RUN_ID" in os.environ else default
