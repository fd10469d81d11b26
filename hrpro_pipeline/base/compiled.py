"""Functions compiled from Python by numba, kept on disk between processes where there is a place for that."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """`numba.njit` with a cache beside the module or in the user's cache folder, or without one where neither can be
    written (a read-only installation): then each process compiles anew, which takes a second or two."""

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError:
            return numba.njit(**options)(function)

    return decorate
