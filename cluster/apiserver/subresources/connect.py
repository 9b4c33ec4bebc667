"""Subresources that lead to a node or a pod: log, exec, attach, portforward, proxy."""

from __future__ import annotations

from urllib.parse import urlencode

from cluster.api.errors import BadRequest, InternalError, NotFound, ServiceUnavailable
from cluster.api.meta import ENDPOINTSLICES, NODES, PODS, SERVICES, Object
from cluster.apiserver import pipeline
from cluster.apiserver.backend import Backend
from cluster.apiserver.call import Call, Result
from cluster.apiserver.kubelets import Target, forward, node_of
from cluster.apiserver.problems import not_found
from cluster.httpserver import Response

_STREAMS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))
_LOG_OPTIONS = (
    "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes",
    "stream",
)  # fmt: skip


def _pod(backend: Backend, call: Call) -> Object:
    pod = backend.registry.get(PODS, call.namespace, call.name)
    if pod is None:
        raise not_found(call.resource, call.name)
    return pod


def _container(call: Call, pod: Object) -> str:
    """The container asked for, or the only one. Raises BadRequest in upstream's words."""
    spec = pod["spec"]
    names = [c["name"] for c in spec.get("containers") or ()]
    init = [c["name"] for c in spec.get("initContainers") or ()]
    ephemeral = [c["name"] for c in spec.get("ephemeralContainers") or ()]
    wanted = call.parameter("container")
    if not wanted:
        if len(names) == 1:
            return str(names[0])
        listed = f"choose one of: [{' '.join(names)}]"
        if init:
            listed += f" or one of the init containers: [{' '.join(init)}]"
        if ephemeral:
            listed += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
        raise BadRequest(f"a container name must be specified for pod {call.name}, {listed}")
    if wanted not in names + init + ephemeral:
        raise BadRequest(f"container {wanted} is not valid for pod {call.name}")
    return wanted


async def log(backend: Backend, call: Call) -> Result:
    """GET pods/NAME/log."""
    pod = _pod(backend, call)
    _check_log_options(call)
    container = _container(call, pod)
    node = (pod.get("spec") or {}).get("nodeName")
    if not node:
        return Response(200, b"", "text/plain")
    query = {k: call.parameter(k) for k in _LOG_OPTIONS if call.parameter(k)}
    path = f"/containerLogs/{call.namespace}/{call.name}/{container}"
    target = backend.kubelets.target(node, f"{path}?{urlencode(query)}" if query else path)
    assert call.request is not None
    return await forward(call.request, target)


def _check_log_options(call: Call) -> None:
    from cluster.api.errors import FieldError, Invalid, forbidden

    errors: list[FieldError] = []
    tail, limit = call.number("tailLines"), call.number("limitBytes")
    since = call.number("sinceSeconds")
    if tail is not None and tail < 0:
        detail = "must be greater than or equal to 0"
        errors.append(FieldError("FieldValueInvalid", "tailLines", tail, detail))
    if limit is not None and limit < 1:
        errors.append(
            FieldError("FieldValueInvalid", "limitBytes", limit, "must be greater than 0")
        )
    if since is not None and call.parameter("sinceTime"):
        errors.append(
            forbidden("", "at most one of `sinceTime` or `sinceSeconds` may be specified")
        )
    elif since is not None and since < 1:
        errors.append(
            FieldError("FieldValueInvalid", "sinceSeconds", since, "must be greater than 0")
        )
    if errors:
        raise Invalid.of("", "PodLogOptions", call.name, errors)


async def exec_(backend: Backend, call: Call) -> Result:
    """GET or POST pods/NAME/exec with an upgrade."""
    return await _streaming(backend, call, "exec")


async def attach(backend: Backend, call: Call) -> Result:
    return await _streaming(backend, call, "attach")


async def _streaming(backend: Backend, call: Call, what: str) -> Result:
    pod = _pod(backend, call)
    await pipeline.Admission(backend, call, "CONNECT", None, pod).admit()
    container = _container(call, pod)
    query: list[tuple[str, str]] = []
    for ours, theirs in _STREAMS:
        if call.flag(ours):
            query.append((theirs, "1"))
    if not any(theirs != "tty" for theirs, _ in query):
        raise BadRequest("you must specify at least one of stdin, stdout, stderr")
    if what == "exec":
        commands = call.query.get("command", [])
        if not commands:
            raise BadRequest("you must specify at least one command for the container")
        query.extend(("command", c) for c in commands)
    path = f"/{what}/{call.namespace}/{call.name}/{container}?{urlencode(query)}"
    return await _upgrade(backend, call, node_of(pod), path)


