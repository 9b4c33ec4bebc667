"""What was asked for is what the kernel has, read back through pyroute2."""

from __future__ import annotations

import pytest

from netlab import Attachment, Fabric
from netlab.census import take_census

pytestmark = pytest.mark.root


def test_the_kernel_has_exactly_the_attached_pods(fabric: Fabric, pods: list[Attachment]) -> None:
    census = take_census(fabric)
    assert census.pod_links == tuple(sorted(p.interface for p in pods))
    assert census.pod_routes == {p.ip: p.interface for p in pods}
    assert {"172.29.1.1", "172.29.1.2"} <= set(census.node_addresses)
    fabric.delete_pods([p.id for p in pods[:2]])
    left = take_census(fabric)
    assert left.pod_routes == {p.ip: p.interface for p in pods[2:]}
