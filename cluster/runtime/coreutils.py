"""The commands of containers' shells, emulated: what coreutils and busybox do to files and output.

Plays coreutils inside a container. A command takes its process, its operands and where output goes,
and returns an exit code. It touches nothing but the container's own files (`FileView`).
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import re
import shutil
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import NoReturn, Protocol

from cluster.api.meta import Clock
from cluster.runtime.model import Mount

Write = Callable[[str, bytes], None]
"""Takes `stdout` or `stderr` and bytes."""


class Exited(Exception):
    """`exit N` anywhere in a script."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Jump(Exception):
    """break (False) or continue (True)."""

    def __init__(self, go_on: bool) -> None:
        super().__init__()
        self.go_on = go_on


class Host(Protocol):
    """What a command may see of its container."""

    @property
    def hostname(self) -> str: ...

    async def run_real(self, argv: Sequence[str], write: Write) -> int:
        """Run in the pod's namespaces; 127 where that cannot be done."""


@dataclass(frozen=True, slots=True)
class FileView:
    """Paths of a container on the host: volumes first, then its private directory."""

    root: Path
    mounts: Sequence[Mount] = ()

    def find(self, path: str, cwd: str) -> tuple[Path, bool]:
        """Host path and whether it may be written. Never leaves the container's own directories."""
        whole = PurePosixPath(cwd or "/") / path
        clean: list[str] = []
        for piece in whole.parts[1:]:
            if piece == "..":
                clean = clean[:-1]
            elif piece != ".":
                clean.append(piece)
        inside = "/" + "/".join(clean)
        best: Mount | None = None
        for mount in self.mounts:
            prefix = mount.container_path.rstrip("/")
            if (inside == prefix or inside.startswith(prefix + "/")) and (
                best is None or len(prefix) > len(best.container_path)
            ):
                best = mount
        base, rest, writable = self.root, inside[1:], True
        if best is not None:
            base, writable = Path(best.host_path), not best.read_only
            rest = inside[len(best.container_path.rstrip("/")) :].lstrip("/")
        found = base / rest if rest else base
        # A link that a container made must not lead out: we may be root, it is not.
        if rest and not found.resolve().is_relative_to(base.resolve()):
            return base / "\x7f", False
        return found, writable


@dataclass(slots=True)
class Process:
    """The state of one emulated process."""

    host: Host
    files: FileView
    env: dict[str, str]
    clock: Clock
    cwd: str = "/"
    status: int = 0
    traps: dict[str, str] = field(default_factory=dict)
    args: tuple[str, ...] = ()
    turns: int = 0


def sleep_seconds(words: Sequence[str]) -> float | None:
    """What `sleep`'s operands add up to; None when they are no time."""
    total = 0.0
    units = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    for word in words:
        factor = units.get(word[-1:], 0.0)
        try:
            total += float(word[:-1] if factor else word) * (factor or 1.0)
        except ValueError:
            return None
    return total if words else None


# The commands. Each takes the process, its operands and where output goes.


def _echo(process: Process, args: list[str], write: Write) -> int:
    newline, escapes = True, False
    while args and args[0] in ("-n", "-e", "-ne", "-en"):
        newline = newline and "n" not in args[0]
        escapes = escapes or "e" in args[0]
        args = args[1:]
    text = " ".join(args)
    if escapes:
        text = text.replace("\\n", "\n").replace("\\t", "\t")
    write("stdout", text.encode() + (b"\n" if newline else b""))
    return 0


def _printf(process: Process, args: list[str], write: Write) -> int:
    if not args:
        return 1
    template = args[0].replace("\\n", "\n").replace("\\t", "\t")
    values = iter(args[1:])
    text = re.sub(
        r"%%|%-?\d*[sd]", lambda m: "%" if m.group() == "%%" else next(values, ""), template
    )
    write("stdout", text.encode())
    return 0


async def _sleep(process: Process, args: list[str], write: Write) -> int:
    seconds = sleep_seconds(args)
    if seconds is None or seconds != seconds:
        write("stderr", f"sleep: invalid number '{' '.join(args)}'\n".encode())
        return 1
    if seconds == float("inf"):
        await asyncio.get_running_loop().create_future()
    await asyncio.sleep(seconds)
    return 0


