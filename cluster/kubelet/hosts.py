"""The files every pod has: /etc/hosts and /etc/resolv.conf.

Plays pkg/kubelet/kubelet_pods.go (hostsFileContent) and pkg/kubelet/network/dns. Pure.
"""

from __future__ import annotations

from cluster.api.meta import Object
from cluster.kubelet.config import KubeletConfig

_HEADER = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def hostname_of(pod: Object) -> tuple[str, str]:
    """The pod's host name and its domain ('' if it has none)."""
    spec = pod["spec"]
    name = spec.get("hostnameOverride") or spec.get("hostname") or pod["metadata"]["name"]
    return name[:63].rstrip("-."), spec.get("subdomain") or ""


def hosts_file(pod: Object, ip: str, cluster_domain: str) -> str:
    """/etc/hosts with the pod's own line and its hostAliases."""
    name, subdomain = hostname_of(pod)
    text = _HEADER
    if ip:
        if subdomain:
            domain = f"{subdomain}.{pod['metadata']['namespace']}.svc.{cluster_domain}"
            text += f"{ip}\t{name}.{domain}\t{name}\n"
        else:
            text += f"{ip}\t{name}\n"
    aliases = pod["spec"].get("hostAliases") or ()
    if aliases:
        text += "\n# Entries added by HostAliases.\n"
        for alias in aliases:
            text += alias["ip"] + "\t" + "\t".join(alias.get("hostnames") or ()) + "\n"
    return text


def resolv_conf(pod: Object, config: KubeletConfig) -> str:
    """dnsPolicy and dnsConfig as a resolver file."""
    spec = pod["spec"]
    policy = spec.get("dnsPolicy") or "ClusterFirst"
    own = spec.get("dnsConfig") or {}
    domain = config.cluster_domain
    servers: list[str] = []
    searches: list[str] = []
    options: dict[str, str | None] = {}
    host_network = spec.get("hostNetwork", False)
    if policy == "ClusterFirstWithHostNet" or (policy == "ClusterFirst" and not host_network):
        servers = list(config.cluster_dns)
        namespace = pod["metadata"]["namespace"]
        searches = [f"{namespace}.svc.{domain}", f"svc.{domain}", domain]
        options["ndots"] = "5"
    elif policy != "None":
        servers = ["127.0.0.1"]
    servers += [s for s in own.get("nameservers") or () if s not in servers]
    searches += [s for s in own.get("searches") or () if s not in searches]
    for option in own.get("options") or ():
        options[option["name"]] = option.get("value")
    lines = []
    if searches:
        lines.append("search " + " ".join(searches))
    lines += [f"nameserver {server}" for server in servers[:3]]
    if options:
        shown = (name if value is None else f"{name}:{value}" for name, value in options.items())
        lines.append("options " + " ".join(shown))
    return "\n".join(lines) + "\n"