async def portforward(backend: Backend, call: Call) -> Result:
    pod = _pod(backend, call)
    await pipeline.Admission(backend, call, "CONNECT", None, pod).admit()
    path = f"/portForward/{call.namespace}/{call.name}"
    if call.query_string:
        path += f"?{call.query_string}"
    return await _upgrade(backend, call, node_of(pod), path)


async def _upgrade(backend: Backend, call: Call, node: str, path: str) -> Result:
    assert call.request is not None
    if not call.request.wants_upgrade:
        raise BadRequest("Upgrade request required")
    return await forward(call.request, backend.kubelets.target(node, path))


async def proxy(backend: Backend, call: Call) -> Result:
    """Any method on {pods,services,nodes}/NAME/proxy/PATH."""
    assert call.request is not None
    await pipeline.Admission(backend, call, "CONNECT", None, None).admit()
    scheme, name, port = _split_name(call.name)
    path = "/" + call.route.rest
    if call.request.raw_path.endswith("/") and not path.endswith("/"):
        path += "/"
    if call.query_string:
        path += f"?{call.query_string}"
    plural = call.resource.plural
    if plural == "nodes":
        return await forward(call.request, backend.kubelets.target(name, path))
    if scheme == "https":
        raise BadRequest("kubestage does not emulate proxying to https endpoints yet")
    if plural == "pods":
        host, number = _pod_target(backend, call, name, port)
    else:
        host, number = _service_target(backend, call, name, port)
    return await forward(call.request, Target(host, number, path))


def _split_name(text: str) -> tuple[str, str, str]:
    """net.SplitSchemeNamePort: [scheme:]name[:port]."""
    parts = text.split(":")
    if len(parts) == 1:
        return "", parts[0], ""
    if len(parts) == 2:
        return "", parts[0], parts[1]
    if len(parts) == 3 and parts[0] in ("", "http", "https"):
        return parts[0], parts[1], parts[2]
    raise BadRequest(f'invalid proxy request "{text}"')


def _pod_target(backend: Backend, call: Call, name: str, port: str) -> tuple[str, int]:
    pod = backend.registry.get(PODS, call.namespace, name)
    if pod is None:
        raise not_found(call.resource, name)
    address = (pod.get("status") or {}).get("podIP")
    if not address:
        raise InternalError("address not allowed")
    if not port:
        for container in pod["spec"].get("containers") or ():
            for known in container.get("ports") or ():
                return str(address), int(known["containerPort"])
        return str(address), 80
    if port.isdigit():
        return str(address), int(port)
    for container in pod["spec"].get("containers") or ():
        for known in container.get("ports") or ():
            if known.get("name") == port:
                return str(address), int(known["containerPort"])
    raise BadRequest(f'pod "{name}" has no port named "{port}"')


def _service_target(backend: Backend, call: Call, name: str, port: str) -> tuple[str, int]:
    service = backend.registry.get(SERVICES, call.namespace, name)
    if service is None:
        raise not_found(call.resource, name)
    ports = service["spec"].get("ports") or []
    if port:
        chosen = [p for p in ports if p.get("name") == port or str(p.get("port")) == port]
    else:
        chosen = ports[:1] if len(ports) == 1 else []
    if not chosen:
        raise ServiceUnavailable(f'no service port "{port}" found for service "{name}"')
    for piece in backend.registry.list(ENDPOINTSLICES, call.namespace):
        labels = piece["metadata"].get("labels") or {}
        if labels.get("kubernetes.io/service-name") != name:
            continue
        for known in piece.get("ports") or ():
            if (known.get("name") or "") != (chosen[0].get("name") or ""):
                continue
            for endpoint in piece.get("endpoints") or ():
                if (endpoint.get("conditions") or {}).get("ready", True) is not False:
                    return str(endpoint["addresses"][0]), int(known["port"])
    raise ServiceUnavailable(f'no endpoints available for service "{name}"')


__all__ = ["NODES", "NotFound", "attach", "exec_", "log", "portforward", "proxy"]