def _exit(process: Process, args: list[str], write: Write) -> NoReturn:
    code = args[0] if args else str(process.status)
    raise Exited(int(code) % 256 if code.lstrip("-").isdigit() else 2)


def _break(process: Process, args: list[str], write: Write) -> NoReturn:
    raise Jump(False)


def _continue(process: Process, args: list[str], write: Write) -> NoReturn:
    raise Jump(True)


def _date(process: Process, args: list[str], write: Write) -> int:
    now = process.clock.now()
    form = next((a[1:] for a in args if a.startswith("+")), "%a %b %e %H:%M:%S UTC %Y")
    form = form.replace("%s", str(int(now))).replace("%N", f"{int(now % 1 * 1e9):09d}")
    text = datetime.fromtimestamp(now, UTC).strftime(form)
    write("stdout", text.encode() + b"\n")
    return 0


def _cat(process: Process, args: list[str], write: Write) -> int:
    code = 0
    if not args or args == ["-"]:
        write("stdout", process.env.pop("\0stdin", "").encode())
        return 0
    for name in args:
        special = {"/etc/hostname": process.host.hostname + "\n", "/dev/null": ""}.get(name)
        path, _ = process.files.find(name, process.cwd)
        try:
            write("stdout", special.encode() if special is not None else path.read_bytes())
        except OSError as error:
            write("stderr", f"cat: can't open '{name}': {error.strerror}\n".encode())
            code = 1
    return code


def _touch(process: Process, args: list[str], write: Write) -> int:
    return _each_file("touch", process, args, write, _touch_one)


def _touch_one(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _mkdir(process: Process, args: list[str], write: Write) -> int:
    return _each_file("mkdir", process, args, write, lambda p: p.mkdir(parents=True, exist_ok=True))


def _rm(process: Process, args: list[str], write: Write) -> int:
    force = any(a.startswith("-") and "f" in a for a in args)

    def remove(path: Path) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=force)

    return _each_file("rm", process, args, write, remove)


def _each_file(
    name: str, process: Process, args: list[str], write: Write, act: Callable[[Path], None]
) -> int:
    code = 0
    for word in (a for a in args if not a.startswith("-")):
        path, writable = process.files.find(word, process.cwd)
        try:
            if not writable:
                raise OSError(30, "Read-only file system")
            act(path)
        except OSError as error:
            write("stderr", f"{name}: {word}: {error.strerror}\n".encode())
            code = 1
    return code


def _ls(process: Process, args: list[str], write: Write) -> int:
    code = 0
    for word in [a for a in args if not a.startswith("-")] or ["."]:
        path, _ = process.files.find(word, process.cwd)
        if path.is_dir():
            names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
            write("stdout", "".join(f"{n}\n" for n in names).encode())
        elif path.exists():
            write("stdout", f"{word}\n".encode())
        else:
            write("stderr", f"ls: {word}: No such file or directory\n".encode())
            code = 1
    return code


def _test(process: Process, args: list[str], write: Write) -> int:
    args = args[:-1] if args and args[-1] == "]" else args
    negated = bool(args) and args[0] == "!"
    args = args[1:] if negated else args
    return int(_truth(process, args) == negated)


def _truth(process: Process, args: list[str]) -> bool:
    if len(args) == 1:
        return bool(args[0])
    if len(args) == 2:
        sign, value = args
        if sign in ("-z", "-n"):
            return bool(value) == (sign == "-n")
        path, _ = process.files.find(value, process.cwd)
        checks: dict[str, Callable[[], bool]] = {
            "-f": path.is_file,
            "-e": path.exists,
            "-d": path.is_dir,
            "-r": path.exists,
            "-w": path.exists,
            "-x": path.exists,
            "-L": path.is_symlink,
            "-s": lambda: path.exists() and path.stat().st_size > 0,
        }
        return checks.get(sign, lambda: False)()
    if len(args) == 3:
        left, sign, right = args
        if sign in ("=", "=="):
            return left == right
        if sign == "!=":
            return left != right
        numbers: dict[str, Callable[[float, float], bool]] = {
            "-eq": operator.eq,
            "-ne": operator.ne,
            "-lt": operator.lt,
            "-le": operator.le,
            "-gt": operator.gt,
            "-ge": operator.ge,
        }
        try:
            return sign in numbers and numbers[sign](float(left), float(right))
        except ValueError:
            return False
    return False


