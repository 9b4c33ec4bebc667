"""What the scheduler must know of a pod to place it; pods that agree in all of it have one `Shape`.

Plays framework.PodInfo and resourcehelper.PodRequests. A ReplicaSet's pods differ in their names
and volumes' token names only, so one shape serves them all: it is parsed once and kept (1,024
shapes, the longest unused forgotten).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from cluster.api.meta import Object
from cluster.api.quantity import milli_value, value

MAX_SHAPES = 1024
DEFAULT_MILLI_CPU = 100
DEFAULT_MEMORY_BYTES = 200 * 1024 * 1024
"""What a container without requests counts for in scores (not in Filter)."""

HostPort = tuple[str, str, int]
"""(hostIP, protocol, hostPort)."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """Requests are in milli-CPU for cpu, in units (bytes) for all else, zero ones left out.
    `owner` is kind and name of the controller ('' and '' without)."""

    key: bytes
    namespace: str
    labels: Mapping[str, str]
    scheduler_name: str
    priority: int
    preemption_policy: str
    requests: Mapping[str, int]
    nonzero_milli_cpu: int
    nonzero_memory_bytes: int
    node_selector: Mapping[str, str]
    affinity: Mapping[str, Any]
    tolerations: tuple[Mapping[str, Any], ...]
    spread: tuple[Mapping[str, Any], ...]
    host_ports: tuple[HostPort, ...]
    images: tuple[str, ...]
    container_count: int
    claims: tuple[str, ...]
    resource_claims: bool
    owner: tuple[str, str]

    @property
    def affine(self) -> bool:
        """Has terms about other pods: its coming and going changes verdicts on other nodes."""
        return "podAffinity" in self.affinity or "podAntiAffinity" in self.affinity

    @property
    def best_effort(self) -> bool:
        """No cpu and no memory is requested."""
        return not (self.requests.get("cpu") or self.requests.get("memory"))


class Shapes:
    """Interns shapes."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, Shape] = OrderedDict()

    def of(self, pod: Object) -> Shape:
        key = shape_key(pod)
        found = self._known.get(key)
        if found is None:
            found = parse_shape(key, pod)
            self._known[key] = found
            if len(self._known) > MAX_SHAPES:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        return found


def shape_key(pod: Object) -> bytes:
    """Equal for pods that the scheduler cannot tell apart."""
    spec = pod["spec"]
    metadata = pod["metadata"]
    get = spec.get
    claims = [
        [v.get("name"), v.get("persistentVolumeClaim"), "ephemeral" in v]
        for v in get("volumes") or ()
        if "persistentVolumeClaim" in v or "ephemeral" in v
    ]
    return orjson.dumps(
        (
            metadata.get("namespace"),
            metadata.get("labels"),
            get("schedulerName"),
            [
                (c.get("resources"), c.get("ports"), c.get("image"), c.get("restartPolicy"))
                for c in get("containers") or ()
            ],
            [
                (c.get("resources"), c.get("ports"), c.get("image"), c.get("restartPolicy"))
                for c in get("initContainers") or ()
            ],
            get("nodeSelector"),
            get("affinity"),
            get("tolerations"),
            get("topologySpreadConstraints"),
            get("priority"),
            get("preemptionPolicy"),
            get("overhead"),
            get("resources"),
            get("resourceClaims"),
            _owner(metadata),
            # An ephemeral volume's claim is named after its pod: such pods share no shape.
            (claims, metadata.get("name")) if any(c[2] for c in claims) else claims,
        ),
        option=orjson.OPT_SORT_KEYS,
    )


