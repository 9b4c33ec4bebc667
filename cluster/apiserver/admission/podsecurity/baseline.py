"""The baseline level's checks: k8s.io/pod-security-admission/policy/check_*.go.

Each takes the pod's metadata and spec and gives (reason, detail) of a violation, or None."""

from __future__ import annotations

from collections.abc import Callable

from cluster.api.meta import Object
from cluster.apiserver.admission.podsecurity.containers import (
    Violation,
    containers_of,
    context_of,
    listed,
    quote_all,
    setters,
)

Check = Callable[[Object, Object], Violation | None]

_CAPABILITY_NAMES = """AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE
    SETFCAP SETGID SETPCAP SETUID SYS_CHROOT"""
_CAPABILITIES = frozenset(_CAPABILITY_NAMES.split())
_SYSCTL_NAMES = """kernel.shm_rmid_forced net.ipv4.ip_local_port_range net.ipv4.tcp_syncookies
    net.ipv4.ping_group_range net.ipv4.ip_unprivileged_port_start
    net.ipv4.ip_local_reserved_ports net.ipv4.tcp_keepalive_time net.ipv4.tcp_fin_timeout
    net.ipv4.tcp_keepalive_intvl net.ipv4.tcp_keepalive_probes net.ipv4.tcp_rmem
    net.ipv4.tcp_wmem"""
