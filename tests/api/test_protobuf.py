"""Bodies that kubectl and Go controllers send as protobuf become the JSON they would have sent."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.api import protobuf
from cluster.api.errors import BadRequest


def varint(value: int) -> bytes:
    out = b""
    value &= (1 << 64) - 1
    while True:
        value, low = value >> 7, value & 0x7F
        out += bytes([low | (0x80 if value else 0)])
        if not value:
            return out


def field(number: int, value: int | bytes | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def envelope(api_version: str, kind: str, raw: bytes) -> bytes:
    type_meta = field(1, api_version) + field(2, kind)
    return b"k8s\x00" + field(1, type_meta) + field(2, raw) + field(3, "") + field(4, "")


def meta(name: str) -> bytes:
    """ObjectMeta as Go writes it: fields that are not pointers are always there."""
    return field(1, name) + field(2, "") + field(3, "") + field(7, 0) + field(8, b"")


def test_a_deployment_keeps_what_is_a_value_and_drops_what_is_absent() -> None:
    spec = field(1, 0) + field(5, 0) + field(7, 0)
    obj = protobuf.decode(envelope("apps/v1", "Deployment", field(1, meta("web")) + field(2, spec)))
    assert obj == {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 0},
    }  # fmt: skip


def test_maps_bytes_and_repeated_fields() -> None:
    entry = field(1, "key") + field(2, b"\x00\xff")
    raw = field(1, meta("s")) + field(2, entry) + field(3, "Opaque")
    assert protobuf.decode(envelope("v1", "Secret", raw)) == {
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "type": "Opaque",
        "data": {"key": "AP8="},
    }  # fmt: skip


def test_inlined_structs_quantities_and_int_or_string() -> None:
    quantity = field(1, "cpu") + field(2, field(1, "100m"))
    probe = field(1, field(2, field(1, "/healthz") + field(2, field(1, 1) + field(3, "web"))))
    container = field(1, "c") + field(8, field(2, quantity)) + field(10, probe + field(2, 0))
    volume = field(1, "v") + field(2, field(2, field(1, "")))
    pod = field(1, meta("p")) + field(2, field(1, volume) + field(2, container))
    spec = protobuf.decode(envelope("v1", "Pod", pod))["spec"]
    assert spec["volumes"] == [{"name": "v", "emptyDir": {}}]
    assert spec["containers"] == [{
        "name": "c", "resources": {"requests": {"cpu": "100m"}},
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "web"}},
    }]  # fmt: skip


def test_delete_options_of_any_group_and_a_zero_grace_period() -> None:
    body = envelope("policy/v1", "DeleteOptions", field(1, 0) + field(4, "Background"))
    assert protobuf.decode(body) == {
        "apiVersion": "policy/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
        "propagationPolicy": "Background",
    }  # fmt: skip


def test_negative_numbers() -> None:
    env = field(1, field(7, -1) + field(2, field(1, "c")))
    pod = protobuf.decode(envelope("v1", "Pod", field(2, field(4, -1)) + env))
    assert pod["spec"]["terminationGracePeriodSeconds"] == -1


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"k8s\x00", envelope("v1", "Nothing", b""), envelope("v1", "Pod", b"\x0a\xff"),
     envelope("v1", "Pod", b"\x0f"), envelope("v1", "Pod", field(1, 5))],
)  # fmt: skip
def test_malformed_bodies_are_bad_requests(body: bytes) -> None:
    with pytest.raises(BadRequest):
        protobuf.decode(body)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_but_a_bad_request(data: bytes) -> None:
    for body in (b"k8s\x00" + data, envelope("v1", "Pod", data), envelope("v1", "Node", data)):
        try:
            protobuf.decode(body)
        except BadRequest:
            pass
