"""The made videos of `hrpro demo`: a toy wheel in a quiet room, drawn so that random I3D weights can tell its actions.

Three colors and three motions make six classes: the color alone or the motion alone leaves two of them, only both name
one. Around each action the wheel rests (the look without the motion); between them the room is empty, a gray wheel
rolls by (the motion without the look), a cloud's shadow passes or the light dims.

Lengths in space are in frame sides, so that a scene looks the same at any size.
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from hrpro_pipeline.data.files import replacing, write_text

CLASSES: tuple[str, ...] = ("red spin", "red bounce", "green spin", "green slide", "blue bounce", "blue slide")
DISTRACTORS: tuple[str, ...] = ("gray roll", "cloud", "dim")

FPS = 25.0
SIZE = 160

# Body and petals of each wheel. All bodies have one luma and so have all petals, so the flow, which is computed on
# gray frames, cannot know the color.
_PAINT = {
    "red": ((205, 40, 45), (255, 165, 150)),
    "green": ((15, 135, 60), (150, 225, 120)),
    "blue": ((45, 85, 235), (150, 195, 255)),
    "gray": ((90, 90, 90), (190, 190, 190)),
}
_POP_SECONDS = 0.3


@dataclass(frozen=True)
class Action:
    """One action: the wheel stands in the room from `enters_seconds` to `leaves_seconds` and acts in between.

    `label` is one of `CLASSES`; `rest` is the center (x, y) of the wheel at rest in frame sides; `tempo` scales the
    speed of the motion.
    """

    label: str
    start_seconds: float
    end_seconds: float
    enters_seconds: float
    leaves_seconds: float
    rest: tuple[float, float]
    tempo: float


@dataclass(frozen=True)
class Distractor:
    """Something that moves or changes and is no action; `kind` is one of `DISTRACTORS`."""

    kind: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Scene:
    """All parameters of a video's look.

    Attributes:
        size: side of the square frames in pixels.
        wall: RGB color of the wall, 0..255; the floor is a shade of it.
        horizon: height at which the wall meets the floor, from the top, in frame sides.
        radius: radius of the wheel in frame sides.
    """

    video_id: str
    fps: float
    size: int
    duration_seconds: float
    actions: tuple[Action, ...]
    distractors: tuple[Distractor, ...]
    wall: tuple[float, float, float]
    horizon: float
    radius: float

    @property
    def num_frames(self) -> int:
        return round(self.duration_seconds * self.fps)


def make_scene(video_id: str, rng: np.random.Generator, labels: Sequence[str] | None = None) -> Scene:
    """Draw a scene at random: two or three actions (or those of `labels`, in that order) with pauses between."""
    if labels is None:
        labels = [str(label) for label in rng.choice(CLASSES, size=rng.integers(2, 4))]
    actions: list[Action] = []
    distractors: list[Distractor] = []
    now = rng.uniform(0.1, 0.4)
    for position in range(len(labels) + 1):
        if rng.random() < 0.6:
            length = rng.uniform(1.1, 1.6)
            distractors.append(Distractor(str(rng.choice(DISTRACTORS)), now, now + length))
            now += length
        now += rng.uniform(0.1, 0.4)
        if position < len(labels):
            enters, start = now, now + rng.uniform(0.6, 1.0)
            end = start + rng.uniform(2.0, 3.4)
            now = end + rng.uniform(0.6, 1.0)
            # Anywhere on the floor: where the wheel is must not tell what it does.
            rest = (rng.uniform(0.36, 0.64), rng.uniform(0.52, 0.74))
            actions.append(Action(labels[position], start, end, enters, now, rest, tempo=rng.uniform(0.92, 1.08)))
    # Mid tones: a network without biases answers little to them, so the wheel stands out from the room.
    tint = rng.uniform(-14, 14, size=3)
    return Scene(
        video_id=video_id,
        fps=FPS,
        size=SIZE,
        duration_seconds=math.ceil(now * FPS) / FPS,
        actions=tuple(actions),
        distractors=tuple(distractors),
        wall=tuple(132 + tint - tint.mean()),
        horizon=rng.uniform(0.54, 0.62),
        radius=rng.uniform(0.165, 0.19),
    )


def render(scene: Scene) -> Iterator[np.ndarray]:
    """The scene's frames in order, each uint8 [size, size, 3], RGB. The same scene gives the same frames."""
    room = _room(scene)
    wheels = {name: _wheel(name, round(4 * scene.radius * scene.size)) for name in _PAINT}
    for index in range(scene.num_frames):
        now = index / scene.fps
        frame = room.copy()
        for distractor in scene.distractors:
            if distractor.start_seconds <= now < distractor.end_seconds:
                share = (now - distractor.start_seconds) / (distractor.end_seconds - distractor.start_seconds)
                frame = _distract(frame, scene, wheels["gray"], distractor.kind, share)
        for action in scene.actions:
            if action.enters_seconds <= now < action.leaves_seconds:
                _act(frame, scene, wheels[action.label.split()[0]], action, now)
        yield np.clip(frame + 0.5, 0, 255).astype(np.uint8)


