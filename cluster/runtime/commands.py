"""Commands that containers and probes run, emulated: no process, the same exit codes and output.

Plays a container's shell and coreutils. `runnable` says whether a command is known; `Interpreter.run` runs it on the
event loop. Files live in the container's own directory and its volumes (`FileView`). Commands that speak on the network
(curl, wget, nslookup...) are handed to `Host.run_real`. Limits: output of 1 MiB a command substitution, loops give way
to others every LOOP_YIELD turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from time import strftime
from typing import NoReturn, Protocol

from cluster.api.meta import Clock, rfc3339
from cluster.runtime import shell
from cluster.runtime.model import Mount

SHELLS = frozenset({"sh", "bash", "ash", "dash"})
REAL = frozenset({"curl", "wget", "nslookup", "dig", "ping", "nc", "getent", "host"})
LOOP_YIELD = 64
OUTPUT_BYTES = 1 << 20

Write = Callable[[str, bytes], None]
"""Takes `stdout` or `stderr` and bytes."""


class Exited(Exception):
    """`exit N` anywhere in a script."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Jump(Exception):
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


def runnable(argv: Sequence[str]) -> bool:
    """Whether the command can be emulated from its first word on."""
    if not argv:
        return False
    name = argv[0].rpartition("/")[2]
    if name in SHELLS:
        script = script_of(argv)
        if script is None:
            return False
        try:
            return _known(shell.parse(script))
        except shell.Unsupported:
            return False
    return name in BUILTINS or name in REAL


def script_of(argv: Sequence[str]) -> str | None:
    """The text behind `sh -c` (also -ec, -xc...); None when the shell reads a file or its input."""
    for index, word in enumerate(argv[1:], 1):
        if word.startswith("-") and not word.startswith("--"):
            if word.endswith("c"):
                return argv[index + 1] if index + 1 < len(argv) else None
            continue
        return None
    return None


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


