"""TV-L1: our kernel against OpenCV, its edges, and the 8-bit quantization."""

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from make_videos import moving_square, write_made

from hrpro_pipeline.data.files import VIDEO_SUFFIXES
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract.flow import BACKENDS, resolve_backend, tvl1, tvl1_cpu
from hrpro_pipeline.extract.flow.levels import flow_levels, quantize_flow
from hrpro_pipeline.extract.flow.tvl1_torch import Variant, _median, tvl1_pairs
from hrpro_pipeline.extract.options import FLOW_BACKENDS
from hrpro_pipeline.extract.video.decoding import decode

# Mean end-point error in pixels, and share of 8-bit levels within one step, that our flow must keep to.
TOLERANCE = 0.02
LEVELS_WITHIN_ONE = 0.99


def gray_frames(path: Path, count: int, size: tuple[int, int]) -> np.ndarray:
    frames = []
    for _, frame in decode(path, "pyav"):
        frames.append(cv2.cvtColor(cv2.resize(frame, size), cv2.COLOR_RGB2GRAY))
        if len(frames) == count:
            break
    return np.stack(frames)


def agrees(frames: np.ndarray) -> None:
    ours, opencv = tvl1(frames, "torch"), tvl1(frames, "opencv")
    assert ours.shape == opencv.shape == (len(frames) - 1, 2, *frames.shape[1:])
    assert ours.dtype == opencv.dtype == torch.float32
    assert torch.linalg.vector_norm(ours - opencv, dim=1).mean() <= TOLERANCE
    apart = (flow_levels(ours, 20).int() - flow_levels(opencv, 20).int()).abs()
    assert (apart <= 1).double().mean() >= LEVELS_WITHIN_ONE


@pytest.mark.shared
def test_agrees_with_opencv_on_real_frames(shared: Path) -> None:
    videos = [path for path in sorted((shared / "videos").iterdir()) if path.suffix in VIDEO_SUFFIXES]
    assert len(videos) >= 9
    tried = 0
    for path in videos:
        try:
            frames = gray_frames(path, 3, (340, 256))
        except HrproError:
            continue  # the corrupted file
        if len(frames) > 1:
            agrees(frames)
            tried += 1
    assert tried >= 7


@pytest.mark.parametrize("name", ["h264.mov", "rotated_90.mp4"])
def test_agrees_with_opencv_on_frames_of_made_videos(tmp_path: Path, name: str) -> None:
    agrees(gray_frames(write_made(tmp_path, name), 3, (340, 256)))


