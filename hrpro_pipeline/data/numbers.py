"""Numbers of files that people and programs wrote."""

import math
from typing import Any


def finite_number(value: Any) -> float | None:
    """A finite number from a JSON value or CSV cell, else None."""
    if isinstance(value, bool):
        return None
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