_SYSCTLS = frozenset(_SYSCTL_NAMES.split())
_SELINUX_TYPES = frozenset(
    ("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
)
_APPARMOR = "container.apparmor.security.beta.kubernetes.io/"


def app_armor_profile(metadata: Object, spec: Object) -> Violation | None:
    details: list[str] = []
    values: set[str] = set()
    pod = (context_of(spec).get("appArmorProfile") or {}).get("type") == "Unconfined"
    names = [
        c.get("name", "")
        for c in containers_of(spec)
        if (context_of(c).get("appArmorProfile") or {}).get("type") == "Unconfined"
    ]
    if pod or names:
        values.add("Unconfined")
        details.append(f'{setters(pod, names)} must not set AppArmor profile type to "Unconfined"')
    forbidden = [
        f'{key}="{value}"'
        for key, value in sorted((metadata.get("annotations") or {}).items())
        if key.startswith(_APPARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    ]
    if forbidden:
        noun = "annotation" if len(forbidden) == 1 else "annotations"
        details.append(f"{noun} {', '.join(forbidden)}")
    if not details:
        return None
    count = len(values) + len(forbidden)
    reason = "forbidden AppArmor profile" if count == 1 else "forbidden AppArmor profiles"
    return reason, "; ".join(details)


def capabilities(_metadata: Object, spec: Object) -> Violation | None:
    names: list[str] = []
    added: set[str] = set()
    for container in containers_of(spec):
        wanted = (context_of(container).get("capabilities") or {}).get("add") or ()
        extra = [name for name in wanted if name not in _CAPABILITIES]
        if extra:
            names.append(container.get("name", ""))
            added.update(extra)
    if not names:
        return None
    return (
        "non-default capabilities",
        f"{listed('container', names)} must not include {quote_all(sorted(added))} in"
        " securityContext.capabilities.add",
    )


def host_namespaces(_metadata: Object, spec: Object) -> Violation | None:
    used = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return ("host namespaces", ", ".join(used)) if used else None


def host_path_volumes(_metadata: Object, spec: Object) -> Violation | None:
    names = [v.get("name", "") for v in spec.get("volumes") or () if "hostPath" in v]
    return ("hostPath volumes", listed("volume", names)) if names else None


def host_ports(_metadata: Object, spec: Object) -> Violation | None:
    names: list[str] = []
    ports: set[int] = set()
    for container in containers_of(spec):
        used = [int(p["hostPort"]) for p in container.get("ports") or () if p.get("hostPort")]
        if used:
            names.append(container.get("name", ""))
            ports.update(used)
    if not names:
        return None
    verb = "uses" if len(names) == 1 else "use"
    noun = "hostPort" if len(ports) == 1 else "hostPorts"
    shown = ", ".join(str(port) for port in sorted(ports, key=str))
    return "hostPort", f"{listed('container', names)} {verb} {noun} {shown}"


def host_probes(_metadata: Object, spec: Object) -> Violation | None:
    names: list[str] = []
    hosts: set[str] = set()
    for container in containers_of(spec):
        lifecycle = container.get("lifecycle") or {}
        handlers = [container.get(f"{p}Probe") for p in ("liveness", "readiness", "startup")]
        handlers += [lifecycle.get("postStart"), lifecycle.get("preStop")]
        used = {
            str(action["host"])
            for handler in handlers
            if handler
            for action in (handler.get("httpGet") or {}, handler.get("tcpSocket") or {})
            if action.get("host") not in (None, "", "127.0.0.1", "::1")
        }
        if used:
            names.append(container.get("name", ""))
            hosts |= used
    if not names:
        return None
    return (
        "probe or lifecycle host",
        f"{listed('container', names)} {'uses' if len(names) == 1 else 'use'} probe or lifecycle"
        f" host {quote_all(sorted(hosts))}",
    )


def privileged(_metadata: Object, spec: Object) -> Violation | None:
    names = [c.get("name", "") for c in containers_of(spec) if context_of(c).get("privileged")]
    if not names:
        return None
    return (
        "privileged",
        f"{listed('container', names)} must not set securityContext.privileged=true",
    )


def proc_mount(_metadata: Object, spec: Object) -> Violation | None:
    if spec.get("hostUsers") is False:
        return None
    names: list[str] = []
    types: set[str] = set()
    for container in containers_of(spec):
        kind = context_of(container).get("procMount")
        if kind and kind != "Default":
            names.append(container.get("name", ""))
            types.add(kind)
    if not names:
        return None
    return (
        "procMount",
        f"{listed('container', names)} must not set securityContext.procMount to"
        f" {quote_all(sorted(types))}",
    )


def selinux_options(_metadata: Object, spec: Object) -> Violation | None:
    types: set[str] = set()
    user = role = False

    def bad(holder: Object) -> bool:
        nonlocal user, role
        options = context_of(holder).get("seLinuxOptions") or {}
        kind = options.get("type", "")
        if kind not in _SELINUX_TYPES:
            types.add(kind)
        user = user or bool(options.get("user"))
        role = role or bool(options.get("role"))
        return bool(kind not in _SELINUX_TYPES or options.get("user") or options.get("role"))

    pod = bad(spec)
    names = [c.get("name", "") for c in containers_of(spec) if bad(c)]
    if not pod and not names:
        return None
    data = []
    if types:
        data.append(f"{'type' if len(types) == 1 else 'types'} {quote_all(sorted(types))}")
    if user:
        data.append("user may not be set")
    if role:
        data.append("role may not be set")
    return (
        "seLinuxOptions",
        f"{setters(pod, names)} set forbidden securityContext.seLinuxOptions: {'; '.join(data)}",
    )


def seccomp_profile(_metadata: Object, spec: Object) -> Violation | None:
    def unconfined(holder: Object) -> bool:
        return (context_of(holder).get("seccompProfile") or {}).get("type") == "Unconfined"

    pod = unconfined(spec)
    names = [c.get("name", "") for c in containers_of(spec) if unconfined(c)]
    if not pod and not names:
        return None
    return (
        "seccompProfile",
        f'{setters(pod, names)} must not set securityContext.seccompProfile.type to "Unconfined"',
    )


def sysctls(_metadata: Object, spec: Object) -> Violation | None:
    names = [
        s.get("name", "")
        for s in context_of(spec).get("sysctls") or ()
        if s.get("name") not in _SYSCTLS
    ]
    return ("forbidden sysctls", ", ".join(names)) if names else None


def windows_host_process(_metadata: Object, spec: Object) -> Violation | None:
    def host(holder: Object) -> bool:
        return bool((context_of(holder).get("windowsOptions") or {}).get("hostProcess"))

    pod = host(spec)
    names = [c.get("name", "") for c in containers_of(spec) if host(c)]
    if not pod and not names:
        return None
    return (
        "hostProcess",
        f"{setters(pod, names)} must not set securityContext.windowsOptions.hostProcess=true",
    )


CHECKS: tuple[tuple[str, Check], ...] = (
    ("appArmorProfile", app_armor_profile),
    ("capabilities_baseline", capabilities),
    ("hostNamespaces", host_namespaces),
    ("hostPathVolumes", host_path_volumes),
    ("hostPorts", host_ports),
    ("hostProbesAndHostLifecycle", host_probes),
    ("privileged", privileged),
    ("procMount", proc_mount),
    ("seLinuxOptions", selinux_options),
    ("seccompProfile_baseline", seccomp_profile),
    ("sysctls", sysctls),
    ("windowsHostProcess", windows_host_process),
)
