"""Who a StatefulSet's pod is: name, labels, host name and claims by ordinal."""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.controllers.ownership import Kind, controller_ref
from cluster.controllers.podtemplate import pod_from_template

KIND = Kind("apps/v1", "StatefulSet")
REVISION_LABEL = "controller-revision-hash"
NAME_LABEL = "statefulset.kubernetes.io/pod-name"
INDEX_LABEL = "apps.kubernetes.io/pod-index"


def ordinal_of(owner: Object, name: str) -> int:
    """The ordinal in a pod's name; -1 if the name is not one of the set's."""
    prefix, _, number = name.rpartition("-")
    digits = number.isdigit() and (number == "0" or not number.startswith("0"))
    return int(number) if prefix == owner["metadata"]["name"] and digits else -1


def make_pod(owner: Object, template: Object, revision: str, ordinal: int) -> Object:
    """The pod of an ordinal, from the template of a revision."""
    meta = owner["metadata"]
    name = f"{meta['name']}-{ordinal}"
    pod = pod_from_template(template, controller_ref(owner, KIND))
    pod["metadata"] = {
        **pod["metadata"],
        "name": name,
        "namespace": meta["namespace"],
        "labels": {
            **(pod["metadata"].get("labels") or {}),
            NAME_LABEL: name,
            INDEX_LABEL: str(ordinal),
            REVISION_LABEL: revision,
        },
    }
    spec = {**pod["spec"], "hostname": name}
    if owner["spec"].get("serviceName"):
        spec["subdomain"] = owner["spec"]["serviceName"]
    claims = claim_names(owner, ordinal)
    if claims:
        others = [v for v in spec.get("volumes") or () if v["name"] not in claims]
        own = [
            {"name": volume, "persistentVolumeClaim": {"claimName": claim}}
            for volume, claim in claims.items()
        ]
        spec["volumes"] = [*own, *others]
    pod["spec"] = spec
    return pod


def claim_names(owner: Object, ordinal: int) -> dict[str, str]:
    """Claim of each volume claim template."""
    name = owner["metadata"]["name"]
    templates = owner["spec"].get("volumeClaimTemplates") or ()
    return {t["metadata"]["name"]: f"{t['metadata']['name']}-{name}-{ordinal}" for t in templates}


def make_claims(owner: Object, ordinal: int) -> list[Object]:
    """The claims that the pod of an ordinal needs."""
    names = claim_names(owner, ordinal)
    labels = (owner["spec"].get("selector") or {}).get("matchLabels") or {}
    claims: list[Object] = []
    for template in owner["spec"].get("volumeClaimTemplates") or ():
        source = template["metadata"]
        metadata: Object = {
            "name": names[source["name"]],
            "namespace": owner["metadata"]["namespace"],
            "labels": {**(source.get("labels") or {}), **labels},
        }
        if source.get("annotations"):
            metadata["annotations"] = source["annotations"]
        claims.append(
            {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "metadata": metadata,
                "spec": template["spec"],
            }
        )
    return claims


def revision_of(pod: Object) -> str:
    return str((pod["metadata"].get("labels") or {}).get(REVISION_LABEL, ""))
