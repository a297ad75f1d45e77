#!/bin/sh
# Makes /opt/specfuse, an environment with all that a service needs but our own code.
#   install_dependencies.sh SERVICE ACCELERATOR [TORCH_INDEX]
set -eu
service=$1 accelerator=$2 torch_index=${3:-}
environment=/opt/specfuse

# Which build of torch is taken. Only builds for CPUs are marked the same on every index.
torch=$(sed -n 's/^torch==//p' constraints.txt)
case $accelerator in
  cpu) build="==$torch+cpu" ;;
  cuda) build="==$torch,!=$torch+cpu" ;;
  *) echo "ACCELERATOR: is '$accelerator', may be cpu, cuda" >&2; exit 2 ;;
esac
sed -i "s/^torch==.*/torch$build/" constraints.txt

# A project without code has the same dependencies, and stays the same when the code changes.
touch README.md LICENSE
mkdir specfuse fuser_service model_service
python3 -m venv --without-pip "$environment"
pip --python "$environment/bin/python" install --no-compile \
  ${torch_index:+--extra-index-url "$torch_index"} ".[$service]" || {
  [ "$service" = fuser ] ||
    echo "If no index of pip's has torch$build, name one that does: TORCH_INDEX or PIP_CONF (docs/images.md)" >&2
  exit 1
}
pip --python "$environment/bin/python" uninstall --yes specfuse
rm -r README.md LICENSE specfuse fuser_service model_service

# What depends on Python's version or the machine is easily forgotten. A torch for CUDA says itself what it goes with.
pip --python "$environment/bin/python" freeze | tr _ - | grep -viE '^(torch|triton|nvidia-.*|cuda-.*)=' >installed.txt
if tr _ - <constraints.txt | grep -vixFf - installed.txt; then
  echo "constraints.txt: must pin these as well" >&2
  exit 1
fi
if [ "$service-$accelerator" = model-cuda ]; then
  "$environment/bin/python" -c 'import sys, torch
if torch.version.cuda is None: sys.exit(f"ACCELERATOR: is cuda, but pip found torch {torch.__version__}, which is not for CUDA")'
fi

# What only compilers and tests of the packages need. There is no compiler in an image.
packages=$(echo "$environment"/lib/python3*/site-packages)
rm -rf "$packages"/torch/include "$packages"/torch/share "$packages"/torch/test "$environment"/include "$environment"/share
find "$packages" -path '*/torch/bin/*' ! -name torch_shm_manager -delete
find "$packages" -depth -type d \( -name tests -o -name __pycache__ \) -exec rm -r {} +
find "$packages" -name '*.a' -delete
# All of it: what a start of Python has just compiled goes by times. One file of torch is for a later Python.
"$environment/bin/python" -m compileall -q -f -j 0 --invalidation-mode unchecked-hash -x py312_intrinsics "$packages"
