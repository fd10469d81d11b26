#!/usr/bin/env bash
# Builds the Dockerfile without a Docker engine and uses the image: buildah with chroot isolation, on a base made by
# debootstrap, which stands in for debian:bookworm-slim. Prints sizes and times as JSON lines. Takes about 15 minutes.
#   make image-test                       the video is one that the demo in the image makes
#   make image-test VIDEO=/path/to.mp4    a real one
# Environment:
#   MIRROR          Debian mirror (http://deb.debian.org/debian)
#   STORAGE_DRIVER  overlay (the default where it can be mounted; needs 30 GB) or vfs (a copy for each layer: 60 GB)
#   BUILD_FLAGS     more arguments for `buildah build`, as a pip mirror's: --volume /etc/pip.conf:/etc/pip.conf:ro
#   TMPDIR          where all of it happens (/var/tmp); nothing is left there
set -euo pipefail
cd "$(dirname "$0")/.."

fail() {
  echo "image-test: $*" >&2
  exit 1
}

for tool in buildah debootstrap; do
  command -v "$tool" >/dev/null || fail "$tool is missing; on Debian and Ubuntu: apt-get install buildah debootstrap"
done
[ "$(id -u)" = 0 ] || fail "debootstrap needs root; run it with sudo, or in a container or virtual machine"
[ -z "${VIDEO:-}" ] || [ -f "$VIDEO" ] || fail "VIDEO=$VIDEO is not a file"

work=$(mktemp -d "${TMPDIR:-/var/tmp}/hrpro-image-test.XXXXXX")
export TMPDIR=$work
log=$work/log

overlay_works() {
  mkdir -p "$work"/overlay/{lower,upper,work,merged}
  mount -t overlay overlay -o "lowerdir=$work/overlay/lower,upperdir=$work/overlay/upper,workdir=$work/overlay/work" \
    "$work/overlay/merged" 2>/dev/null && umount "$work/overlay/merged"
}

driver=${STORAGE_DRIVER:-$(if overlay_works; then echo overlay; else echo vfs; fi)}
buildah=(buildah --root "$work/storage" --runroot "$work/run" --storage-driver "$driver")

clean_up() {
  "${buildah[@]}" rm --all >/dev/null 2>&1 || true
  "${buildah[@]}" rmi --all --force >/dev/null 2>&1 || true
  rm -rf "$work"
}
trap clean_up EXIT

need=$([ "$driver" = vfs ] && echo 60 || echo 30)
free=$(df --output=avail -BG "$work" | tail -1 | tr -dc 0-9)
[ "$free" -ge "$need" ] || fail "$work has $free GB free, $driver storage needs $need; set TMPDIR"

# Run a step, its output into the log; print its name and seconds. (-e does not hold in a function called here: && does.)
timed() {
  local name=$1 start=$EPOCHREALTIME
  shift
  if ! "$@" >"$log" 2>&1; then
    tail -n 40 "$log" >&2
    fail "step '$name' failed; the lines above are the end of its output"
  fi
  awk -v name="$name" -v start="$start" -v end="$EPOCHREALTIME" \
    'BEGIN { printf "{\"step\": \"%s\", \"seconds\": %.1f}\n", name, end - start }'
}

make_base() {
  local container
  debootstrap --variant=minbase bookworm "$work/base" "${MIRROR:-http://deb.debian.org/debian}" \
    && container=$("${buildah[@]}" from scratch) \
    && "${buildah[@]}" add --quiet "$container" "$work/base" / \
    && "${buildah[@]}" commit --quiet --rm "$container" localhost/base \
    && rm -rf "$work/base"
}

build() {
  # BUILD_FLAGS is several words.
  # shellcheck disable=SC2086
  "${buildah[@]}" build --isolation chroot --layers --build-arg BASE=localhost/base ${BUILD_FLAGS:-} \
    --tag localhost/hrpro "$work/context"
}

# A container of the image. Its declared volumes are undeclared: here (not in Docker) they would hide what is mounted.
start() {
  local volume
  container=$("${buildah[@]}" from localhost/hrpro)
  # shellcheck disable=SC2016  # a Go template
  for volume in $("${buildah[@]}" inspect --type image --format '{{range $k, $v := .OCIv1.Config.Volumes}}{{$k}} {{end}}' \
    localhost/hrpro); do
    "${buildah[@]}" config --volume "$volume-" "$container"
  done
}

# Run in the container as `docker run` would: the image's user, environment and folder. First argument: more options.
inside() {
  local options
  read -ra options <<<"$1"
  shift
  # tini is the first process under Docker, but not here.
  "${buildah[@]}" run --isolation chroot --env TINI_SUBREAPER=1 "${options[@]}" "$container" -- "$@"
}

# The same with the image's entry point and the volumes, as in `docker run -v ...:/videos:ro ... hrpro extract /videos`.
hrpro() {
  local entry
  read -ra entry <<<"$("${buildah[@]}" inspect --type image --format '{{range .OCIv1.Config.Entrypoint}}{{.}} {{end}}' \
    localhost/hrpro)"
  inside "$volumes" "${entry[@]}" "$@"
}

