#!/usr/bin/env bash
# Builds the image on a Debian base made here, runs the demo in it as a user that the image does not
# know, and compares the table with the reference. Needs root and 25 GB of disk, but no Docker, no
# registry of images and no GPU; takes a quarter of an hour on two cores. Once before:
#
#     apt-get install buildah debootstrap
#
# The images stay; `buildah rmi dsrl dsrl-debian && buildah rmi --prune` removes them.
set -euo pipefail
cd "$(dirname "$0")/../.."

work=$(mktemp --directory)
chmod 755 "$work"
trap 'buildah rm dsrl-run > /dev/null 2>&1 || true; rm -rf "$work"' EXIT

step() { echo "== $* (after ${SECONDS} s)"; }

step "A Debian base"
debootstrap --variant=minbase --include=ca-certificates bookworm "$work/debian" > "$work/log"
# What this machine trusts, a proxy's certificate say, the build trusts.
cp /etc/ssl/certs/ca-certificates.crt "$work/debian/etc/ssl/certs/"
base=$(buildah from scratch)
buildah add --quiet "$base" "$work/debian" / > "$work/log"
buildah commit --quiet --rm "$base" dsrl-debian > "$work/log"

step "The image"
buildah build --isolation chroot --network host --layers \
    --build-arg BASE_IMAGE=localhost/dsrl-debian --tag dsrl --file docker/Dockerfile .
buildah images dsrl

# As the README mounts it: a checkout, of the last commit, that belongs to the user.
user=12345:54321
mkdir "$work/checkout"
git archive HEAD | tar --extract --directory "$work/checkout"
chown --recursive "$user" "$work/checkout"
buildah from --quiet --name dsrl-run dsrl > "$work/log"
inside() {
    buildah run --isolation chroot --user "$user" --volume "$work/checkout:/dsrl" dsrl-run -- "$@"
}

step "No build tools are inside but those that Triton needs"
inside sh -c 'id && ! command -v pip uv make g++ git'

step "What Triton compiles on a GPU compiles"
inside python - <<'PYTHON'
from pathlib import Path

from triton.backends.nvidia import driver
from triton.runtime.build import compile_so_from_file

source = Path(driver.__file__).with_name("driver.c")
print(compile_so_from_file(str(source), "cuda_utils", include_dirs=driver.include_dirs))
PYTHON

step "The demo"
inside snakemake --cores all --quiet rules progress

step "The table agrees with the reference"
inside python workflow/scripts/compare_tables.py results/benchmark.csv tests/golden/demo.csv
cat "$work/checkout/results/benchmark.txt"
step "Done"
