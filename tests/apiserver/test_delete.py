"""delete: grace, finalizers, preconditions, propagation, collections."""

from __future__ import annotations

from tests.apiserver.api import Api
from tests.apiserver.conftest import Run
from tests.apiserver.test_list_watch import bind

SPEC = {"containers": [{"name": "c", "image": "i"}]}


def test_an_unbound_pod_goes_at_once_a_bound_one_gets_its_grace(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        for name in ("free", "bound"):
            await api.ok("POST", f"{ns}/pods", {"metadata": {"name": name}, "spec": SPEC})
        await bind(api, ns, "bound", "n1")
        assert (await api.ok("DELETE", f"{ns}/pods/free"))["kind"] == "Pod"
        assert (await api("GET", f"{ns}/pods/free")).status == 404
        marked = await api.ok("DELETE", f"{ns}/pods/bound")
        assert marked["metadata"]["deletionTimestamp"]
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 30
        again = await api.ok("DELETE", f"{ns}/pods/bound")
        assert again["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"]
        sooner = await api.ok("DELETE", f"{ns}/pods/bound", {"gracePeriodSeconds": 5})
        assert sooner["metadata"]["deletionGracePeriodSeconds"] == 5
        await api.ok("DELETE", f"{ns}/pods/bound?gracePeriodSeconds=0")
        assert (await api("GET", f"{ns}/pods/bound")).status == 404

    run(steps)


def test_an_object_with_finalizers_stays_until_they_are_gone(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        body = {"metadata": {"name": "a", "finalizers": ["example.com/x"]}}
        await api.ok("POST", f"{ns}/configmaps", body)
        marked = await api.ok("DELETE", f"{ns}/configmaps/a")
        assert marked["metadata"]["deletionTimestamp"]
        assert marked["metadata"]["deletionGracePeriodSeconds"] == 0
        await api.ok(
            "PATCH", f"{ns}/configmaps/a", {"metadata": {"finalizers": None}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert (await api("GET", f"{ns}/configmaps/a")).status == 404

    run(steps)


def test_foreground_and_orphan_leave_their_finalizer(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        for name, policy, finalizer in (
            ("f", "Foreground", "foregroundDeletion"),
            ("o", "Orphan", "orphan"),
        ):
            await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": name}})
            marked = await api.ok(
                "DELETE", f"{ns}/configmaps/{name}", {"propagationPolicy": policy}
            )
            assert marked["metadata"]["finalizers"] == [finalizer]
        wrong = await api("DELETE", f"{ns}/configmaps/f", {"propagationPolicy": "Sideways"})
        assert wrong.status == 422

    run(steps)


def test_preconditions_must_hold(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        uid = made["metadata"]["uid"]
        refused = await api("DELETE", f"{ns}/configmaps/a", {"preconditions": {"uid": "other"}})
        assert refused.status == 409
        assert refused.message == (
            'Operation cannot be fulfilled on configmaps "a": the UID in the precondition '
            "(other) does "
            f"not match the UID in record ({uid}). The object might have been deleted and "
            "then recreated"
        )
        done = await api.ok("DELETE", f"{ns}/configmaps/a", {"preconditions": {"uid": uid}})
        assert done == {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "a", "kind": "configmaps", "uid": uid},
        }  # fmt: skip

    run(steps)


def test_a_collection_is_deleted_by_selector(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        for i in range(6):
            labels = {"odd": str(i % 2)}
            await api.ok(
                "POST", f"{ns}/configmaps", {"metadata": {"name": f"c{i}", "labels": labels}}
            )
        await api.ok("DELETE", f"{ns}/configmaps?labelSelector=odd%3D1")
        left = await api.ok("GET", f"{ns}/configmaps?labelSelector=odd")
        assert [i["metadata"]["name"] for i in left["items"]] == ["c0", "c2", "c4"]

    run(steps)


def test_a_namespace_terminates_until_it_is_finalized(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        marked = await api.ok("DELETE", ns)
        assert marked["status"]["phase"] == "Terminating"
        refused = await api("POST", f"{ns}/configmaps", {"metadata": {"name": "late"}})
        assert refused.status == 403
        marked["spec"]["finalizers"] = []
        await api.ok("PUT", f"{ns}/finalize", marked)
        assert (await api("GET", ns)).status == 404

    run(steps)


def test_a_dry_deletion_deletes_nothing(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        await api.ok("DELETE", f"{ns}/configmaps/a", {"dryRun": ["All"]})
        assert (await api("GET", f"{ns}/configmaps/a")).status == 200

    run(steps)
