"""create, get, update, patch: what is stored, and which words a refusal has."""

from __future__ import annotations

from tests.apiserver.api import NOBODY, Api
from tests.apiserver.conftest import Run

POD = {
    "metadata": {"name": "p", "labels": {"app": "p"}},
    "spec": {"containers": [{"name": "c", "image": "nginx"}]},
}


def test_a_created_object_has_its_system_fields_and_is_read_back(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api(
            "POST", f"{ns}/configmaps", {"metadata": {"name": "a"}, "data": {"x": "1"}}
        )
        assert made.status == 201
        metadata = made.json["metadata"]
        assert made.json["kind"] == "ConfigMap" and made.json["apiVersion"] == "v1"
        assert metadata["uid"] and metadata["creationTimestamp"] and metadata["resourceVersion"]
        assert (await api.ok("GET", f"{ns}/configmaps/a")) == made.json

    run(steps)


def test_refusals_of_a_named_object_have_upstreams_words(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        name = ns.rpartition("/")[2]
        missing = await api("GET", f"{ns}/pods/x")
        assert missing.status == 404
        assert missing.json == {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": 'pods "x" not found', "reason": "NotFound",
            "details": {"name": "x", "kind": "pods"}, "code": 404,
        }  # fmt: skip
        grouped = await api("GET", f"/apis/apps/v1/namespaces/{name}/deployments/x")
        assert grouped.message == 'deployments.apps "x" not found'
        await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        again = await api("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        assert (again.status, again.json["reason"]) == (409, "AlreadyExists")
        assert again.message == 'configmaps "a" already exists'
        assert (await api("GET", "/apis/none/v1/things")).body == b"404 page not found\n"
        assert (await api("POST", f"{ns}/configmaps/a", {})).status == 405

    run(steps)


def test_generated_names_start_with_the_base_and_use_upstreams_alphabet(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        names = set()
        for _ in range(5):
            made = await api.ok("POST", f"{ns}/configmaps", {"metadata": {"generateName": "g-"}})
            names.add(made["metadata"]["name"])
        assert len(names) == 5
        for name in names:
            assert name.startswith("g-") and len(name) == 7
            assert set(name[2:]) <= set("bcdfghjklmnpqrstvwxz2456789")

    run(steps)


def test_an_update_with_an_old_version_conflicts_and_one_without_wins(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        first = await api.ok("PUT", f"{ns}/configmaps/a", {**made, "data": {"v": "1"}})
        assert first["metadata"]["resourceVersion"] != made["metadata"]["resourceVersion"]
        stale = await api("PUT", f"{ns}/configmaps/a", {**made, "data": {"v": "2"}})
        assert (stale.status, stale.json["reason"]) == (409, "Conflict")
        assert stale.message == (
            'Operation cannot be fulfilled on configmaps "a": the object has been '
            "modified; please apply "
            "your changes to the latest version and try again"
        )
        free = await api.ok(
            "PUT", f"{ns}/configmaps/a", {"metadata": {"name": "a"}, "data": {"v": "3"}}
        )
        assert free["data"] == {"v": "3"}
        assert free["metadata"]["uid"] == made["metadata"]["uid"]

    run(steps)


def test_an_update_that_changes_nothing_writes_nothing(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api.ok(
            "POST", f"{ns}/configmaps", {"metadata": {"name": "a"}, "data": {"a": "b"}}
        )
        same = await api.ok("PUT", f"{ns}/configmaps/a", made)
        assert same["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]

    run(steps)


def test_names_and_namespaces_must_match_the_url(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api.ok("POST", f"{ns}/configmaps", {"metadata": {"name": "a"}})
        wrong = await api("PUT", f"{ns}/configmaps/a", {"metadata": {"name": "b"}})
        assert wrong.status == 400
        assert wrong.message == "the name of the object (b) does not match the name on the URL (a)"
        wrong = await api(
            "POST", f"{ns}/configmaps", {"metadata": {"name": "b", "namespace": "other"}}
        )
        assert wrong.message == (
            "the namespace of the provided object does not match the namespace sent on the request"
        )
        wrong = await api("POST", f"{ns}/configmaps", {"kind": "Secret", "metadata": {"name": "b"}})
        assert wrong.status == 400

    run(steps)


def test_the_three_patches_change_what_they_say(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api.ok("POST", f"{ns}/pods", POD)
        path = f"{ns}/pods/p"
        merged = await api.ok(
            "PATCH", path, {"metadata": {"labels": {"app": None, "b": "c"}}},
            content_type="application/merge-patch+json",
        )  # fmt: skip
        assert merged["metadata"]["labels"] == {"b": "c"}
        tested = await api.ok(
            "PATCH", path, [{"op": "add", "path": "/metadata/labels/x", "value": "y"}],
            content_type="application/json-patch+json",
        )  # fmt: skip
        assert tested["metadata"]["labels"] == {"b": "c", "x": "y"}
        strategic = await api.ok(
            "PATCH", path, {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}},
            content_type="application/strategic-merge-patch+json",
        )  # fmt: skip
        assert strategic["spec"]["containers"][0]["image"] == "nginx:2"
        refused = await api("PATCH", path, {}, content_type="application/json")
        assert refused.status == 415

    run(steps)


def test_unknown_fields_warn_or_fail_as_asked(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        body = {"metadata": {"name": "a"}, "nonsense": 1}
        strict = await api("POST", f"{ns}/configmaps?fieldValidation=Strict", body)
        assert strict.status == 400 and 'unknown field "nonsense"' in strict.message
        warned = await api("POST", f"{ns}/configmaps", body)
        assert warned.status == 201
        assert warned.headers["warning"] == '299 - "unknown field \\"nonsense\\""'
        assert "nonsense" not in warned.json

    run(steps)


def test_dry_run_answers_but_stores_nothing(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api("POST", f"{ns}/configmaps?dryRun=All", {"metadata": {"name": "a"}})
        assert made.status == 201
        assert (await api("GET", f"{ns}/configmaps/a")).status == 404
        assert (
            await api("POST", f"{ns}/configmaps?dryRun=x", {"metadata": {"name": "a"}})
        ).status == 422

    run(steps)


def test_yaml_comes_in_and_goes_out(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        made = await api(
            "POST", f"{ns}/configmaps", b"metadata:\n  name: a\ndata:\n  k: v\n",
            content_type="application/yaml",
        )  # fmt: skip
        assert made.status == 201
        shown = await api("GET", f"{ns}/configmaps/a", headers={"Accept": "application/yaml"})
        assert shown.headers["content-type"] == "application/yaml"
        assert b"kind: ConfigMap" in shown.body

    run(steps)


def test_tables_and_partial_metadata_are_negotiated(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        await api.ok("POST", f"{ns}/pods", POD)
        accept = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}
        table = await api.ok("GET", f"{ns}/pods", headers=accept)
        assert table["kind"] == "Table" and table["apiVersion"] == "meta.k8s.io/v1"
        assert table["rows"][0]["cells"][0] == "p"
        accept = {"Accept": "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"}
        partial = await api.ok("GET", f"{ns}/pods", headers=accept)
        assert partial["kind"] == "PartialObjectMetadataList"
        assert set(partial["items"][0]) == {"kind", "apiVersion", "metadata"}
        accept = {"Accept": "application/vnd.kubernetes.protobuf,application/json"}
        assert (await api.ok("GET", f"{ns}/pods", headers=accept))["kind"] == "PodList"
        accept = {"Accept": "application/vnd.kubernetes.protobuf"}
        assert (await api("GET", f"{ns}/pods", headers=accept)).status == 406

    run(steps)


def test_who_may_not_is_told_so_in_upstreams_words(run: Run) -> None:
    async def steps(api: Api) -> None:
        refused = await api("GET", "/api/v1/namespaces/default/pods", token=NOBODY)
        assert refused.status == 403
        assert refused.message == (
            'pods is forbidden: User "nobody" cannot list resource "pods" in API group "" '
            'in the namespace "default"'
        )
        assert (await api("GET", "/api/v1/pods", token="wrong")).status == 401
        assert (await api("GET", "/version", token="")).status == 200

    run(steps)


def test_an_invalid_object_names_field_and_reason(run: Run) -> None:
    async def steps(api: Api) -> None:
        ns = await api.namespace()
        bad = await api(
            "POST", f"{ns}/pods", {"metadata": {"name": "Bad_"}, "spec": {"containers": []}}
        )
        assert bad.status == 422
        fields = {c["field"] for c in bad.json["details"]["causes"]}
        assert {"metadata.name", "spec.containers"} <= fields
        assert bad.message.startswith('Pod "Bad_" is invalid: [')

    run(steps)