def write_video(path: Path, frames: Iterable[np.ndarray], fps: float) -> None:
    """Encode uint8 RGB frames [H, W, 3] (even sides) as MP4: H.264, or MPEG-4 part 2 where FFmpeg lacks an encoder."""
    # Without mbtree, with which x264 does not always give the same bytes for the same frames.
    codec, options = "libx264", {"crf": "16", "preset": "veryfast", "x264-params": "mbtree=0"}
    if codec not in av.codecs_available:
        codec, options = "mpeg4", {"qmax": "3"}
    # The container is named because the temporary file's suffix does not tell it.
    with replacing(path) as temporary, av.open(str(temporary), "w", format="mp4") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001), options=options)
        assert isinstance(stream, av.VideoStream)
        stream.pix_fmt = "yuv420p"
        for index, pixels in enumerate(frames):
            if index == 0:
                stream.height, stream.width = pixels.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())


def write_demo(folder: Path, *, num_train: int, num_test: int, seed: int) -> None:
    """Write `videos/*.mp4`, `annotations.json` and `points.csv` for a demonstration.

    The annotations are ActivityNet style, with subsets `train` and `test`. The points are for the training videos
    only: one an action, scattered about its middle as human labels are.
    """
    rng = np.random.default_rng(seed)
    database: dict[str, dict[str, object]] = {}
    points = io.StringIO()
    table = csv.writer(points, lineterminator="\n")
    table.writerow(["video_id", "class", "time"])
    for subset, count in (("train", num_train), ("test", num_test)):
        scenes = _scenes(subset, count, rng)
        for scene in scenes:
            write_video(folder / "videos" / f"{scene.video_id}.mp4", render(scene), scene.fps)
            database[scene.video_id] = {
                "subset": subset,
                "duration": round(scene.duration_seconds, 3),
                "fps": scene.fps,
                "annotations": [
                    {"label": action.label, "segment": [round(action.start_seconds, 3), round(action.end_seconds, 3)]}
                    for action in scene.actions
                ],
            }
            if subset == "train":
                for action in scene.actions:
                    share = np.clip(rng.normal(0.5, 0.15), 0.1, 0.9)
                    time = action.start_seconds + share * (action.end_seconds - action.start_seconds)
                    table.writerow([scene.video_id, action.label, f"{time:.3f}"])
    write_text(folder / "annotations.json", json.dumps({"database": database}, indent=1) + "\n")
    write_text(folder / "points.csv", points.getvalue())


def _scenes(subset: str, count: int, rng: np.random.Generator) -> list[Scene]:
    """Scenes of two and three actions in turn; the classes are dealt, so that all occur about equally often."""
    deck: list[str] = []
    scenes = []
    for number in range(count):
        num_actions = 2 + number % 2
        while len(deck) < num_actions:
            deck += [str(label) for label in rng.permutation(CLASSES)]
        scenes.append(make_scene(f"{subset}_{number + 1:02d}", rng, deck[:num_actions]))
        deck = deck[num_actions:]
    return scenes


def _room(scene: Scene) -> np.ndarray:
    """The empty room, float32 [size, size, 3]: wall and floor with a soft edge, lit from above."""
    y, x = _grid(scene.size)
    wall = np.array(scene.wall, np.float32)
    floor = (0.92 * wall + np.array([10, 4, -4], np.float32)).astype(np.float32)
    mix = _rise(y - scene.horizon, 0.02)[..., None]
    light = 1.08 - 0.35 * ((x - 0.5) ** 2 + (y - 0.35) ** 2) + 0.12 * mix[..., 0] * (y - scene.horizon)
    return ((1 - mix) * wall + mix * floor) * light[..., None]


