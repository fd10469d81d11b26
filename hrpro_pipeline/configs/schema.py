"""Every setting, with its published default.

A preset or an override `section.key=value` states only what differs. Unknown keys and wrong values are errors.
"""

import re
from pathlib import PurePath
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from hrpro_pipeline.configs.presets import DEFAULT_PRESET


def _rising(grid: tuple[float, float, float]) -> tuple[float, float, float]:
    start, stop, step = grid
    if not (step > 0 and start < stop and (stop - start) / step < 1000):
        raise ValueError("expected [start, stop, step] with start < stop and a positive step")
    return grid


Grid = Annotated[tuple[float, float, float], AfterValidator(_rising)]
Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0)]
StreamName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]{0,63}$")]

# Networks of RGB frames that come with weights.
NETWORKS = (
    *("i3d", "i3d_r50", "slow_r50", "x3d_m"),
    *("mvit_v2_s", "swin3d_t", "swin3d_s", "swin3d_b", "s3d", "r2plus1d_18"),
    *("videomae_v2_s", "videomae_v2_b", "videomae_b", "vjepa2_l"),
)
# A network of the user's own, by the name of its file and of a function in it.
_OWN_NETWORK = re.compile(r"[\w-]+\.py:[A-Za-z_]\w*", re.ASCII)


def is_own_network(name: str) -> bool:
    """Whether a network is one of the user's own, `module.py:build`, not one of ours."""
    return _OWN_NETWORK.fullmatch(name) is not None


def _known_network(name: str) -> str:
    if name not in NETWORKS and not is_own_network(name):
        raise ValueError(f"expected one of {', '.join(NETWORKS)}, or FILE.py:FUNCTION for one of your own")
    return name


NetworkName = Annotated[str, AfterValidator(_known_network)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ExtractSettings(Section):
    """How a video becomes features. All of it is written into each feature file."""

    fps: float = Field(25.0, gt=0, description="frames a second of the constant-rate clock")
    snippet_frames: Positive = Field(16, description="frames a snippet (I3D needs at least 9)")
    stride: Positive = Field(16, description="frames from one snippet to the next")
    resize: Positive | tuple[Positive, Positive] = Field(
        256, description="short side in pixels (aspect kept), or [width, height]"
    )
    crop: int = Field(224, ge=32, description="side of a crop in pixels")
    crops: Literal["center", "five", "ten"] = Field(
        "center", description="the center; with the corners (five); and all of them mirrored (ten)"
    )
    crop_fusion: Literal["mean", "stacked"] = Field(
        "mean", description="features of several crops: averaged, or side by side (D = crops x 1024)"
    )
    streams: tuple[StreamName, ...] = Field(
        ("rgb", "flow"), min_length=1, description="streams: rgb is all RGB networks; imported features may have others"
    )
    backbone: NetworkName = Field("i3d", description="RGB network by name (the flow network is I3D)")
    backbones: tuple[NetworkName, ...] = Field(
        (), description="several RGB networks in place of `backbone`, each a stream of its own name"
    )
    flow_clamp: float = Field(20.0, gt=0, description="flow is clamped to +- this many pixels")
    flow_variant: Literal["opencv", "opencv_cuda"] = Field(
        "opencv", description="TV-L1 as OpenCV's CPU version, or as its CUDA version (denseflow) computes it"
    )
    flow_rounding: Literal["rounded", "floored"] = Field(
        "rounded", description="8-bit levels of flow: rounded (denseflow) or floored (the I3D authors' recipe)"
    )
    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto",
        description="arithmetic of the networks; auto: bf16 where the hardware has it (cosine to float32 over 0.9999)",
    )
    dtype: Literal["float32", "float16"] = Field("float32", description="storage type of the features")

    @model_validator(mode="after")
    def _crop_fits(self) -> "ExtractSettings":
        short = self.resize if isinstance(self.resize, int) else min(self.resize)
        if self.crop > short:
            raise ValueError(f"crop {self.crop} is larger than the resized short side {short}")
        if len(set(self.streams)) != len(self.streams):
            raise ValueError("streams name the same stream twice")
        names = [_stream_name(network) for network in self.backbones]
        if len({*names, "rgb", "flow"}) != len(names) + 2:
            raise ValueError("backbones give two streams the same name")
        return self

    def networks(self) -> dict[str, str]:
        """The network of each stream of a feature file, as far as there is one: of `rgb`, all RGB networks."""
        rgb = {_stream_name(network): network for network in self.backbones} or {"rgb": self.backbone}
        networks: dict[str, str] = {}
        for stream in self.streams:
            networks |= rgb if stream == "rgb" else {stream: rgb[stream]} if stream in rgb else {}
            networks |= {"flow": "i3d"} if stream == "flow" else {}
        return networks


