"""What a container runtime looks for: the plugin's executable, and the configuration list in
net.d."""

from __future__ import annotations

import ipaddress
import json
import sys
from dataclasses import asdict
from pathlib import Path

from netlab.values import FabricConfig

VERSION = "1.1.0"
PLUGIN = "kubestage-cni"


def spare_subnet(pod_cidr: str) -> str:
    """Where a runtime beside ours gets addresses from: the end of the range, which nodes get
    last."""
    network = ipaddress.IPv4Network(pod_cidr)
    length = min(30, max(24, network.prefixlen + 2))
    last = int(network.broadcast_address) + 1 - (1 << 32 - length)
    return f"{ipaddress.IPv4Address(last)}/{length}"


def write_plugin(directory: Path) -> Path:
    """Make the executable; it runs with this interpreter."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / PLUGIN
    house = Path(__file__).resolve().parent.parent
    new = path.with_suffix(".new")
    new.write_text(
        f"#!{sys.executable} -E\nimport sys\nsys.path.insert(0, {str(house)!r})\n"
        "from netlab.cni import main\nsys.exit(main())\n"
    )
    new.chmod(0o755)
    new.replace(path)
    return path


def write_conflist(config: FabricConfig, subnet: str, directory: Path) -> Path:
    """The network's configuration list in `directory` (a runtime's net.d): pods get addresses out
    of `subnet`."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "10-kubestage.conflist"
    plugin = {
        "type": PLUGIN,
        "fabric": {**asdict(config), "state_dir": str(config.state_dir)},
        "ipam": {"subnet": subnet},
        "capabilities": {"portMappings": True},
    }
    listed = {"cniVersion": VERSION, "name": config.cluster, "plugins": [plugin]}
    new = path.with_suffix(".new")
    new.write_text(json.dumps(listed, indent=2) + "\n")
    new.replace(path)
    return path
