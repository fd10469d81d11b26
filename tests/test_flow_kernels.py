"""What TV-L1 on a GPU asks of the host: launches, compiled variants, copies; counted with the kernels left out."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from hrpro_pipeline.extract.flow import on_device, tvl1_torch

triton = pytest.importorskip("triton", reason="Triton is not installed")
tvl1_cuda = pytest.importorskip("hrpro_pipeline.extract.flow.tvl1_cuda")

KERNELS = ("_warp", "_iterate", "_median")
Launch = tuple[str, tuple[Any, ...], dict[str, Any]]


class Recorder:
    """In place of a kernel: notes how it is launched, and computes nothing."""

    def __init__(self, name: str, launches: list[Launch]) -> None:
        self.name, self.launches = name, launches

    def __getitem__(self, grid: Any) -> Any:
        return lambda *arguments, **options: self.launches.append((self.name, arguments, options))


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Launch]]:
    found: list[Launch] = []
    for name in KERNELS:
        monkeypatch.setattr(tvl1_cuda, name, Recorder(name, found))
    tvl1_torch._neighbors.cache_clear()
    yield found
    tvl1_torch._neighbors.cache_clear()


def test_kernels_are_compiled_once_for_all_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """By Triton's own rules: 0, 1, numbers that divide by 16 and odd addresses would be variants of their own."""
    binders = {}
    jit = pytest.importorskip("triton.runtime.jit")
    backend = triton.compiler.make_backend(triton.backends.compiler.GPUTarget("cuda", 90, 32))
    for name in KERNELS:
        kernel = getattr(tvl1_cuda, name)
        binders[name] = jit.create_function_from_signature(kernel.signature, kernel.params, backend)
    found: list[Launch] = []
    for name in KERNELS:
        monkeypatch.setattr(tvl1_cuda, name, Recorder(name, found))
    variants: set[tuple[str, str]] = set()
    counts = []
    for frames, height, width in ((4, 64, 80), (3, 64, 80), (2, 51, 33), (5, 96, 128), (2, 17, 301)):
        tvl1_cuda.tvl1_frames(torch.zeros(frames, height, width))
        for name, arguments, options in found:
            _, specialization, rest = binders[name](*arguments, **options)
            variants.add((name, f"{specialization} {sorted(rest.items())}"))
        counts.append(len(variants))
        found.clear()
    assert counts[0] <= 5
    assert counts[-1] == counts[0] == len(KERNELS), sorted(variants)


def test_kernels_round_as_opencv_does(launches: list[Launch]) -> None:
    """A multiplication that is fused with an addition rounds once; in noise that is a pixel."""
    tvl1_cuda.tvl1_frames(torch.zeros(2, 16, 30))
    turns = tvl1_cuda.OUTER_ITERATIONS * tvl1_cuda.INNER_ITERATIONS // tvl1_cuda.FUSED
    names = [name for name, _, _ in launches]
    warps = tvl1_cuda.WARPS  # of one scale: the next one would be too small
    assert {name: names.count(name) for name in KERNELS} == {
        "_warp": warps,
        "_iterate": warps * (turns + 1),
        "_median": warps * tvl1_cuda.OUTER_ITERATIONS,
    }
    arithmetic = [options for name, _, options in launches if name != "_median"]  # a median only compares
    assert all(options["enable_fp_fusion"] is False for options in arithmetic)


@pytest.mark.parametrize("fused", [2, 5, 6])
def test_a_median_reads_what_the_launch_before_wrote(
    launches: list[Launch], monkeypatch: pytest.MonkeyPatch, fused: int
) -> None:
    """Also where a round of iterations takes an odd number of launches, which leave it in the other buffer."""
    monkeypatch.setattr(tvl1_cuda, "FUSED", fused)
    monkeypatch.setattr(tvl1_cuda, "WARPS", 1)
    tvl1_cuda.tvl1_frames(torch.zeros(2, 16, 30))
    medians = 0
    for (name, arguments, _), (_, after, _) in zip(launches[:-1], launches[1:], strict=True):
        if name == "_median":
            source_buffer, from_smoothed = after[9], after[11]
            assert arguments[0].data_ptr() == after[0][source_buffer].data_ptr()
            assert from_smoothed == 1
            medians += 1
    assert medians == tvl1_cuda.OUTER_ITERATIONS


class Crossings(TorchDispatchMode):
    """Counts what makes the host wait for a device: copies between them, and values that the host looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        tensors = [value for value in (*args, result) if isinstance(value, torch.Tensor) and value.ndim > 0]
        name = function.name()
        looks = name.startswith(("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"))
        if looks or len({value.device.type for value in tensors}) > 1:
            self.waits.append(name)
        return result


def test_the_host_waits_for_nothing_within_a_batch(launches: list[Launch], monkeypatch: pytest.MonkeyPatch) -> None:
    """On a GPU that is not there; the first batch of a size brings its indices to the device."""
    entered = []
    monkeypatch.setattr(tvl1_cuda, "WARPS", 2)
    monkeypatch.setattr(tvl1_cuda, "OUTER_ITERATIONS", 2)
    monkeypatch.setattr(on_device, "device_kernel", lambda device: tvl1_cuda)
    monkeypatch.setattr(on_device, "current", lambda device: entered.append(device) or torch.no_grad())
    on_device._portions.cache_clear()
    with FakeTensorMode():
        frames = torch.zeros(4, 64, 80, device="cuda:1")
        with Crossings() as first:
            on_device.flow_on(frames, "opencv")
        with Crossings() as second:
            flow = on_device.flow_on(frames, "opencv")
    assert tuple(flow.shape) == (3, 2, 64, 80)
    assert flow.device == torch.device("cuda:1")
    assert len(first.waits) > 10, "the count would be 0 for a mode that counts nothing"
    assert second.waits == []
    # Triton launches on the current device of the thread, wherever the arrays are.
    assert entered == [torch.device("cuda:1")] * 2
    assert all(
        value.device == torch.device("cuda:1")
        for _, arguments, _ in launches
        for value in arguments
        if isinstance(value, torch.Tensor)
    )
