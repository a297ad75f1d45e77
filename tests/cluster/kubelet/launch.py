"""Becomes a container's command, in its namespaces and its root: `launch.py FILE`.

The file is JSON, see `Launch`. This runs before every container and needs nothing but the standard
library, so that it takes little time.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from pathlib import Path

_MS_RDONLY, _MS_NOSUID, _MS_NODEV = 0x1, 0x2, 0x4
_MS_REMOUNT, _MS_BIND, _MS_REC, _MS_PRIVATE = 0x20, 0x1000, 0x4000, 0x40000
_CLONE_NEWNS = 0x20000
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAPBSET_DROP = 24
_LAST_CAPABILITY = 40
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_NOT_FOUND = 127

_libc = ctypes.CDLL(None, use_errno=True)


def main(file: str) -> int:
    """Does not return, unless the command cannot be run."""
    launch = json.loads(Path(file).read_text())
    os.umask(0o022)
    _enter(launch["namespaces"])
    _make_root(launch)
    os.chroot(launch["root"])
    _become(launch)
    try:
        os.chdir(launch["directory"])
        os.execvpe(launch["argv"][0], launch["argv"], launch["environment"])
    except OSError as error:
        sys.stderr.write(f"{launch['argv'][0]}: {error.strerror}\n")
    return _NOT_FOUND


def _enter(namespaces: list[str]) -> None:
    """Joins namespaces of others, by their files, and begins one of its own for mounts."""
    for file in namespaces:
        descriptor = os.open(file, os.O_RDONLY)
        _call(_libc.setns, descriptor, 0)
        os.close(descriptor)
    _call(_libc.unshare, _CLONE_NEWNS)
    _mount("none", "/", "", _MS_REC | _MS_PRIVATE)


def _make_root(launch: dict) -> None:
    root = Path(launch["root"])
    _mount("tmpfs", root, "tmpfs", _MS_NODEV, "mode=755")
    for target, source in launch["folders"].items():
        _bind(source, root / target[1:])
        _forbid_writing(root / target[1:])
    for name in _DEVICES:
        _bind(f"/dev/{name}", root / "dev" / name)
    _bind("/proc", root / "proc")
    _make_folder(root / "tmp").chmod(0o1777)
    shm = _make_folder(root / "dev" / "shm")
    _mount("tmpfs", shm, "tmpfs", _MS_NOSUID | _MS_NODEV, "mode=1777,size=64m")
    (root / "dev" / "fd").symlink_to("/proc/self/fd")
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "hosts").symlink_to(launch["hosts"])
    (root / "etc" / "host.conf").write_text("multi on\n")  # a name may have several addresses
    # A mount may have its place in another one, which then must be writable until it has.
    for mount in launch["mounts"]:
        _bind(mount["source"], root / mount["target"][1:])
    for mount in launch["mounts"]:
        if mount["read_only"]:
            _forbid_writing(root / mount["target"][1:])
    if launch["read_only_root"]:
        _forbid_writing(root)


def _become(launch: dict) -> None:
    """Becomes the user, without any privilege that the container was not given."""
    if launch["no_capabilities"]:
        for capability in range(_LAST_CAPABILITY + 1):
            _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups(launch["groups"])
    os.setgid(launch["group"])
    os.setuid(launch["user"])
    if launch["no_new_privileges"]:
        _call(_libc.prctl, _PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def _bind(source: str, target: Path) -> None:
    """Has the file or folder be there, too."""
    if Path(source).is_dir():
        _make_folder(target)
    else:
        _make_folder(target.parent)
        target.touch()
    _mount(source, target, "", _MS_BIND | _MS_REC)


def _forbid_writing(place: Path) -> None:
    _mount("none", place, "", _MS_REMOUNT | _MS_BIND | _MS_RDONLY)


def _make_folder(path: Path) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    return path


def _mount(source: str, target: Path | str, kind: str, flags: int, options: str = "") -> None:
    words = [str(one).encode() for one in (source, target, kind)]
    _call(_libc.mount, *words, ctypes.c_ulong(flags), options.encode() or None)


def _call(function: object, *arguments: object) -> None:
    if function(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function.__name__}{arguments}: {os.strerror(number)}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
