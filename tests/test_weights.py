"""Weights: a real download from a local server, digests, conversion, and what is refused."""

import hashlib
import http.server
import logging
import pickle
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from hrpro_pipeline.configs.schema import NETWORKS
from hrpro_pipeline.data.files import git_blob_sha1, sha256
from hrpro_pipeline.errors import HrproError
from hrpro_pipeline.extract import weights
from hrpro_pipeline.extract.backbones import load_backbone
from hrpro_pipeline.extract.i3d import random_i3d
from hrpro_pipeline.extract.weights import (
    ALTERNATIVES,
    ENTRIES,
    WeightEntry,
    cached_weights,
    download_all,
    load_weights,
    verify_all,
)

CPU = torch.device("cpu")


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serves a folder; files named cut* are announced longer than they are."""

    requests: list[str] = []

    def do_GET(self) -> None:
        self.requests.append(self.path)
        if not self.path.startswith("/cut"):
            super().do_GET()
            return
        content = (Path(self.directory) / self.path[1:]).read_bytes()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = tmp_path / "served"
    folder.mkdir()
    QuietHandler.requests.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


STATE = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.tensor([1.0, 2.0])}


def made_entry(folder: Path, base: str, name: str = "made.pt") -> WeightEntry:
    """An entry for a file in the legacy format, which the published files have."""
    torch.save(STATE, folder / name, _use_new_zipfile_serialization=False)
    return replace(ENTRIES[0], name="made", url=f"{base}/{name}", git_sha1=git_blob_sha1(folder / name))


def same(one: dict[str, torch.Tensor] | None, other: dict[str, torch.Tensor]) -> bool:
    return one is not None and one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in other)


def test_downloaded_once_then_read_from_the_converted_copy(served: tuple[Path, str], tmp_path: Path) -> None:
    entry, cache = made_entry(*served), tmp_path / "cache"
    first = cached_weights(entry, cache)
    assert same(first.state, STATE)
    assert first.digest == f"git-sha1:{entry.git_sha1}"
    (cache / entry.file_name).unlink()  # the converted copy is enough from now on
    second = cached_weights(entry, cache)
    assert same(second.state, STATE)
    assert second.digest == first.digest
    assert QuietHandler.requests == ["/made.pt"]
    with weights.safe_open(cache / "made.safetensors", framework="pt") as file:
        metadata = file.metadata()
    assert metadata["license"] == "Apache-2.0"
    assert metadata["url"] == entry.url
    assert "piergiaj" in metadata["origin"]
    assert [row.ok for row in verify_all(cache, (entry,))] == [True]


def test_a_changed_copy_is_not_used(served: tuple[Path, str], tmp_path: Path) -> None:
    entry, cache = made_entry(*served), tmp_path / "cache"
    cached_weights(entry, cache)
    copy = cache / "made.safetensors"
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    with pytest.raises(HrproError, match=r"made.safetensors: digest .* is not the recorded one; delete it"):
        cached_weights(entry, cache)
    assert [row.ok for row in verify_all(cache, (entry,))] == [False]


def test_wrong_digest_is_not_used(served: tuple[Path, str], tmp_path: Path) -> None:
    entry = replace(made_entry(*served), git_sha1="0" * 40)
    with pytest.raises(HrproError, match=r"expected 0{40}: not the published file, and not used"):
        cached_weights(entry, tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_first_digits_of_a_sha256_are_checked(served: tuple[Path, str], tmp_path: Path) -> None:
    """As torchvision's files have them in their names."""
    entry = made_entry(*served)
    digest = sha256(served[0] / "made.pt")
    cached = cached_weights(replace(entry, git_sha1=None, sha256=digest[:8]), tmp_path / "cache")
    assert same(cached.state, STATE)
    assert cached.digest == f"sha256:{digest}"
    wrong = replace(entry, name="wrong", git_sha1=None, sha256="0" * 8)
    with pytest.raises(HrproError, match=rf"digest {digest[:8]}, expected 0{{8}}: not the published file"):
        cached_weights(wrong, tmp_path / "cache")


