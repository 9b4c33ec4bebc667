"""Packs a Service's endpoints into slices, touching as few slices as possible.

Plays the reconciler of staging/src/k8s.io/endpointslice. `SliceSet` remembers which pod sits in
which slice, so that a change of k pods costs k and the slices they sit in, however many endpoints
the Service has.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.meta import Object
from cluster.controllers.endpointslice.endpoint import Endpoint, Ports

SERVICE_NAME = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"
HEADLESS = "service.kubernetes.io/headless"
TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"


@dataclass(slots=True)
class Slice:
    """One slice as it should be. `observed` is the stored object it came from (None: not created
    yet)."""

    ports: Ports
    endpoints: dict[str, Object] = field(default_factory=dict)  # pod key -> endpoint
    observed: Object | None = None
    dirty: bool = False

    @property
    def name(self) -> str:
        return str(self.observed["metadata"]["name"]) if self.observed is not None else ""


@dataclass(frozen=True, slots=True)
class Changes:
    """What to write: slices to create, to update, to delete."""

    create: tuple[Slice, ...] = ()
    update: tuple[Slice, ...] = ()
    delete: tuple[Slice, ...] = ()


class SliceSet:
    """All slices of one Service and address family."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.slices: list[Slice] = []
        self._place: dict[str, Slice] = {}

    def __len__(self) -> int:
        return len(self._place)

    def load(self, observed: Iterable[Object]) -> None:
        """Start from the stored slices, forgetting everything known before."""
        self.slices = []
        self._place = {}
        for obj in observed:
            loaded = Slice(ports_of(obj), observed=obj)
            for endpoint in obj.get("endpoints") or ():
                ref = endpoint.get("targetRef") or {}
                key = f"{ref.get('namespace', '')}/{ref.get('name', '')}"
                if key in self._place:
                    loaded.dirty = True
                    continue
                loaded.endpoints[key] = endpoint
                self._place[key] = loaded
            self.slices.append(loaded)

    def held(self) -> tuple[str, ...]:
        """Keys of the pods that have an endpoint."""
        return tuple(self._place)

    def apply(self, wanted: Iterable[tuple[str, Endpoint | None]]) -> None:
        """Put, replace or take out (None) endpoints by pod key."""
        arrivals: dict[Ports, list[tuple[str, Object]]] = {}
        for key, endpoint in wanted:
            place = self._place.get(key)
            if endpoint is not None and place is not None and place.ports == endpoint.ports:
                if place.endpoints[key] != endpoint.body:
                    place.endpoints[key] = endpoint.body
                    place.dirty = True
                continue
            if place is not None:
                del place.endpoints[key]
                del self._place[key]
                place.dirty = True
            if endpoint is not None:
                arrivals.setdefault(endpoint.ports, []).append((key, endpoint.body))
        for ports, bodies in arrivals.items():
            self._fill(ports, bodies)

    def _fill(self, ports: Ports, bodies: list[tuple[str, Object]]) -> None:
        """Into slices that must be written anyway, then into the fullest with room, then into new
        ones."""
        open_slices = [
            s for s in self.slices if s.ports == ports and len(s.endpoints) < self._limit
        ]
        open_slices.sort(key=lambda s: (s.dirty, len(s.endpoints)))
        while bodies:
            if open_slices:
                target = open_slices.pop()
            else:
                target = Slice(ports)
                self.slices.append(target)
            room = self._limit - len(target.endpoints)
            for key, body in bodies[:room]:
                target.endpoints[key] = body
                self._place[key] = target
            target.dirty = True
            bodies = bodies[room:]

    def plan(self) -> Changes:
        """Slices that differ from what is stored. One empty slice stays where there is no endpoint
        at all."""
        empty = [s for s in self.slices if not s.endpoints]
        keep: Slice | None = None
        if len(empty) == len(self.slices):
            keep = next((s for s in empty if s.observed is not None), None)
            if keep is None:
                keep = empty[0] if empty else Slice(())
                if not empty:
                    self.slices.append(keep)
                keep.dirty = True
            if keep.ports:
                keep.ports, keep.dirty = (), True
        gone = tuple(s for s in empty if s is not keep)
        self.slices = [s for s in self.slices if s.endpoints or s is keep]
        dirty = [s for s in self.slices if s.dirty]
        return Changes(
            create=tuple(s for s in dirty if s.observed is None),
            update=tuple(s for s in dirty if s.observed is not None),
            delete=tuple(s for s in gone if s.observed is not None),
        )


def ports_of(obj: Object) -> Ports:
    return tuple(
        (
            p.get("name", ""),
            int(p.get("port") or 0),
            p.get("protocol", "TCP"),
            p.get("appProtocol", ""),
        )
        for p in obj.get("ports") or ()
    )


def render(piece: Slice, service: Object, family: str, trigger_time: str) -> Object:
    """The EndpointSlice object of a slice."""
    meta = service["metadata"]
    wanted_labels = slice_labels(service)
    if piece.observed is not None:
        old = piece.observed["metadata"]
        metadata: Object = {**old, "labels": wanted_labels}
    else:
        metadata = {
            "generateName": f"{meta['name']}-",
            "namespace": meta["namespace"],
            "labels": wanted_labels,
            "ownerReferences": [
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "name": meta["name"],
                    "uid": meta["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,
                }
            ],
        }
    annotations = {
        k: v for k, v in (metadata.get("annotations") or {}).items() if k != TRIGGER_TIME
    }
    if trigger_time:
        annotations[TRIGGER_TIME] = trigger_time
    metadata.pop("annotations", None)
    if annotations:
        metadata["annotations"] = annotations
    ports = []
    for name, number, protocol, app_protocol in piece.ports:
        port: Object = {"name": name, "port": number, "protocol": protocol}
        if app_protocol:
            port["appProtocol"] = app_protocol
        ports.append(port)
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": metadata,
        "addressType": family,
        "endpoints": list(piece.endpoints.values()),
        "ports": ports,
    }


def slice_labels(service: Object) -> dict[str, str]:
    """The Service's labels, and what tells whose slice this is and who keeps it."""
    labels = {
        k: v
        for k, v in (service["metadata"].get("labels") or {}).items()
        if k not in (SERVICE_NAME, MANAGED_BY, HEADLESS)
    }
    if service["spec"].get("clusterIP") == "None":
        labels[HEADLESS] = ""
    labels[SERVICE_NAME] = service["metadata"]["name"]
    labels[MANAGED_BY] = MANAGER
    return labels
