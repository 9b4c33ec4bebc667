"""What a container does once started: decided from its image, command and ports, without side
effects.

Known images behave as their program would; a command that the emulated shell knows runs as such; an
image without a known program serves its declared ports. `plan_workload` returns a value; service.py
brings it to life.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from cluster.runtime import answers, commands
from cluster.runtime.answers import HttpHandler
from cluster.runtime.images import Image
from cluster.runtime.model import ContainerConfig
from cluster.runtime.servers import Speech


@dataclass(frozen=True, slots=True)
class Listen:
    """A port to serve."""

    port: int
    speech: Speech
    kind: socket.SocketKind = socket.SOCK_STREAM
    http: HttpHandler = answers.generic
    server: str = "kubestage"


@dataclass(frozen=True, slots=True)
class Workload:
    """`server` listens (on nothing: it idles) until stopped; `process` runs argv to its end; `exit`
    ends at once with `output`. `term_code` is the exit code on SIGTERM."""

    kind: Literal["server", "process", "exit"]
    listens: tuple[Listen, ...] = ()
    argv: tuple[str, ...] = ()
    output: str = ""
    exit_code: int = 0
    term_code: int = 0


IDLE = Workload("server", term_code=143)


def plan_workload(image: Image, config: ContainerConfig) -> Workload:
    """Kubernetes' rule: `command` replaces the image's entrypoint, `args` its arguments."""
    if interactive_shell(image, config):
        # A shell ends at once unless somebody may type into it: `attach` then runs it for real.
        return IDLE if config.stdin else Workload("exit")
    if config.command:
        argv = (*config.command, *config.args)
        if _is_program(image, argv):
            return _program(image.behaviour, argv[1:], config)
        if commands.runnable(argv):
            return Workload("process", argv=argv, term_code=143)
        if image.behaviour in ("nginx", "httpd", "redis", "nginx8080"):
            return _program(image.behaviour, (), config)
        return _generic(config)
    if image.behaviour == "shell":
        argv = tuple(config.args)
        known = commands.runnable(argv)
        return Workload("process", argv=argv, term_code=143) if known else _generic(config)
    if image.behaviour == "generic" and commands.runnable(config.args):
        return Workload("process", argv=tuple(config.args), term_code=143)
    return _program(image.behaviour, tuple(config.args), config)


def interactive_shell(image: Image, config: ContainerConfig) -> tuple[str, ...]:
    """The command if it is a shell that reads its input, else ()."""
    argv = (*(config.command or (image.command if not config.args else ())), *config.args)
    if argv and argv[0].rpartition("/")[2] in commands.SHELLS and len(argv) == 1:
        return argv
    return ()


def _is_program(image: Image, argv: Sequence[str]) -> bool:
    name = argv[0].rpartition("/")[2]
    if image.behaviour == "agnhost":
        return name == "agnhost"
    return name in {
        "nginx": ("nginx", "nginx-debug"),
        "nginx8080": ("nginx",),
        "httpd": ("httpd", "httpd-foreground", "apache2"),
        "redis": ("redis-server",),
        "pause": ("pause",),
    }.get(image.behaviour, ())


def _program(behaviour: str, args: Sequence[str], config: ContainerConfig) -> Workload:
    match behaviour:
        case "nginx" | "nginx8080":
            port = 80 if behaviour == "nginx" else 8080
            if args and commands.runnable(args):
                return Workload("process", argv=tuple(args), term_code=143)
            return Workload(
                "server", (Listen(port, "http", http=answers.nginx, server="nginx/1.29.3"),)
            )
        case "httpd":
            return Workload(
                "server", (Listen(80, "http", http=answers.httpd, server="Apache/2.4.65 (Unix)"),)
            )
        case "redis":
            return Workload("server", (Listen(_flag(args, "--port", 6379), "redis"),))
        case "pause":
            return Workload("server")
        case "agnhost" | "serve-hostname":
            return _agnhost(
                ["serve-hostname", *args] if behaviour == "serve-hostname" else list(args), config
            )
        case "curl":
            if not args:
                text = "curl: try 'curl --help' or 'curl --manual' for more information\n"
                return Workload("exit", output=text, exit_code=2)
            argv = tuple(args) if commands.runnable(args) else ("curl", *args)
            return Workload("process", argv=argv, term_code=143)
        case "hello":
            return Workload(
                "exit",
                output="\nHello from Docker!\nThis message shows that your "
                "installation appears to be working correctly.\n",
            )
    return _generic(config)


def _agnhost(args: Sequence[str], config: ContainerConfig) -> Workload:
    name = args[0] if args else "pause"
    rest = args[1:]
    match name:
        case "netexec":
            listens = [Listen(_flag(rest, "--http-port", 8080), "http", http=answers.netexec)]
            udp = _flag(rest, "--udp-port", 8081)
            if udp > 0:
                listens.append(Listen(udp, "udp-netexec", socket.SOCK_DGRAM))
            return Workload("server", tuple(listens), term_code=2)
        case "serve-hostname":
            port = _flag(rest, "--port", 9376)
            return Workload("server", (Listen(port, "http", http=answers.hostname),), term_code=2)
        case "test-webserver":
            return Workload(
                "server",
                (Listen(_flag(rest, "--port", 80), "http", http=answers.generic),),
                term_code=2,
            )
        case "porter" | "liveness" | "fake-gitserver" | "webhook" | "audit-proxy":
            return _generic(config)
        case "connect":
            target = next((a for a in rest if not a.startswith("-")), "")
            argv = ("curl", "-s", "-o", "/dev/null", "--connect-timeout", "5", f"telnet://{target}")
            return Workload("process", argv=argv)
    return IDLE


def _generic(config: ContainerConfig) -> Workload:
    listens = tuple(
        Listen(p.number, "auto")
        if p.protocol == "TCP"
        else Listen(p.number, "udp-echo", socket.SOCK_DGRAM)
        for p in config.ports
        if p.protocol in ("TCP", "UDP")
    )
    return Workload("server", listens)


def _flag(args: Sequence[str], name: str, default: int) -> int:
    for index, word in enumerate(args):
        if word.startswith(name + "="):
            value = word.partition("=")[2]
            return int(value) if value.isdigit() else default
        if word == name and index + 1 < len(args) and args[index + 1].isdigit():
            return int(args[index + 1])
    return default
