"""The ledger and the addresses: what survives a crash, and what is never given twice."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netlab.ipam import Ipam
from netlab.ledger import Ledger, read_ledger
from netlab.values import AddressesExhausted


def add(name: str, ip: str = "10.0.0.2") -> dict[str, object]:
    return {"op": "add", "id": name, "node": "n", "cidr": "10.0.0.0/24", "ip": ip}


def test_a_torn_last_line_is_left_out_and_does_not_spoil_the_next(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.append([add("a"), {"op": "up", "ids": ["a"]}])
    ledger.close()
    with path.open("ab") as file:
        file.write(b'{"op":"add","id":"b","no')
    again = Ledger(path)
    again.append([add("c", "10.0.0.3")])
    again.close()
    state = read_ledger(path)
    assert set(state.pods) == {"a", "c"}
    assert state.pods["a"]["up"] and "up" not in state.pods["c"]
    assert state.cursors == {"10.0.0.0/24": "10.0.0.3"}


def test_a_long_ledger_is_shortened_and_means_the_same(tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    ledger = Ledger(path)
    ledger.append([add("stays"), {"op": "up", "ids": ["stays"]}, {"op": "link", "name": "l"}])
    for i in range(3000):
        ledger.append([add(f"p{i}", "10.0.0.9"), {"op": "del", "ids": [f"p{i}"]}])
    ledger.close()
    state = read_ledger(path)
    assert state.lines < 4200
    assert (set(state.pods), state.links) == ({"stays"}, ["l"])
    assert state.cursors == {"10.0.0.0/24": "10.0.0.9"}


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9)), max_size=60))
def test_no_address_is_held_twice_and_none_comes_back_soon(steps: list[tuple[bool, int]]) -> None:
    ipam, held, last = Ipam(), dict[str, str](), ""
    for take, number in steps:
        name = str(number)
        if take:
            try:
                ip = ipam.allocate("10.9.0.0/28", name)
            except AddressesExhausted:
                assert len(held) == 13
                continue
            assert ip not in {v for k, v in held.items() if k != name}
            if name not in held:
                assert ip != last
            held[name] = ip
        elif name in held:
            ipam.release(name)
            last = held.pop(name)


def test_an_exhausted_range_says_so_in_the_plugins_words() -> None:
    ipam = Ipam()
    ipam.allocate("10.9.0.0/32", "a")
    with pytest.raises(AddressesExhausted, match="no IP addresses available in range set"):
        ipam.allocate("10.9.0.0/32", "b")
