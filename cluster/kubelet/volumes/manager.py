"""Mounting, as far as it happens: sources are waited for, files are written when somebody can read
them."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterable
from pathlib import Path

from cluster.api.errors import StatusError
from cluster.api.meta import SERVICEACCOUNTS, Clock, Object
from cluster.client import Client
from cluster.kubelet import hosts
from cluster.kubelet.config import KubeletConfig
from cluster.kubelet.volumes.plan import (
    Lookup,
    MissingKey,
    SourceRef,
    check_keys,
    payload,
    plugin_name,
    required_sources,
    token_requests,
    volume_type,
)
from cluster.kubelet.volumes.sources import SourceCache
from cluster.kubelet.volumes.writer import write_atomically
from cluster.runtime.model import Mount


class MountFailed(Exception):
    """A volume cannot be mounted yet: the message is FailedMount's."""


class VolumeManager:
    """Volumes of all pods of a process, under state_dir/pods/UID as upstream's root directory has
    them."""

    def __init__(self, config: KubeletConfig, sources: SourceCache, clock: Clock) -> None:
        self._config = config
        self._sources = sources
        self._clock = clock
        state = config.state_dir
        self._pods_root = f"{state}/pods" if state is not None else ""
        self._written: dict[str, float] = {}
        self._tokens: dict[tuple[str, str], tuple[str, float]] = {}

    def ready(self, pod: Object) -> bool:
        """Whether everything it needs is at hand (the fast way: no await)."""
        namespace = pod["metadata"]["namespace"]
        refs = required_sources(pod)
        for ref in refs:
            if self._sources.fresh(ref.kind, namespace, ref.name) is None:
                return False
        if any(volume_type(v) == "persistentVolumeClaim" for v in pod["spec"].get("volumes") or ()):
            return False
        try:
            check_keys(pod, lambda kind, name: self._sources.peek(kind, namespace, name))
        except MissingKey:
            return False
        return True

    async def wait_sources(self, client: Client, pod: Object) -> None:
        """Read what the volumes are made of. Raises MountFailed in upstream's words."""
        refs = required_sources(pod)
        namespace = pod["metadata"]["namespace"]
        await asyncio.gather(*(self._one_source(client, namespace, ref) for ref in refs))
        for volume in pod["spec"].get("volumes") or ():
            try:
                lookup = self._lookup(namespace)
                payload(pod, volume, lookup, {})
            except MissingKey as error:
                raise MountFailed(_set_up_failed(volume["name"], str(error))) from error

    def mounts(self, pod: Object, container: Object) -> list[Mount]:
        """Where each volume of a container lies on the host, files written or not."""
        # Strings, not Paths: this runs for every container that starts.
        root = self._root_text(pod)
        if not root:
            return []
        mounts = [
            Mount("/etc/hosts", f"{root}/etc-hosts"),
            Mount("/etc/resolv.conf", f"{root}/resolv.conf"),
        ]
        mounted = container.get("volumeMounts")
        if not mounted:
            return mounts
        volumes = {v["name"]: v for v in pod["spec"].get("volumes") or ()}
        for mount in mounted:
            volume = volumes.get(mount["name"])
            if volume is None:
                continue
            path, fixed = _host_path(root, volume)
            if sub := mount.get("subPath"):
                path = f"{path}/{sub}"
            mounts.append(Mount(mount["mountPath"], path, fixed or bool(mount.get("readOnly"))))
        return mounts

    async def materialise(self, client: Client, pod: Object, ip: str) -> None:
        """Write the pod's files (again, if they may be old). Raises MountFailed."""
        uid = pod["metadata"]["uid"]
        root = self._root(pod)
        now = self._clock.monotonic()
        last = self._written.get(uid)
        if root is None or (last is not None and now - last < 1.0):
            return
        self._written[uid] = now
        await self.wait_sources(client, pod)
        root.mkdir(parents=True, exist_ok=True)
        (root / "etc-hosts").write_text(hosts.hosts_file(pod, ip, self._config.cluster_domain))
        (root / "resolv.conf").write_text(hosts.resolv_conf(pod, self._config))
        lookup = self._lookup(pod["metadata"]["namespace"])
        for volume in pod["spec"].get("volumes") or ():
            kind = volume_type(volume)
            path = Path(_host_path(str(root), volume)[0])
            if kind == "hostPath":
                continue
            if kind in ("configMap", "secret", "downwardAPI", "projected"):
                tokens = await self._projected_tokens(client, pod, volume)
                write_atomically(path, payload(pod, volume, lookup, tokens), self._clock.now())
            else:
                path.mkdir(parents=True, exist_ok=True)
        _make_sub_paths(self.mounts(pod, c) for c in pod["spec"]["containers"])

    async def refresh(self, client: Client, pod: Object, ip: str) -> None:
        """Bring files up to date that somebody had written (periodic sync)."""
        if pod["metadata"]["uid"] in self._written:
            for ref in required_sources(pod):
                self._sources.forget(ref.kind, pod["metadata"]["namespace"], ref.name)
            await self.materialise(client, pod, ip)

    def written(self, uid: str) -> bool:
        return uid in self._written

    def remove(self, uid: str) -> None:
        """Delete the pod's directory. Idempotent; never follows a hostPath."""
        state = self._config.state_dir
        if state is not None and self._written.pop(uid, None) is not None:
            shutil.rmtree(state / "pods" / uid, ignore_errors=True)

    def adopt(self, uid: str) -> None:
        """After a restart: the directory may be there."""
        state = self._config.state_dir
        if state is not None and (state / "pods" / uid).exists():
            self._written[uid] = float("-inf")

    def _root(self, pod: Object) -> Path | None:
        state = self._config.state_dir
        return state / "pods" / pod["metadata"]["uid"] if state is not None else None

    def _root_text(self, pod: Object) -> str:
        return f"{self._pods_root}/{pod['metadata']['uid']}" if self._pods_root else ""

    def _lookup(self, namespace: str) -> Lookup:
        return lambda kind, name: self._sources.peek(kind, namespace, name)

    async def _one_source(self, client: Client, namespace: str, ref: SourceRef) -> None:
        try:
            found = await self._sources.get(client, ref.kind, namespace, ref.name)
        except StatusError as error:
            raise MountFailed(_set_up_failed(ref.volume, str(error))) from error
        if found is None and not ref.optional:
            text = f'{ref.kind.lower()} "{ref.name}" not found'
            raise MountFailed(_set_up_failed(ref.volume, text))

    async def _projected_tokens(
        self, client: Client, pod: Object, volume: Object
    ) -> dict[str, str]:
        tokens: dict[str, str] = {}
        meta = pod["metadata"]
        for wanted in token_requests(volume):
            key = (meta["uid"], f"{volume['name']}/{wanted.path}")
            held = self._tokens.get(key)
            if held is None or held[1] < self._clock.now():
                request = {
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenRequest",
                    "spec": {
                        "audiences": [wanted.audience] if wanted.audience else [],
                        "expirationSeconds": wanted.expiration_seconds,
                        "boundObjectRef": {
                            "apiVersion": "v1", "kind": "Pod",
                            "name": meta["name"], "uid": meta["uid"],
                        },
                    },
                }  # fmt: skip
                account = pod["spec"].get("serviceAccountName") or "default"
                try:
                    answer = await client.create(
                        SERVICEACCOUNTS, request, meta["namespace"],
                        subresource="token", name=account,
                    )  # fmt: skip
                except StatusError as error:
                    text = f"failed to fetch token: {error}"
                    raise MountFailed(_set_up_failed(volume["name"], text)) from error
                renew = self._clock.now() + wanted.expiration_seconds * 0.8
                held = self._tokens[key] = (answer["status"]["token"], renew)
            tokens[wanted.path] = held[0]
        return tokens

    def forget_tokens(self, uid: str) -> None:
        for key in [k for k in self._tokens if k[0] == uid]:
            del self._tokens[key]


def _set_up_failed(volume: str, text: str) -> str:
    return f'MountVolume.SetUp failed for volume "{volume}" : {text}'


def _host_path(root: str, volume: Object) -> tuple[str, bool]:
    """Where a volume lies, and whether nobody may write to it."""
    if (host := volume.get("hostPath")) is not None:
        # Unlike Kubernetes: the host is shared by many emulated nodes, so it is read-only.
        return str(host["path"]), True
    fixed = volume_type(volume) in ("configMap", "secret", "downwardAPI", "projected")
    return f"{root}/volumes/{plugin_name(volume)}/{volume['name']}", fixed


def _make_sub_paths(mounts: Iterable[list[Mount]]) -> None:
    for listed in mounts:
        for mount in listed:
            path = Path(mount.host_path)
            if not mount.read_only and not path.exists() and "kubernetes.io~empty-dir" in str(path):
                path.mkdir(parents=True, exist_ok=True)


__all__ = ["MountFailed", "VolumeManager"]
