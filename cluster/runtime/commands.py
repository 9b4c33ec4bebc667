"""Commands that containers and probes run, emulated: no process, the same exit codes and output.

Plays a container's shell and coreutils. `runnable` says whether a command is known;
`Interpreter.run` runs it on the event loop. Files live in the container's own directory and its
volumes (`FileView`). Commands that speak on the network (curl, wget, nslookup...) are handed to
`Host.run_real`. Limits: output of 1 MiB a command substitution, loops give way to others every
LOOP_YIELD turns.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import re
from collections.abc import Callable, Sequence

from cluster.runtime import shell
from cluster.runtime.coreutils import BUILTINS, Exited, Jump, Process, Write

SHELLS = frozenset({"sh", "bash", "ash", "dash"})
REAL = frozenset({"curl", "wget", "nslookup", "dig", "ping", "nc", "getent", "host"})
LOOP_YIELD = 64
OUTPUT_BYTES = 1 << 20


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
            case shell.Subshell():
                try:
                    return await self._sequence(node.body, write)
                except Exited as end:
                    return end.code
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
                except Jump as jump:
                    if not jump.go_on:
                        break
            return code
        while (await self._sequence(node.condition, write) == 0) != node.until:
            self._process.turns += 1
            if self._process.turns % LOOP_YIELD == 0:
                await asyncio.sleep(0.01)  # a busy loop must not take the event loop
            try:
                code = await self._sequence(node.body, write)
            except Jump as jump:
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
        case shell.For() | shell.Subshell():
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
