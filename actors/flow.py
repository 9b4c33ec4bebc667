"""`kubestage flow NAMESPACE/POD`: the nine stages of one pod, as the components measured them.

Each component tells the API server when it was at work on the pod; here those marks are put into
the order of ARCHITECTURE.md's chapters. What nobody told (an API server that was restarted since, a
storm of pods of which only some are described) is said to be missing, never filled in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson

from actors import ledger
from actors.errors import UserError
from cluster.api.errors import StatusError
from cluster.client import ClientConfig

PATH = "/apis/kubestage.io/v1/flow"
Marks = Mapping[str, Mapping[str, Any]]
Row = dict[str, Any]


def flow(name: str, pod: str) -> dict[str, Any]:
    """The pod's way, seconds counted from the request's arrival. Raises UserError."""
    namespace, slash, pod_name = pod.rpartition("/")
    if not pod_name or (slash and not namespace):
        raise UserError(f"{pod!r}: expected NAMESPACE/POD, e.g. default/nginx")
    entry = ledger.require(name)
    record = asyncio.run(_ask(entry.kubeconfig, namespace or "default", pod_name))
    marks = {stage["stage"]: stage for stage in record["stages"]}
    return {
        "namespace": record["namespace"],
        "name": record["pod"],
        "uid": record["uid"],
        "stages": nine_stages(marks),
        "marks": record["stages"],
    }


async def _ask(kubeconfig: str, namespace: str, pod: str) -> dict[str, Any]:
    client = ClientConfig.from_kubeconfig(kubeconfig).connect(batches=False)
    try:
        status, body = await client.raw("GET", f"{PATH}/{namespace}/{pod}")
    except StatusError as error:
        raise UserError(error.message) from error
    finally:
        await client.close()
    document: dict[str, Any] = orjson.loads(body)
    if status != 200:
        raise UserError(str(document.get("message", f"the API server answered {status}")))
    return document


def nine_stages(marks: Marks) -> list[Row]:
    """One row a stage: number, stage, at (seconds since the request came), seconds, note."""
    user = _detail(marks, "received", "user")
    node = _detail(marks, "bound", "node")
    running = _time(marks, "running", "end")
    rows = [
        ("kubectl", "received", "received", f"POST pods as {user}" if user else ""),
        ("kube-apiserver", "received", "stored", _parts(marks, "authenticated admitted stored")),
        ("kube-controller-manager", "", "", _owner(marks)),
        ("kube-scheduler", "stored", "bound", _parts(marks, "queued scheduled binding")),
        ("kubelet", "bound", "cni", f"{node}; {_parts(marks, 'volumes')}".strip("; ")),
        ("container runtime and CNI", "cni", "containers", _parts(marks, "cni pull containers")),
        ("Running", "containers", "running", _detail(marks, "cni", "ip")),
        ("kube-proxy and DNS", "running", "proxied", _service(marks)),
        ("kubectl get pods", "running", "running", "every watcher was told" if running else ""),
    ]
    return [
        _row(marks, number, name, begin, end, note)
        for number, (name, begin, end, note) in enumerate(rows, 1)
    ]


def _row(marks: Marks, number: int, name: str, begin: str, end: str, note: str) -> Row:
    row: Row = {"number": number, "stage": name, "note": note}
    origin = _time(marks, "received", "start")
    # The kubelet's own part ends where the network's begins; every other stage ends with its mark.
    finish = _time(marks, end, "start" if number == 5 else "end")
    start = _time(marks, begin, "start" if number in (2, 6) else "end")
    if origin is None or start is None:
        row["note"] = note or ("not told" if begin else "")
        return row
    row["atSeconds"] = round(start - origin, 6)
    if finish is None:
        row["note"] = note or "not told"
    elif begin != end:
        row["seconds"] = round(max(0.0, finish - start), 6)
    return row


def _time(marks: Marks, stage: str, which: str) -> float | None:
    mark = marks.get(stage)
    return float(mark[which]) if mark else None


def _detail(marks: Marks, stage: str, key: str) -> str:
    return str((marks.get(stage, {}).get("detail") or {}).get(key, ""))


def _parts(marks: Marks, names: str) -> str:
    """`cni 2.1 ms, pull 384.0 ms` for those that were told."""
    told = ((n, marks[n]["end"] - marks[n]["start"]) for n in names.split() if n in marks)
    return ", ".join(f"{name} {seconds * 1000:.1f} ms" for name, seconds in told)


def _owner(marks: Marks) -> str:
    owner = _detail(marks, "received", "owner")
    return f"made by {owner}" if owner else "a bare pod needs none"


def _service(marks: Marks) -> str:
    if "proxied" not in marks:
        return "no Service has it (or it was not told)"
    return f"{_detail(marks, 'proxied', 'service')}; {_parts(marks, 'proxied')}"


__all__ = ["flow", "nine_stages"]
