#!/usr/bin/env python3
"""The nine stages of a pod, shown with the real kubectl on a cluster raised for the occasion.

    make demo        or        .venv/bin/python scripts/demo.py [--nodes 20] [--store etcd]

Raises a cluster of its own name and port, shows each stage with what kubectl printed, prints the
pod's measured way, and takes everything down again, also when a step fails.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

BIN = Path(sys.executable).parent
READY_SECONDS = 60


class StepFailed(Exception):
    """A command of the demo failed; what it printed was shown."""


class Demo:
    """Commands with their output, against one cluster."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.kubeconfig = directory / "kubeconfig"
        self.kubectl_binary = shutil.which("kubectl") or str(BIN / "kubectl")
        # kubectl caches discovery under HOME: the demo leaves nothing there.
        self.environment = {
            **os.environ,
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(directory / "cache"),
        }

    def run(self, *argv: str, show: str = "", check: bool = True) -> str:
        """Run a command, print it and what it printed; the output."""
        print(f"\n$ {show or ' '.join(argv)}", flush=True)
        done = subprocess.run(
            argv, env=self.environment, text=True, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False,
        )  # fmt: skip
        print(done.stdout.rstrip(), flush=True)
        if check and done.returncode:
            raise StepFailed(f"{show or argv[0]}: exit code {done.returncode}")
        return done.stdout

    def kubectl(self, line: str) -> str:
        return self.run(self.kubectl_binary, *line.split(), show=f"kubectl {line}")

    def kubestage(self, line: str) -> str:
        command = str(BIN / "kubestage")
        return self.run(command, *line.split(), "--name", self.name, show=f"kubestage {line}")

    def value(self, line: str) -> str:
        """A value that the demo itself needs; not shown."""
        done = subprocess.run(
            [self.kubectl_binary, *line.split()], env=self.environment, text=True,
            capture_output=True, check=True,
        )  # fmt: skip
        return done.stdout.strip()


def heading(text: str) -> None:
    print(f"\n\033[1m== {text}\033[0m" if sys.stdout.isatty() else f"\n== {text}", flush=True)


def nine_stages(demo: Demo) -> None:
    """`kubectl run nginx`, and everything that follows from it."""
    heading("1-2  kubectl and the API server: authenticated, authorised, admitted, stored")
    demo.kubectl("run nginx --image=nginx --port=80")
    demo.kubectl("auth whoami")
    heading("3    controllers: a Deployment becomes a ReplicaSet becomes pods")
    demo.kubectl("create deployment web --image=nginx --replicas=3")
    demo.kubectl(f"rollout status deployment/web --timeout={READY_SECONDS}s")
    demo.kubectl("get deployment,replicaset,endpointslices")
    heading("4-7  scheduler, kubelet, runtime and CNI: Running")
    demo.kubectl(f"wait --for=condition=Ready pod/nginx --timeout={READY_SECONDS}s")
    demo.kubectl("events --for pod/nginx")
    heading("8    Services and DNS, from a pod on another node")
    demo.kubectl("expose pod nginx --port=80")
    demo.kubectl("run client --image=curlimages/curl --command -- sleep 3600")
    demo.kubectl(f"wait --for=condition=Ready pod/client --timeout={READY_SECONDS}s")
    curl = "curl -s --max-time 5 --retry 5 --retry-connrefused --retry-delay 1"
    demo.kubectl(f"exec client -- {curl} http://nginx.default.svc.cluster.local")
    pod_ip = demo.value("get pod nginx -o jsonpath={.status.podIP}")
    cluster_ip = demo.value("get service nginx -o jsonpath={.spec.clusterIP}")
    for address, what in ((pod_ip, "the pod's IP"), (cluster_ip, "the Service's IP")):
        demo.run(*curl.split(), f"http://{address}", show=f"curl http://{address}   # {what}")
    heading("9    kubectl get pods")
    demo.kubectl("get pods -o wide")
    heading("The way of default/nginx, measured")
    demo.kubestage("flow default/nginx")
    demo.kubestage("status")


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("0.0.0.0", 0))
        return int(sock.getsockname()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--name", default="demo")
    parser.add_argument("--nodes", type=int, default=20)
    parser.add_argument("--store", choices=["sqlite", "etcd"], default="sqlite")
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="kubestage-demo-") as directory:
        demo = Demo(given.name, Path(directory))
        failure = ""
        try:
            heading("A cluster")
            demo.kubestage(
                f"up --nodes {given.nodes} --port {free_port()} --store {given.store} "
                f"--kubeconfig {demo.kubeconfig}"
            )
            nine_stages(demo)
        except (StepFailed, subprocess.CalledProcessError, KeyboardInterrupt) as error:
            failure = str(error) or type(error).__name__
        finally:
            heading("Down")
            try:
                demo.kubestage("down")
            except StepFailed as error:
                failure = failure or str(error)
    if failure:
        print(f"\ndemo failed: {failure}", file=sys.stderr)
        return 1
    print(f"\nAll nine stages in {time.monotonic() - began:.1f} s, cluster up and down included.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