def _stream_name(network: str) -> str:
    return PurePath(network.partition(":")[0]).stem if is_own_network(network) else network


class SnippetSettings(Section):
    """Stage 1, snippet level."""

    steps: int = Field(1000, ge=0, description="optimizer steps")
    passes: int = Field(0, ge=0, description="passes over the videos at least: more steps for many videos")
    batch_size: Positive = Field(16, description="whole videos a step")
    window: int = Field(
        0,
        ge=0,
        description="stage 1 trains on longer videos in parts of up to so many snippets; 0 leaves them whole",
    )
    learning_rate: float = Field(1e-4, gt=0, description="Adam learning rate")
    weight_decay: Weight = Field(5e-4, description="Adam weight decay (paper: 1e-3)")
    attention_layers: int = Field(2, ge=0, description="layers of the reliability-aware attention block")
    heads: Positive = Field(8, description="attention heads; the largest divisor of the feature width up to this many")
    feedforward: Positive = Field(128, description="width of the attention block's feed-forward layer")
    dropout: Rate = Field(0.3, description="dropout in the attention block")
    attention_dropout: Rate = Field(0.1, description="dropout on attention weights")
    classifier_dropout: Rate = Field(0.7, description="dropout before the classifier")
    scrambled_prototypes: bool = Field(
        True, description="quirk of the published code: prototype memory re-viewed, not transposed, as tokens"
    )
    topk_divisor: Positive = Field(8, description="video score: mean of the top T / this many snippets")
    action_threshold: Share = Field(0.1, description="action seeds grow while the background score is at most this")
    background_threshold: Share = Field(0.95, description="background seeds have at least this background score")
    video_weight: Weight = Field(0.0, description="weight of the video-level loss")
    point_weight: Weight = Field(0.5, description="weight of the focal loss at the points")
    background_weight: Weight = Field(1.0, description="weight of the focal loss at background seeds")
    contrastive_weight: Weight = Field(1.0, description="weight of the prototype contrastive loss")
    temperature: float = Field(0.1, gt=0, description="temperature of the contrastive loss")
    drop_last_snippet: bool = Field(
        True, description="quirk of the published code: the contrastive loss leaves each video's last snippet out"
    )
    momentum: Share = Field(0.999, description="momentum of the prototype memory")
    accumulate: Positive = Field(1, description="parts that a step is cut into, to save memory")
    evaluate_every: Positive = Field(50, description="steps between evaluations and checkpoints")


class InstanceSettings(Section):
    """Stage 2, instance level."""

    epochs: int = Field(20, ge=0, description="epochs; 0 leaves stage 2 out")
    batch_size: Positive = Field(10, description="videos a step")
    learning_rate: float = Field(5e-5, gt=0, description="Adam learning rate")
    weight_decay: Weight = Field(5e-4, description="Adam weight decay")
    dropout: Rate = Field(0.7, description="dropout in the score head")
    max_proposals: Positive = Field(1000, description="proposals a video and step, drawn at random")
    negative_ratio: Weight = Field(0.5, description="negative proposals for each positive one")
    iou_threshold: Share = Field(0.3, description="tIoU with a reliable proposal that makes a proposal positive")
    score_weight: Weight = Field(1.0, description="weight of the completeness score loss")
    regression_weight: Weight = Field(1.0, description="weight of the boundary regression loss")
    reliable_proposals: bool = Field(
        True, description="learn from the reliable proposal of each point (false: from all that contain it)"
    )
    accumulate: Positive = Field(1, description="parts that a step is cut into, to save memory")
    evaluate_every: Positive = Field(1, description="epochs between evaluations")