def noise(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    image = cv2.GaussianBlur(noise(height, width, seed).astype(np.float32), (0, 0), 3)
    return np.uint8(255 * (image - image.min()) / (image.max() - image.min()))


WIDE = texture(140, 340)
HARD = {
    "no motion": (WIDE, WIDE),
    "noise": (noise(96, 128, 0), noise(96, 128, 1)),
    "a cut": (texture(96, 128, 1), texture(96, 128, 2)),
    "1 px": (WIDE[:, 50:250], WIDE[:, 49:249]),
    "40 px": (WIDE[:, 50:250], WIDE[:, 10:210]),
    "odd size": (WIDE[1:94, 3:130], WIDE[2:95, 4:131]),
    "16 x 16": (WIDE[5:21, 5:21], WIDE[6:22, 5:21]),
    "17 x 300": (WIDE[5:22, 5:305], WIDE[6:23, 6:306]),
    "constant": (np.full((64, 80), 7, np.uint8), np.full((64, 80), 90, np.uint8)),
}


@pytest.mark.parametrize("case", HARD)
def test_agrees_with_opencv_on_hard_frames(case: str) -> None:
    """Warps multiply rounding errors in noise by hundreds: only the same operations in the same order agree there."""
    agrees(np.stack(HARD[case]))


@pytest.mark.parametrize("variant", ["opencv", "opencv_cuda"])
def test_the_plain_reference_agrees_with_the_compiled_kernel(variant: Variant) -> None:
    pairs = [HARD["1 px"], (WIDE[:, 50:250], WIDE[:, 52:252])]
    first, second = (np.stack(frames).astype(np.float32) for frames in zip(*pairs, strict=True))
    plain = tvl1_pairs(torch.from_numpy(first), torch.from_numpy(second), variant)
    for k in range(len(pairs)):
        compiled = torch.from_numpy(tvl1_cpu.tvl1_pair(first[k], second[k], variant))
        assert torch.linalg.vector_norm(plain[k] - compiled, dim=0).mean() <= TOLERANCE


def test_variants_differ_as_opencv_versions_do() -> None:
    """The CUDA version has been measured to be 0.03 to 0.06 px from the CPU version; it is neither equal nor far."""
    frames = np.stack([WIDE, np.roll(WIDE, (1, 2), (0, 1))])
    apart = torch.linalg.vector_norm(tvl1(frames) - tvl1(frames, variant="opencv_cuda"), dim=1)[0, 8:-8, 8:-8].mean()
    assert 1e-4 < apart < 0.1


TRITON = """
import sys
import numpy as np, torch
from hrpro_pipeline.extract.flow import tvl1_cuda
from hrpro_pipeline.extract.flow import tvl1_torch
for module in (tvl1_torch, tvl1_cuda):
    module.WARPS, module.OUTER_ITERATIONS = 2, 2
tvl1_torch.SCALES = 2
first, second = (torch.from_numpy(np.load(path)) for path in sys.argv[1:3])
for variant in ("opencv", "opencv_cuda"):
    expected = tvl1_torch.tvl1_pairs(first, second, variant)
    found = tvl1_cuda.tvl1_pairs(first, second, variant)
    print(expected.abs().mean().item(), (found - expected).abs().max().item())
    alone = tvl1_cuda.tvl1_pairs(first[1:2], second[1:2], variant)
    assert torch.equal(alone[0], found[1]), "depends on its batch"
"""


def test_triton_kernels_in_the_interpreter(tmp_path: Path) -> None:
    """Their logic, on the CPU, with fewer scales, warps and iterations: pairs that stop at once, early and late.

    2 x 2 tiles. In some warps the second pair stops after 1, 14, 22 or 26 iterations: inside a launch, which is mended.
    """
    pytest.importorskip("triton", reason="Triton is not installed")
    still = WIDE[:24, :70]
    pairs = [(still, still), (still, WIDE[1:25, 1:71]), (noise(24, 70, 0), still)]
    for name, frames in zip(("first", "second"), zip(*pairs, strict=True), strict=True):
        np.save(tmp_path / f"{name}.npy", np.stack(frames).astype(np.float32))
    command = [sys.executable, "-c", TRITON, str(tmp_path / "first.npy"), str(tmp_path / "second.npy")]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    for line in done.stdout.splitlines():
        size, apart = map(float, line.split())
        assert size > 0.1
        assert apart < 0.01


KERNELS = {
    "_iterate": {
        "THETA": 0.3,
        "STEP": 0.8,
        "L": 0.045,
        "TINY": 1e-7,
        "FUSED": 5,
        "HEIGHT": 32,
        "WIDTH": 64,
    },
    "_warp": {"zero_outside": True, "BLOCK": 256},
    "_median": {"FUSED": 5, "BLOCK": 256},
}
ARRAYS = {"state", "smoothed", "coefficients", "images", "first"}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("capability", [80, 90])
def test_triton_kernels_compile_for_gpus(name: str, capability: int) -> None:
    """To machine code for an A100 and an H200, on a machine that has neither."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    compiler = pytest.importorskip("triton.compiler")
    target = pytest.importorskip("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    kernel = getattr(pytest.importorskip("hrpro_pipeline.extract.flow.tvl1_cuda"), name)
    constants = KERNELS[name]
    types = {argument: "*fp32" if argument in ARRAYS else "i32" for argument in kernel.arg_names}
    types |= {"limit": "fp32", "buffer_stride": "i64", "changes": "*i64", "changes_before": "*i64"}
    types |= dict.fromkeys(constants, "constexpr")
    source = compiler.ASTSource(
        fn=kernel,
        signature={argument: types[argument] for argument in kernel.arg_names},
        constexprs={(kernel.arg_names.index(argument),): value for argument, value in constants.items()},
    )
    compiled = triton.compile(source, target=target, options={"num_warps": 8, "enable_fp_fusion": False})
    assert len(compiled.asm["cubin"]) > 1000


def test_opencv_backend_is_opencv() -> None:
    frames = moving_square(3)[..., 0]
    expected = cv2.optflow.DualTVL1OpticalFlow_create().calc(frames[1], frames[2], None)
    found = tvl1(frames, "opencv")[1].permute(1, 2, 0).numpy()
    np.testing.assert_array_equal(found, expected)
    as_float = tvl1(frames.astype(np.float64), "opencv")[1].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(as_float, expected, atol=1e-4)


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_known_motion_and_channels(backend: str) -> None:
    smooth = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (72, 104)).astype(np.float32), (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    first, right, down = smooth[4:68, 4:100], smooth[4:68, 3:99], smooth[2:66, 4:100]
    moved_right = tvl1(np.stack([first, right]), backend)[0, :, 8:-8, 8:-8]
    moved_down = tvl1(np.stack([first, down]), backend)[0, :, 8:-8, 8:-8]
    assert moved_right[0].median() == pytest.approx(1, abs=0.1)
    assert moved_right[1].median() == pytest.approx(0, abs=0.05)
    assert moved_down[0].median() == pytest.approx(0, abs=0.05)
    assert moved_down[1].median() == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_identical_frames_do_not_move(backend: str) -> None:
    frames = np.repeat(moving_square(1)[..., 0], 2, axis=0)
    assert not tvl1(frames, backend).any()


def test_a_pair_does_not_depend_on_its_batch() -> None:
    frames = torch.from_numpy(moving_square(4, step=3)[..., 1].copy()).float()
    frames[3] = frames[2]  # converges at once, beside pairs that take long
    together = tvl1_pairs(frames[:-1], frames[1:])
    for k in range(3):
        assert torch.equal(tvl1_pairs(frames[k : k + 1], frames[k + 1 : k + 2])[0], together[k])
    assert together[0].any()
    assert not together[2].any()


@pytest.mark.gpu
@pytest.mark.parametrize("case", HARD)
def test_cuda_agrees_with_the_cpu_on_hard_frames(case: str) -> None:
    frames = np.stack(HARD[case])
    apart = torch.linalg.vector_norm(tvl1(frames, device="cuda").cpu() - tvl1(frames), dim=1)
    assert apart.mean() <= TOLERANCE


@pytest.mark.gpu
def test_cuda_agrees_with_the_cpu() -> None:
    frames = moving_square(4, 96, 64)[..., 0]
    for variant in ("opencv", "opencv_cuda"):
        on_gpu = tvl1(frames, "torch", "cuda", variant)
        assert on_gpu.is_cuda
        error = torch.linalg.vector_norm(on_gpu.cpu() - tvl1(frames, "torch", variant=variant), dim=1).mean()
        assert error <= TOLERANCE


def test_the_result_is_an_ordinary_tensor_and_threads_are_left_alone() -> None:
    frames = moving_square(4)[..., 0]
    for backend in ("torch", "opencv"):
        before = torch.get_num_threads(), cv2.getNumThreads()
        flow = tvl1(frames, backend)
        flow.clamp_(-1, 1)
        assert not flow.is_inference()
        assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_median_equals_a_sort() -> None:
    flow = torch.randn(2, 2, 17, 23, generator=torch.Generator().manual_seed(0))
    padded = torch.nn.functional.pad(flow, (2, 2, 2, 2), mode="replicate")
    expected = padded.unfold(2, 5, 1).unfold(3, 5, 1).flatten(4).median(dim=-1).values
    assert torch.equal(_median(flow), expected)


@pytest.mark.parametrize("backend", ["torch", "opencv"])
def test_few_and_small_frames(backend: str) -> None:
    assert tvl1(np.zeros((1, 20, 30), np.uint8), backend).shape == (0, 2, 20, 30)
    smallest = moving_square(3, 64, 48)[:, 10:26, 10:27, 0]
    flow = tvl1(np.ascontiguousarray(smallest), backend)
    assert flow.shape == (2, 2, 16, 17)
    assert torch.isfinite(flow).all()
    tensor = torch.from_numpy(np.ascontiguousarray(smallest)).double()
    torch.testing.assert_close(tvl1(tensor, backend), flow, atol=0.05, rtol=0)


def test_frames_that_are_not_contiguous() -> None:
    whole = torch.from_numpy(np.stack(HARD["1 px"]))
    strided = whole[:, ::2, ::3]
    assert torch.equal(tvl1(strided), tvl1(strided.clone(memory_format=torch.contiguous_format)))


@pytest.mark.parametrize(
    ("frames", "message"),
    [
        (np.zeros((20, 30), np.uint8), r"shape \[20, 30\]; expected gray frames \[N, H, W\]"),
        (np.zeros((2, 20, 30, 3), np.uint8), r"shape \[2, 20, 30, 3\]"),
        (np.zeros((2, 15, 30), np.uint8), "30 x 15; both sides must be at least 16"),
        (np.zeros((0, 20, 30), np.uint8), "no frames"),
        (np.full((2, 20, 30), np.nan), "NaN or infinite"),
        (np.full((2, 20, 30), 256.0), "outside 0..255"),
        (np.full((2, 20, 30), -1), "outside 0..255"),
        (np.zeros((2, 20, 30), complex), "type complex128"),
        (torch.zeros(2, 20, 30, dtype=torch.bool), "torch.bool"),
        ([[1, 2]], "type list"),
    ],
)
def test_wrong_frames_are_named(frames: object, message: str) -> None:
    with pytest.raises(HrproError, match=message):
        tvl1(frames)  # type: ignore[arg-type]


def test_backends() -> None:
    assert ("auto", *BACKENDS) == FLOW_BACKENDS
    with pytest.raises(HrproError, match="flow backend 'farneback'; expected torch or opencv"):
        tvl1(np.zeros((2, 20, 30), np.uint8), "farneback")
    assert resolve_backend("auto") == "torch"
    assert resolve_backend("opencv") == "opencv"
    with pytest.raises(HrproError, match="'fast'; expected auto, torch or opencv"):
        resolve_backend("fast")
    with pytest.raises(HrproError, match="flow variant 'gpu'; expected opencv or opencv_cuda"):
        tvl1(np.zeros((2, 20, 30), np.uint8), variant="gpu")  # type: ignore[arg-type]
    with pytest.raises(HrproError, match="for variant opencv_cuda take backend torch"):
        tvl1(np.zeros((2, 20, 30), np.uint8), "opencv", variant="opencv_cuda")
    with pytest.raises(ValueError, match=r"\[1, 20, 20\] and \[1, 20, 21\]"):
        tvl1_pairs(torch.zeros(1, 20, 20), torch.zeros(1, 20, 21))


def test_quantization_is_rounded_as_in_published_features() -> None:
    flow = torch.tensor([-25.0, -20, -0.04, 0, 0.04, 1, 20, 99])
    assert flow_levels(flow, 20).tolist() == [0, 0, 127, 128, 128, 134, 255, 255]
    scaled = quantize_flow(flow)
    assert scaled[0] == -1
    assert scaled[-1] == 1
    assert scaled[3].item() == pytest.approx(128 / 255 * 2 - 1, abs=1e-6)
    assert flow_levels(flow, 20, "floored").tolist() == [0, 0, 127, 127, 127, 133, 255, 255]
    half = quantize_flow(torch.tensor([10.0]), clamp=10.0)
    assert half.item() == 1