check_inside() {
  inside "" python - <<'PYTHON'
import ctypes, os, subprocess, sys, sysconfig
from torchcodec.decoders import VideoDecoder  # fails where FFmpeg's libraries are missing

assert os.getuid() == 1000, os.getuid()
assert not os.access("/opt/hrpro", os.W_OK) and os.access("/cache", os.W_OK)
assert "video" in os.environ["NVIDIA_DRIVER_CAPABILITIES"]
avcodec = ctypes.CDLL("libavcodec.so.59")
avcodec.avcodec_find_decoder_by_name.restype = ctypes.c_void_p
assert avcodec.avcodec_find_decoder_by_name(b"h264_cuvid"), "FFmpeg without NVDEC"
# Triton compiles such modules on a GPU.
subprocess.run(
    ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", "/tmp/module.so", f"-I{sysconfig.get_path('include')}"],
    input=b"#include <Python.h>\nint version(void) { return PY_VERSION_HEX; }\n",
    check=True,
)
assert ctypes.CDLL("/tmp/module.so").version() == sys.hexversion
PYTHON
}

# Megabytes of a folder of the image, 0 where it is not there.
megabytes() { du -sxm "$mounted$1" 2>/dev/null | cut -f1 || echo 0; }

# The build sees a copy, so that "a change of the code" changes nobody's code.
mkdir -p "$work/context" "$work"/volumes/{videos,features,models,data,cache,other}
cp -a Dockerfile .dockerignore LICENSE constraints.txt pyproject.toml hrpro_pipeline "$work/context/"
chown -R 1000:1000 "$work"/volumes
chmod 755 "$work" # others have to get to the volumes
of() { printf -- '--volume %s:%s ' "$work/volumes/$1" "$2"; }

echo "{\"storage\": \"$driver\", \"buildah\": \"$(buildah --version | cut -d' ' -f3)\", \"cores\": $(nproc), \"date\": \"$(date -I)\"}"
timed "base by debootstrap" make_base
timed "build" build
start
mounted=$("${buildah[@]}" mount "$container")
echo "{\"image_mb\": $(megabytes ""), \"packages_mb\": $(megabytes /opt/venv), \"cuda_mb\": $(megabytes \
  /opt/venv/lib/python3.11/site-packages/nvidia), \"code_mb\": $(megabytes /opt/hrpro)}"

volumes=""
timed "hrpro --help" hrpro --help
timed "user, FFmpeg, NVDEC in FFmpeg, compiler" check_inside

volumes="$(of data /data)$(of cache /cache)"
timed "hrpro demo" hrpro demo --out /data/demo
[ -s "$work/volumes/data/demo/report.html" ] || fail "the demo left no report"
tail -n 12 "$log" >&2
timed "hrpro figures" hrpro figures /data/demo/both/run --out /data/figures
[ -s "$work/volumes/data/figures/figB-tsne.svg" ] || fail "no figures"

video=${VIDEO:-$(find "$work/volumes/data/demo/videos" -type f | sort | head -1)}
cp "$video" "$work/volumes/videos/"
# As `docker run --user 4321:4321`: a user that the image does not know, and its own /cache.
chown 4321:4321 "$work/volumes/other"
volumes="--user 4321:4321 $(of videos /videos:ro)$(of other /features)"
timed "hrpro extract, $(basename "$video"), another user" \
  hrpro extract /videos --out /features --weights random --decoder torchcodec --device cpu
features=$(find "$work/volumes/other" -name '*.h5')
[ -n "$features" ] && [ "$(stat -c %u "$features")" = 4321 ] || fail "no feature file of user 4321"
timed "hrpro info" hrpro info "/features/$(basename "$features")"
cat "$log" >&2
grep -q "torchcodec" "$log" || fail "torchcodec did not decode $video"

volumes="$(of data/demo/features /features)$(of data /data)$(of models /models)$(of cache /cache)$(of videos /videos:ro)"
timed "hrpro train, 20 steps" hrpro train /features --points /data/demo/points.csv --preset demo \
  --set snippet.steps=20 --set instance.epochs=1 --out /models/first
timed "hrpro detect, $(basename "$video")" hrpro detect /models/first /videos --out /data/detections
[ -n "$(find "$work/volumes/data/detections" -name '*.json')" ] || fail "no detections"

"${buildah[@]}" umount "$container" >/dev/null
"${buildah[@]}" rm "$container" >/dev/null
echo '# a change' >>"$work/context/hrpro_pipeline/cli/__init__.py"
timed "build after a change of the code" build
! grep -q '^Collecting ' "$log" || fail "a change of the code installed the dependencies anew"
start
inside "" tail -n 1 /opt/hrpro/hrpro_pipeline/cli/__init__.py | grep -q '# a change' || fail "the changed code is not in the image"
volumes=""
timed "hrpro --help, changed image" hrpro --help
