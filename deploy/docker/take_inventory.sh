#!/bin/sh
# Writes a software bill of materials (CycloneDX) of /opt/specfuse with the tree laid over it.
#   take_inventory.sh SERVICE TREE DIRECTORY
set -eu
service=$1 tree=$2 directory=$3
cp -a "$tree/." /
python3 -m venv --without-pip /tmp/inventory
PIP_CONSTRAINT="" pip --python /tmp/inventory/bin/python install --no-deps --requirement inventory.txt
mkdir "$directory"
/tmp/inventory/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml \
  --output-file "$directory/specfuse-$service.cdx.json" /opt/specfuse/bin/python
