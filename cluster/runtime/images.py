"""Images: names, what is known of each, and the pulling of them.

Plays containerd's image service and a registry. An image has a name, a size and a behaviour;
pulling takes registry_seconds + size / bandwidth and fills the node's cache. Leaves out layers that
images share.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from cluster.api.meta import Clock
from cluster.runtime.model import ImageNotFound, InvalidImageName

_PATH = re.compile(
    r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*\Z"
)
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}\Z")
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}\Z")
_HOST = re.compile(
    r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)*(?::[0-9]+)?\Z"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """A parsed image name. `canonical` is what containerd calls it, `familiar` the repository
    without defaults."""

    domain: str
    path: str
    tag: str
    digest: str

    @property
    def repository(self) -> str:
        return f"{self.domain}/{self.path}"

    @property
    def canonical(self) -> str:
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}"

    @property
    def familiar(self) -> str:
        if self.domain == "docker.io":
            return self.path.removeprefix("library/")
        return self.repository


def parse_reference(image: str) -> Reference:
    """distribution/reference.ParseNormalizedNamed with the default tag. Raises InvalidImageName in
    its words."""
    rest, _, digest = image.partition("@")
    head, slash, tail = rest.partition("/")
    is_domain = slash and (
        "." in head or ":" in head or head == "localhost" or head.lower() != head
    )
    domain, path = (head, tail) if is_domain else ("docker.io", rest)
    if domain == "index.docker.io":
        domain = "docker.io"
    path, colon, tag = path.partition(":")
    if domain == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if path.lower() != path:
        detail = f"invalid reference format: repository name ({path}) must be lowercase"
        raise InvalidImageName(f'couldn\'t parse image name "{image}": {detail}')
    bad_tag = bool(colon) and _TAG.match(tag) is None
    bad_digest = "@" in image and _DIGEST.match(digest) is None
    if bad_tag or bad_digest or _PATH.match(path) is None or _HOST.match(domain) is None:
        raise InvalidImageName(f'couldn\'t parse image name "{image}": invalid reference format')
    return Reference(domain, path, tag or ("" if digest else "latest"), digest)


@dataclass(frozen=True, slots=True)
class Image:
    """One image. `behaviour` names a workload of workloads.py; `command` is what its configuration
    runs."""

    reference: Reference
    size_bytes: int
    behaviour: str
    command: tuple[str, ...] = ()
    known: bool = False

    @property
    def image_id(self) -> str:
        """The repository digest, as status.containerStatuses[].imageID shows it."""
        ref = self.reference
        digest = ref.digest or "sha256:" + hashlib.sha256(ref.canonical.encode()).hexdigest()
        return f"{ref.repository}@{digest}"


_MB = 1_000_000
_KNOWN: dict[str, tuple[str, int, tuple[str, ...]]] = {
    "docker.io/library/nginx": ("nginx", 72_324_501, ()),
    "docker.io/nginxinc/nginx-unprivileged": ("nginx8080", 72_300_000, ()),
    "docker.io/library/httpd": ("httpd", 58_900_000, ()),
    "docker.io/library/redis": ("redis", 52_600_000, ()),
    "docker.io/library/busybox": ("shell", 2_160_000, ("sh",)),
    "docker.io/library/alpine": ("shell", 3_640_000, ("/bin/sh",)),
    "docker.io/library/debian": ("shell", 48_500_000, ("bash",)),
    "docker.io/library/ubuntu": ("shell", 29_700_000, ("/bin/bash",)),
    "docker.io/library/hello-world": ("hello", 10_072, ()),
    "docker.io/curlimages/curl": ("curl", 9_600_000, ()),
    "registry.k8s.io/pause": ("pause", 320_448, ()),
    "registry.k8s.io/e2e-test-images/agnhost": ("agnhost", 51_706_353, ()),
    "registry.k8s.io/e2e-test-images/nginx": ("nginx", 51_100_000, ()),
    "registry.k8s.io/e2e-test-images/httpd": ("httpd", 40_700_000, ()),
    "registry.k8s.io/e2e-test-images/busybox": ("shell", 727_869, ("sh",)),
    "registry.k8s.io/serve_hostname": ("serve-hostname", 3_000_000, ()),
    "registry.k8s.io/kubernetes-zookeeper": ("generic", 150_000_000, ()),
}


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The registry and the nodes' link to it. `missing` are patterns of canonical names that do not
    exist."""

    bandwidth_bytes_per_second: float = 200e6
    registry_seconds: float = 0.02
    serialize_pulls: bool = False
    max_parallel_pulls: int = 0
    default_size_bytes: int = 60 * _MB
    preloaded: Sequence[str] = ("registry.k8s.io/pause",)
    missing: Sequence[str] = field(
        default=(
            r":[^/]*(does-?not-?exist|non-?existent|no-such|nosuch|notfound|missing)[^/]*\Z",
            r"/(does-?not-?exist|non-?existent|no-such)[^/]*\Z",
            r"^([^/]*\.)?invalid([.:][^/]*)?/",
            r"/invalid[.-][^/]*\Z",
        )
    )


