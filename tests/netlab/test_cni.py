"""The CNI executable, run as a runtime runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netlab import namespaces
from netlab.netd import spare_subnet, write_conflist, write_plugin
from tests.netlab.hosts import Machine, ask

pytestmark = pytest.mark.root
Call = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def call(machine: Machine, tmp_path: Path) -> Call:
    plugin = write_plugin(tmp_path / "bin")
    listed = json.loads(write_conflist(machine.config, "10.77.5.0/24", tmp_path).read_text())
    network = {**listed["plugins"][0], "name": listed["name"], "cniVersion": listed["cniVersion"]}

    def run(verb: str, container: str = "c1", netns: str = "", **more: Any) -> Any:
        environment = {
            "CNI_COMMAND": verb,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": netns,
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(tmp_path),
        }
        done = machine.run(
            lambda: subprocess.run(
                [str(plugin)],
                input=json.dumps({**network, **more}),
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
        )
        assert not done.stderr, done.stderr
        return done.returncode, json.loads(done.stdout or "{}")

    return run


@pytest.fixture
def netns(tmp_path: Path) -> Any:
    """A namespace as a runtime would have made it."""
    path = tmp_path / "ns"
    path.touch()
    thread = namespaces.NamespaceThread("runtime")

    def make() -> None:
        with thread.home():
            namespaces.unshare_net()
            namespaces.bind_mount("/proc/thread-self/ns/net", str(path))

    thread.run(make)
    yield str(path)
    namespaces.unmount(str(path))
    thread.stop()


def test_add_check_del(machine: Machine, call: Call, netns: str) -> None:
    code, result = call("ADD", netns=netns)
    assert code == 0, result
    assert result["ips"] == [{"address": "10.77.5.2/32", "interface": 1}]
    assert result["interfaces"][1] == {"name": "eth0", "sandbox": netns}
    assert call("ADD", netns=netns)[1]["ips"] == result["ips"]
    assert call("CHECK", netns=netns) == (0, {})
    assert machine.run(ask, ("10.77.5.2", 80)) == "refused"
    assert call("DEL", netns=netns) == (0, {})
    assert call("DEL", netns="") == (0, {})
    assert call("CHECK", netns=netns)[1]["code"] == 3
    assert Path(netns).exists()


def test_gc_removes_what_is_not_valid_any_more(call: Call, netns: str) -> None:
    call("ADD", "keep", netns)
    valid = [{"containerID": "keep", "ifname": "eth0"}]
    assert call("GC", "", **{"cni.dev/valid-attachments": valid}) == (0, {})
    assert call("CHECK", "keep", netns) == (0, {})
    assert call("GC", "", **{"cni.dev/valid-attachments": []}) == (0, {})
    assert call("CHECK", "keep", netns)[1]["code"] == 3


def test_the_fabric_writes_its_list_for_a_runtime(machine: Machine) -> None:
    machine.fabric().close()
    path = machine.config.state_dir / "net.d" / "10-kubestage.conflist"
    listed = json.loads(path.read_text())
    assert (listed["cniVersion"], listed["name"]) == ("1.1.0", "test")
    assert listed["plugins"][0]["ipam"] == {"subnet": "10.77.255.0/24"}
    assert (machine.config.state_dir / "bin" / listed["plugins"][0]["type"]).exists()


@pytest.mark.parametrize(
    ("cidr", "subnet"),
    [("10.0.0.0/8", "10.255.255.0/24"), ("10.1.0.0/24", "10.1.0.192/26")],
)
def test_the_spare_subnet_is_the_end_of_the_range(cidr: str, subnet: str) -> None:
    assert spare_subnet(cidr) == subnet


def test_version_and_status(call: Call) -> None:
    assert "1.1.0" in call("VERSION")[1]["supportedVersions"]
    assert call("STATUS") == (0, {})


@pytest.mark.parametrize(
    ("verb", "more", "code"),
    [
        ("JUMP", {}, 4),
        ("ADD", {}, 4),
        ("ADD", {"cniVersion": "9.0.0"}, 1),
        ("ADD", {"fabric": {"cluster": "x"}}, 7),
        ("ADD", {"name": ""}, 7),
    ],
)
def test_bad_calls_get_the_specifications_codes(
    call: Call, verb: str, more: dict[str, Any], code: int
) -> None:
    found = call(verb, **more)
    assert (found[0], found[1]["code"]) == (1, code)
