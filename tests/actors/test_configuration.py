"""Settings are named alike everywhere, and bad ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from actors.configuration import ClusterConfiguration, from_dict, load
from actors.errors import UserError


def test_a_configuration_survives_its_document() -> None:
    settings = ClusterConfiguration(name="a", nodes=3, store="etcd", node_labels={"x": "y"})
    assert from_dict(settings.to_dict()) == settings


def test_the_command_line_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(
        "apiVersion: kubestage.io/v1\nkind: ClusterConfiguration\nnodes: 7\nnetwork: none\n"
    )
    settings = load(path, {"nodes": 9})
    assert (settings.nodes, settings.network, settings.port) == (9, "none", 6443)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: Cluster", "expected a document of kind ClusterConfiguration"),
        ("kind: ClusterConfiguration\napiVersion: v2", "expected apiVersion kubestage.io/v1"),
        (
            "kind: ClusterConfiguration\napiVersion: kubestage.io/v1\nnods: 7",
            "unknown setting nods; known: ",
        ),
        (
            "kind: ClusterConfiguration\napiVersion: kubestage.io/v1\nnodes: many",
            "nodes: expected int, got 'many'",
        ),
        ("{", "expected"),
    ],
)
def test_a_bad_file_is_refused_with_what_is_wrong(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        load(path, {})


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"name": "No Spaces"}, "--name"),
        ({"nodes": -1}, "--nodes -1: choose 0 to"),
        ({"port": 70_000}, "--port 70000"),
        ({"kubernetes_version": "1.12"}, "choose 1.28 to 1.37"),
        ({"pod_cidr": "10.0.0.1/8"}, "pod-cidr"),
        ({"store": "mysql"}, "--store mysql: choose sqlite or etcd"),
    ],
)
def test_a_bad_setting_is_refused_by_name(setting: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        ClusterConfiguration(**setting)  # type: ignore[arg-type]