def _env(process: Process, args: list[str], write: Write) -> int:
    if args:
        found = [process.env[a] for a in args if a in process.env]
        write("stdout", "".join(f"{v}\n" for v in found).encode())
        return 0 if len(found) == len(args) else 1
    shown = (f"{k}={v}\n" for k, v in process.env.items() if not k.startswith("\0"))
    write("stdout", "".join(shown).encode())
    return 0


def _export(process: Process, args: list[str], write: Write) -> int:
    for word in args:
        name, sign, value = word.partition("=")
        if sign:
            process.env[name] = value
    return 0


def _cd(process: Process, args: list[str], write: Write) -> int:
    process.cwd = str(PurePosixPath(process.cwd) / (args[0] if args else "/"))
    return 0


def _trap(process: Process, args: list[str], write: Write) -> int:
    for signal in args[1:]:
        process.traps[signal.removeprefix("SIG")] = args[0]
    return 0


def _seq(process: Process, args: list[str], write: Write) -> int:
    try:
        numbers = [int(a) for a in args]
    except ValueError:
        return 1
    first, step, last = {
        1: (1, 1, *numbers),
        2: (numbers[0], 1, numbers[-1]),
        3: tuple(numbers),
    }.get(len(numbers), (1, 1, 0))
    for value in range(first, last + (1 if step > 0 else -1), step or 1):
        write("stdout", b"%d\n" % value)
    return 0


async def _tail(process: Process, args: list[str], write: Write) -> int:
    if any(a.startswith("-") and "f" in a.lower() for a in args):
        await asyncio.get_running_loop().create_future()
    return _cat(process, [a for a in args if not a.startswith("-")], write)


def _grep(process: Process, args: list[str], write: Write) -> int:
    quiet = any(a.startswith("-") and "q" in a for a in args)
    words = [a for a in args if not a.startswith("-")]
    if not words:
        return 2
    text = process.env.pop("\0stdin", "")
    for name in words[1:]:
        path, _ = process.files.find(name, process.cwd)
        with contextlib.suppress(OSError):
            text += path.read_text(errors="replace")
    lines = [line for line in text.splitlines() if words[0] in line]
    if not quiet:
        write("stdout", "".join(f"{line}\n" for line in lines).encode())
    return 0 if lines else 1


def _say(text: Callable[[Process], str]) -> Callable[[Process, list[str], Write], int]:
    def act(process: Process, args: list[str], write: Write) -> int:
        write("stdout", text(process).encode() + b"\n")
        return 0

    return act


def _nothing(code: int) -> Callable[[Process, list[str], Write], int]:
    return lambda process, args, write: code


Builtin = Callable[[Process, list[str], Write], int | Awaitable[int]]
BUILTINS: dict[str, Builtin] = {
    "true": _nothing(0),
    ":": _nothing(0),
    "false": _nothing(1),
    "set": _nothing(0),
    "sync": _nothing(0),
    "chmod": _nothing(0),
    "chown": _nothing(0),
    "shift": _nothing(0),
    "unset": _nothing(0),
    "kill": _nothing(0),
    "umask": _nothing(0),
    "echo": _echo,
    "printf": _printf,
    "sleep": _sleep,
    "exit": _exit,
    "return": _exit,
    "break": _break,
    "continue": _continue,
    "date": _date,
    "cat": _cat,
    "touch": _touch,
    "mkdir": _mkdir,
    "rm": _rm,
    "ls": _ls,
    "test": _test,
    "[": _test,
    "env": _env,
    "printenv": _env,
    "export": _export,
    "cd": _cd,
    "trap": _trap,
    "seq": _seq,
    "tail": _tail,
    "grep": _grep,
    "hostname": _say(lambda p: p.host.hostname),
    "whoami": _say(lambda p: "root"),
    "id": _say(lambda p: "uid=0(root) gid=0(root)"),
    "pwd": _say(lambda p: p.cwd),
    "uname": _say(lambda p: "Linux"),
    "nproc": _say(lambda p: "1"),
}
