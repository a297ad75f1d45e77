#!/usr/bin/env bash
# Builds the images, with buildah or docker: `make images`. docs/images.md says what the variables mean.
set -euo pipefail
cd "$(dirname "$0")/../.."

version=$(sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)
tag=${TAG:-$version}
accelerator=${ACCELERATOR:-cpu}
services=${SERVICES:-fuser model}
one_of() { # NAME VALUE ALLOWED...: what is given is one of those
  local name=$1 value=$2
  shift 2
  [[ " $* " == *" $value "* ]] || { echo "make images: $name: is '$value', may be ${*/%/,}" | sed 's/,$//' >&2; exit 2; }
}
one_of ACCELERATOR "$accelerator" cpu cuda
for service in $services; do one_of SERVICES "$service" fuser model; done
revision=$(git describe --always --abbrev=40 --dirty 2>/dev/null || echo unknown)
created=$(git log -1 --format=%cI 2>/dev/null || true)
# All files have one time, so that a layer is the same wherever and whenever it is built: that of 1980, with which zip begins.
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-315532800}

if command -v buildah >/dev/null; then
  build=(buildah build --layers --timestamp "$SOURCE_DATE_EPOCH")
elif command -v docker >/dev/null && docker version >/dev/null 2>&1; then
  build=(docker build)
else
  echo "make images: needs buildah (apt-get install buildah, dnf install buildah), or docker with a daemon that answers" >&2
  exit 1
fi
build+=(--file deploy/docker/Containerfile)
build+=(--build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created"
  --build-arg "ACCELERATOR=$accelerator")
[[ -z ${BASE:-} ]] || build+=(--build-arg "BASE=$BASE")
[[ -z ${TORCH_INDEX:-} ]] || build+=(--build-arg "TORCH_INDEX=$TORCH_INDEX")
[[ -z ${PIP_CONF:-} ]] || build+=(--secret "id=pip.conf,src=$PIP_CONF")
[[ -z ${CA:-} ]] || build+=(--secret "id=ca.crt,src=$CA")
# shellcheck disable=SC2206 (words are what is wanted)
build+=(${BUILD_FLAGS:-})

built=()
for service in $services; do
  name=${REGISTRY:+$REGISTRY/}specfuse-$service:$tag
  [[ $service-$accelerator != model-cuda ]] || name+=-cuda
  "${build[@]}" --build-arg "SERVICE=$service" --target image --tag "$name" .
  built+=("$name")
  if [[ -n ${SBOM:-} ]]; then
    "${build[@]}" --build-arg "SERVICE=$service" --target sbom --output type=local,dest=build/sbom .
  fi
done
printf 'built %s\n' "${built[@]}"
