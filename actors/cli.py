"""The `kubestage` command. Each command is a thin wrapper: arguments in, a result printed.

An error is one line on stderr that says what to do, and exit code 1.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from actors import raytoken
from actors.configuration import ClusterConfiguration, load
from actors.errors import UserError

NAME = click.option("--name", default="kubestage", show_default=True, help="The cluster's name.")
OUTPUT = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")


class _Commands(click.Group):
    """Turns UserError into one line and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"kubestage: {error}", err=True)
            ctx.exit(1)
        except KeyboardInterrupt:
            click.echo("kubestage: interrupted; `kubestage down` removes what was made", err=True)
            ctx.exit(130)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kubestage")
def main() -> None:
    """Kubernetes, played by Ray actors, on a real pod network."""
    raytoken.prepare()


def _settings(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options of `up`: names and defaults of ClusterConfiguration."""
    helps = {
        "nodes": "Emulated nodes.",
        "kubelets_per_actor": "Kubelets in one actor [default: by the number of nodes].",
        "port": "The API server's port.",
        "store": "Embedded SQLite, or a real etcd.",
        "data_dir": "Keep store and certificates here; `down` leaves it.",
        "network": "Real pod networks, or none (no root needed).",
        "kubernetes_version": "1.28 to 1.37.",
        "kubeconfig": "Write the kubeconfig here [default: ~/.kube/NAME.yaml].",
        "ray_address": "The Ray cluster to use; auto: the running one, or a new local one.",
        "pod_cidr": "Addresses of pods.",
        "service_cidr": "Addresses of Services.",
        "node_cidr": "Addresses of nodes and hosts.",
        "node_cpu": "CPU capacity of a node.",
        "node_memory": "Memory capacity of a node.",
        "node_pods": "Pods a node takes.",
        "ready_timeout_seconds": "Give up after this long.",
    }
    choices = {"store": ["sqlite", "etcd"], "network": ["veth", "none"]}
    fields = {f.name: f for f in dataclasses.fields(ClusterConfiguration)}
    for name, text in reversed(helps.items()):
        default = fields[name].default
        kind: Any = click.Choice(choices[name]) if name in choices else type(default)
        shown = f" [default: {default}]" if default not in ("", 0) else ""
        flag = "--" + name.replace("_", "-")
        function = click.option(flag, name, type=kind, default=None, help=text + shown)(function)
    return function


@main.command()
@click.option("--name", default=None, help="The cluster's name [default: kubestage].")
@_settings
@click.option("--config", type=click.Path(path_type=Path), help="kind: ClusterConfiguration.")
def up(config: Path | None, **given: Any) -> None:
    """Raise a cluster and leave it running."""
    from actors.up import up as raise_cluster

    settings = load(config, {k: v for k, v in given.items() if v is not None})
    with _Progress() as note:
        raised = raise_cluster(settings, note)
    click.echo(f"Cluster {settings.name} is ready in {raised.seconds:.1f} s.")
    click.echo(f"  export KUBECONFIG={raised.kubeconfig}")
    click.echo("  kubectl get nodes")
    click.echo(f"  kubestage down --name {settings.name}")


@main.command()
@NAME
@click.option("--purge", is_flag=True, help="Remove a --data-dir of your own as well.")
@click.option("--all", "everything", is_flag=True, help="Every cluster of this machine.")
def down(name: str, purge: bool, everything: bool) -> None:
    """Remove a cluster: actors, processes, namespaces, links, rules, files."""
    from actors import down as removal

    with _Progress() as note:
        if everything:
            removed = removal.down_all(purge=purge, note=note)
        else:
            removed = [removal.down(name, purge=purge, note=note)]
    left = [thing for one in removed for thing in one.left]
    if left:
        raise UserError(f"could not remove {', '.join(left)}; run `kubestage down` again")
    click.echo(f"Gone in {sum(one.seconds for one in removed):.1f} s; nothing is left.")


@main.command()
@NAME
@OUTPUT
def status(name: str, output: str) -> None:
    """Components, hosts, actors, nodes and pods."""
    from actors.status import status as ask
    from actors.terminal import print_status

    found = ask(name, detailed=output == "json")
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        print_status(found)


@main.command()
@click.argument("pod", metavar="NAMESPACE/POD")
@NAME
@OUTPUT
def flow(pod: str, name: str, output: str) -> None:
    """The nine stages of one pod with their measured times."""
    from actors.flow import flow as ask
    from actors.terminal import print_flow

    found = ask(name, pod)
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    else:
        print_flow(found)


@main.command()
@click.argument("component")
@NAME
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("--tail", default=100, show_default=True, help="Lines to begin with.")
def logs(component: str, name: str, follow: bool, tail: int) -> None:
    """The log of one actor, e.g. kube-scheduler or kubelet-0."""
    from actors.logs import read

    for line in read(name, component, tail, follow=follow):
        click.echo(line)


@main.group()
def chaos() -> None:
    """Break things. (Experiments come later: `chaos run` is refused by name.)"""


@chaos.command("kill")
@click.argument("component")
@click.option("--index", default=0, show_default=True, help="Which of several.")
@NAME
def chaos_kill(component: str, index: int, name: str) -> None:
    """kill -9 the actor of COMPONENT; Ray brings it back."""
    from actors.chaos import kill

    victim = kill(name, component, index)
    click.echo(f"killed {victim['component']} (pid {victim['pid']})")


@chaos.command("list")
@NAME
def chaos_list(name: str) -> None:
    """What can be killed."""
    from actors.chaos import targets

    for target in targets(name):
        click.echo(target)


class _Progress:
    """Steps with their seconds: a spinner on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._began = time.monotonic()
        self._status: Any = None

    def __enter__(self) -> Callable[[str], None]:
        if self._console.is_terminal:
            self._status = self._console.status("starting")
            self._status.start()
        return self._note

    def __exit__(self, *_: object) -> None:
        if self._status is not None:
            self._status.stop()

    def _note(self, text: str) -> None:
        seconds = time.monotonic() - self._began
        if self._status is not None:
            self._status.update(text)
        self._console.print(f"[dim]{seconds:6.1f} s[/dim]  {text}", soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
