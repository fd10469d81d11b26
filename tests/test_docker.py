"""Dockerfile, compose.yaml and what is written of them fit together. `make image-test` builds the image and uses it."""

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import click
import pytest
import yaml

from hrpro_pipeline.cli import main

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions in order, continued lines joined, comments left out."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found = []
    for line in filter(str.strip, joined.splitlines()):
        name, _, rest = line.partition(" ")
        found.append((name, re.sub(r" +", " ", rest.strip())))
    return found


def only(name: str) -> str:
    """The arguments of the last instruction of that name, which is the one that counts."""
    return [rest for found, rest in instructions() if found == name][-1]


def pairs(name: str) -> dict[str, str]:
    """KEY=VALUE arguments of all instructions of that name."""
    words = [word for found, rest in instructions() if found == name for word in shlex.split(rest)]
    return {key: value for key, _, value in (word.partition("=") for word in words)}


def position(name: str, pattern: str) -> int:
    matches = [i for i, (found, rest) in enumerate(instructions()) if found == name and re.search(pattern, rest)]
    assert len(matches) == 1, f"{name} {pattern}: {len(matches)} instructions"
    return matches[0]


def in_build(path: str) -> bool:
    """Whether a file reaches the build: .dockerignore's last pattern that matches it or a folder above it decides."""
    parents = [str(PurePosixPath(path)), *map(str, PurePosixPath(path).parents)][:-1]
    reaches = True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if line and not line.startswith("#"):
            pattern = line.removeprefix("!")
            names = [pattern, pattern.removeprefix("**/")]
            if any(fnmatch.fnmatchcase(parent, name) for parent in parents for name in names) or (
                pattern.startswith("**/") and pattern.removeprefix("**/") in PurePosixPath(path).parts
            ):
                reaches = line.startswith("!")
    return reaches


def parse(words: list[str]) -> None:
    """Raises for a command line that the parser does not take."""
    command = main.get_command(click.Context(main), words[0])
    assert command is not None, words
    command.make_context(command.name, words[1:])


def mounts(volumes: list[str]) -> dict[str, bool]:
    """Where volumes are in the container, and whether they can be written there."""
    found = {}
    for volume in volumes:
        target, _, mode = re.sub(r"\$\{[^}]*\}|^\"?\$PWD\"?[^:]*", "host", volume).split(":", 1)[1].partition(":")
        found[target] = mode != "ro"
    return found