class PyramidSettings(Section):
    """Stage 3, a pyramid over time that learns from one pseudo segment a point. Not part of the published method."""

    steps: int = Field(0, ge=0, description="optimizer steps; 0 leaves stage 3 out")
    passes: int = Field(0, ge=0, description="passes over the videos at least: more steps for many videos")
    min_points: int = Field(30, ge=0, description="stage 3 is left out where there are fewer points to learn from")
    batch_size: Positive = Field(8, description="videos a step")
    window: Positive = Field(2304, description="stage 3 trains on longer videos in parts of up to so many snippets")
    learning_rate: float = Field(1e-3, gt=0, description="AdamW learning rate, at its peak")
    weight_decay: Weight = Field(0.05, description="AdamW weight decay")
    channels: Positive = Field(128, description="width of the network")
    levels: int = Field(6, ge=1, le=10, description="time scales; each has half the positions of the one before")
    dropout: Rate = Field(0.1, description="dropout in the network")
    feature_dropout: Rate = Field(0.3, description="share of the feature channels left out of a video in a step")
    peak_ratio: float = Field(
        0.4, gt=0, lt=1, description="a pseudo segment reaches as far as P is over this share of its peak"
    )
    accumulate: Positive = Field(1, description="parts that a step is cut into, to save memory")
    evaluate_every: Positive = Field(50, description="steps between evaluations and checkpoints")


class DetectSettings(Section):
    """Candidate proposals and post-processing."""

    upsample: Positive = Field(2, description="temporal upsampling of the scores")
    class_threshold: Share = Field(0.5, description="classes with at least this video score are localized")
    class_grid: Grid = Field((0.0, 0.25, 0.025), description="thresholds on class scores: start, stop, step")
    attention_grid: Grid = Field((0.5, 0.725, 0.025), description="thresholds on attention: start, stop, step")
    outer_ratio: Weight = Field(0.25, description="outer margin of the OIC score, in proposal lengths")
    drop_runs_at_zero: bool = Field(
        True, description="quirk of the published code: a class active at position 0 alone gives no proposal"
    )
    window: int = Field(
        16384, ge=2, description="snippets of a longer video that are scored together (16384 are 2.9 hours)"
    )
    nms_sigma: float = Field(0.3, gt=0, description="sigma of the Gaussian soft-NMS")
    nms_added_seconds: Weight = Field(
        1.0, description="quirk of the published code: seconds added to lengths and overlaps in soft-NMS"
    )


class EvaluateSettings(Section):
    """Thresholds and videos of an evaluation."""

    tiou: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), min_length=1, description="tIoU thresholds"
    )
    exclude: tuple[str, ...] = Field((), description="videos left out")


class AnswerSettings(Section):
    """What a model says beside its ranking: which detections are the answer, and how likely each is right."""

    held_out: Rate = Field(
        0.0, description="share of the videos that a run before the run holds out to learn it; 0: no answer"
    )


class ComputeSettings(Section):
    """How training uses the machine; results differ by rounding alone."""

    precision: Literal["auto", "float32", "bf16"] = Field(
        "auto", description="matrix products of training; auto: bf16 where the hardware has it. Detection is float32"
    )
    features: Literal["auto", "device", "host", "disk"] = Field(
        "auto", description="where training features are kept; auto: the first that has room"
    )


class Settings(Section):
    """All settings of a run."""

    preset: str = Field(DEFAULT_PRESET, description="the preset these settings started from")
    extract: ExtractSettings = ExtractSettings()
    snippet: SnippetSettings = SnippetSettings()
    instance: InstanceSettings = InstanceSettings()
    pyramid: PyramidSettings = PyramidSettings()
    detect: DetectSettings = DetectSettings()
    evaluate: EvaluateSettings = EvaluateSettings()
    answer: AnswerSettings = AnswerSettings()
    compute: ComputeSettings = ComputeSettings()