def test_safetensors_are_used_as_they_are(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, base = served
    save_file(STATE, folder / "model.safetensors")
    digest = sha256(folder / "model.safetensors")
    for published in (digest, None):
        url = f"{base}/model.safetensors"
        entry = replace(ENTRIES[0], name="model", url=url, git_sha1=None, sha256=published)
        cache = tmp_path / str(published)
        QuietHandler.requests.clear()
        for _ in range(2):
            cached = cached_weights(entry, cache)
            assert same(cached.state, STATE)
            assert cached.digest == f"sha256:{digest}"
        assert QuietHandler.requests == ["/model.safetensors"], "downloaded once"
        assert [row.ok for row in verify_all(cache, (replace(entry, backbone="i3d"),))] == [True]
    save_file({"a": torch.zeros(1)}, cache / "model.safetensors")
    with pytest.raises(HrproError, match="digest .* is not the recorded one; delete it"):
        cached_weights(entry, cache)


def test_cut_short_missing_and_offline_say_what_to_do(served: tuple[Path, str], tmp_path: Path) -> None:
    folder, base = served
    cut = made_entry(folder, base, "cut.pt")
    cache = tmp_path / "cache"
    gone = replace(cut, url=f"{base}/nothing.pt")
    offline = replace(cut, url="http://127.0.0.1:9/made.pt")
    for entry, reason in [(cut, "cut short|IncompleteRead|more expected"), (gone, "404"), (offline, "refused")]:
        with pytest.raises(HrproError, match=reason) as caught:
            cached_weights(entry, cache)
        text = str(caught.value)
        assert f"fetch {entry.url}" in text
        assert str(cache / entry.file_name) in text
        assert "run the same command again" in text
        assert list(cache.iterdir()) == [], "nothing half-written stays"


def test_a_file_put_there_by_hand_is_checked_and_used(tmp_path: Path) -> None:
    source, cache = tmp_path / "source", tmp_path / "cache"
    source.mkdir()
    cache.mkdir()
    entry = made_entry(source, "http://127.0.0.1:9")
    (source / "made.pt").rename(cache / entry.file_name)
    assert same(cached_weights(entry, cache).state, STATE)
    torch.save({}, cache / "other.pt")
    wrong = replace(entry, name="other", git_sha1="1" * 40)
    with pytest.raises(HrproError, match="other.pt: digest .* expected 1{40}"):
        cached_weights(wrong, cache)


def test_without_published_digest_the_first_download_is_recorded(
    served: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, base = served
    entry, cache = replace(made_entry(folder, base), git_sha1=None), tmp_path / "cache"
    with caplog.at_level(logging.WARNING):
        first = cached_weights(entry, cache)
    assert "no digest is published" in caplog.text
    assert first.digest == "sha256:" + hashlib.sha256((folder / "made.pt").read_bytes()).hexdigest()
    (cache / "made.safetensors").unlink()
    (cache / entry.file_name).unlink()
    torch.save({}, folder / "made.pt")  # the server's file changes
    with pytest.raises(HrproError, match="not the published file"):
        cached_weights(entry, cache)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.target), "w")


def test_code_in_a_weight_file_is_never_run(tmp_path: Path) -> None:
    folder, harmed = tmp_path / "weights", tmp_path / "harmed"
    folder.mkdir()
    (folder / "rgb.pt").write_bytes(pickle.dumps({"a": Malicious(harmed)}, protocol=2))
    torch.save({"a": Malicious(harmed)}, folder / "flow.pth")
    for stream in ("rgb", "flow"):
        with pytest.raises(HrproError, match=r"not a weight file that can be read safely"):
            load_weights(str(folder), stream)
    assert not harmed.exists()


def test_download_all_goes_on_after_a_failure(served: tuple[Path, str], tmp_path: Path) -> None:
    good = made_entry(*served)
    bad = replace(good, name="bad", url=good.url + ".gone")
    rows = download_all(tmp_path / "cache", (bad, good))
    assert [row.ok for row in rows] == [False, True]
    assert "404" in rows[0].status
    assert rows[1].status == f"verified, git-sha1:{good.git_sha1}"
    assert [row.status for row in verify_all(tmp_path / "empty", (good,))] == ["not downloaded"]


