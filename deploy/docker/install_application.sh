#!/bin/sh
# Installs our code into a tree that is laid over one with /opt/specfuse.
#   install_application.sh SERVICE TREE
set -eu
service=$1 tree=$2
environment=/opt/specfuse

pip wheel --no-deps --wheel-dir /wheel .
pip --python "$environment/bin/python" install --no-deps --no-compile --root "$tree" /wheel/*.whl
packages=$(echo "$tree$environment"/lib/python3*/site-packages)
rm -r "$packages/specfuse/families/shipped" # models that only an evaluation asks
if [ "$service" = model ]; then
  ln -s "${packages#"$tree$environment/"}/specfuse/demo/models" "$tree$environment/experts"
else
  rm -r "$packages/specfuse/demo/models" # models that only a model service runs
fi
"$environment/bin/python" -m compileall -q -f -s "$tree" --invalidation-mode unchecked-hash "$packages"