def use_mounts(words: list[str], targets: dict[str, bool], folder: Path) -> list[str]:
    """The command with its paths moved from the container into `folder`, which has the files; each is in a volume."""
    moved = []
    for before, word in zip(["", *words], words, strict=False):
        if word.startswith("/"):
            target = next((target for target in targets if PurePosixPath(word).is_relative_to(target)), None)
            assert target is not None, f"{word} is in none of the volumes {list(targets)}"
            assert targets[target] or before != "--out", f"{word}: {target} is mounted read-only"
            path = folder / word.lstrip("/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch() if path.suffix else path.mkdir(parents=True, exist_ok=True)
            word = str(path)
        moved.append(word)
    return moved


def test_code_is_copied_after_the_dependencies() -> None:
    files = position("COPY", "pyproject.toml")
    dependencies = position("RUN", "pip install")
    code = position("COPY", "hrpro_pipeline")
    assert only_sources(files) == {"pyproject.toml", "constraints.txt"}
    assert position("RUN", "apt-get install") < files < dependencies < code
    assert not [rest for name, rest in instructions()[:dependencies] if name == "COPY" and "hrpro_pipeline" in rest]
    after = [rest for name, rest in instructions()[code + 1 :] if name == "RUN"]
    assert not re.search(r"\b(pip|apt-get|curl|wget)\b", " ".join(after)), "a change of the code would install again"
    changing = [name for name, _ in instructions()[:code] if name == "ARG"]
    assert len(changing) == 2, "an argument such as the version, set before the dependencies, installs them again"


def only_sources(index: int) -> set[str]:
    """What a COPY copies."""
    return set(instructions()[index][1].split()[:-1])


def test_what_is_copied_reaches_the_build_and_nothing_else() -> None:
    sources = {source for i, (name, _) in enumerate(instructions()) if name == "COPY" for source in only_sources(i)}
    assert sources == {"pyproject.toml", "constraints.txt", "LICENSE", "hrpro_pipeline"}
    assert all((ROOT / source).exists() and in_build(source) for source in sources)
    assert in_build("hrpro_pipeline/show/page/page.html")
    for path in (".git/config", ".venv/bin/python", ".env", "tests/test_docker.py", "videos/a.mp4", "README.md"):
        assert not in_build(path), f"{path} would be sent to the build"
    assert not in_build("hrpro_pipeline/__pycache__/cli.pyc")
    assert not in_build("hrpro_pipeline/data/__pycache__/files.pyc")


def test_runs_as_a_user_without_rights() -> None:
    user = only("USER")
    assert user not in ("root", "0")
    made = instructions()[position("RUN", "useradd")][1]
    assert re.search(rf"useradd [^&]*--uid 1000 [^&]*{user}", made)
    assert only("ENTRYPOINT") == '["tini", "--", "hrpro"]'
    assert only("WORKDIR") == "/data"


def test_caches_are_in_the_volume() -> None:
    environment = pairs("ENV")
    volumes = re.findall(r'"([^"]+)"', only("VOLUME"))
    for name in ("HOME", "HRPRO_CACHE", "NUMBA_CACHE_DIR"):
        assert PurePosixPath(environment[name]).is_relative_to("/cache"), name
    assert set(volumes) == {"/cache", "/data", "/features", "/models", "/videos"}
    assert set(environment["NVIDIA_DRIVER_CAPABILITIES"].split(",")) == {"compute", "utility", "video"}  # video: NVDEC


def test_installs_what_pyproject_offers() -> None:
    extras = re.search(r"\.\[([\w,]+)\]", instructions()[position("RUN", "pip install")][1])
    assert extras is not None
    chosen = {name: PYPROJECT["project"]["optional-dependencies"][name] for name in extras[1].split(",")}
    assert any(requirement.startswith("torchcodec") for requirement in chosen["gpu"])
    assert {"figures", "ray", "s3"} <= set(chosen)


def test_labels() -> None:
    labels = pairs("LABEL")
    prefix = "org.opencontainers.image."
    assert {key.removeprefix(prefix) for key in labels} == {
        *("title", "description", "licenses", "version", "revision", "source"),
    }
    assert labels[prefix + "description"] == PYPROJECT["project"]["description"]
    assert labels[prefix + "licenses"] == PYPROJECT["project"]["license"]
    assert pairs("ARG")["VERSION"] == PYPROJECT["project"]["version"]


def test_says_nothing_of_one_machine() -> None:
    """No keys, no mirrors: what a build needs of them is given when it is run."""
    text = (ROOT / "Dockerfile").read_text()
    assert not re.search(r"(?i)token|password|secret|passwd=|trusted-host|extra-index|proxy", text)
    assert set(re.findall(r"https?://[^\s/`'\"]+", text)) == {"https://download.pytorch.org"}
    assert pairs("ARG")["BASE"] == "debian:bookworm-slim"
    assert pairs("ARG")["TORCH_INDEX"] == ""


@pytest.mark.parametrize("step", ["extract", "train", "detect"])
def test_compose_commands_parse(step: str, tmp_path: Path) -> None:
    service = COMPOSE["services"][step]
    targets = mounts(service["volumes"])
    assert set(targets) <= set(re.findall(r'"([^"]+)"', only("VOLUME")))
    assert targets["/cache"] and not targets["/videos"]
    assert service["command"][0] == step
    parse(use_mounts(service["command"], targets, tmp_path))


def test_compose_steps_fit_together() -> None:
    services = COMPOSE["services"]
    assert list(services) == ["extract", "train", "detect"]
    commands = {name: service["command"] for name, service in services.items()}
    out = {name: words[words.index("--out") + 1] for name, words in commands.items()}
    assert commands["train"][1] == out["extract"]
    assert commands["detect"][1] == out["train"]
    for name, service in services.items():
        (gpu,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert gpu == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}
        assert service["profiles"] == [name], "`docker compose up` would start the steps at the same time"
    assert "cache" in COMPOSE["volumes"]


def test_compose_without_gpu() -> None:
    # Compose's `!reset` takes a key out.
    text = re.sub(r"!reset \S+", "reset", (ROOT / "docker/compose.cpu.yaml").read_text())
    laid_over: dict[str, Any] = yaml.safe_load(text)
    assert list(laid_over["services"]) == list(COMPOSE["services"])
    for service in laid_over["services"].values():
        assert service["deploy"] == "reset"
        assert set(service["build"]["args"]) == {"TORCH_INDEX"} <= set(pairs("ARG"))
        assert service["image"] != COMPOSE["services"]["extract"]["image"], "one image would replace the other"


def docker_runs() -> list[list[str]]:
    """Every `docker run` line of the README and the pages of docs/, continued lines joined."""
    text = "".join(page.read_text() for page in PAGES)
    blocks = "".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line, comments=True) for line in blocks.splitlines() if line.startswith("docker run")]


@pytest.mark.parametrize("words", docker_runs(), ids=" ".join)
def test_docker_run_lines_parse(words: list[str], tmp_path: Path) -> None:
    image = next(i for i, word in enumerate(words) if word in ("hrpro", "hrpro:cpu"))
    volumes = [word for before, word in zip(words, words[1:image], strict=False) if before == "-v"]
    parse(use_mounts(words[image + 1 :], mounts(volumes), tmp_path))


def test_docker_run_lines_are_there() -> None:
    commands = {word for words in docker_runs() for word in words}
    assert {"extract", "train", "detect", "--gpus", "/videos", "/features"} <= commands


def test_image_test_says_what_is_missing(tmp_path: Path) -> None:
    bash, dirname = shutil.which("bash"), shutil.which("dirname")
    assert bash is not None and dirname is not None
    (tmp_path / "dirname").symlink_to(dirname)
    script = ROOT / "docker/image_test.sh"
    done = subprocess.run([bash, script], env={"PATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "image-test: buildah is missing; on Debian and Ubuntu: apt-get install buildah debootstrap\n"
    assert os.access(script, os.X_OK)


def test_click_is_what_parses() -> None:
    """The parser refuses what is wrong, so that the tests above can fail."""
    with pytest.raises(click.UsageError):
        parse(["extract", "--nothing"])
