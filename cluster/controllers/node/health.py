"""When a node was last heard of, and what its conditions must say once it is silent for too long.

Plays tryUpdateNodeHealth of pkg/controller/nodelifecycle. Times are those of our own clock at which
a renewed lease or a changed status was seen: a node's clock is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass

from cluster.api.meta import Object, rfc3339
from cluster.controllers.conditions import find_condition

MONITORED = ("Ready", "MemoryPressure", "DiskPressure", "PIDPressure")


@dataclass(slots=True)
class Heartbeat:
    """One node's last signs of life; monotonic seconds."""

    seen_at: float
    heartbeat: str = ""  # last lastHeartbeatTime of Ready
    renewed: str = ""  # last renewTime of the lease
    reported: bool = False  # has it ever posted a status?

    def handle_status(self, node: Object, monotonic: float) -> None:
        """A node event: alive if its Ready condition was posted anew by the kubelet."""
        ready = find_condition((node.get("status") or {}).get("conditions"), "Ready")
        if ready is None:
            return
        self.reported = True
        stamp = str(ready.get("lastHeartbeatTime", "")) + str(ready.get("status"))
        if ready.get("status") != "Unknown" and stamp != self.heartbeat:
            self.heartbeat = stamp
            self.seen_at = monotonic

    def handle_lease(self, lease: Object, monotonic: float) -> None:
        """A lease event: alive if it was renewed."""
        stamp = str((lease.get("spec") or {}).get("renewTime", ""))
        if stamp and stamp != self.renewed:
            self.renewed = stamp
            self.seen_at = monotonic

    def is_silent(self, monotonic: float, grace: float, startup_grace: float) -> bool:
        return monotonic - self.seen_at > (grace if self.reported else startup_grace)


def plan_silence(node: Object, now: float) -> list[Object] | None:
    """The conditions of a node that is silent too long: Unknown; None if they say so already."""
    conditions = list((node.get("status") or {}).get("conditions") or ())
    changed = False
    for kind in MONITORED:
        held = find_condition(conditions, kind)
        if held is None:
            created = node["metadata"].get("creationTimestamp", rfc3339(now))
            conditions.append(
                {
                    "type": kind,
                    "status": "Unknown",
                    "lastHeartbeatTime": created,
                    "lastTransitionTime": rfc3339(now),
                    "reason": "NodeStatusNeverUpdated",
                    "message": "Kubelet never posted node status.",
                }
            )
            changed = True
        elif held["status"] != "Unknown":
            unknown = {
                **held,
                "status": "Unknown",
                "lastTransitionTime": rfc3339(now),
                "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.",
            }
            conditions = [unknown if c is held else c for c in conditions]
            changed = True
    return conditions if changed else None
