"""What extends the API: CustomResourceDefinitions, APIServices, webhook configurations."""

from __future__ import annotations

from cluster.api import names
from cluster.api.errors import duplicate, invalid, required
from cluster.api.meta import Object
from cluster.api.validation import fields, selectors
from cluster.api.validation.fields import Errors


def custom_resource_definition(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    found, group = spec.get("names") or {}, spec.get("group") or ""
    expected = f"{found.get('plural', '')}.{group}"
    name = obj["metadata"].get("name") or ""
    if name != expected:
        errors.append(invalid("metadata.name", name, 'must be spec.names.plural+"."+spec.group'))
    if not group:
        errors.append(required("spec.group"))
    else:
        fields.name(group, names.dns_subdomain, "spec.group", errors)
        if "." not in group:
            errors.append(invalid("spec.group", group, "should be a domain with at least one dot"))
    fields.one_of(spec.get("scope"), ("Cluster", "Namespaced"), "spec.scope", errors)
    _names(found, errors)
    _versions(spec.get("versions") or [], errors)


def _names(found: Object, errors: Errors) -> None:
    for key in ("plural", "singular", "kind", "listKind"):
        value = found.get(key) or ""
        path = f"spec.names.{key}"
        if not value:
            if key != "singular":
                errors.append(required(path))
            continue
        fields.name(value.lower(), names.dns1035_label, path, errors)
        if key in ("plural", "singular") and value != value.lower():
            fields.name(value, names.dns1035_label, path, errors)
    for i, short in enumerate(found.get("shortNames") or ()):
        fields.name(short, names.dns1035_label, f"spec.names.shortNames[{i}]", errors)
    if found.get("kind") and found.get("kind") == found.get("listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(invalid("spec.names.listKind", found["listKind"], detail))


def _versions(versions: list[Object], errors: Errors) -> None:
    if not versions:
        errors.append(required("spec.versions", "must have at least one version"))
        return
    seen: set[str] = set()
    for i, version in enumerate(versions):
        path, name = f"spec.versions[{i}]", version.get("name") or ""
        for message in names.dns1035_label(name):
            errors.append(invalid(f"{path}.name", name, message))
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            detail = "schemas are required"
            errors.append(required(f"{path}.schema.openAPIV3Schema", detail))
    stored = sum(1 for version in versions if version.get("storage"))
    if stored != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid("spec.versions", versions, detail))


def custom_resource_definition_update(new: Object, old: Object, errors: Errors) -> None:
    conditions = (old.get("status") or {}).get("conditions") or ()
    established = any(
        c.get("type") == "Established" and c.get("status") == "True" for c in conditions
    )
    spec, before = new["spec"], old["spec"]
    if established:
        fields.immutable(spec.get("scope"), before.get("scope"), "spec.scope", errors)
        kind, old_kind = (s.get("names", {}).get("kind") for s in (spec, before))
        fields.immutable(kind, old_kind, "spec.names.kind", errors)
    fields.immutable(spec.get("group"), before.get("group"), "spec.group", errors)
    plural, old_plural = (s.get("names", {}).get("plural") for s in (spec, before))
    fields.immutable(plural, old_plural, "spec.names.plural", errors)


def api_service(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    group, version = spec.get("group") or "", spec.get("version") or ""
    expected = f"{version}.{group}"
    name = obj["metadata"].get("name") or ""
    if name != expected:
        detail = f'must be `spec.version+"."+spec.group`: "{expected}"'
        errors.append(invalid("metadata.name", name, detail))
    if not version:
        errors.append(required("spec.version"))
    if (spec.get("groupPriorityMinimum") or 0) <= 0:
        detail = "must be positive and less than 20000"
        errors.append(
            invalid("spec.groupPriorityMinimum", spec.get("groupPriorityMinimum") or 0, detail)
        )
    if (spec.get("versionPriority") or 0) <= 0:
        detail = "must be positive and less than 1000"
        errors.append(invalid("spec.versionPriority", spec.get("versionPriority") or 0, detail))


def webhooks(obj: Object, errors: Errors) -> None:
    seen: set[str] = set()
    for i, webhook in enumerate(obj.get("webhooks") or ()):
        path, name = f"webhooks[{i}]", webhook.get("name") or ""
        _webhook_name(name, f"{path}.name", errors)
        if name in seen:
            errors.append(duplicate(f"{path}.name", name))
        seen.add(name)
        _webhook(webhook, path, errors)


def _webhook_name(name: str, path: str, errors: Errors) -> None:
    if not name:
        errors.append(required(path))
    elif names.dns_subdomain(name):
        errors.append(invalid(path, name, ",".join(names.dns_subdomain(name))))
    elif name.count(".") < 2:
        detail = "should be a domain with at least three segments separated by dots"
        errors.append(invalid(path, name, detail))


def _webhook(webhook: Object, path: str, errors: Errors) -> None:
    for key, allowed in (
        ("failurePolicy", ("Fail", "Ignore")),
        ("matchPolicy", ("Equivalent", "Exact")),
    ):
        if webhook.get(key) is not None and webhook[key] not in allowed:
            errors.append(fields.unsupported(f"{path}.{key}", webhook[key], allowed))
    effects = webhook.get("sideEffects")
    if effects is None:
        detail = "must specify one of None, NoneOnDryRun"
        errors.append(required(f"{path}.sideEffects", detail))
    elif effects not in ("None", "NoneOnDryRun"):
        errors.append(fields.unsupported(f"{path}.sideEffects", effects, ("None", "NoneOnDryRun")))
    if not webhook.get("admissionReviewVersions"):
        detail = "must specify one of v1, v1beta1"
        errors.append(required(f"{path}.admissionReviewVersions", detail))
    seconds = webhook.get("timeoutSeconds")
    if seconds is not None and not 1 <= seconds <= 30:
        detail = "the timeout value must be between 1 and 30 seconds"
        errors.append(invalid(f"{path}.timeoutSeconds", seconds, detail))
    for key in ("namespaceSelector", "objectSelector"):
        selectors.label_selector(webhook.get(key), f"{path}.{key}", errors)
    client = webhook.get("clientConfig") or {}
    if (client.get("url") is None) == (client.get("service") is None):
        detail = "exactly one of url or service is required"
        errors.append(required(f"{path}.clientConfig", detail))
    elif client.get("service") is not None:
        for key in ("name", "namespace"):
            if not client["service"].get(key):
                detail = f"service {key} is required"
                errors.append(required(f"{path}.clientConfig.service.{key}", detail))
    elif not client["url"].startswith("https://"):
        detail = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
        errors.append(invalid(f"{path}.clientConfig.url", client["url"], detail))


def signing_request(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("request"):
        errors.append(invalid("spec.request", "", "PEM block type must be CERTIFICATE REQUEST"))
    if not spec.get("signerName"):
        errors.append(required("spec.signerName"))
    if not spec.get("usages"):
        errors.append(required("spec.usages"))
    seconds = spec.get("expirationSeconds")
    if seconds is not None and seconds < 600:
        detail = "may not specify a duration less than 600 seconds (10 minutes)"
        errors.append(invalid("spec.expirationSeconds", seconds, detail))


def admission_policy(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    _failure_policy(spec, errors)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        detail = "validations or auditAnnotations must be specified"
        errors.append(required("spec.validations", detail))
    for i, check in enumerate(spec.get("validations") or ()):
        if not (check.get("expression") or "").strip():
            detail = "expression is not specified"
            errors.append(required(f"spec.validations[{i}].expression", detail))
    constraints = spec.get("matchConstraints")
    if constraints is None:
        errors.append(required("spec.matchConstraints"))
    elif not constraints.get("resourceRules"):
        errors.append(required("spec.matchConstraints.resourceRules"))


def _failure_policy(spec: Object, errors: Errors) -> None:
    policy = spec.get("failurePolicy")
    if policy is None:
        errors.append(required("spec.failurePolicy"))
    elif policy not in ("Fail", "Ignore"):
        errors.append(fields.unsupported("spec.failurePolicy", policy, ("Fail", "Ignore")))


_ACTIONS = ("Audit", "Deny", "Warn")


def admission_policy_binding(obj: Object, errors: Errors) -> None:
    spec = obj.get("spec") or {}
    if not spec.get("policyName"):
        errors.append(required("spec.policyName"))
    actions = spec.get("validationActions") or []
    if not actions:
        errors.append(
            required("spec.validationActions", "at least one validation action is required")
        )
    for i, action in enumerate(actions):
        path = f"spec.validationActions[{i}]"
        if action not in _ACTIONS:
            errors.append(fields.unsupported(path, action, _ACTIONS))
        elif action in actions[:i]:
            errors.append(duplicate(path, action))
    if "Deny" in actions and "Warn" in actions:
        detail = "must not contain both Deny and Warn (repeating the same validation failure "
        detail += "information in the API response and headers serves no purpose)"
        errors.append(invalid("spec.validationActions", actions, detail))
