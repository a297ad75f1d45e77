#!/usr/bin/env bash
# Makes the base of the images out of Debian's packages and gives it to buildah, where no registry of images can be reached.
#   make_base.sh [NAME]      as root, with buildah and debootstrap
set -euo pipefail
name=${1:-debian:bookworm-slim}
work=$(mktemp --directory)
trap 'rm -rf "$work"' EXIT
root=$work/root

debootstrap --variant=minbase bookworm "$root" >"$work/log" || { tail "$work/log" >&2; exit 1; }
if grep -qs 'Suites: bookworm ' /etc/apt/sources.list.d/debian.sources; then # with its fixes, as this machine has them
  rm "$root/etc/apt/sources.list"
  cp /etc/apt/sources.list.d/debian.sources "$root/etc/apt/sources.list.d/"
fi

# Slim, as Debian's own image of that name is: neither now nor later with manuals and translations.
cat >"$root/etc/dpkg/dpkg.cfg.d/slim" <<'END'
path-exclude /usr/share/doc/*
path-include /usr/share/doc/*/copyright
path-exclude /usr/share/info/*
path-exclude /usr/share/locale/*
path-exclude /usr/share/man/*
END
find "$root/usr/share/doc" -type f ! -name copyright -delete
rm -rf "$root"/usr/share/{info,locale,man}/* "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/* "$root"/var/log/*

container=$(buildah from scratch)
tar --create --directory "$root" --file "$work/root.tar" .
buildah add --quiet "$container" "$work/root.tar" / >"$work/log"
buildah config --cmd /bin/bash "$container"
buildah commit --quiet --rm "$container" "$name"
