"""Warnings: what Kubernetes accepts but says something about (pkg/api/pod/warnings.go and
others)."""

from __future__ import annotations

from cluster.api import names
from cluster.api.meta import Object
from cluster.api.preparation.kinds import Kinded

_DEPRECATED_NODE_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": (
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead'
    ),
    "failure-domain.beta.kubernetes.io/zone": (
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead'
    ),
    "beta.kubernetes.io/instance-type": (
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead'
    ),
}
_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
_BETA_CLASS = "volume.beta.kubernetes.io/storage-class"
_TEMPLATES = frozenset({"Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "Job"})
_CRITICAL = "scheduler.alpha.kubernetes.io/critical-pod"


def warnings(resource: Kinded, obj: Object) -> list[str]:
    """What to tell the creator of `obj`, in upstream's words."""
    if resource.group == "" and resource.kind == "Pod":
        return _pod(obj)
    if resource.group in ("apps", "batch") and resource.kind in _TEMPLATES:
        template = (obj.get("spec") or {}).get("template") or {}
        return _pod_spec(
            template.get("spec") or {}, template.get("metadata") or {}, "spec.template."
        )
    if resource.group == "" and resource.kind == "Endpoints":
        return ["v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"]
    if resource.group == "" and resource.kind == "Service":
        return _service(obj)
    if resource.group == "" and resource.kind in ("PersistentVolume", "PersistentVolumeClaim"):
        return _volume(obj)
    return []


def _volume(obj: Object) -> list[str]:
    found = []
    if _BETA_CLASS in (obj["metadata"].get("annotations") or ()):
        found.append(
            f"metadata.annotations[{_BETA_CLASS}]: deprecated since v1.8; use "
            '"storageClassName" attribute instead'
        )
    if (obj.get("spec") or {}).get("persistentVolumeReclaimPolicy") == "Recycle":
        found.append(
            "spec.persistentVolumeReclaimPolicy: The Recycle reclaim policy is deprecated. "
            "Instead, the recommended approach is to use dynamic provisioning."
        )
    return found


def _pod(pod: Object) -> list[str]:
    found = []
    name = pod["metadata"].get("name") or ""
    messages = names.dns_label(name)
    if messages:
        found.append(
            "metadata.name: this is used in the Pod's hostname, which can result in surprising "
            f"behavior; a DNS label is recommended: [{' '.join(messages)}]"
        )
    return found + _pod_spec(pod.get("spec") or {}, pod["metadata"], "")


def _pod_spec(spec: Object, metadata: Object, prefix: str) -> list[str]:
    found: list[str] = []
    for label in spec.get("nodeSelector") or ():
        if label in _DEPRECATED_NODE_LABELS:
            where = f"{prefix}spec.nodeSelector[{label}]"
            found.append(f"{where}: {_DEPRECATED_NODE_LABELS[label]}")
    if _CRITICAL in (metadata.get("annotations") or ()):
        found.append(
            f"{prefix}metadata.annotations[{_CRITICAL}]: non-functional in v1.16+; use the "
            '"priorityClassName" field instead'
        )
    for key in metadata.get("annotations") or ():
        at = f"{prefix}metadata.annotations[{key}]"
        if key.startswith(_APP_ARMOR):
            detail = 'deprecated since v1.30; use the "appArmorProfile" field instead'
            found.append(f"{at}: {detail}")
        elif key == _SECCOMP:
            detail = 'non-functional in v1.27+; use the "seccompProfile" field instead'
            found.append(f"{at}: {detail}")
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            found.append(f'{prefix}spec.imagePullSecrets[{i}].name: invalid empty name ""')
    for i, volume in enumerate(spec.get("volumes") or ()):
        if volume.get("gitRepo") is not None:
            found.append(
                f"{prefix}spec.volumes[{i}].gitRepo: deprecated in v1.11, and disabled by default "
                f"in v1.33+"
            )
    for field in ("initContainers", "containers"):
        for i, container in enumerate(spec.get(field) or ()):
            found += _container(container, f"{prefix}spec.{field}[{i}]")
    grace = spec.get("terminationGracePeriodSeconds")
    if grace is not None and grace < 0:
        found.append(
            f"{prefix}spec.terminationGracePeriodSeconds: must be >= 0; negative values are "
            f"invalid "
            "and will be treated as 1"
        )
    return found


def _container(container: Object, path: str) -> list[str]:
    found: list[str] = []
    for kind in ("limits", "requests"):
        for name in ("memory", "ephemeral-storage"):
            value = ((container.get("resources") or {}).get(kind) or {}).get(name)
            if isinstance(value, str) and value.endswith("m"):
                at = f"{path}.resources.{kind}[{name}]"
                found.append(
                    f'{at}: fractional byte value "{value}" is invalid, must be an integer'
                )
    seen: set[str] = set()
    for i, variable in enumerate(container.get("env") or ()):
        name = variable.get("name")
        if name in seen:
            found.append(
                f'{path}.env[{i}]: hides previous definition of "{name}", which may be dropped '
                f"when "
                "using apply"
            )
        seen.add(str(name))
    ports: dict[tuple[object, object], int] = {}
    for i, port in enumerate(container.get("ports") or ()):
        key = (port.get("containerPort"), port.get("protocol"))
        if key in ports and not port.get("hostPort"):
            found.append(
                f"{path}.ports[{i}]: duplicate port definition with {path}.ports[{ports[key]}]"
            )
        ports.setdefault(key, i)
    return found


def _service(service: Object) -> list[str]:
    spec = service.get("spec") or {}
    headless = spec.get("clusterIP") == "None"
    if headless and spec.get("sessionAffinity") not in (None, "", "None"):
        return ["spec.SessionAffinity is ignored for headless services"]
    if spec.get("externalIPs") and spec.get("type") == "ExternalName":
        return ['spec.externalIPs is ignored when spec.type is "ExternalName"']
    return []
