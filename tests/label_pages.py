"""Labeling for tests: videos whose frames carry their numbers, a server in a process of its own, and its page."""

import json
import os
import re
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
from browser_tab import BrowserTab
from make_videos import write_video
from processes import command

from hrpro_pipeline.label.files import read_point_values

BITS, BLOCK = 10, 16
WIDTH, HEIGHT = BITS * BLOCK, 96

# In the page: the number of the frame that the player shows.
READ_FRAME = f"""
window.readFrame = () => {{
  const video = document.getElementById("video");
  const canvas = window.readFrame.canvas ??= new OffscreenCanvas({WIDTH}, {HEIGHT});
  const context = canvas.getContext("2d", {{ willReadFrequently: true }});
  context.drawImage(video, 0, 0, {WIDTH}, {HEIGHT});
  let number = 0;
  for (let bit = 0; bit < {BITS}; bit += 1) {{
    if (context.getImageData(bit * {BLOCK} + {BLOCK // 2}, {HEIGHT // 4}, 1, 1).data[1] > 128) number += 1 << bit;
  }}
  return number;
}};
window.pressed = [];
// Before the page knows of the key, and after it has done all it does: the player does not wait meanwhile.
window.addEventListener("keydown", (event) => {{
  if ("123".includes(event.key) && document.getElementById("video")) window.before = window.readFrame();
}}, true);
window.addEventListener("DOMContentLoaded", () => document.addEventListener("keydown", (event) => {{
  if ("123".includes(event.key)) window.pressed.push([event.key, window.before, window.readFrame()]);
}}));
"""


def numbered(count: int) -> np.ndarray:
    """RGB frames [count, HEIGHT, WIDTH, 3]: the upper half spells the number in blocks, white for 1."""
    numbers = np.arange(count)[:, None] >> np.arange(BITS) & 1
    frames = np.full((count, HEIGHT, WIDTH, 3), 60, np.uint8)
    frames[:, : HEIGHT // 2] = np.kron(numbers, np.ones((1, BLOCK)))[:, None, :, None] * 215 + 20
    frames[:, HEIGHT // 2 :, :, 2] = np.linspace(0, 255, WIDTH).astype(np.uint8)
    return frames


def write_numbered(path: Path, count: int = 125, **options: Any) -> Path:
    """A video of numbered frames, as `write_video` makes it."""
    return write_video(path, numbered(count), **options)


class Labeling:
    """`hrpro label` in a process of its own."""

    def __init__(self, folder: Path, *arguments: Any, points: str = "points.csv") -> None:
        self.points = folder / points
        environment = os.environ | {"XDG_CACHE_HOME": str(folder / "cache")}
        words = command("label", *arguments, "--points", self.points, "--no-browser")
        self.process = subprocess.Popen(
            words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().strip()
        if not self.address:
            raise AssertionError(self.process.communicate()[1])
        matched = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/([\w-]{20,})/", self.address)
        assert matched is not None
        self.port, self.token = int(matched[1]), matched[2]

    def __enter__(self) -> "Labeling":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self, number: int = signal.SIGINT) -> str:
        """End it by a signal -> what it printed after its address."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        output, errors = self.process.communicate(timeout=20)
        return output + errors

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.address + path, timeout=30) as answer:
            return json.load(answer)

    def post(self, path: str, content: Any) -> Any:
        headers = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{self.port}"}
        request = urllib.request.Request(self.address + path, json.dumps(content).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def rows(self) -> list[tuple[str, str, float]]:
        """The points in the file."""
        return [(row["video_id"], row["class"], row["time"]) for row in read_point_values(self.points)]


class LabelTab(BrowserTab):
    """The labeling page."""

    def __init__(self, browser: Any, address: str, width: int = 1440, height: int = 900, **options: Any) -> None:
        super().__init__(browser, address, width, height, READ_FRAME, **options)
        self.wait("window.hrpro !== undefined")

    def ready(self) -> None:
        """Until the video can be labeled."""
        self.wait("hrpro.player.isReady && hrpro.player.offset !== null && !hrpro.player.video.seeking", 60)

    def saved(self) -> None:
        """Until all changes are on disk, by what the page says."""
        self.wait("document.getElementById('status').className === 'saved'")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def label_while_playing(self, count: int, pause_ms: int = 80) -> list[tuple[str, int, int]]:
        """Press keys 1, 2, 3 in turn while it plays -> (key, frames on screen before and after the page took it)."""
        self.ready()
        self.press("Home", "Space")
        self.wait("hrpro.player.video.currentTime > 0.1")
        for number in range(count):
            self.press("123"[number % 3])
            self.page.wait_for_timeout(pause_ms)
        self.press("k")
        self.saved()
        return [(str(key), int(before), int(after)) for key, before, after in self.get("window.pressed.splice(0)")]

    def open(self, video_id: str) -> None:
        """Search for a video and open it, by keys."""
        self.press("/")
        self.page.keyboard.type(video_id)
        self.press("Enter")
        self.wait(f"document.getElementById('title').textContent === {video_id!r}")
        self.ready()
        self.press("/", "Escape")

    def close(self) -> None:
        self.context.close()
