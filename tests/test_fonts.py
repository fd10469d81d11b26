"""Names of classes in any script and emoji: readable, or at least never alike."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from make_videos import moving_square, write_video

from hrpro_pipeline.data.detections import Detection
from hrpro_pipeline.data.names import class_name
from hrpro_pipeline.extract.video.decoding import decode
from hrpro_pipeline.show.clips import clip_name
from hrpro_pipeline.show.figure_parts import figure_style, new_figure, patch_key
from hrpro_pipeline.show.fonts import find_font, installed_fonts, letters_of
from hrpro_pipeline.show.render import RenderJob, render

# Pairs as long as each other, so that they were the same boxes.
ALIKE = [("नम", "मन"), ("🏃", "🤸"), ("🏃 run", "🤸 run"), ("打球", "跳ぶ"), ("ไก", "กไ"), ("😀", "😁"), ("𒀀", "𒀁")]


@pytest.mark.parametrize(("first", "second"), ALIKE)
def test_two_classes_never_look_the_same_in_overlays(tmp_path: Path, first: str, second: str) -> None:
    source = write_video(tmp_path / "a.mkv", moving_square(3, 640, 480), codec="ffv1")
    panels = []
    for number, label in enumerate((first, second)):
        detection = (Detection(class_name(label), 1.0, 0.0, 1.0),)
        job = RenderJob(tmp_path / f"{number}.mp4", None, detection, (), {label: "#4477AA"})
        render(source, job)
        _, image = next(iter(decode(tmp_path / f"{number}.mp4", "pyav")))
        panels.append(np.asarray(image)[:44].astype(int))
    assert (np.abs(panels[0] - panels[1]) > 60).sum() > 20


def test_clips_of_two_classes_have_different_names() -> None:
    for pair in [*ALIKE, ("a🏃", "a🤸")]:
        names = [clip_name(1, Detection(label, 1.0, 0.0, 1.0)) for label in pair]
        assert names[0] != names[1]
    assert clip_name(1, Detection("नमस्ते", 1.0, 0.0, 1.0)) == "01_नमस्ते_0.00-1.00.mp4"


def test_two_classes_never_look_the_same_in_figures() -> None:
    for first, second in ALIKE:
        pictures = []
        for label in (first, second):
            with figure_style():
                figure = new_figure(2, 0.5)
                figure.legend(handles=[patch_key(label, facecolor="#4477AA")])
                figure.canvas.draw()
                pictures.append(np.asarray(figure.canvas.buffer_rgba()).astype(int))
        assert pictures[0].shape == pictures[1].shape
        assert (np.abs(pictures[0] - pictures[1]) > 60).any(), (first, second)


def test_letters_of_a_font_are_those_that_matplotlib_finds() -> None:
    ft2font = pytest.importorskip("matplotlib.ft2font")
    folder = Path(pytest.importorskip("matplotlib").get_data_path()) / "fonts" / "ttf"
    fonts = sorted(folder.glob("*.ttf"))
    assert len(fonts) > 10
    for path in fonts:
        if path.name.startswith("LastResort"):
            assert not letters_of(path), "its pictures are of alphabets, not letters"
            continue
        assert letters_of(path) == set(ft2font.FT2Font(str(path)).get_charmap()) - {0}, path.name


def test_files_that_are_no_fonts(tmp_path: Path) -> None:
    font = next(iter(installed_fonts()), None)
    for content in (b"", b"ttcf", b"\0\1\0\0" + b"\xff" * 64, font.read_bytes()[:3000] if font else b"x"):
        path = tmp_path / f"{len(content)}.ttf"
        path.write_bytes(content)
        assert isinstance(letters_of(path), frozenset)
    assert find_font("\U0010ffff") is None


def test_spellings_in_pairs_stay_apart() -> None:
    names = [name for pair in ALIKE for name in pair]
    assert all(class_name(a) != class_name(b) for a, b in combinations(names, 2))
