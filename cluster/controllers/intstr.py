"""Numbers that may be percentages: maxSurge, maxUnavailable, minAvailable
(k8s.io/apimachinery/pkg/util/intstr)."""

from __future__ import annotations


def scaled_value(value: int | str, total: int, *, round_up: bool) -> int:
    """`value`, or that percentage of `total`. Raises ValueError on anything else."""
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError(
            f"invalid value for IntOrString: invalid type: string is not a percentage: {value!r}"
        )
    percent = int(value[:-1])
    return -(-total * percent // 100) if round_up else total * percent // 100