class Interpreter:
    """Runs one command or script to its end."""

    def __init__(self, process: Process, write: Write) -> None:
        self._process = process
        self._write = write
        self._background: list[asyncio.Task[int]] = []

    async def run(self, argv: Sequence[str]) -> int:
        """The exit code. Cancelling ends the process."""
        name = argv[0].rpartition("/")[2] if argv else ""
        try:
            if name in SHELLS:
                script = script_of(argv)
                return 127 if script is None else await self._script(script)
            return await self._invoke(list(argv), self._write)
        except Exited as end:
            return end.code
        finally:
            for task in self._background:
                task.cancel()

    async def run_script(self, script: str) -> int:
        try:
            return await self._script(script)
        except Exited as end:
            return end.code

    async def _script(self, script: str) -> int:
        try:
            tree = shell.parse(script)
        except shell.Unsupported as error:
            self._write("stderr", f"sh: not emulated: {error}\n".encode())
            return 2
        return await self._sequence(tree, self._write)

    async def _sequence(self, tree: shell.Sequence, write: Write) -> int:
        code = 0
        for node, background in tree.nodes:
            if background:
                self._background.append(asyncio.ensure_future(self._node(node, write)))
                code = 0
            else:
                code = await self._node(node, write)
            self._process.status = code
        return code

    async def _node(self, node: shell.Node, write: Write) -> int:
        match node:
            case shell.Simple():
                return await self._simple(node, write)
            case shell.Sequence():
                return await self._sequence(node, write)
            case shell.AndOr():
                code = await self._node(node.first, write)
                for sign, other in node.rest:
                    if (code == 0) == (sign == "&&"):
                        code = await self._node(other, write)
                return code
            case shell.Pipeline():
                code = await self._pipeline(node, write)
                return int(code == 0) if node.negated else code
            case shell.Loop() | shell.For():
                return await self._loop(node, write)
            case shell.If():
                for condition, body in node.branches:
                    if await self._sequence(condition, write) == 0:
                        return await self._sequence(body, write)
                return await self._sequence(node.otherwise, write) if node.otherwise else 0

    async def _loop(self, node: shell.Loop | shell.For, write: Write) -> int:
        code = 0
        if isinstance(node, shell.For):
            items = [text for word in node.words for text in await self._expand(word)]
            for item in items:
                self._process.env[node.name] = item
                try:
                    code = await self._sequence(node.body, write)
                except _Jump as jump:
                    if not jump.go_on:
                        break
            return code
        while (await self._sequence(node.condition, write) == 0) != node.until:
            self._process.turns += 1
            if self._process.turns % LOOP_YIELD == 0:
                await asyncio.sleep(0.01)  # a busy loop must not take the event loop
            try:
                code = await self._sequence(node.body, write)
            except _Jump as jump:
                if not jump.go_on:
                    break
        return code

    async def _pipeline(self, node: shell.Pipeline, write: Write) -> int:
        """Output of each stage is kept for the next; only filters that BUILTINS knows read it."""
        code = 0
        for index, stage in enumerate(node.nodes):
            last = index == len(node.nodes) - 1
            if last:
                return await self._node(stage, write)
            kept, catch = _catcher(write)
            code = await self._node(stage, catch)
            self._process.env["\0stdin"] = b"".join(kept).decode(errors="replace")
        return code

    async def _simple(self, node: shell.Simple, write: Write) -> int:
        process = self._process
        for name, word in node.assigns:
            process.env[name] = " ".join(await self._expand(word))
        argv = [text for word in node.words for text in await self._expand(word)]
        flush: list[Callable[[], None]] = []
        for fd, sign, target_word in node.redirects:
            target = " ".join(await self._expand(target_word))
            write = self._redirect(fd, sign, target, write, flush)
        if not argv:
            for finish in flush:
                finish()
            return process.status if not node.assigns else 0
        try:
            return await self._invoke(argv, write)
        finally:
            for finish in flush:
                finish()

    def _redirect(
        self, fd: int, sign: str, target: str, write: Write, flush: list[Callable[[], None]]
    ) -> Write:
        stream = {1: "stdout", 2: "stderr"}.get(fd)
        if sign == "<":
            with contextlib.suppress(OSError):
                path, _ = self._process.files.find(target, self._process.cwd)
                self._process.env["\0stdin"] = (
                    "" if target == "/dev/null" else path.read_text(errors="replace")
                )
            return write
        if sign == ">&":
            into = {"1": "stdout", "2": "stderr"}.get(target, "stdout")
            return lambda s, data: write(into if s == stream else s, data)
        if target in ("/dev/stdout", "/dev/stderr", "/proc/1/fd/1", "/proc/1/fd/2"):
            into = "stderr" if target.endswith(("stderr", "2")) else "stdout"
            return lambda s, data: write(into if s == stream else s, data)
        kept: list[bytes] = []
        if target != "/dev/null":
            flush.append(lambda: self._save(target, b"".join(kept), sign == ">>", write))

        def sink(s: str, data: bytes) -> None:
            if s == stream:
                kept.append(data)
            else:
                write(s, data)

        return sink

    def _save(self, target: str, data: bytes, append: bool, write: Write) -> None:
        path, writable = self._process.files.find(target, self._process.cwd)
        if not writable:
            write("stderr", f"sh: can't create {target}: Read-only file system\n".encode())
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab" if append else "wb") as file:
                file.write(data)
        except OSError as error:
            write("stderr", f"sh: can't create {target}: {error.strerror}\n".encode())

    async def _expand(self, word: shell.Word) -> list[str]:
        text, quoted = "", False
        split: list[str] = []
        for part in word:
            quoted = quoted or part.quoted
            value = await self._value(part)
            if part.kind in ("text", "sum") or part.quoted:
                text += value
                continue
            pieces = value.split()
            if value[:1].isspace() and text:
                split.append(text)
                text = ""
            if pieces:
                text += pieces[0]
                for piece in pieces[1:]:
                    split.append(text)
                    text = piece
        if text or quoted:
            split.append(text)
        return split

    async def _value(self, part: shell.Part) -> str:
        process = self._process
        if part.kind == "text":
            return part.text
        if part.kind == "var":
            special = {
                "?": str(process.status),
                "$": "1",
                "#": str(len(process.args)),
                "@": " ".join(process.args),
            }
            if part.text in special:
                return special[part.text]
            return process.env.get(part.text, "") or part.default
        if part.kind == "sum":
            return str(arithmetic(part.text, process.env))
        kept, catch = _catcher(self._write)
        try:
            await self._sequence(shell.parse(part.text), catch)
        except Exited as end:
            process.status = end.code
        return b"".join(kept)[:OUTPUT_BYTES].decode(errors="replace").rstrip("\n")

    async def _invoke(self, argv: list[str], write: Write) -> int:
        name = argv[0].rpartition("/")[2]
        process = self._process
        if name in SHELLS:
            script = script_of(argv)
            return 127 if script is None else await Interpreter(process, write).run_script(script)
        if name in ("exec", "command", "nohup", "time"):
            if len(argv) == 1:
                return 0
            code = await self._invoke(argv[1:], write)
            if name == "exec":
                raise Exited(code)
            return code
        if name == "wait":
            await asyncio.gather(*self._background, return_exceptions=True)
            return 0
        if name == "eval":
            return await self._sequence(shell.parse(" ".join(argv[1:])), write)
        if name in REAL:
            return await process.host.run_real(argv, write)
        builtin = BUILTINS.get(name)
        if builtin is None:
            write("stderr", f"sh: {argv[0]}: not found\n".encode())
            return 127
        outcome = builtin(process, argv[1:], write)
        return outcome if isinstance(outcome, int) else await outcome