def parse_shape(key: bytes, pod: Object) -> Shape:
    spec = pod["spec"]
    metadata = pod["metadata"]
    containers = spec.get("containers") or []
    inits = spec.get("initContainers") or []
    requests = pod_requests(spec)
    nonzero = pod_requests(spec, missing={"cpu": DEFAULT_MILLI_CPU, "memory": DEFAULT_MEMORY_BYTES})
    return Shape(
        key=key,
        namespace=metadata.get("namespace", ""),
        labels=metadata.get("labels") or {},
        scheduler_name=spec.get("schedulerName") or "default-scheduler",
        priority=int(spec.get("priority") or 0),
        preemption_policy=spec.get("preemptionPolicy") or "PreemptLowerPriority",
        requests={name: amount for name, amount in requests.items() if amount},
        nonzero_milli_cpu=nonzero.get("cpu", 0),
        nonzero_memory_bytes=nonzero.get("memory", 0),
        node_selector=spec.get("nodeSelector") or {},
        affinity=spec.get("affinity") or {},
        tolerations=tuple(spec.get("tolerations") or ()),
        spread=tuple(spec.get("topologySpreadConstraints") or ()),
        host_ports=tuple(host_ports([*containers, *inits])),
        images=tuple(normalized_image(c.get("image", "")) for c in [*inits, *containers]),
        container_count=len(containers) + len(inits),
        claims=tuple(claim_names(pod)),
        resource_claims=bool(spec.get("resourceClaims")),
        owner=_owner(metadata),
    )


def _owner(metadata: Mapping[str, Any]) -> tuple[str, str]:
    for reference in metadata.get("ownerReferences") or ():
        if reference.get("controller"):
            return str(reference.get("kind")), str(reference.get("name"))
    return "", ""


def pod_requests(
    spec: Mapping[str, Any], missing: Mapping[str, int] | None = None
) -> dict[str, int]:
    """What a pod needs at its peak: containers together with sidecars, or an init container with
    the sidecars started before it, whichever is more; overhead on top; pod-level requests rule."""
    total: dict[str, int] = {}
    for container in spec.get("containers") or ():
        _add(total, _requests(container, missing))
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in spec.get("initContainers") or ():
        need = _requests(container, missing)
        if container.get("restartPolicy") == "Always":
            _add(total, need)
            _add(sidecars, need)
            _max(peak, sidecars)
        else:
            _add(need, sidecars)
            _max(peak, need)
    _max(total, peak)
    for name, amount in _amounts((spec.get("resources") or {}).get("requests")).items():
        total[name] = amount
    _add(total, _amounts(spec.get("overhead")))
    return total


def host_ports(containers: Iterable[Mapping[str, Any]]) -> Iterable[HostPort]:
    for container in containers:
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                ip = port.get("hostIP") or "0.0.0.0"
                yield (ip, port.get("protocol") or "TCP", int(port["hostPort"]))


def claim_names(pod: Object) -> Iterable[str]:
    """The PersistentVolumeClaims a pod mounts, generic ephemeral ones by their derived name."""
    for volume in pod["spec"].get("volumes") or ():
        claim = volume.get("persistentVolumeClaim")
        if claim:
            yield claim["claimName"]
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}"


def normalized_image(name: str) -> str:
    """ImageLocality's: a name without tag gets :latest."""
    return name if name.rfind(":") > name.rfind("/") else f"{name}:latest"


def _requests(container: Mapping[str, Any], missing: Mapping[str, int] | None) -> dict[str, int]:
    amounts = _amounts((container.get("resources") or {}).get("requests"))
    for name, amount in (missing or {}).items():
        amounts.setdefault(name, amount)
    return amounts


def _amounts(quantities: Mapping[str, Any] | None) -> dict[str, int]:
    return {
        name: milli_value(quantity) if name == "cpu" else value(quantity)
        for name, quantity in (quantities or {}).items()
    }


def _add(total: dict[str, int], more: Mapping[str, int]) -> None:
    for name, amount in more.items():
        total[name] = total.get(name, 0) + amount


def _max(total: dict[str, int], other: Mapping[str, int]) -> None:
    for name, amount in other.items():
        if amount > total.get(name, 0):
            total[name] = amount
