"""The plugin: which policy holds in a namespace, and what it says of a pod."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cluster.api.errors import FieldError, Invalid, invalid
from cluster.api.meta import GVR, NAMESPACES, PODS, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.admission.podsecurity import baseline, restricted
from cluster.apiserver.admission.podsecurity.containers import Violation
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

PREFIX = "pod-security.kubernetes.io/"
LEVELS = ("privileged", "baseline", "restricted")
_VERSION = re.compile(r"latest|v1\.(0|[1-9][0-9]*)")
_NAMESPACE_PODS = 3_000
_TEMPLATES = {
    ("apps", "deployments"): ("spec", "template"),
    ("apps", "replicasets"): ("spec", "template"),
    ("apps", "statefulsets"): ("spec", "template"),
    ("apps", "daemonsets"): ("spec", "template"),
    ("batch", "jobs"): ("spec", "template"),
    ("batch", "cronjobs"): ("spec", "jobTemplate", "spec", "template"),
    ("", "replicationcontrollers"): ("spec", "template"),
    ("", "podtemplates"): ("template",),
}


@dataclass(frozen=True, slots=True)
class Policy:
    level: str
    version: str

    def __str__(self) -> str:
        return f"{self.level}:{self.version}"


class PodSecurity(Plugin):
    name = "PodSecurity"

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if operation not in ("CREATE", "UPDATE"):
            return False
        if gvr == PODS:
            return subresource in ("", "ephemeralcontainers")
        if subresource:
            return False
        return (gvr.group, gvr.plural) in _TEMPLATES or gvr == NAMESPACES

    def validate(self, request: AdmissionRequest) -> None:
        obj = request.obj
        if obj is None:
            return
        if request.gvr == NAMESPACES:
            self._check_namespace(request, obj)
            return
        namespace = self._registry.get(NAMESPACES, "", request.namespace)
        labels = (namespace or {}).get("metadata", {}).get("labels") or {}
        if not any(key.startswith(PREFIX) for key in labels):
            return
        if request.gvr == PODS:
            self._check_pod(request, obj, labels)
        else:
            template = _template(obj, _TEMPLATES[request.gvr.group, request.gvr.plural])
            if template is not None:
                self._warn(request, template, _policy(labels, "warn"))

    def _check_pod(self, request: AdmissionRequest, pod: Object, labels: Object) -> None:
        updated = request.operation == "UPDATE" and not request.subresource
        if updated and request.old is not None and not _is_significant(pod, request.old):
            return
        policy = _policy(labels, "enforce")
        found = violations(policy.level, pod.get("metadata") or {}, (pod.get("spec") or {}))
        if found:
            raise forbidden_resource(
                "", "pods", request.name, f'violates PodSecurity "{policy}": {describe(found)}'
            )
        self._warn(request, pod, _policy(labels, "warn"))

    def _warn(self, request: AdmissionRequest, pod: Object, policy: Policy) -> None:
        found = violations(policy.level, pod.get("metadata") or {}, pod.get("spec") or {})
        if found:
            request.warnings.append(f'would violate PodSecurity "{policy}": {describe(found)}')

    def _check_namespace(self, request: AdmissionRequest, namespace: Object) -> None:
        """Wrong labels are refused; a stricter policy warns of the pods that it would refuse."""
        labels = namespace["metadata"].get("labels") or {}
        errors = _label_errors(labels)
        old_labels = ((request.old or {}).get("metadata") or {}).get("labels") or {}
        if errors and labels != old_labels:
            raise Invalid.of("", "Namespace", request.name, errors)
        policy = _policy(labels, "enforce")
        if request.operation != "UPDATE" or policy == _policy(old_labels, "enforce"):
            return
        bad: list[str] = []
        reasons: set[str] = set()
        for index, pod in enumerate(self._registry.list(PODS, request.name)):
            if index >= _NAMESPACE_PODS:
                break
            found = violations(policy.level, pod["metadata"], (pod.get("spec") or {}))
            if found:
                bad.append(pod["metadata"]["name"])
                reasons.update(reason for reason, _ in found)
        if bad:
            more = f" (and {len(bad) - 1} other pod{'s' if len(bad) > 2 else ''})" * (len(bad) > 1)
            request.warnings += [
                f'existing pods in namespace "{request.name}" violate the new PodSecurity enforce'
                f' level "{policy}"',
                f"{min(bad)}{more}: {', '.join(sorted(reasons))}",
            ]


def violations(level: str, metadata: Object, spec: Object) -> list[Violation]:
    """What of the pod the level forbids, in upstream's order."""
    if level == "privileged":
        return []
    checks = [
        check
        for name, check in baseline.CHECKS
        if level == "baseline" or name not in restricted.OVERRIDES
    ]
    if level == "restricted":
        checks += [check for _, check in restricted.CHECKS]
    return [found for check in checks if (found := check(metadata, spec)) is not None]


def describe(found: list[Violation]) -> str:
    return ", ".join(f"{reason} ({detail})" if detail else reason for reason, detail in found)


def _policy(labels: Object, mode: str) -> Policy:
    level = labels.get(PREFIX + mode)
    version = labels.get(f"{PREFIX}{mode}-version") or "latest"
    if level is None:
        return Policy("privileged", version)
    # As upstream: a level that is no level counts as the strictest.
    return Policy(level if level in LEVELS else "restricted", version)


def _label_errors(labels: Object) -> list[FieldError]:
    errors = []
    for mode in ("enforce", "audit", "warn"):
        key = PREFIX + mode
        level, version = labels.get(key), labels.get(f"{key}-version")
        if level is not None and level not in LEVELS:
            errors.append(
                invalid(f"metadata.labels[{key}]", level, f"must be one of {', '.join(LEVELS)}")
            )
        if version is not None and not _VERSION.fullmatch(version):
            errors.append(
                invalid(f"metadata.labels[{key}-version]", version, 'must be "latest" or "v1.x"')
            )
    return errors


def _is_significant(pod: Object, old: Object) -> bool:
    """Images, labels and tolerations may change without another look at the pod."""
    spec, before = (pod.get("spec") or {}), (old.get("spec") or {})
    if spec == before:
        return False
    ignored = ("tolerations", "activeDeadlineSeconds", "schedulingGates", "nodeSelector")
    stripped = [
        {
            **{k: v for k, v in s.items() if k not in ignored},
            **{
                key: [{k: v for k, v in c.items() if k != "image"} for c in s.get(key) or ()]
                for key in ("initContainers", "containers", "ephemeralContainers")
            },
        }
        for s in (spec, before)
    ]
    return stripped[0] != stripped[1]


def _template(obj: Object, path: tuple[str, ...]) -> Object | None:
    current: Object | None = obj
    for key in path:
        current = (current or {}).get(key)
    return current
