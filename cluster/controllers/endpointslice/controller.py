"""The shell of the EndpointSlice controller."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.api.errors import AlreadyExists, Conflict, NotFound, StatusError
from cluster.api.meta import ENDPOINTSLICES, NODES, PODS, SERVICES, Object, rfc3339_micro, split_key
from cluster.client import run_workers
from cluster.controllers.context import ControllerContext
from cluster.controllers.endpointslice.endpoint import Endpoint, changed_at, make_endpoint
from cluster.controllers.endpointslice.feed import Dirty, Pace, ServiceFeed
from cluster.controllers.endpointslice.selection import selector_of
from cluster.controllers.endpointslice.slices import (
    MANAGED_BY,
    MANAGER,
    SERVICE_NAME,
    Slice,
    SliceSet,
    render,
    slice_labels,
)
from cluster.controllers.ownership import has_cause

WORKERS = 50
PAUSE_PER_ENDPOINT = 0.0001
RETRY_SECONDS = 0.05
FLOWS_A_SYNC = 20


@dataclass(slots=True)
class _State:
    """What is known of one Service's slices."""

    dirty: Dirty = field(default_factory=Dirty)
    sets: dict[str, SliceSet] = field(default_factory=dict)  # by IP family
    labels: dict[str, str] = field(default_factory=dict)
    busy: bool = False
    unchecked: list[str] = field(default_factory=list)  # slices with events while busy
    changed_at: dict[str, float] = field(default_factory=dict)  # pod -> its last trigger time


