"""The words of pods' Events, which changed between Kubernetes versions. Pure.

Plays pkg/kubelet/events and the messages at their call sites.
"""

from __future__ import annotations

from cluster.kubelet.podstate import go_duration


def pulling(image: str) -> str:
    return f'Pulling image "{image}"'


def pulled(image: str, seconds: float, with_waiting: float, size_bytes: int) -> str:
    took, waited = go_duration(round(seconds, 3)), go_duration(round(with_waiting, 3))
    return (
        f'Successfully pulled image "{image}" in {took} ({waited} including waiting). '
        f"Image size: {size_bytes} bytes."
    )


def present(image: str, minor: int) -> str:
    text = f'Container image "{image}" already present on machine'
    return text + " and can be accessed by the pod" if minor >= 35 else text


def created(name: str, minor: int) -> str:
    if minor >= 35:
        return "Container created"
    return f"Created container: {name}" if minor >= 32 else f"Created container {name}"


def started(name: str, minor: int) -> str:
    return "Container started" if minor >= 35 else f"Started container {name}"


def pull_failed(image: str, text: str) -> str:
    return f'Failed to pull image "{image}": {text}'


def pull_backoff(image: str) -> str:
    return f'Back-off pulling image "{image}"'


def never_pull(image: str) -> str:
    return f'Container image "{image}" is not present with pull policy of Never'


def stopping(name: str) -> str:
    return f"Stopping container {name}"


def crash_backoff(container: str, name: str, namespace: str, uid: str) -> str:
    return f"Back-off restarting failed container {container} in pod {name}_{namespace}({uid})"


def probe_failed(probe: str, output: str, *, unknown: bool) -> str:
    word = "errored" if unknown else "failed"
    return f"{probe.capitalize()} probe {word}: {output}"


def probe_kill(container: str, probe: str) -> str:
    return f"Container {container} failed {probe} probe, will be restarted"
