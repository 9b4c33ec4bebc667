"""Containers' commands, emulated: exit codes and output like a real shell's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from cluster.api.meta import SystemClock
from cluster.runtime.commands import Interpreter, arithmetic, runnable
from cluster.runtime.coreutils import FileView, Process, Write, sleep_seconds
from cluster.runtime.model import Mount
from cluster.runtime.shell import Unsupported, parse


class Nobody:
    hostname = "web-0"

    async def run_real(self, argv: Sequence[str], write: Write) -> int:
        return 127


def run(
    script: str, root: Path, env: dict[str, str] | None = None, mounts: Sequence[Mount] = ()
) -> tuple[int, str, str]:
    out: dict[str, list[bytes]] = {"stdout": [], "stderr": []}
    process = Process(Nobody(), FileView(root, mounts), dict(env or {}), SystemClock())
    interpreter = Interpreter(process, lambda stream, data: out[stream].append(data))
    code = asyncio.run(interpreter.run(["sh", "-c", script]))
    return code, b"".join(out["stdout"]).decode(), b"".join(out["stderr"]).decode()


@pytest.mark.parametrize(
    ("script", "code", "output"),
    [
        ("true", 0, ""),
        ("false", 1, ""),
        ("exit 42", 42, ""),
        ("echo a b", 0, "a b\n"),
        ("echo 'a  b' \"c $X\"", 0, "a  b c 1 2\n"),
        ("echo $X", 0, "1 2\n"),
        ("false || echo other", 0, "other\n"),
        ("true && echo both", 0, "both\n"),
        ("false && echo no; echo $?", 0, "1\n"),
        ("! false", 0, ""),
        ("for i in 1 2 3; do echo $i; done", 0, "1\n2\n3\n"),
        ("for i in $(seq 2); do echo $i; done", 0, "1\n2\n"),
        ("i=0; while [ $i -lt 3 ]; do i=$((i+1)); done; echo $i", 0, "3\n"),
        ("until true; do echo no; done; echo end", 0, "end\n"),
        ("if [ -f /none ]; then echo a; elif true; then echo b; else echo c; fi", 0, "b\n"),
        ("echo hi > /tmp/f; cat /tmp/f", 0, "hi\n"),
        ("echo a >> /f; echo b >> /f; cat /f | grep b", 0, "b\n"),
        ("touch /tmp/x; rm /tmp/x; cat /tmp/x", 1, ""),
        ("echo lost >/dev/null 2>&1", 0, ""),
        ("(exit 3); echo after $?", 0, "after 3\n"),
        ("while true; do break; done; echo out", 0, "out\n"),
        ("printf '%s-%d\\n' a 5", 0, "a-5\n"),
        ("hostname", 0, "web-0\n"),
        ("test 2 -gt 1 && [ a = a ]", 0, ""),
        ("X=own; echo ${X} ${Y:-dflt}", 0, "own dflt\n"),
        ("no-such", 127, ""),
        ("sleep 0.001; exit 7", 7, ""),
        ("exec echo replaced; echo never", 0, "replaced\n"),
        ("echo one; # a comment\necho two", 0, "one\ntwo\n"),
    ],
)
def test_a_script_gives_what_a_shell_gives(
    script: str, code: int, output: str, tmp_path: Path
) -> None:
    found = run(script, tmp_path, {"X": "1 2"})
    assert found[:2] == (code, output)


@pytest.mark.parametrize(
    "script", ["case a in a) ;; esac", "cat <<EOF", "if true", "echo 'open", "echo $(("]
)
def test_what_the_grammar_lacks_is_refused(script: str) -> None:
    with pytest.raises(Unsupported):
        parse(script)


@pytest.mark.parametrize(
    ("argv", "known"),
    [
        (["sleep", "5"], True),
        (["/bin/sh", "-c", "while true; do date; sleep 1; done"], True),
        (["sh", "-c", "java -jar app.jar"], False),
        (["sh", "-c", "curl -s http://web"], True),
        (["python", "app.py"], False),
        (["sh"], False),
        ([], False),
    ],
)
def test_unknown_programs_are_not_emulated(argv: list[str], known: bool) -> None:
    assert runnable(argv) is known


@pytest.mark.parametrize(
    ("words", "seconds"),
    [(["5"], 5.0), (["1m", "30s"], 90.0), (["2h"], 7200.0), (["x"], None), ([], None)],
)
def test_sleep_adds_its_operands(words: list[str], seconds: float | None) -> None:
    assert sleep_seconds(words) == seconds


@pytest.mark.parametrize(
    ("text", "value"),
    [("1+2*3", 7), ("(1+2)*3", 9), ("n+1", 5), ("7/2", 3), ("2>1", 1), ("-3+1", -2), ("x", 0)],
)
def test_sums(text: str, value: int) -> None:
    assert arithmetic(text, {"n": "4"}) == value


def test_volumes_are_found_under_their_mounts_and_may_be_read_only(tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "key").write_text("value\n")
    mounts = [Mount("/etc/config", str(volume), read_only=True)]
    assert run("cat /etc/config/key", tmp_path / "root", mounts=mounts)[1] == "value\n"
    _, _, error = run("echo no > /etc/config/new", tmp_path / "root", mounts=mounts)
    assert "Read-only file system" in error
    assert not (volume / "new").exists()


def test_a_link_cannot_lead_out_of_the_container(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hidden")
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to(secret)
    (root / "up").symlink_to(tmp_path)
    assert run("cat /link", root)[:2] == (1, "")
    assert run("cat /up/secret", root)[:2] == (1, "")
    assert run("cat /../../secret", root)[:2] == (1, "")
    run("echo changed > /link", root)
    assert secret.read_text() == "hidden"
