"""Fixtures that all tests share."""

import os
import random
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_videos import MADE, write_made

from hrpro_pipeline.errors import ProblemsError

# The tests' networks are small: threads cost them more than they bring, most of all on a busy machine. In the processes
# that they start as well.
torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")

GOLDEN = Path(__file__).resolve().parent / "golden"  # answers of published code, real annotations: golden/README.md
SHARED = Path(__file__).resolve().parents[2] / "shared"
# Files that take longest run first, so that no worker of pytest-xdist has one of them left when the others are done.
LONGEST = (
    *("test_demo", "test_engines", "test_extract", "test_extract_folder", "test_faults", "test_flow", "test_chain"),
    *("test_scaling", "test_ray", "test_live", "test_docs", "test_storage", "test_windows", "test_figures"),
    *("test_training", "test_overlay", "test_label_browser"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


def skip_or_fail(reason: str) -> None:
    """Skip with a reason, unless HRPRO_REQUIRE_ALL=1 says that this machine has everything."""
    if os.environ.get("HRPRO_REQUIRE_ALL") == "1":
        pytest.fail(f"HRPRO_REQUIRE_ALL=1, but {reason}")
    pytest.skip(reason)


def problems_of(function: Callable[..., object], *arguments: object) -> list[str]:
    """The problems that a call reports all at once."""
    with pytest.raises(ProblemsError) as caught:
        function(*arguments)
    return caught.value.problems


@pytest.fixture(scope="session")
def annotations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real annotations, a folder for each data set."""
    folder = tmp_path_factory.mktemp("annotations")
    for archive in (GOLDEN / "annotations").glob("*.zip"):
        with zipfile.ZipFile(archive) as files:
            files.extractall(folder / archive.stem)
    return folder


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder beside a developer's checkout with what is too large for the project: real videos in `videos`."""
    if not SHARED.is_dir():
        skip_or_fail("../shared (real videos) is not beside this checkout")
    return SHARED


@pytest.fixture(scope="session")
def made_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each file of `MADE`, for tests that only read them."""
    folder = tmp_path_factory.mktemp("made_folder")
    for name in MADE:
        write_made(folder, name)
    return folder


@pytest.fixture(scope="session")
def torchcodec() -> None:
    """For tests that need torchcodec."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:
        skip_or_fail(f"torchcodec cannot be loaded ({str(error).strip().splitlines()[0]})")


@pytest.fixture(autouse=True)
def _random_state() -> Iterator[None]:
    """Put the global random generators back after each test: none depends on which ran before it."""
    state = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
    yield
    random.setstate(state[0])
    np.random.set_state(state[1])  # noqa: NPY002
    torch.set_rng_state(state[2])


@pytest.fixture(autouse=True)
def _gpu_only_where_there_is_one(request: pytest.FixtureRequest) -> None:
    if request.node.get_closest_marker("gpu") and not torch.cuda.is_available():
        skip_or_fail("no CUDA GPU on this machine")


@pytest.fixture
def mounted() -> list[str]:
    """Words before a shell command that let it mount file systems of its own, which nobody else sees."""
    words = ["unshare", "--mount", "sh", "-c"]
    with tempfile.TemporaryDirectory() as folder:
        try:
            subprocess.run([*words, f"mount -t tmpfs tmpfs {folder}"], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            skip_or_fail("file systems cannot be mounted here: no test of a full disk")
    return words


@pytest.fixture(scope="module")
def launch() -> Iterator[Any]:
    """Starts a browser."""
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        skip_or_fail("there is no chromium to open pages with")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        skip_or_fail("playwright is not installed: pip install playwright (its own browsers are not needed)")
    options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--mute-audio"]
    with sync_playwright() as started:
        yield lambda *more: started.chromium.launch(executable_path=program, args=[*options, *more])


@pytest.fixture(scope="module")
def browser(launch: Any) -> Iterator[Any]:
    chromium = launch()
    yield chromium
    chromium.close()
