#!/usr/bin/env bash
# Builds the image on a Debian base made here and runs the pipeline in it to the table, as a user that
# the image does not know. Neither Docker nor a registry of images nor a GPU is needed, but root and
# 25 GB of disk, once `apt-get install buildah debootstrap`; it takes a quarter of an hour.
#
#     tests/containers/image.sh [CONFIG]    # default: the demo, config/config.yaml
set -euo pipefail
cd "$(dirname "$0")/../.."
config=${1:-config/config.yaml}

work=$(mktemp --directory)
chmod 755 "$work"
trap 'buildah rm pipeline > /dev/null 2>&1 || true; rm -rf "$work"' EXIT

step() { echo "== $* (${SECONDS} s)"; }

step "Debian base"
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" > "$work/log"
# What this machine trusts, a proxy's certificate say, the build trusts.
cp /etc/ssl/certs/ca-certificates.crt "$work/debian/etc/ssl/certs/"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/debian" / > "$work/log"
buildah commit --quiet --rm "$base" dsrl-debian > "$work/log"

step "Image"
buildah build --isolation chroot --network host --layers --build-arg BASE_IMAGE=localhost/dsrl-debian \
    --tag dsrl --file docker/Dockerfile .
buildah images --format '{{.Name}}: {{.Size}}' dsrl

# A checkout of the last commit, owned by nobody's user id, is mounted where the README mounts it.
user=12345:54321
mkdir "$work/checkout"
git archive HEAD | tar --extract --directory "$work/checkout"
cp "$config" "$work/checkout/run.yaml"
chown --recursive "$user" "$work/checkout"
buildah from --quiet --name pipeline dsrl > "$work/log"
inside() {
    buildah run --isolation chroot --user "$user" --volume "$work/checkout:/dsrl" pipeline -- "$@"
}

step "What is inside"
inside sh -c 'id && ! command -v pip uv make g++ git'
step "Triton's launcher compiles"
inside python - <<'PYTHON'
from pathlib import Path

from triton.backends.nvidia import driver
from triton.runtime.build import compile_so_from_file

source = Path(driver.__file__).with_name("driver.c")
print(compile_so_from_file(str(source), "cuda_utils", include_dirs=driver.include_dirs))
PYTHON
step "Pipeline"
inside snakemake --cores "$(nproc)" --configfile run.yaml --quiet rules progress
step "Table"
cat "$work/checkout/results/benchmark.txt"