def _catcher(write: Write) -> tuple[list[bytes], Write]:
    kept: list[bytes] = []

    def catch(stream: str, data: bytes) -> None:
        if stream == "stdout":
            kept.append(data)
        else:
            write(stream, data)

    return kept, catch


def _known(tree: shell.Node) -> bool:
    """Whether every command word of a script is one we have."""
    match tree:
        case shell.Simple():
            if not tree.words:
                return True
            word = tree.words[0]
            if any(part.kind != "text" for part in word):
                return False
            name = "".join(part.text for part in word).rpartition("/")[2]
            if name in ("exec", "nohup", "command", "time") and len(tree.words) > 1:
                return _known(shell.Simple((), tree.words[1:], ()))
            return name in BUILTINS or name in REAL or name in SHELLS or name in _CONTROL
        case shell.Sequence():
            return all(_known(node) for node, _ in tree.nodes)
        case shell.AndOr():
            return _known(tree.first) and all(_known(node) for _, node in tree.rest)
        case shell.Pipeline():
            return all(_known(node) for node in tree.nodes)
        case shell.Loop():
            return _known(tree.condition) and _known(tree.body)
        case shell.For():
            return _known(tree.body)
        case shell.If():
            bodies = [part for branch in tree.branches for part in branch]
            return all(map(_known, [*bodies, *([tree.otherwise] if tree.otherwise else [])]))


_CONTROL = frozenset({"exec", "wait", "eval", "nohup", "command", "time"})
_SUM = re.compile(r"\s*(?:(\d+)|([A-Za-z_]\w*)|(<=|>=|==|!=|&&|\|\||[-+*/%()<>]))")
_LEVELS: tuple[dict[str, Callable[[int, int], int]], ...] = (
    {"||": lambda a, b: int(bool(a or b))},
    {"&&": lambda a, b: int(bool(a and b))},
    {"==": lambda a, b: int(a == b), "!=": lambda a, b: int(a != b)},
    {
        "<": lambda a, b: int(a < b),
        ">": lambda a, b: int(a > b),
        "<=": lambda a, b: int(a <= b),
        ">=": lambda a, b: int(a >= b),
    },
    {"+": operator.add, "-": operator.sub},
    {
        "*": operator.mul,
        "/": lambda a, b: int(a / b) if b else 0,
        "%": lambda a, b: a % b if b else 0,
    },
)