@dataclass(frozen=True, slots=True)
class PullResult:
    image: Image
    seconds: float
    seconds_with_waiting: float


class ImageStore:
    """Catalogue, and each node's cache. Pulls of one image on one node that overlap share one
    download."""

    def __init__(self, config: ImageConfig, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._missing = [re.compile(p) for p in config.missing]
        self._images: dict[str, Image] = {}
        self._present: dict[str, dict[str, Image]] = {}
        self._pulling: dict[tuple[str, str], asyncio.Future[PullResult]] = {}
        self._slots: dict[str, asyncio.Semaphore] = {}

    def resolve(self, name: str) -> Image:
        """What the name means. Raises InvalidImageName."""
        image = self._images.get(name)
        if image is None:
            reference = parse_reference(name)
            known = _KNOWN.get(reference.repository)
            if known is None:
                image = Image(reference, self._config.default_size_bytes, "generic")
            else:
                behaviour, size, command = known
                image = Image(reference, size, behaviour, command, known=True)
            if len(self._images) > 10_000:
                self._images.clear()
            self._images[name] = image
        return image

    def present(self, node: str, name: str) -> Image | None:
        """The image if the node has it."""
        image = self.resolve(name)
        if image.reference.repository in self._config.preloaded:
            return image
        return self._present.get(node, {}).get(image.reference.canonical)

    def list(self, node: str) -> list[Image]:
        return list(self._present.get(node, {}).values())

    def remember(self, node: str, name: str) -> None:
        """Put an image into a node's cache without pulling it."""
        image = self.resolve(name)
        self._present.setdefault(node, {})[image.reference.canonical] = image

    def remove(self, node: str, name: str) -> None:
        self._present.get(node, {}).pop(self.resolve(name).reference.canonical, None)

    def forget_node(self, node: str) -> None:
        self._present.pop(node, None)
        self._slots.pop(node, None)

    async def pull(self, node: str, name: str) -> PullResult:
        """Raises ImageNotFound in containerd's words."""
        image = self.resolve(name)
        canonical = image.reference.canonical
        running = self._pulling.get((node, canonical))
        if running is None:
            running = asyncio.ensure_future(self._pull(node, image))
            self._pulling[node, canonical] = running
            running.add_done_callback(lambda _: self._pulling.pop((node, canonical), None))
        return await asyncio.shield(running)

    async def _pull(self, node: str, image: Image) -> PullResult:
        config = self._config
        asked = self._clock.monotonic()
        async with self._slot(node):
            started = self._clock.monotonic()
            await asyncio.sleep(config.registry_seconds)
            self._check(image)
            have = self._present.setdefault(node, {})
            canonical = image.reference.canonical
            if canonical not in have:
                await asyncio.sleep(image.size_bytes / config.bandwidth_bytes_per_second)
                have[canonical] = image
            now = self._clock.monotonic()
        return PullResult(image, now - started, now - asked)

    def _slot(self, node: str) -> asyncio.Semaphore:
        limit = 1 if self._config.serialize_pulls else self._config.max_parallel_pulls or 1 << 20
        slot = self._slots.get(node)
        if slot is None:
            slot = self._slots[node] = asyncio.Semaphore(limit)
        return slot

    def _check(self, image: Image) -> None:
        ref = image.reference
        if not any(p.search(ref.canonical) for p in self._missing):
            return
        where = (
            f'failed to pull and unpack image "{ref.canonical}": '
            f'failed to resolve reference "{ref.canonical}"'
        )
        if ".invalid/" in ref.canonical or ref.canonical.startswith("invalid"):
            host = ref.domain
            raise ImageNotFound(
                f"{where}: failed to do request: "
                f'Head "https://{host}/v2/{ref.path}/manifests/{ref.tag}": '
                f"dial tcp: lookup {host.partition(':')[0]}: no such host"
            )
        if image.known:
            raise ImageNotFound(f"{where}: {ref.canonical}: not found")
        raise ImageNotFound(
            f"{where}: pull access denied, repository does not exist or may require authorization: "
            "server message: insufficient_scope: authorization failed"
        )
