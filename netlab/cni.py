"""The fabric as a CNI plugin: an executable for real container runtimes (CNI specification 1.1.0).

Speaks the specification's words: the verb and the container in the environment, the configuration
on stdin, the result or an error object on stdout, an exit code that is not 0. netd.py writes the
executable and the network's configuration list.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from netlab.fabric import Fabric
from netlab.namespaces import is_namespace
from netlab.netd import VERSION
from netlab.values import Attachment, FabricConfig, HostPort, NetlabError, PodLink

SUPPORTED = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
OWNER = "cni"
INCOMPATIBLE, UNKNOWN_CONTAINER, BAD_ENVIRONMENT, IO_FAILURE, UNDECODABLE = 1, 3, 4, 5, 6
BAD_CONFIG, TRY_AGAIN, NOT_AVAILABLE, CHECK_FAILED = 7, 11, 50, 100


class CniError(Exception):
    """What is answered on stdout; codes below 100 are the specification's."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.details = details


def main() -> int:
    """The executable."""
    try:
        result = run(os.environ, sys.stdin.buffer.read())
    except CniError as error:
        answer: dict[str, Any] = {"cniVersion": VERSION, "code": error.code, "msg": str(error)}
        if error.details:
            answer["details"] = error.details
        print(json.dumps(answer))
        return 1
    if result is not None:
        print(json.dumps(result))
    return 0


def run(environment: Mapping[str, str], stdin: bytes) -> dict[str, Any] | None:
    """One call. Raises CniError."""
    verb = environment.get("CNI_COMMAND", "")
    if verb == "VERSION":
        return {"cniVersion": VERSION, "supportedVersions": list(SUPPORTED)}
    if verb not in ("ADD", "DEL", "CHECK", "GC", "STATUS"):
        raise CniError(BAD_ENVIRONMENT, f"unknown CNI_COMMAND: {verb!r}")
    network = _read_network(stdin)
    config = _read_config(network)
    if verb == "STATUS":
        _check_ready(config)
        return None
    config.state_dir.mkdir(parents=True, exist_ok=True)
    with (config.state_dir / "cni.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            fabric = Fabric.ensure(config, OWNER)
        except (NetlabError, OSError) as error:
            raise CniError(NOT_AVAILABLE, "the fabric cannot be opened", str(error)) from error
        try:
            return _act(verb, fabric, network, environment)
        except OSError as error:
            raise CniError(IO_FAILURE, "the kernel refused", str(error)) from error
        finally:
            fabric.close()


def _act(
    verb: str, fabric: Fabric, network: dict[str, Any], environment: Mapping[str, str]
) -> dict[str, Any] | None:
    if verb == "GC":
        valid = network.get("cni.dev/valid-attachments") or ()
        keep = {_id(a.get("containerID", ""), a.get("ifname", "")) for a in valid}
        fabric.delete_pods([i for i in fabric.attachments() if i not in keep])
        return None
    name = _id(_required(environment, "CNI_CONTAINERID"), _required(environment, "CNI_IFNAME"))
    if verb == "DEL":
        fabric.delete_pods([name])
        return None
    netns = _required(environment, "CNI_NETNS")
    if verb == "CHECK":
        _check(fabric, name, netns)
        return None
    if not is_namespace(netns):
        raise CniError(BAD_ENVIRONMENT, f"CNI_NETNS is not a network namespace: {netns}")
    ifname = environment["CNI_IFNAME"]
    subnet = str((network.get("ipam") or {}).get("subnet", ""))
    if not subnet:
        raise CniError(BAD_CONFIG, "ipam.subnet is missing")
    link = PodLink(name, "", subnet, "", _host_ports(network), netns, ifname)
    outcome = fabric.add_pods([link])[0]
    if not isinstance(outcome, Attachment):
        raise CniError(TRY_AGAIN, str(outcome))
    return _result(network, outcome, ifname)


def _check(fabric: Fabric, name: str, netns: str) -> None:
    held = fabric.attachments().get(name)
    if held is None:
        raise CniError(UNKNOWN_CONTAINER, f"no attachment {name}")
    if not is_namespace(netns) or not Path(held.netns_path).samefile(netns):
        raise CniError(CHECK_FAILED, f"attachment {name} is not in {netns}")


def _check_ready(config: FabricConfig) -> None:
    if os.geteuid() != 0:
        raise CniError(NOT_AVAILABLE, "pod networks need root")
    if config.state_dir.exists() and not os.access(config.state_dir, os.W_OK):
        raise CniError(NOT_AVAILABLE, f"{config.state_dir} cannot be written")


def _result(network: dict[str, Any], held: Attachment, ifname: str) -> dict[str, Any]:
    interfaces = [{"name": held.interface}, {"name": ifname, "sandbox": held.netns_path}]
    address: dict[str, Any] = {"address": f"{held.ip}/32", "interface": 1}
    version = network.get("cniVersion", VERSION)
    if version.startswith("0."):
        address["version"] = "4"
    return {
        "cniVersion": version,
        "interfaces": interfaces,
        "ips": [address],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dns": network.get("dns") or {},
    }


def _read_network(stdin: bytes) -> dict[str, Any]:
    try:
        network = json.loads(stdin)
    except ValueError as error:
        raise CniError(UNDECODABLE, "the configuration is not JSON", str(error)) from error
    if not isinstance(network, dict) or not network.get("name"):
        raise CniError(BAD_CONFIG, "the configuration has no name")
    if network.get("cniVersion") not in SUPPORTED:
        found = network.get("cniVersion")
        raise CniError(INCOMPATIBLE, f"incompatible CNI version: {found}", ", ".join(SUPPORTED))
    return network


def _read_config(network: dict[str, Any]) -> FabricConfig:
    fields = network.get("fabric")
    if not isinstance(fields, dict):
        raise CniError(BAD_CONFIG, "the configuration has no fabric")
    try:
        return FabricConfig(**{**fields, "state_dir": Path(fields["state_dir"])})
    except (TypeError, KeyError) as error:
        raise CniError(BAD_CONFIG, "the fabric is not described well", str(error)) from error


def _host_ports(network: dict[str, Any]) -> tuple[HostPort, ...]:
    mappings = (network.get("runtimeConfig") or {}).get("portMappings") or ()
    return tuple(
        HostPort(
            int(m["hostPort"]),
            int(m["containerPort"]),
            str(m.get("protocol", "tcp")).upper(),
            str(m.get("hostIP") or ""),
        )
        for m in mappings
        if m.get("hostPort")
    )


def _required(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise CniError(BAD_ENVIRONMENT, f"{name} is missing")
    return value


def _id(container: str, ifname: str) -> str:
    plain = container.replace("_", "").replace("-", "").replace(".", "")
    if not (container and plain.isalnum() and container[0].isalnum()):
        raise CniError(BAD_ENVIRONMENT, f"not a container id: {container!r}")
    if not ifname or len(ifname) > 15 or "/" in ifname:
        raise CniError(BAD_ENVIRONMENT, f"not an interface name: {ifname!r}")
    return f"{container}.{ifname}"
