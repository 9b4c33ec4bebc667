"""ServiceAccount: plugin/pkg/admission/serviceaccount.

Every pod has a service account that exists, its pull secrets, and a projected volume with a token,
the cluster's CA and the namespace, mounted into every container that mounts nothing else there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from cluster.api.errors import InternalError
from cluster.api.meta import GVR, SERVICEACCOUNTS, Object
from cluster.apiserver.admission.chain import Plugin
from cluster.apiserver.attributes import AdmissionRequest, Operation, Registry
from cluster.apiserver.authz.messages import forbidden_resource

DEFAULT = "default"
MOUNT_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"
VOLUME_PREFIX = "kube-api-access-"
EXPIRATION_SECONDS = 3607
_MIRROR = "kubernetes.io/config.mirror"
_ENFORCE = "kubernetes.io/enforce-mountable-secrets"
_SUFFIX_LETTERS = "bcdfghjklmnpqrstvwxz2456789"

NewSuffix = Callable[[], str]


def new_suffix(choice: Callable[[str], str]) -> NewSuffix:
    """Five random letters as upstream's names.SimpleNameGenerator; `choice` is random.choice."""
    return lambda: "".join([choice(_SUFFIX_LETTERS) for _ in range(5)])


class ServiceAccount(Plugin):
    name = "ServiceAccount"

    def __init__(self, registry: Registry, suffix: NewSuffix) -> None:
        self._registry = registry
        self._suffix = suffix

    def handles(self, operation: Operation, gvr: GVR, subresource: str) -> bool:
        if gvr.group or gvr.plural != "pods":
            return False
        return (operation == "CREATE" and not subresource) or (
            operation == "UPDATE" and subresource == "ephemeralcontainers"
        )

    def admit(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if request.operation != "CREATE" or pod is None:
            return
        spec = pod.setdefault("spec", {})
        if _is_mirror(pod):
            self.validate(request)
            return
        name = spec.get("serviceAccountName") or spec.get("serviceAccount") or DEFAULT
        spec["serviceAccountName"] = name
        spec["serviceAccount"] = name
        account = self._account(request, name)
        if _should_automount(account, spec):
            self._mount_token(spec)
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [
                {"name": secret.get("name", "")} for secret in account["imagePullSecrets"]
            ]

    def validate(self, request: AdmissionRequest) -> None:
        pod = request.obj
        if pod is None:
            return
        spec = pod.setdefault("spec", {})
        if _is_mirror(pod):
            if spec.get("serviceAccountName"):
                raise _forbidden(request, "a mirror pod may not reference service accounts")
            if any(
                _volume_has(volume, "serviceAccountToken") for volume in spec.get("volumes", ())
            ):
                raise _forbidden(
                    request, "a mirror pod may not use ServiceAccountToken volume projections"
                )
            return
        account = self._account(request, spec.get("serviceAccountName", ""))
        annotations = account["metadata"].get("annotations") or {}
        if annotations.get(_ENFORCE, "").lower() in ("true", "1", "t"):
            _check_mountable(request, account, spec)

    def _account(self, request: AdmissionRequest, name: str) -> Object:
        if not name:
            raise _forbidden(request, "no service account specified for pod")
        account = self._registry.get(SERVICEACCOUNTS, request.namespace, name)
        if account is None:
            raise _forbidden(
                request,
                f"error looking up service account {request.namespace}/{name}:"
                f' serviceaccount "{name}" not found',
            )
        return account

    def _mount_token(self, spec: Object) -> None:
        volumes = spec.get("volumes") or []
        existing = next((v.get("name", "") for v in volumes if _is_token_volume(v)), "")
        name = existing or self._free_name({volume.get("name", "") for volume in volumes})
        mount = {"name": name, "readOnly": True, "mountPath": MOUNT_PATH}
        mounted = False
        for key in ("initContainers", "containers"):
            for container in spec.get(key) or ():
                mounts = container.get("volumeMounts") or []
                if any(m.get("mountPath") == MOUNT_PATH for m in mounts):
                    continue
                container["volumeMounts"] = [*mounts, dict(mount)]
                mounted = True
        if mounted and not existing:
            spec["volumes"] = [*volumes, token_volume(name)]

    def _free_name(self, taken: set[str]) -> str:
        for _ in range(100):
            name = VOLUME_PREFIX + self._suffix()
            if name not in taken:
                return name
        raise InternalError("no free name for the service account volume")


def token_volume(name: str) -> Object:
    """The projected volume as upstream writes it."""
    return {
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": EXPIRATION_SECONDS, "path": "token"}},
                {
                    "configMap": {
                        "name": "kube-root-ca.crt",
                        "items": [{"key": "ca.crt", "path": "ca.crt"}],
                    }
                },
                {
                    "downwardAPI": {
                        "items": [
                            {
                                "path": "namespace",
                                "fieldRef": {
                                    "apiVersion": "v1",
                                    "fieldPath": "metadata.namespace",
                                },
                            }
                        ]
                    }
                },
            ],
        },
    }


def _forbidden(request: AdmissionRequest, message: str) -> Exception:
    return forbidden_resource("", "pods", request.name, message)


def _is_mirror(pod: Object) -> bool:
    return _MIRROR in (pod["metadata"].get("annotations") or {})


def _should_automount(account: Object, spec: Object) -> bool:
    """The pod decides, else the account, else yes."""
    for source in (spec, account):
        wanted = source.get("automountServiceAccountToken")
        if wanted is not None:
            return bool(wanted)
    return True


def _is_token_volume(volume: Object) -> bool:
    """A projected volume under the reserved name, with a token, as the plugin itself makes it."""
    return str(volume.get("name", "")).startswith(VOLUME_PREFIX) and _volume_has(
        volume, "serviceAccountToken"
    )


def _volume_has(volume: Object, source: str) -> bool:
    sources = (volume.get("projected") or {}).get("sources") or ()
    return any(source in projected for projected in sources)


def _check_mountable(request: AdmissionRequest, account: Object, spec: Object) -> None:
    """The account says that its pods may use only the secrets it lists."""
    allowed = {secret.get("name", "") for secret in account.get("secrets") or ()}
    account_name = account["metadata"]["name"]

    def check(name: Any, where: str) -> None:
        if name and name not in allowed:
            raise _forbidden(
                request,
                f"{where} secret.secretName={_quote(name)} is not allowed because service account"
                f" {account_name} does not reference that secret",
            )

    for volume in spec.get("volumes") or ():
        name = (volume.get("secret") or {}).get("secretName")
        if name and name not in allowed:
            raise _forbidden(
                request,
                f"volume with secret.secretName={_quote(name)} is not allowed because service"
                f" account {account_name} does not reference that secret",
            )
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind) or ():
            for variable in container.get("env") or ():
                reference = (variable.get("valueFrom") or {}).get("secretKeyRef") or {}
                check(reference.get("name"), f"container {container.get('name', '')} with envVar")
            for source in container.get("envFrom") or ():
                check(
                    (source.get("secretRef") or {}).get("name"),
                    f"container {container.get('name', '')} with envFrom",
                )
    pullable = {secret.get("name", "") for secret in account.get("imagePullSecrets") or ()}
    for index, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if secret.get("name") not in pullable:
            raise _forbidden(
                request,
                f"imagePullSecrets[{index}].name={_quote(secret.get('name', ''))} is not allowed"
                f" because service account {account_name} does not reference that imagePullSecret",
            )


def _quote(text: str) -> str:
    return f'"{text}"'
