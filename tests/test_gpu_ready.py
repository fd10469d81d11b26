"""What fails on a GPU, tried without one: the failures are raised where a GPU would raise them."""

import logging
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gpu_check
import numpy as np
import pytest
import torch
from make_videos import moving_square, write_video
from small_extraction import RGB_ONLY
from torch import Tensor, nn

from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract import backbones, engines
from hrpro_pipeline.extract.backbones import Backbone, dtype_problem, in_dtype
from hrpro_pipeline.extract.extractor import num_lanes
from hrpro_pipeline.extract.flow import on_device, tvl1_torch
from hrpro_pipeline.extract.flow.on_device import device_kernel, flow_on, kernel_problem
from hrpro_pipeline.extract.networks.network import Network
from hrpro_pipeline.extract.options import ExtractOptions, Workers
from hrpro_pipeline.extract.stages import decode as decode_stage
from hrpro_pipeline.extract.video import frames as video_frames
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.extract.video.frames import FrameChunk
from hrpro_pipeline.extract.video.process import DecodeRecord, DecodeRequest, DecoderProcess
from hrpro_pipeline.extract.video.torchcodec import check_version
from hrpro_pipeline.extract.worker import Extraction
from hrpro_pipeline.models.device import Portions, current, is_out_of_memory

CPU, GPU = torch.device("cpu"), torch.device("cuda:0")
TRITON = "hrpro_pipeline.extract.flow.tvl1_cuda"
NO_MEMORY = "CUDA out of memory. Tried to allocate 20.00 MiB."
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA GPU")


