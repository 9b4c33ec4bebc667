"""What a pod refers to: plays pkg/api/v1/pod's VisitPodSecretNames and VisitPodConfigmapNames."""

from __future__ import annotations

from collections.abc import Iterator

from cluster.api.meta import Object

Reference = tuple[str, str, str]
"""(kind in lower case, namespace, name)"""

_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
# Volume source -> the field with the secret's reference or name.
_SECRET_REFS = ("cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos")


def pod_references(pod: Object) -> tuple[Reference, ...]:
    """Secrets, ConfigMaps, claims and the service account that a pod uses, each once."""
    spec = pod.get("spec") or {}
    namespace = pod["metadata"]["namespace"]
    found: dict[Reference, None] = {}
    account = spec.get("serviceAccountName")
    if account:
        found["serviceaccount", namespace, account] = None
    for secret in spec.get("imagePullSecrets") or ():
        if secret.get("name"):
            found["secret", namespace, secret["name"]] = None
    for key in _CONTAINERS:
        for container in spec.get(key) or ():
            for kind, name in _environment(container):
                found[kind, namespace, name] = None
    for volume in spec.get("volumes") or ():
        for kind, name in _volume(pod, volume):
            found[kind, namespace, name] = None
    statuses = (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    for claim in spec.get("resourceClaims") or ():
        name = claim.get("resourceClaimName") or next(
            (s.get("resourceClaimName") for s in statuses if s.get("name") == claim.get("name")), ""
        )
        if name:
            found["resourceclaim", namespace, name] = None
    return tuple(found)


def _environment(container: Object) -> Iterator[tuple[str, str]]:
    for source in container.get("envFrom") or ():
        for key, kind in (("secretRef", "secret"), ("configMapRef", "configmap")):
            name = (source.get(key) or {}).get("name")
            if name:
                yield kind, name
    for variable in container.get("env") or ():
        value_from = variable.get("valueFrom")
        if not value_from:
            continue
        for key, kind in (("secretKeyRef", "secret"), ("configMapKeyRef", "configmap")):
            name = (value_from.get(key) or {}).get("name")
            if name:
                yield kind, name


def _volume(pod: Object, volume: Object) -> Iterator[tuple[str, str]]:
    if "projected" in volume:
        for source in (volume["projected"] or {}).get("sources") or ():
            for key, kind in (("secret", "secret"), ("configMap", "configmap")):
                name = (source.get(key) or {}).get("name")
                if name:
                    yield kind, name
        return
    if "secret" in volume:
        if (volume["secret"] or {}).get("secretName"):
            yield "secret", volume["secret"]["secretName"]
    elif "configMap" in volume:
        if (volume["configMap"] or {}).get("name"):
            yield "configmap", volume["configMap"]["name"]
    elif "persistentVolumeClaim" in volume:
        yield "persistentvolumeclaim", (volume["persistentVolumeClaim"] or {}).get("claimName", "")
    elif "ephemeral" in volume:
        yield "persistentvolumeclaim", f"{pod['metadata']['name']}-{volume.get('name', '')}"
    elif "azureFile" in volume:
        yield "secret", (volume["azureFile"] or {}).get("secretName", "")
    elif "csi" in volume:
        name = ((volume["csi"] or {}).get("nodePublishSecretRef") or {}).get("name")
        if name:
            yield "secret", name
    else:
        for key in _SECRET_REFS:
            name = ((volume.get(key) or {}).get("secretRef") or {}).get("name")
            if name:
                yield "secret", name