def arithmetic(text: str, env: dict[str, str]) -> int:
    """$((text)): integers, names, + - * / % comparisons and parentheses; 0 for what is no sum."""
    tokens: list[str] = []
    at = 0
    while at < len(text.rstrip()):
        found = _SUM.match(text, at)
        if found is None:
            return 0
        tokens.append(found.group().strip())
        at = found.end()

    def level(depth: int) -> int:
        if depth == len(_LEVELS):
            return unary()
        value = level(depth + 1)
        while tokens and tokens[0] in _LEVELS[depth]:
            value = _LEVELS[depth][tokens.pop(0)](value, level(depth + 1))
        return value

    def unary() -> int:
        if not tokens:
            return 0
        token = tokens.pop(0)
        if token == "-":
            return -unary()
        if token == "(":
            value = level(0)
            if tokens:
                tokens.pop(0)
            return value
        if token.isdigit():
            return int(token)
        value_text = env.get(token, "0") or "0"
        return int(value_text) if value_text.lstrip("-").isdigit() else 0

    return level(0)


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
    raise _Jump(False)


def _continue(process: Process, args: list[str], write: Write) -> NoReturn:
    raise _Jump(True)


def _date(process: Process, args: list[str], write: Write) -> int:
    now = process.clock.now()
    form = next((a[1:] for a in args if a.startswith("+")), "%a %b %e %H:%M:%S UTC %Y")
    form = form.replace("%s", str(int(now))).replace("%N", f"{int(now % 1 * 1e9):09d}")
    parts = rfc3339(now)
    import datetime

    moment = datetime.datetime.fromisoformat(parts)
    write("stdout", strftime(form, moment.timetuple()).encode() + b"\n")
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
            import shutil

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
            "-f": path.is_file, "-e": path.exists, "-d": path.is_dir, "-r": path.exists, "-w": path.exists,
            "-x": path.exists, "-L": path.is_symlink, "-s": lambda: path.exists() and path.stat().st_size > 0,
        }  # fmt: skip
        return checks.get(sign, lambda: False)()
    if len(args) == 3:
        left, sign, right = args
        if sign in ("=", "=="):
            return left == right
        if sign == "!=":
            return left != right
        numbers: dict[str, Callable[[float, float], bool]] = {
            "-eq": operator.eq, "-ne": operator.ne, "-lt": operator.lt, "-le": operator.le, "-gt": operator.gt, "-ge": operator.ge,
        }  # fmt: skip
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
    "true": _nothing(0), ":": _nothing(0), "false": _nothing(1), "set": _nothing(0), "sync": _nothing(0), "chmod": _nothing(0),
    "chown": _nothing(0), "shift": _nothing(0), "unset": _nothing(0), "kill": _nothing(0), "umask": _nothing(0),
    "echo": _echo, "printf": _printf, "sleep": _sleep, "exit": _exit, "return": _exit, "break": _break, "continue": _continue,
    "date": _date, "cat": _cat, "touch": _touch, "mkdir": _mkdir, "rm": _rm, "ls": _ls, "test": _test, "[": _test,
    "env": _env, "printenv": _env, "export": _export, "cd": _cd, "trap": _trap, "seq": _seq, "tail": _tail, "grep": _grep,
    "hostname": _say(lambda p: p.host.hostname), "whoami": _say(lambda p: "root"), "id": _say(lambda p: "uid=0(root) gid=0(root)"),
    "pwd": _say(lambda p: p.cwd), "uname": _say(lambda p: "Linux"), "nproc": _say(lambda p: "1"),
}  # fmt: skip