class TestFlowKernel:
    @pytest.fixture(autouse=True)
    def _nothing_is_known(self) -> Any:
        device_kernel.cache_clear()
        on_device._portions.cache_clear()
        yield
        device_kernel.cache_clear()
        on_device._portions.cache_clear()

    @without_gpu
    def test_a_kernel_that_does_not_start_is_a_line(self) -> None:
        """Triton's own error, of a machine without what it needs."""
        pytest.importorskip("triton", reason="Triton is not installed")
        problem = kernel_problem(TRITON, CPU)
        assert problem is not None
        assert "driver" in problem
        assert "\n" not in problem

    def test_a_kernel_that_is_wrong_is_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert kernel_problem(tvl1_torch.__name__, CPU) is None
        nothing = SimpleNamespace(tvl1_frames=lambda frames, variant: frames.new_zeros(1, 2, *frames.shape[1:]))
        monkeypatch.setitem(sys.modules, "nothing", nothing)
        assert str(kernel_problem("nothing", CPU)).startswith("wrong by ")

    def test_plain_pytorch_takes_over(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        problems = {TRITON: "RuntimeError: Failed to find C compiler", tvl1_torch.__name__: None}
        monkeypatch.setattr(on_device, "kernel_problem", lambda name, device: problems[name])
        assert [device_kernel(GPU), device_kernel(GPU)] == [tvl1_torch, tvl1_torch]
        (line,) = [record.message for record in caplog.records]
        assert "does not work on cuda:0 (RuntimeError: Failed to find C compiler)" in line
        assert "gcc" in line
        assert "`flow=opencv`" in line

    @without_gpu
    def test_a_device_without_flow_is_an_error_of_the_run(self) -> None:
        """A device that nothing runs on: the videos are not to blame."""
        with pytest.raises(HrproError, match=r"device cuda:0: it computes no flow \(.*\); use `flow=opencv` or"):
            device_kernel(GPU)

    def test_out_of_memory_takes_fewer_pairs_and_is_remembered(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(tvl1_torch, "WARPS", 1)
        monkeypatch.setattr(tvl1_torch, "OUTER_ITERATIONS", 1)
        frames = torch.from_numpy(moving_square(6, 32, 32)[:, 8:24, 8:24, 0].copy()).float()
        expected = tvl1_torch.tvl1_frames(frames)
        real, tried = tvl1_torch.tvl1_frames, []

        def small(images: Tensor, variant: Any) -> Tensor:
            tried.append(len(images) - 1)
            if len(images) > 3:
                raise torch.OutOfMemoryError(NO_MEMORY)
            return real(images, variant)

        monkeypatch.setattr(tvl1_torch, "tvl1_frames", small)
        assert torch.equal(flow_on(frames, "opencv"), expected)
        assert torch.equal(flow_on(frames, "opencv"), expected)
        assert tried == [5, 2, 2, 1, 2, 2, 1]
        assert caplog.messages == ["out of GPU memory with 5 pairs of frames at once: 2 from here on"]


class TestMemory:
    @pytest.mark.parametrize(
        "text",
        [
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED",
            "CUDA error: out of memory",
            "Triton Error [CUDA]: out of memory",
        ],
    )
    def test_libraries_say_it_in_other_words(self, text: str) -> None:
        assert is_out_of_memory(RuntimeError(text))
        assert is_out_of_memory(torch.OutOfMemoryError(NO_MEMORY))
        assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
        tried = []

        def work(start: int, stop: int) -> Tensor:
            tried.append(stop - start)
            if stop - start > 1:
                raise RuntimeError(text)
            return torch.arange(start, stop)

        portions = Portions(4, "clips")
        assert portions.compute(4, work).tolist() == [0, 1, 2, 3]
        assert portions.compute(2, work).tolist() == [0, 1]
        assert tried == [4, 2, 1, 1, 1, 1, 1, 1]

    def test_large_items_leave_small_ones_alone(self) -> None:
        tried = []

        def work(start: int, stop: int) -> Tensor:
            tried.append(stop - start)
            if (stop - start) * cost > 100:
                raise torch.OutOfMemoryError(NO_MEMORY)
            return torch.zeros(stop - start)

        portions = Portions(64, "pairs")
        for cost in (50, 1):
            assert len(portions.compute(10, work, cost)) == 10
        assert tried == [10, 5, 2, 2, 2, 2, 2, 10]

    def test_other_errors_are_raised_at_once(self) -> None:
        def broken(start: int, stop: int) -> Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

        def full(start: int, stop: int) -> Tensor:
            raise torch.OutOfMemoryError(NO_MEMORY)

        with pytest.raises(RuntimeError, match="illegal"):
            Portions(4, "clips").compute(4, broken)
        with pytest.raises(torch.OutOfMemoryError):
            Portions(4, "clips").compute(4, full)


def test_kernels_go_to_the_device_of_their_arrays() -> None:
    guard = current(torch.device("cuda:1"))
    assert isinstance(guard, torch.cuda.device)
    assert guard.idx == 1
    with current(CPU):
        pass


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(2, 8, 3)

    def forward(self, clips: Tensor) -> Tensor:
        return self.conv(clips).relu().mean(dim=(2, 3, 4))


class TestBf16:
    def networks(self) -> tuple[Backbone, Backbone]:
        exact = Backbone(Network(Small(), 8, mean=0.5, std=0.5), "digest")
        return exact, in_dtype(exact, torch.bfloat16, CPU)

    def test_right_ones_are_taken(self) -> None:
        exact, fast = self.networks()
        assert fast.dtype == next(fast.module.parameters()).dtype == torch.bfloat16
        assert next(exact.module.parameters()).dtype == torch.float32
        assert dtype_problem(exact, fast, CPU, side=12) is None

    def test_wrong_ones_are_told(self) -> None:
        """As some versions of cuDNN: no error, other numbers, or a refusal."""
        exact, fast = self.networks()
        with torch.no_grad():
            fast.module.conv.weight.copy_(fast.module.conv.weight.flip(0))
        assert str(dtype_problem(exact, fast, CPU, side=12)).startswith("cosine ")
        fast.module.conv.weight.data.fill_(torch.nan)
        assert str(dtype_problem(exact, fast, CPU, side=12)).startswith("cosine nan")
        fast.module.conv.weight.data = torch.zeros(8, 3, 3, 3, 3, dtype=torch.bfloat16)
        assert str(dtype_problem(exact, fast, CPU, side=12)).startswith("RuntimeError: ")

    def test_float32_takes_over(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        exact, _ = self.networks()
        monkeypatch.setattr(backbones, "dtype_problem", lambda *arguments: "cosine 0.5")
        assert in_dtype(exact, torch.bfloat16, GPU) is exact
        assert caplog.messages == [
            "cuda:0: convolutions in bfloat16 do not work (cosine 0.5): float32 computes the features"
        ]


class TestDecoding:
    @pytest.fixture
    def stand_in(self, monkeypatch: pytest.MonkeyPatch, torchcodec: None) -> type:
        """torchcodec's decoder on the CPU in place of NVDEC."""
        from torchcodec import decoders as real

        class OnCpu(real.VideoDecoder):
            opened = 0
            cpu_fallback: Any = None

            def __init__(self, *arguments: Any, device: str, **options: Any) -> None:
                assert device == "cuda:0"
                type(self).opened += 1
                super().__init__(*arguments, device="cpu", **options)

        monkeypatch.setattr(real, "VideoDecoder", OnCpu)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        return OnCpu

    def test_a_fallback_that_shows_late_is_recorded(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Any
    ) -> None:
        """FFmpeg's backend knows only when it has decoded a frame that NVDEC has not."""
        read = stand_in.get_frames_in_range

        def late(decoder: Any, *arguments: Any) -> Any:
            decoder.cpu_fallback = "Fallback status: Falling back due to: Codec not supported"
            return read(decoder, *arguments)

        monkeypatch.setattr(stand_in, "get_frames_in_range", late)
        decoding = decode(write_video(tmp_path / "a.mp4", moving_square(5)), "torchcodec", "cuda:0")
        assert decoding.decoder_device == "cuda:0"
        assert len(list(decoding)) == 5
        assert decoding.decoder_device == "cpu"
        assert decoding.fallback_reason == "NVDEC refused: Codec not supported"

    def test_out_of_memory_costs_no_video(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stand_in: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """In the middle of a video: the CPU gives the rest, and decodes the videos after it."""
        path = write_video(tmp_path / "a.mp4", moving_square(30))
        request = DecodeRequest(path, "auto", 25.0, 32)
        resize, calls = video_frames.resize_frame, [0]

        def full(frame: Any, size: tuple[int, int]) -> Any:
            calls[0] += 1
            if calls[0] == 20:
                raise torch.OutOfMemoryError(NO_MEMORY)
            return resize(frame, size)

        monkeypatch.setattr(video_frames, "resize_frame", full)
        monkeypatch.setattr(video_frames, "CHUNK_FRAMES", 8)
        process = DecoderProcess()
        try:
            first, second = (list(process.stream(request, "cuda:0")) for _ in range(2))
        finally:
            process.close()
        for items in (first, second):
            chunks = [item for item in items if isinstance(item, FrameChunk)]
            assert sum(sum(chunk.ticks) for chunk in chunks) == 30
            assert isinstance(items[-1], DecodeRecord)
            assert items[-1].decoder_device == "cpu"
            assert str(items[-1].fallback_reason).startswith("torchcodec stopped: out of GPU memory")
        assert stand_in.opened == 1
        assert caplog.messages == ["a.mp4: torchcodec stopped: out of GPU memory; from here on the CPU decodes"]

    def test_decoding_on_the_cpu_is_said_once(self, caplog: pytest.LogCaptureFixture) -> None:
        decode_stage._warn_once.cache_clear()
        record = DecodeRecord("decord", "cpu", "torchcodec refused: it is not installed", 1, 1, "h264", 0, 1, 1.0,
                              None, False, None)  # fmt: skip
        for device in ("cpu", "cpu", "cuda"):
            decode_stage.warn_of_cpu(DecodeRecord(**asdict(record) | {"decoder_device": device}))
        (line,) = caplog.messages
        assert "decoded on the CPU, not on the GPU, which is slower: torchcodec refused: it is not installed" in line

    def test_versions(self) -> None:
        for good in ("0.11", "0.14.0+cu130", "1.0"):
            check_version(good)
        for old in ("0.7.0", "0.10.1+cu126"):
            with pytest.raises(RuntimeError, match=f"version {old.replace('+', '.')}; 0.11 or later"):
                check_version(old)


def test_workers_share_the_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lanes of all workers together are as many as there are cores, on one GPU and on several."""
    monkeypatch.setattr(engines, "resolve_device", torch.device)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(12)))
    extraction = Extraction(RGB_ONLY, str(tmp_path), ExtractOptions(weights="random", device="cuda"))
    for gpus, count, lanes in ((1, None, 8), (1, 4, 3), (2, None, 6), (2, 24, 1)):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        (extractions,) = engines.local_engine(extraction, Workers(count=count)).args  # type: ignore[attr-defined]
        assert len(extractions) == (count or gpus)
        assert {num_lanes(GPU, each.threads) for each in extractions} == {lanes}
    assert num_lanes(CPU, 12) == 1


PROCESSES = """
import os, sys, time
from types import SimpleNamespace
import torch, torch.distributed as dist
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.train import parallel
from hrpro_pipeline.train.loss_log import LossLog
from hrpro_pipeline.train.steps import StepLosses
if sys.argv[1] == "nccl":
    dist.get_backend = lambda: "nccl"
    dist.destroy_process_group = lambda: time.sleep(600)  # while the others wait for this process
stage = SimpleNamespace(name="snippet", losses=["total"], log_every=1)
try:
    with parallel.process_group(torch.device("cpu")):
        losses = LossLog(stage, None, ["v0", "v1"])
        rank = parallel.rank()
        losses.add([StepLosses(1, [rank], torch.tensor([[(1.0, torch.nan)[rank]]]), 2)])
        try:
            losses.write()
        except HrproError as error:
            print(error, flush=True)
        if rank == 1:
            raise HrproError("this process alone fails")
        parallel.total(torch.zeros(1))
except Exception as error:
    print(type(error).__name__, flush=True)
    sys.exit(1)
"""


@pytest.mark.parametrize("backend", ["gloo", "nccl"])
def test_a_process_that_fails_ends_and_so_do_the_others(backend: str) -> None:
    """A loss that is not finite is an error in all processes at once; another error does not wait for the others."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESSES, backend],
            env=os.environ | shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        answers = [process.communicate(timeout=180)[0].splitlines() for process in processes]
    finally:
        for process in processes:
            process.kill()
    # Gloo, which stands in for NCCL here, may abort a process that has not left the group.
    expected = {1} if backend == "gloo" else {1, -signal.SIGABRT}
    assert {process.returncode for process in processes} <= expected
    for lines in answers:
        assert lines[0] == "v1: the loss is not finite; lower snippet.learning_rate"
    assert answers[1][1] == "HrproError"
    assert len(answers[0]) == 2, "its sum fails as the other process is gone"


def test_libraries_out_of_memory_cut_a_step_finer(caplog: pytest.LogCaptureFixture) -> None:
    """What cuBLAS raises is no OutOfMemoryError."""
    from hrpro_pipeline.train.steps import StepRunner

    def step(batches: Any, count: int) -> Tensor:
        sizes = [len(batch) for batch in batches if batch is not None]
        if max(sizes) > 2:
            raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")
        return torch.zeros(count, 1)

    stage: Any = SimpleNamespace(
        name="snippet", number=1, accumulate=1, num_rounds=1, order=lambda number: [np.arange(4)], step=step,
        batches=lambda parts: iter([videos for _, videos in parts]),
    )  # fmt: skip
    with caplog.at_level(logging.WARNING):
        runner = StepRunner(stage, SimpleNamespace(prototypes=None), CPU, seed=0)  # type: ignore[arg-type]
        assert len(list(runner.rounds(1))) == 1
    assert runner.parts == 2
    assert caplog.messages == ["out of GPU memory: steps are cut into 2 parts from here on (snippet.accumulate)"]


def test_gpu_check_without_a_gpu_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu_check.py", "--out", str(tmp_path / "table.md")])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="^gpu-check: this machine has no CUDA GPU that torch can use") as caught:
        gpu_check.main()
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_gpu_check_writes_a_table(tmp_path: Path) -> None:
    """A check that fails does not stop those after it, and shows in the exit code."""
    python = (sys.executable, "-c")
    line = '{"what": "flow", "pairs_per_second": 1234.5678, "pairs": 3}'
    checks = [
        gpu_check.Check("tests", (*python, "print('== 3 passed | 1 skipped =='); exit(1)")),
        gpu_check.Check("sanitizer", ("",), "compute-sanitizer is absent"),
        gpu_check.Check("flow", (*python, f"print('{line}')")),
    ]
    out = tmp_path / "table.md"
    assert gpu_check.run(checks, {"device": "a card", "torch": "2.12"}, out) == 1
    rows = [line.rpartition(" s |")[0] or line for line in out.read_text().splitlines() if line.startswith("| ")]
    assert "device a card, torch 2.12" in out.read_text()
    assert rows[1].startswith("| tests | FAILED (1) | 3 passed / 1 skipped; ")
    assert rows[2] == "| sanitizer | left out: compute-sanitizer is absent |  |"
    assert rows[3].startswith("| flow | passed | flow pairs_per_second 1235; ")
    assert line in out.with_suffix(".log").read_text()
    assert gpu_check.run(checks[2:], {}, out) == 0


def test_gpu_check_leaves_out_what_nothing_was_given_for() -> None:
    nothing = SimpleNamespace(videos=[], features=None, annotations=None, points=None, videos_folder=None)
    left_out = [check.name for check in gpu_check.checks(nothing) if check.missing]  # type: ignore[arg-type]
    assert "flow, second run" in left_out
    assert "training of THUMOS14's shape" in left_out
    assert "tests marked gpu" not in left_out
    for check in gpu_check.checks(nothing):  # type: ignore[arg-type]
        files = [word for word in check.command if word.startswith(("tests/", "benchmarks/"))]
        assert all((Path(__file__).resolve().parents[1] / file).is_file() for file in files)