def test_the_cache_folder_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HRPRO_CACHE", str(tmp_path / "here"))
    assert weights.cache_folder() == tmp_path / "here"
    monkeypatch.delenv("HRPRO_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights.cache_folder() == tmp_path / ".cache" / "hrpro" / "weights"


def test_random_weights_say_so(caplog: pytest.LogCaptureFixture) -> None:
    weights._warn_random.cache_clear()
    with caplog.at_level(logging.WARNING):
        first, second = load_weights("random", "rgb"), load_weights("random", "flow")
    assert caplog.text.count("NOT Kinetics") == 1
    assert first.state is None
    assert first.digest == second.digest == "random (seed 0), NOT Kinetics"


def test_a_folder_of_weights(tmp_path: Path) -> None:
    model = random_i3d("flow", 5)
    state = dict(model.state_dict())
    torch.save(state, tmp_path / "model_flow.pth")
    backbone = load_backbone("flow", "i3d", str(tmp_path), CPU)
    clips = torch.randint(0, 256, (1, 2, 16, 32, 32), dtype=torch.uint8)
    with torch.inference_mode():
        expected = model(clips.float() / 255 * 2 - 1)[:, 0]
        torch.testing.assert_close(backbone.features(clips), expected, rtol=1e-3, atol=1e-5)
    sha = hashlib.sha256((tmp_path / "model_flow.pth").read_bytes()).hexdigest()
    assert backbone.digest == f"sha256:{sha}"
    with pytest.raises(HrproError, match="no rgb weights; expected rgb"):
        load_weights(str(tmp_path), "rgb")
    (tmp_path / "model_flow.pth").rename(tmp_path / "rgb_imagenet.pt")
    with pytest.raises(HrproError, match="input of 2 channels, but stream 'rgb' has 3"):
        load_backbone("rgb", "i3d", str(tmp_path), CPU)
    (tmp_path / "rgb_other.pt").touch()
    with pytest.raises(HrproError, match="2 files for stream rgb"):
        load_weights(str(tmp_path), "rgb")
    with pytest.raises(HrproError, match="expected kinetics, random, or a folder"):
        load_weights(str(tmp_path / "nowhere"), "rgb")


def test_entries_are_complete() -> None:
    for entry in (*ENTRIES, *ALTERNATIVES):
        assert entry.url.startswith("https://")
        assert entry.license
        assert entry.git_sha1 is None or len(entry.git_sha1) == 40
        assert entry.sha256 is None or len(entry.sha256) in (8, 64)
        assert entry.git_sha1 or entry.sha256 or "pytorchvideo" in entry.url or entry.backbone == "videomae_b"
        if "huggingface" in entry.url:
            assert re.search(r"/resolve/[0-9a-f]{40}/", entry.url), "the revision is pinned"
    named = {(entry.backbone, entry.stream) for entry in ENTRIES}
    assert named == {("i3d", "flow"), *((network, "rgb") for network in NETWORKS)}


@pytest.mark.parametrize(("name", "width"), [("i3d_r50", 2048), ("slow_r50", 2048), ("x3d_m", 192)])
def test_pytorchvideo_backbones(name: str, width: int, tmp_path: Path) -> None:
    backbone = load_backbone("rgb", name, "random", CPU)
    levels = torch.randint(0, 256, (2, 3, 16, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        features = backbone.features(levels)
        expected = backbone.module((levels.float() / 255 - 0.45) / 0.225)
    assert features.shape == (2, width)
    assert backbone.width == width
    torch.testing.assert_close(features, expected)
    # The published files wrap the parameters of the whole network, its classifier included.
    from pytorchvideo.models import hub

    network = getattr(hub, name)(pretrained=False).eval()
    torch.save({"model_state": network.state_dict()}, tmp_path / "rgb.pyth")
    loaded = load_backbone("rgb", name, str(tmp_path), CPU)
    trunk = dict(loaded.module.state_dict())
    assert all(torch.equal(value, network.state_dict()[key]) for key, value in trunk.items())
    (tmp_path / "rgb.pyth").unlink()
    torch.save({"model_state": {"a": torch.zeros(1)}}, tmp_path / "rgb.pyth")
    with pytest.raises(HrproError, match=f"not weights of {name}: missing"):
        load_backbone("rgb", name, str(tmp_path), CPU)
