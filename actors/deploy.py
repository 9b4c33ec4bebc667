"""Plain classes become Ray actors here, and nowhere else."""

from __future__ import annotations

from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from actors.apiserver import ApiServerComponent
from actors.component import Component
from actors.context import Context
from actors.controller_manager import ControllerManagerComponent
from actors.dns import DnsComponent
from actors.etcd import EtcdComponent
from actors.kubelet import KubeletComponent
from actors.proxy import ProxyComponent
from actors.rayhost import NAMESPACE
from actors.scheduler import SchedulerComponent

COMPONENTS: dict[str, type[Component]] = {
    "etcd": EtcdComponent,
    "kube-apiserver": ApiServerComponent,
    "kube-controller-manager": ControllerManagerComponent,
    "kube-scheduler": SchedulerComponent,
    "kube-proxy": ProxyComponent,
    "coredns": DnsComponent,
    "kubelet": KubeletComponent,
}


def create(context: Context) -> Any:
    """The actor of `context`, made if it is not there: detached, restarted for ever, on its
    host."""
    placement = NodeAffinitySchedulingStrategy(context.host.host.ray_node_id, soft=False)
    actor = ray.remote(COMPONENTS[context.component])
    return actor.options(
        name=context.actor_name,
        namespace=NAMESPACE,
        lifetime="detached",
        get_if_exists=True,
        num_cpus=0,
        max_restarts=-1,
        max_concurrency=4,
        scheduling_strategy=placement,
    ).remote(context)


def find(actor_name: str) -> Any | None:
    """The live actor of that name, if there is one."""
    try:
        return ray.get_actor(actor_name, namespace=NAMESPACE)
    except ValueError:
        return None


def names(cluster: str) -> list[str]:
    """Names of the cluster's actors that Ray knows to be alive."""
    known = ray.util.list_named_actors(all_namespaces=True)
    prefix = f"{cluster}/"
    ours = (a["name"] for a in known if a["namespace"] == NAMESPACE)
    return sorted(name for name in ours if name.startswith(prefix))


def on_host(function: Any, host_node_id: str, *args: Any) -> Any:
    """Run a plain function as a task on one Ray host; the reference to its result."""
    placement = NodeAffinitySchedulingStrategy(host_node_id, soft=False)
    task = ray.remote(function).options(num_cpus=0, scheduling_strategy=placement, max_retries=0)
    return task.remote(*args)
