"""/healthz, /livez, /readyz: named checks. Plays k8s.io/apiserver/pkg/server/healthz."""

from __future__ import annotations

from collections.abc import Callable

from cluster.httpserver import Request, Response

Check = Callable[[], str]
"""'' if well, else what is wrong."""


class Health:
    """Named checks in order; `ready` ones count for /readyz (and /healthz) only."""

    def __init__(self) -> None:
        self._live: dict[str, Check] = {"ping": lambda: "", "log": lambda: ""}
        self._ready: dict[str, Check] = {}
        self.shutting_down = False

    def add(self, name: str, check: Check, *, live: bool = False) -> None:
        (self._live if live else self._ready)[name] = check

    def answer(self, request: Request) -> Response | None:
        """The answer to a health path; None if it is none."""
        parts = request.path.strip("/").split("/")
        kind = parts[0]
        if kind not in ("healthz", "livez", "readyz") or len(parts) > 2:
            return None
        checks = dict(self._live)
        if kind != "livez":
            checks.update(self._ready)
        if kind == "readyz":
            checks["shutdown"] = lambda: "process is shutting down" if self.shutting_down else ""
        if len(parts) == 2:
            checks = {k: v for k, v in checks.items() if k == parts[1]}
            if not checks:
                return Response(404, b"404 page not found\n", "text/plain; charset=utf-8")
        return _report(kind, checks, request)


def _report(kind: str, checks: dict[str, Check], request: Request) -> Response:
    excluded = set(request.query.get("exclude", ())) if request.query_string else set()
    lines: list[str] = []
    failed: list[str] = []
    for name, check in checks.items():
        if name in excluded:
            lines.append(f"[+]{name} excluded: ok")
            continue
        problem = check()
        if problem:
            failed.append(name)
            lines.append(f"[-]{name} failed: reason withheld")
        else:
            lines.append(f"[+]{name} ok")
    plain = "text/plain; charset=utf-8"
    headers = {"X-Content-Type-Options": "nosniff"}
    if failed:
        lines.append(f"{kind} check failed")
        return Response(500, ("\n".join(lines) + "\n").encode(), plain, headers)
    if "verbose" not in request.query:
        return Response(200, b"ok", plain, headers)
    lines.append(f"{kind} check passed")
    return Response(200, ("\n".join(lines) + "\n").encode(), plain, headers)
