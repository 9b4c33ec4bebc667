"""Results as tables on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def print_status(found: dict[str, Any]) -> None:
    """One cluster: a line of summary, then a table of its actors."""
    console = _console()
    nodes, pods = found["nodes"], found["pods"]
    console.print(
        f"[bold]{found['name']}[/bold]  Kubernetes {found['kubernetesVersion']}, "
        f"store {found['store']}, network {found['network']}, API {found['api']}"
    )
    phases = ", ".join(f"{n} {phase}" for phase, n in pods.items() if phase != "total")
    console.print(
        f"nodes {nodes.get('ready', '?')}/{nodes.get('total', '?')} Ready; "
        f"pods {pods.get('total', '?')}" + (f" ({phases})" if phases else "")
    )
    if not found["ray"]:
        console.print("[red]Ray does not answer[/red]: `kubestage down` removes what is left")
        return
    table = Table(box=None, header_style="bold")
    for column in ("COMPONENT", "HOST", "PID", "READY", "RESTARTS", "AGE"):
        table.add_column(column)
    for row in found["components"]:
        table.add_row(
            row["component"],
            str(row.get("host", "?")),
            str(row.get("pid", "?")),
            "yes" if row.get("ready") else "[red]no[/red]",
            str(row["restarts"]),
            duration(row.get("ageSeconds", 0.0)),
        )
    console.print(table)


def print_flow(found: dict[str, Any]) -> None:
    """The nine stages of one pod."""
    console = _console()
    console.print(f"[bold]{found['namespace']}/{found['name']}[/bold]")
    table = Table(box=None, header_style="bold")
    table.add_column("STAGE")
    table.add_column("WHAT")
    table.add_column("AT", justify="right")
    table.add_column("TOOK", justify="right")
    table.add_column("")
    for stage in found["stages"]:
        table.add_row(
            str(stage.get("number", "")),
            str(stage["stage"]),
            _milliseconds(stage.get("atSeconds")),
            _milliseconds(stage.get("seconds")),
            str(stage.get("note", "")),
        )
    console.print(table)


def _console() -> Console:
    """As wide as the terminal; in a file or pipe wide enough that no row is broken."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=160)


def duration(seconds: float) -> str:
    """As kubectl shows an age: 12s, 3m4s, 5h."""
    whole = int(seconds)
    if whole < 120:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60}s"
    return f"{whole // 3600}h{whole % 3600 // 60}m"


def _milliseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1000:.1f} ms"
