"""Pods, pod templates and what they are made of (pkg/apis/core/v1/defaults.go: Pod, PodSpec,
Container, Probe, Volume). The hottest defaults: one walk over plain dicts, no lookups by path."""

from __future__ import annotations

from functools import lru_cache

from cluster.api.defaults.quantities import canonical, canonicalize, copy_missing
from cluster.api.defaults.volumes import default_volume
from cluster.api.meta import Object


def pod(obj: Object) -> None:
    spec = obj.get("spec")
    if spec is None:
        spec = obj["spec"] = {}
    pod_spec(spec)
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            limits = container["resources"].get("limits")
            if limits:
                copy_missing(container["resources"].setdefault("requests", {}), limits)
    if spec.get("resources"):
        _pod_level_requests(spec)
    if spec.get("enableServiceLinks") is None:
        spec["enableServiceLinks"] = True
    if spec.get("hostNetwork"):
        _host_ports(spec)


def pod_template(template: Object | None) -> None:
    """Defaults of a template inside a workload: those of the spec, not those of the pod."""
    if template is not None and template.get("spec") is not None:
        pod_spec(template["spec"])


def pod_spec(spec: Object) -> None:
    for container in spec.get("containers") or ():
        _container(container)
    for field in ("initContainers", "ephemeralContainers"):
        for container in spec.get(field) or ():
            _container(container)
    for volume in spec.get("volumes") or ():
        default_volume(volume)
    if not spec.get("restartPolicy"):
        spec["restartPolicy"] = "Always"
    if spec.get("terminationGracePeriodSeconds") is None:
        spec["terminationGracePeriodSeconds"] = 30
    if not spec.get("dnsPolicy"):
        spec["dnsPolicy"] = "ClusterFirst"
    if spec.get("securityContext") is None:
        spec["securityContext"] = {}
    if not spec.get("schedulerName"):
        spec["schedulerName"] = "default-scheduler"
    if spec.get("serviceAccountName") or spec.get("serviceAccount"):
        account = spec.get("serviceAccountName") or spec.get("serviceAccount")
        spec["serviceAccountName"] = spec["serviceAccount"] = account
    if "overhead" in spec:
        canonicalize(spec["overhead"])
    if spec.get("resources"):
        canonicalize(spec["resources"].get("limits"))
        canonicalize(spec["resources"].get("requests"))


@lru_cache(maxsize=1024)
def pull_policy(image: str) -> str:
    """`Always` for the tag latest, written or implied; `IfNotPresent` otherwise."""
    name, _, digest = image.partition("@")
    _, colon, tag = name.rpartition("/")[2].partition(":")
    if colon:
        return "Always" if tag == "latest" else "IfNotPresent"
    return "IfNotPresent" if digest else "Always"


def _container(container: Object) -> None:
    get = container.get
    resources = get("resources")
    if resources is None:
        container["resources"] = {}
    elif resources:
        canonicalize(resources.get("limits"))
        canonicalize(resources.get("requests"))
    for port in get("ports") or ():
        if not port.get("protocol"):
            port["protocol"] = "TCP"
    for variable in get("env") or ():
        source = variable.get("valueFrom")
        if source:
            _value_source(source)
    for field in ("livenessProbe", "readinessProbe", "startupProbe"):
        if field in container and container[field] is not None:
            _probe(container[field])
    lifecycle = get("lifecycle")
    if lifecycle:
        for hook in ("postStart", "preStop"):
            http = (lifecycle.get(hook) or {}).get("httpGet")
            if http is not None:
                _http_get(http)
    if not get("terminationMessagePath"):
        container["terminationMessagePath"] = "/dev/termination-log"
    if not get("terminationMessagePolicy"):
        container["terminationMessagePolicy"] = "File"
    if not get("imagePullPolicy"):
        container["imagePullPolicy"] = pull_policy(get("image") or "")


def _value_source(source: Object) -> None:
    field_ref = source.get("fieldRef")
    if field_ref is not None and not field_ref.get("apiVersion"):
        field_ref["apiVersion"] = "v1"
    resource_ref = source.get("resourceFieldRef")
    if resource_ref is not None:
        resource_ref["divisor"] = canonical(str(resource_ref.get("divisor") or "0"))


_PROBE_NUMBERS = (
    ("timeoutSeconds", 1),
    ("periodSeconds", 10),
    ("successThreshold", 1),
    ("failureThreshold", 3),
)


def _probe(probe: Object) -> None:
    for field, value in _PROBE_NUMBERS:
        if not probe.get(field):
            probe[field] = value
    http = probe.get("httpGet")
    if http is not None:
        _http_get(http)
    grpc = probe.get("grpc")
    if grpc is not None and grpc.get("service") is None:
        grpc["service"] = ""


def _http_get(http: Object) -> None:
    if not http.get("path"):
        http["path"] = "/"
    if not http.get("scheme"):
        http["scheme"] = "HTTP"


def _host_ports(spec: Object) -> None:
    for field in ("containers", "initContainers"):
        for container in spec.get(field) or ():
            for port in container.get("ports") or ():
                if not port.get("hostPort"):
                    port["hostPort"] = port.get("containerPort")


def _pod_level_requests(spec: Object) -> None:
    """Pod-level requests that are missing follow the containers', else the pod-level limits."""
    limits = spec["resources"].get("limits")
    if not limits:
        return
    requests = dict(spec["resources"].get("requests") or {})
    for name, total in _container_requests(spec).items():
        requests.setdefault(name, total)
    copy_missing(requests, limits)
    if requests:
        spec["resources"]["requests"] = requests


def _container_requests(spec: Object) -> dict[str, str]:
    from cluster.api import quantity

    totals: dict[str, int] = {}
    for container in spec.get("containers") or ():
        for name, value in (container["resources"].get("requests") or {}).items():
            if name in ("cpu", "memory"):
                totals[name] = totals.get(name, 0) + quantity.milli_value(value)
    return {name: quantity.canonical(f"{total}m") for name, total in totals.items()}