def _wheel(name: str, side: int) -> np.ndarray:
    """A wheel with three petals, float32 [side, side, 4]: RGB times alpha, alpha 0..1; its radius is side / 2 - 2."""
    y, x = (2 * axis - 1 for axis in _grid(side))
    r, angle = np.hypot(x, y), np.arctan2(y, x)
    blur = 3 / side
    body, petal = (np.array(paint, np.float32) for paint in _PAINT[name])
    petals = _rise(0.82 * np.clip(np.cos(3 * angle), 0, 1) ** 0.5 - r, 2 * blur) * _rise(r - 0.22, blur)
    color = body + petals[..., None] * (petal - body)
    color *= (1 - 0.3 * _rise(r - 0.88, blur))[..., None]
    alpha = _rise(1 - 4 / side - r, blur)[..., None]
    return np.concatenate([np.clip(color, 0, 255) * alpha, alpha], axis=2, dtype=np.float32)


def _act(frame: np.ndarray, scene: Scene, wheel: np.ndarray, action: Action, now: float) -> None:
    """Draw the wheel of an action into `frame`: at rest, or in its motion."""
    length = action.end_seconds - action.start_seconds
    time = float(np.clip(now - action.start_seconds, 0, length))
    fade = min(1.0, (length - time) / 0.2)
    turns = right = up = 0.0
    match action.label.split()[1]:
        case "spin":
            turns = 1.8 * action.tempo * time
        case "bounce":
            up = 0.2 * fade * abs(math.sin(math.pi * 3.2 * action.tempo * time))
        case "slide":
            right = 0.15 * fade * math.sin(2 * math.pi * 2.6 * action.tempo * time)
    grown = min(1.0, (now - action.enters_seconds) / _POP_SECONDS, (action.leaves_seconds - now) / _POP_SECONDS)
    x, y = action.rest
    _draw(frame, scene, wheel, (x + right, y), up, turns, scale=max(grown, 0.02))


def _distract(frame: np.ndarray, scene: Scene, wheel: np.ndarray, kind: str, share: float) -> np.ndarray:
    """The frame with a distractor that is `share` (0..1) through."""
    if kind == "gray roll":
        center = -0.25 + 1.5 * share
        turns = center / (2 * math.pi * scene.radius)
        _draw(frame, scene, wheel, (center, 0.68), 0.0, turns, scale=1.0)
        return frame
    if kind == "cloud":
        y, x = _grid(scene.size)
        shadow = np.exp(-(((x + 0.6 - 2.2 * share) / 0.25) ** 2) - ((y - 0.4) / 0.4) ** 2)
    else:
        shadow = np.full(frame.shape[:2], math.sin(math.pi * share) ** 2)
    return frame * (1 - 0.25 * shadow[..., None]).astype(np.float32)


def _draw(
    frame: np.ndarray,
    scene: Scene,
    wheel: np.ndarray,
    center: tuple[float, float],
    up: float,
    turns: float,
    scale: float,
) -> None:
    """Blend a wheel `up` above its resting place, and its shadow on the floor, into `frame`."""
    y, x = _grid(scene.size)
    width = scale * scene.radius * (1 + up)
    foot = center[1] + scene.radius
    distance = ((x - center[0]) / width) ** 2 + ((y - foot) / (0.25 * width)) ** 2
    frame *= (1 - 0.45 / (1 + 6 * up) * np.exp(-distance))[..., None]
    # From the sprite's pixels to the frame's: turn about the middle, shrink, move.
    middle = (wheel.shape[0] - 1) / 2
    zoom = scale * scene.radius * scene.size / (wheel.shape[0] / 2)
    matrix = cv2.getRotationMatrix2D((middle, middle), -360 * turns, zoom)
    height = foot - scale * scene.radius - up
    matrix[:, 2] += np.array([center[0], height]) * scene.size - 0.5 - middle
    sprite = cv2.warpAffine(wheel, matrix, (scene.size, scene.size), flags=cv2.INTER_LINEAR)
    frame *= 1 - sprite[..., 3:]
    frame += sprite[..., :3]


def _grid(side: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centers (y [side, 1], x [1, side]) of a unit square."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) / side
    return axis[:, None], axis[None, :]


def _rise(value: np.ndarray, width: float) -> np.ndarray:
    """Smooth step from 0 to 1 about value = 0."""
    t = np.clip(value / (2 * width) + 0.5, 0, 1)
    return t * t * (3 - 2 * t)
