"""Any sequence of writes leaves the store, its history and its watches as a naive model has
them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster.etcd import CompareFailed, Event, KeyValue, Store, Write

from .conftest import OpenStore
from .test_store_contract import collect, fresh_prefix

Step = tuple[str, str, str]
"""What to do (put, delete, compact), to which key, expecting what of it (any, none, right,
stale)."""

steps = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "delete", "compact"]),
        st.sampled_from(["a", "b", "a/c", "d"]),
        st.sampled_from(["any", "none", "right", "stale"]),
    ),
    min_size=1,
    max_size=40,
)


@dataclass
class Model:
    """The store as a dict, and everything that ever happened."""

    now: dict[str, KeyValue] = field(default_factory=dict)
    history: list[Event] = field(default_factory=list)

    def expects(self, key: str, kind: str) -> int | None:
        current = self.now.get(key)
        right = current.mod_revision if current else 0
        return {"any": None, "none": 0, "right": right, "stale": right + 100_000}[kind]

    def allows(self, write: Write) -> bool:
        current = self.now.get(write.key)
        if write.value is None and current is None:
            return False
        return write.expected in (None, current.mod_revision if current else 0)

    def apply(self, write: Write, revision: int) -> KeyValue:
        prev = self.now.get(write.key)
        created = prev.create_revision if prev else revision
        kv = KeyValue(write.key, write.value or b"", created, revision)
        if write.value is None:
            assert prev is not None
            del self.now[write.key]
            self.history.append(Event("DELETE", kv, prev))
            return KeyValue(write.key, prev.value, created, revision)
        self.now[write.key] = kv
        self.history.append(Event("PUT", kv, prev))
        return kv


async def play(store: Store, program: list[Step]) -> None:
    prefix = fresh_prefix()
    model = Model()
    start = await store.current_revision() + 1
    live = await store.watch(prefix, start)
    last, compacted = start - 1, 0
    for number, (action, name, kind) in enumerate(program):
        if action == "compact":
            compacted = await store.current_revision()
            await store.compact(compacted)
            continue
        key = prefix + name
        value = b"%d" % number if action == "put" else None
        write = Write(key, value, model.expects(key, kind))
        try:
            answer = await store.write(write)
        except CompareFailed as failed:
            assert not model.allows(write)
            assert failed.current == model.now.get(key)
            continue
        assert model.allows(write)
        assert answer.mod_revision > last, "revisions only grow"
        last = answer.mod_revision
        assert answer == model.apply(write, last)
    everything = await store.range(prefix)
    assert {kv.key: kv for kv in everything.kvs} == model.now
    if model.history:
        assert await collect(live, len(model.history)) == model.history
    after = [e for e in model.history if e.kv.mod_revision > compacted]
    if after:
        resumed = await store.watch(prefix, max(compacted + 1, start))
        assert await collect(resumed, len(after)) == after
        await resumed.close()
    await live.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(program=steps)
def test_the_store_behaves_as_the_naive_model(open_store: OpenStore, program: list[Step]) -> None:
    async def work() -> None:
        async with open_store() as store:
            await play(store, program)

    asyncio.run(asyncio.wait_for(work(), 60))
