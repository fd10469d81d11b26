"""Writing imported features: several files at once, each complete or absent."""

from pathlib import Path

import numpy as np
import pytest
from foreign_features import CLOCK, rows, save

from hrpro_pipeline import import_features
from hrpro_pipeline.data.features import read_features


def test_an_error_while_writing_ends_the_import(tmp_path: Path) -> None:
    """Several files are on their way at once: those are complete or absent, and no other is begun."""
    names = [f"v{number:03d}" for number in range(60)]
    for name in names:
        save(tmp_path / "made" / f"{name}.npy", rows("a"))
    (tmp_path / "out" / "v001.h5").mkdir(parents=True)  # where a file is to be
    with pytest.raises(OSError, match="v001"):
        import_features(tmp_path / "made", tmp_path / "out", **CLOCK)
    (tmp_path / "out" / "v001.h5").rmdir()
    left = [path.name for path in (tmp_path / "out").iterdir()]
    assert "v000.h5" in left and len(left) < len(names) / 2
    assert set(left) <= {f"{name}.h5" for name in names}
    for path in (tmp_path / "out").iterdir():
        np.testing.assert_array_equal(read_features(path).streams["rgb"], rows("a"))