class EndpointSliceController:
    """Keeps the EndpointSlices of every Service that has a selector."""

    def __init__(self, context: ControllerContext, feed: ServiceFeed) -> None:
        self._context = context
        self._client = context.client
        self._feed = feed
        self._recorder = context.recorder("endpoint-slice-controller")
        self._queue = context.queue("endpoint_slice")
        self._pace = Pace(context, PAUSE_PER_ENDPOINT)
        self._states: dict[str, _State] = {}
        self._pods = context.informers.informer(PODS)
        self._slices = context.informers.informer(ENDPOINTSLICES)
        self._slices.add_index("service", _service_index)
        self._slices.add_handler(self._handle_slice)
        feed.subscribe(self._handle_service)

    async def run(self) -> None:
        """Until cancelled."""
        await self._context.wait_synced(SERVICES, PODS, NODES, ENDPOINTSLICES)
        await run_workers(self._queue, self._sync, WORKERS)

    # -- events

    def _handle_service(self, key: str, pods: set[str] | None) -> None:
        state = self._states.get(key)
        if state is None:
            state = self._states[key] = _State()
        if state.dirty.clean:
            state.dirty.since = self._context.clock.now()
        if pods is None:
            state.dirty.everything = True
        else:
            state.dirty.pods |= pods
        self._pace.schedule(self._queue, key)

    def _handle_slice(self, old: Object | None, new: Object | None) -> None:
        obj = new or old
        assert obj is not None
        keys = _service_index(obj)
        state = self._states.get(keys[0]) if keys else None
        if state is None:
            return
        state.unchecked.append(obj["metadata"]["name"])
        if not state.busy:
            self._check(keys[0], state)

    def _check(self, key: str, state: _State) -> None:
        """Did someone else change or remove one of our slices? Then start from what is stored."""
        names, state.unchecked = state.unchecked, []
        if not state.sets:
            return
        known = {
            s.name: s for each in state.sets.values() for s in each.slices if s.observed is not None
        }
        namespace = key.partition("/")[0]
        for name in names:
            stored, ours = self._slices.get(f"{namespace}/{name}"), known.get(name)
            if stored is None and ours is None:
                continue
            if stored is None or ours is None or _version(stored) > _version(ours.observed):
                if _is_echo(stored, ours):
                    continue
                state.dirty.everything = True
                self._pace.schedule(self._queue, key)
                return

    # -- one sync

    async def _sync(self, key: str) -> float | None:
        service = self._feed.services.get(key)
        if service is None or selector_of(service) is None:
            self._states.pop(key, None)  # the slices go with the Service, by owner reference
            self._pace.forget(key)
            return None
        if "deletionTimestamp" in service["metadata"]:
            return None
        state = self._states.setdefault(key, _State())
        dirty = state.dirty.take()
        state.busy = True
        try:
            changed = await self._reconcile(key, service, state, dirty)
        except (Conflict, NotFound, AlreadyExists):
            self._context.metrics.endpoint_slice_syncs.labels("error").inc()
            state.dirty.everything = True
            return RETRY_SECONDS
        except StatusError as error:
            state.dirty.everything = True
            if has_cause(error, "NamespaceTerminating"):
                return None
            message = f"Error updating Endpoint Slices for Service {key}: {error.message}"
            self._recorder.event(service, "Warning", "FailedToUpdateEndpointSlices", message)
            raise
        finally:
            state.busy = False
            self._check(key, state)
        self._context.metrics.endpoint_slice_syncs.labels("success").inc()
        if changed:
            self._pace.wrote(key, sum(len(s) for s in state.sets.values()))
        return None

    async def _reconcile(self, key: str, service: Object, state: _State, dirty: Dirty) -> bool:
        families = service["spec"].get("ipFamilies") or ["IPv4"]
        if dirty.everything:
            self._load(key, state, families)
            dirty.pods = set(self._feed.selection.pods_of(key, self._context.pods))
            for each in state.sets.values():
                dirty.pods.update(each.held())
        labels = slice_labels(service)
        relabel = labels != state.labels
        state.labels = labels
        trigger, fresh = self._trigger_time(state, dirty.pods)
        writes: list[asyncio.Future[Object]] = []
        pieces: list[tuple[Slice, Object]] = []
        for family, each in state.sets.items():
            each.apply(self._endpoints(key, service, family, dirty.pods))
            if relabel:
                for piece in each.slices:
                    held = (piece.observed or {}).get("metadata", {}).get("labels")
                    piece.dirty = piece.dirty or held != labels
            plan = each.plan()
            for piece in plan.create:
                obj = render(piece, service, family, trigger)
                pieces.append((piece, obj))
                writes.append(self._client.create_nowait(ENDPOINTSLICES, obj, answer="meta"))
            for piece in plan.update:
                obj = render(piece, service, family, trigger)
                pieces.append((piece, obj))
                writes.append(self._client.update_nowait(ENDPOINTSLICES, obj, answer="meta"))
            for piece in plan.delete:
                meta = (piece.observed or {})["metadata"]
                writes.append(
                    self._client.delete_nowait(
                        ENDPOINTSLICES, meta["name"], meta["namespace"], uid=meta["uid"]
                    )
                )
            for operation, count in (
                ("create", len(plan.create)),
                ("update", len(plan.update)),
                ("delete", len(plan.delete)),
            ):
                if count:
                    self._context.metrics.endpoint_slice_changes.labels(operation).inc(count)
        await self._settle(pieces, writes)
        for pod_key in fresh[:FLOWS_A_SYNC]:
            namespace, name = split_key(pod_key)
            times = {"endpoints": (dirty.since, self._context.clock.now())}
            self._context.flow.report(namespace, name, times, {"service": key})
        return bool(writes)

    async def _settle(
        self, pieces: list[tuple[Slice, Object]], writes: list[asyncio.Future[Object]]
    ) -> None:
        """Wait for the writes; note what is stored now. Raises the first refusal."""
        answers = await asyncio.gather(*writes, return_exceptions=True)
        for (piece, obj), answer in zip(pieces, answers, strict=False):
            if not isinstance(answer, BaseException):
                piece.observed = {**obj, "metadata": {**obj["metadata"], **answer["metadata"]}}
                piece.dirty = False
        failures = [a for a in answers if isinstance(a, BaseException)]
        for failure in failures:
            if not (isinstance(failure, NotFound) and len(failures) == 1 and not pieces):
                raise failure

    def _load(self, key: str, state: _State, families: list[str]) -> None:
        stored = self._slices.by_index("service", key)
        state.sets = {}
        for family in families:
            each = SliceSet(self._context.config.max_endpoints_per_slice)
            each.load(o for o in stored if o.get("addressType", "IPv4") == family)
            state.sets[family] = each

    def _endpoints(
        self, key: str, service: Object, family: str, pods: Iterable[str]
    ) -> Iterable[tuple[str, Endpoint | None]]:
        selection = self._feed.selection
        for pod_key in pods:
            facts = self._context.pods.facts(pod_key)
            pod = self._pods.get(pod_key)
            if (
                facts is None
                or pod is None
                or key not in selection.services_of(facts.namespace, facts.labels)
            ):
                yield pod_key, None
            else:
                yield pod_key, make_endpoint(service, pod, self._feed.zone_of(facts.node), family)

    def _trigger_time(self, state: _State, pods: Iterable[str]) -> tuple[str, list[str]]:
        """The earliest cause of this change that was not told before ('' if there is none), and
        the pods that brought one."""
        earliest = 0.0
        fresh: list[str] = []
        for key in pods:
            pod = self._pods.get(key)
            if pod is None:
                state.changed_at.pop(key, None)
                continue
            endpoint_at = changed_at(pod)
            if endpoint_at > state.changed_at.get(key, 0.0):
                state.changed_at[key] = endpoint_at
                earliest = min(earliest or endpoint_at, endpoint_at)
                fresh.append(key)
        return rfc3339_micro(earliest) if earliest else "", fresh


def _service_index(obj: Object) -> list[str]:
    """Key of the Service that a slice of ours belongs to."""
    meta = obj["metadata"]
    labels = meta.get("labels") or {}
    if labels.get(MANAGED_BY) != MANAGER or not labels.get(SERVICE_NAME):
        return []
    return [f"{meta['namespace']}/{labels[SERVICE_NAME]}"]


def _version(obj: Object | None) -> int:
    text = (obj or {}).get("metadata", {}).get("resourceVersion", "0")
    return int(text) if str(text).isdigit() else 0


def _is_echo(stored: Object | None, ours: Slice | None) -> bool:
    """The stored slice says just what ours says."""
    if stored is None or ours is None:
        return False
    return bool((stored.get("endpoints") or []) == list(ours.endpoints.values()))
