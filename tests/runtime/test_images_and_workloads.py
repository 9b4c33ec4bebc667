"""Image names, and what a container of an image does."""

from __future__ import annotations

import asyncio
import socket

import pytest

from cluster.api.meta import SystemClock
from cluster.runtime.images import ImageConfig, ImageStore, parse_reference
from cluster.runtime.model import ContainerConfig, ImageNotFound, InvalidImageName, Port
from cluster.runtime.workloads import plan_workload

QUICK = ImageConfig(registry_seconds=0.0, bandwidth_bytes_per_second=1e15)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("nginx:1.29", "docker.io/library/nginx:1.29"),
        ("me/app", "docker.io/me/app:latest"),
        ("localhost/app", "localhost/app:latest"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10"),
        ("index.docker.io/library/redis", "docker.io/library/redis:latest"),
        ("a@sha256:" + "0" * 64, "docker.io/library/a@sha256:" + "0" * 64),
    ],
)
def test_names_are_completed(name: str, canonical: str) -> None:
    assert parse_reference(name).canonical == canonical


@pytest.mark.parametrize("name", ["", "Nginx", "nginx:", "a b", "nginx:-x", "a//b", "a@sha256:xyz"])
def test_bad_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidImageName, match="invalid reference format"):
        parse_reference(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nginx:does-not-exist", "docker.io/library/nginx:does-not-exist: not found"),
        ("acme/does-not-exist", "pull access denied, repository does not exist"),
        ("registry.invalid/app", "no such host"),
    ],
)
def test_missing_images_fail_in_containerds_words(name: str, words: str) -> None:
    async def scenario() -> None:
        store = ImageStore(QUICK, SystemClock())
        with pytest.raises(ImageNotFound, match=words):
            await store.pull("node", name)

    asyncio.run(scenario())


def test_a_pull_fills_the_nodes_own_cache() -> None:
    async def scenario() -> None:
        store = ImageStore(QUICK, SystemClock())
        assert store.present("a", "nginx") is None
        await asyncio.gather(store.pull("a", "nginx"), store.pull("a", "nginx:latest"))
        assert store.present("a", "nginx") is not None
        assert store.present("b", "nginx") is None
        assert len(store.list("a")) == 1

    asyncio.run(scenario())


def config(image: str, **more: object) -> ContainerConfig:
    return ContainerConfig("c", image, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("planned", "kind", "ports"),
    [
        (config("nginx"), "server", [80]),
        (config("nginx", command=["nginx", "-g", "daemon off;"]), "server", [80]),
        (config("redis", args=["--port", "7000"]), "server", [7000]),
        (config("busybox"), "exit", []),
        (config("busybox", stdin=True), "server", []),
        (config("busybox", command=["sleep", "60"]), "process", []),
        (config("busybox", args=["sh", "-c", "exit 3"]), "process", []),
        (config("registry.k8s.io/pause"), "server", []),
        (
            config("registry.k8s.io/e2e-test-images/agnhost", args=["netexec", "--http-port=90"]),
            "server",
            [90, 8081],
        ),
        (config("acme/app", ports=[Port(8443)]), "server", [8443]),
        (config("acme/app", command=["/bin/app"], ports=[Port(1), Port(2)]), "server", [1, 2]),
        (config("curlimages/curl"), "exit", []),
        (config("curlimages/curl", args=["-s", "http://web"]), "process", []),
    ],
)
def test_images_behave(planned: ContainerConfig, kind: str, ports: list[int]) -> None:
    store = ImageStore(QUICK, SystemClock())
    workload = plan_workload(store.resolve(planned.image), planned)
    assert workload.kind == kind
    assert [listen.port for listen in workload.listens] == ports


def test_udp_ports_are_served_as_datagrams() -> None:
    store = ImageStore(QUICK, SystemClock())
    planned = config("acme/dns", ports=[Port(53, "UDP")])
    [listen] = plan_workload(store.resolve("acme/dns"), planned).listens
    assert listen.kind == socket.SOCK_DGRAM
