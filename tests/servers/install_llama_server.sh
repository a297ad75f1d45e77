#!/bin/sh
# Puts llama-server at DEST/bin/llama-server: Debian sid's package, unpacked beside the system.
#
#   install_llama_server.sh DEST
#
# The packages and all that they need, their C library too, come from the mirror that this machine's
# apt uses, verified with Debian's keyring. Nothing is installed: they are unpacked to DEST/root, and
# the wrapper runs the server with the loader and the libraries from there. A second run does nothing.
set -eu

package=llama.cpp-tools
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

fail() { echo "install_llama_server: $*" >&2; exit 1; }
say() { echo "install_llama_server: $*"; }

[ $# -eq 1 ] && [ -n "$1" ] || fail "usage: install_llama_server.sh DEST"
dest=$1

version() { "$dest/bin/llama-server" --version 2>&1; } # of three lines, the first says it

if [ -x "$dest/bin/llama-server" ] && answer=$(version); then
    say "$dest/bin/llama-server is there already: $(echo "$answer" | head -n 1)"
    exit 0
fi

for tool in apt-get dpkg-deb; do
    command -v "$tool" >/dev/null || fail "needs $tool: this works on Debian only"
done
[ -r "$keyring" ] || fail "needs $keyring: apt-get install debian-archive-keyring"
mkdir -p "$dest/bin" || fail "cannot write to $dest"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM

# apt as this machine has it (proxies, credentials), with sources and state of its own. As its
# status is empty, it takes every library for missing, and fetches what the machine has older, too.
mkdir -p "$work/parts" "$work/lists/partial" "$work/archives/partial" "$work/root"
: >"$work/status"
cat >"$work/apt.conf" <<CONF
Dir::Etc::sourcelist "$work/sid.sources";
Dir::Etc::sourceparts "$work/parts";
Dir::Etc::preferences "$work/preferences";
Dir::Etc::preferencesparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::State::status "$work/status";
Dir::Cache::archives "$work/archives";
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "";
CONF
sid() { APT_CONFIG="$work/apt.conf" apt-get "$@" >"$work/log" 2>&1; }

# Every archive that this machine's own suite comes from; sid is in one of them, if it is Debian's.
suite=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
mirrors=$(apt-get update --print-uris 2>/dev/null | sed -n "s|^'\(.*\)/dists/$suite/InRelease'.*|\1|p")
[ -n "$mirrors" ] || fail "no source of '$suite' in apt's configuration to take sid's packages from"

mirror=
for candidate in $mirrors; do
    cat >"$work/sid.sources" <<SOURCE
Types: deb
URIs: $candidate
Suites: sid
Components: main
Signed-By: $keyring
SOURCE
    say "reading the lists of sid from $candidate"
    if sid update --error-on=any; then mirror=$candidate; break; fi
    cat "$work/log" >&2
done
[ -n "$mirror" ] || fail "none of apt's mirrors of '$suite' has a sid that $keyring verifies"

say "fetching $package and what it needs"
if ! sid install --yes --download-only --no-install-recommends "$package"; then
    cat "$work/log" >&2
    fail "cannot fetch $package (see above)"
fi
grep '^Fetched' "$work/log" || true

for archive in "$work"/archives/*.deb; do
    dpkg-deb --extract "$archive" "$work/root" || fail "cannot unpack $archive"
done
loader=$(cd "$work/root" && echo usr/lib/*/ld-linux*.so.*)
[ -x "$work/root/$loader" ] || fail "the packages have no usr/lib/*/ld-linux*.so.*: their layout changed"
libraries=${loader%/*}
# The server looks for its builds for kinds of CPUs beside what runs it, which is the loader, and
# takes the best of them for the CPU it finds.
(cd "$work/root/$libraries" && ln -s ggml/backends*/libggml-cpu-*.so .) \
    || fail "the packages have no ggml/backends*/libggml-cpu-*.so: their layout changed"

rm -rf "$dest/root"
mv "$work/root" "$dest/root"
cat >"$dest/bin/llama-server" <<WRAPPER
#!/bin/sh
# Written by install_llama_server.sh.
root=\$(dirname "\$(dirname "\$(readlink -f "\$0")")")/root
libraries=\$root/$libraries
exec "\$root/$loader" --library-path "\$libraries:\$libraries/llama" "\$root/usr/bin/llama-server" "\$@"
WRAPPER
chmod +x "$dest/bin/llama-server"

answer=$(version) || fail "$dest/bin/llama-server does not start: $answer"
say "$dest/bin/llama-server: $(echo "$answer" | head -n 1)"
