"""A pod's volumes: folders that its containers mount, and that follow the objects they show."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, Final

from tests.cluster.api import Api, ApiError, Object, Unreachable
from tests.cluster.kubelet.downward import amount_of
from tests.cluster.kubelet.objects import ObjectCache
from tests.cluster.kubelet.payload import Files, Missing, Sources, files_of, places_of

_AGAIN_SECONDS: Final = 0.5
_TOKEN_SECONDS: Final = 3600
_RENEWED_AT: Final = 0.8
"""The part of its life at which a token is renewed."""


class Volumes:
    """The volumes of one pod."""

    def __init__(self, pod: Object, folder: Path, cache: ObjectCache, api: Api) -> None:
        self.pod = pod
        self.trouble = ""
        """What keeps them from being there."""
        self._folder = folder
        self._cache = cache
        self._api = api
        self._address = ""
        self._tokens: dict[tuple[str, int], str] = {}
        self._there = asyncio.Event()

    @property
    def sources(self) -> Sources:
        """What files and variables are made of."""
        return Sources(self._cache.current, self._token, self._address)

    async def keep(self, address: str) -> None:
        """Makes them, and has them follow what they show until it is cancelled.

        `address` is the pod's own.
        """
        self._address = address
        places = places_of(self.pod)
        try:
            with self._cache.following(places):
                async with asyncio.TaskGroup() as group:
                    for wanted in _tokens_wanted(self.pod):
                        await self._renew(wanted)
                        group.create_task(self._keep_renewing(wanted))
                    async with aclosing(self._cache.news.each()) as news:
                        async for _ in news:
                            if self._cache.all_known(places):
                                self._write()
        finally:
            self._unmount()

    async def until_there(self) -> None:
        """Returns when all are there."""
        await self._there.wait()

    def path_of(self, name: str) -> Path:
        """Where a volume is on the node."""
        return self._folder / name

    @property
    def _wanted(self) -> list[Mapping[str, Any]]:
        return list(self.pod["spec"].get("volumes", ()))

    def _write(self) -> None:
        try:
            for volume in self._wanted:
                self._write_one(volume)
        except Missing as missing:
            self.trouble = str(missing)
        else:
            self.trouble = ""
            self._there.set()

    def _write_one(self, volume: Mapping[str, Any]) -> None:
        files = files_of(volume, self.pod, self.sources)
        path = self.path_of(volume["name"])
        if files is not None:
            path.mkdir(parents=True, exist_ok=True)
            swap(path, files, _group_of(self.pod))
        elif "emptyDir" in volume:
            self._make_empty(volume, path)
        elif "hostPath" in volume:
            path.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileExistsError):
                path.symlink_to(volume["hostPath"]["path"])
        else:
            raise Missing(f"volume {volume['name']} is of a kind that these nodes do not have")

    def _make_empty(self, volume: Mapping[str, Any], path: Path) -> None:
        if path.exists():
            return
        path.mkdir(parents=True)
        if _is_in_memory(volume):
            options = f"size={_bytes_of(volume['emptyDir'].get('sizeLimit', '50%'))}"
            subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True)
        group = _group_of(self.pod)
        os.chown(path, 0, group)
        path.chmod(0o2777 if group else 0o777)

    def _unmount(self) -> None:
        for volume in self._wanted:
            if _is_in_memory(volume):
                subprocess.run(["umount", self.path_of(volume["name"])], check=False)

    def _token(self, wanted: Mapping[str, Any]) -> str:
        return self._tokens[_key_of(wanted)]

    async def _keep_renewing(self, wanted: Mapping[str, Any]) -> None:
        while True:
            await asyncio.sleep(_key_of(wanted)[1] * _RENEWED_AT)
            await self._renew(wanted)
            self._cache.news.tell()

    async def _renew(self, wanted: Mapping[str, Any]) -> None:
        """Gets a token, which counts for as long as the pod is there."""
        metadata = self.pod["metadata"]
        bound = {"apiVersion": "v1", "kind": "Pod"} | {k: metadata[k] for k in ("name", "uid")}
        audience, seconds = _key_of(wanted)
        spec = {
            "audiences": [audience] if audience else [],
            "expirationSeconds": seconds,
            "boundObjectRef": bound,
        }
        account = self.pod["spec"].get("serviceAccountName", "default")
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        while True:
            with suppress(ApiError, Unreachable):
                given = await self._api.create(
                    "serviceaccounts", body, metadata["namespace"], f"{account}/token"
                )
                self._tokens[_key_of(wanted)] = given["status"]["token"]
                return
            await asyncio.sleep(_AGAIN_SECONDS)


def swap(folder: Path, files: Files, group: int = 0) -> None:
    """Puts these files, and no others, into the folder: all at once, as the real kubelet does.

    They are in a folder of their own, to which `..data` leads; what is seen are links through that.
    """
    data = folder / "..data"
    if data.exists() and _same(data, files):
        return
    old = data.resolve() if data.exists() else None
    new = folder / f"..{time.time_ns()}"
    for name, file in files.items():
        path = new / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file.content)
        path.chmod(file.mode | (0o440 if group else 0))
        os.chown(path, file.owner, group)
    new.mkdir(exist_ok=True)
    link = folder / "..data_tmp"
    link.symlink_to(new.name)
    link.replace(data)
    _show(folder, {Path(name).parts[0] for name in files})
    if old is not None:
        shutil.rmtree(old)


def _show(folder: Path, names: set[str]) -> None:
    """Has a link for every name, and none for what is gone."""
    for path in folder.iterdir():
        if path.is_symlink() and not path.name.startswith("..") and path.name not in names:
            path.unlink()
    for name in names:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(Path("..data") / name)


def _same(data: Path, files: Files) -> bool:
    place = data.resolve()
    there = {str(one.relative_to(place)): one for one in place.rglob("*") if one.is_file()}
    return there.keys() == files.keys() and all(
        there[name].read_bytes() == file.content for name, file in files.items()
    )


def _group_of(pod: Object) -> int:
    """The group that a pod's files belong to."""
    group: int = (pod["spec"].get("securityContext") or {}).get("fsGroup", 0)
    return group


def _tokens_wanted(pod: Object) -> list[Mapping[str, Any]]:
    return [
        source["serviceAccountToken"]
        for volume in pod["spec"].get("volumes", ())
        for source in volume.get("projected", {}).get("sources", ())
        if "serviceAccountToken" in source
    ]


def _key_of(wanted: Mapping[str, Any]) -> tuple[str, int]:
    return wanted.get("audience", ""), wanted.get("expirationSeconds", _TOKEN_SECONDS)


def _is_in_memory(volume: Mapping[str, Any]) -> bool:
    return bool(volume.get("emptyDir", {}).get("medium") == "Memory")


def _bytes_of(quantity: str) -> str:
    return quantity if quantity.endswith("%") else str(int(amount_of(quantity)))
