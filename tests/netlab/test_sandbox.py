"""Commands in a pod's sandbox: what they see, what they may, how they end."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from netlab import Attachment, Fabric, NetlabError, PodLink
from netlab.sandbox import Command, SandboxProcess, run, start

pytestmark = pytest.mark.root


@pytest.fixture
def pod(fabric: Fabric) -> Attachment:
    added = fabric.add_pods([PodLink("web", "n", "10.77.0.0/24")])[0]
    assert isinstance(added, Attachment)
    return added


Runner = Callable[..., tuple[int, str, str]]


@pytest.fixture
def sh(pod: Attachment, tmp_path: Path) -> Runner:
    """Run `sh -c TEXT` (or an argv) in the pod; (code, stdout, stderr)."""

    def call(*argv: str, **more: object) -> tuple[int, str, str]:
        words = argv if len(argv) > 1 else ("sh", "-c", *argv)
        command = Command(words, pod.netns_path, str(tmp_path), "web-0", **more)  # type: ignore[arg-type]
        return asyncio.run(_finish(command))

    return call


async def _finish(command: Command) -> tuple[int, str, str]:
    process = await run(command)
    try:
        if not command.tty:
            os.close(process.stdin_fd)
            process.stdin_fd = -1
        code = asyncio.ensure_future(process.wait())
        texts = [await asyncio.to_thread(_read, fd) for fd in _outputs(process)]
        return await code, texts[0], texts[-1] if len(texts) > 1 else ""
    finally:
        process.kill()
        process.close()


def _outputs(process: SandboxProcess) -> list[int]:
    return [fd for fd in (process.stdout_fd, process.stderr_fd) if fd >= 0]


def _read(fd: int) -> str:
    os.set_blocking(fd, True)
    out = b""
    while True:
        try:
            part = os.read(fd, 65536)
        except OSError:
            break
        if not part:
            break
        out += part
    return out.decode()


def test_exit_codes_are_a_shells(sh: Runner) -> None:
    assert sh("exit 7")[0] == 7
    assert sh("kill -9 $$")[0] == 137
    code, _, stderr = sh("no-such-command", "x")
    assert (code, stderr) == (127, 'exec: "no-such-command": executable file not found in $PATH\n')


def test_the_command_is_in_the_pods_network(sh: Runner, pod: Attachment) -> None:
    assert f"{pod.ip}/32" in sh("ip -4 -br addr")[1]
    assert sh("hostname")[1] == "web-0\n"


def test_it_has_no_capability_and_sees_no_other_process(sh: Runner) -> None:
    status = sh("grep Cap /proc/self/status; grep NoNewPrivs /proc/self/status")[1]
    assert set(status.split()[1:-2:2]) == {"0000000000000000"}
    assert status.split()[-2:] == ["NoNewPrivs:", "1"]
    assert sh("ls -d /proc/[0-9]* | wc -l")[1].strip() in {"3", "4", "5"}
    assert sh("ip link set eth0 down")[0] != 0
    assert sh("mount -t tmpfs x /mnt")[0] != 0


def test_nothing_of_the_host_can_be_written_or_its_secrets_read(sh: Runner, tmp_path: Path) -> None:
    secret = Path("/root/.kubestage-test-secret")
    secret.write_text("secret")
    try:
        assert sh(f"cat {secret}")[0] != 0
    finally:
        secret.unlink()
    assert sh("touch /usr/bin/x")[0] != 0
    assert sh("cat /etc/shadow")[0] != 0
    assert sh("echo 1 > /proc/sys/vm/overcommit_memory")[0] != 0
    assert sh("ls /run /root /home")[1].split() == ["/home:", "/root:", "/run:"]
    assert sh(f"ls {tmp_path}")[0] != 0


def test_what_a_command_writes_stays_for_the_pods_next_one(sh: Runner) -> None:
    assert sh("echo kept > /tmp/x && echo two > /data")[0] == 0
    assert sh("cat /tmp/x /data")[1] == "kept\ntwo\n"


def test_links_that_the_pod_makes_do_not_lead_out(sh: Runner, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o700)
    sh("".join(f"rm -rf /{d}; ln -s {victim} /{d}; " for d in ("tmp", "srv", "etc")))
    sh("true", binds={"/srv/volume": ("/usr/share", True), "/etc/hosts": ("/etc/hosts", True)})
    assert list(victim.iterdir()) == []
    assert victim.stat().st_mode & 0o777 == 0o700


def test_volumes_are_where_they_should_be(sh: Runner, tmp_path: Path) -> None:
    volume = tmp_path / "volume"
    volume.mkdir()
    (volume / "a").write_text("A")
    binds = {
        "/data": (str(volume), False),
        "/ro": (str(volume), True),
        "/usr/share/no-such/html": (str(volume), True),
        "/var/run/secrets/token": (str(volume / "a"), True),
    }
    found = sh(
        "cat /data/a /ro/a /usr/share/no-such/html/a /var/run/secrets/token; echo B > /data/b;"
        " echo C > /ro/c",
        binds=binds,
    )
    assert found[1] == "AAAA"
    assert (volume / "b").read_text() == "B\n"
    assert not (volume / "c").exists()


def test_user_environment_and_directory(sh: Runner) -> None:
    found = sh("id -u; id -g; pwd; echo $COLOUR", uid=1000, gid=1001, working_dir="/w/x",
               env={"COLOUR": "red"})  # fmt: skip
    assert found[1].split() == ["1000", "1001", "/w/x", "red"]


def test_a_terminal_has_a_size_and_a_name(sh: Runner) -> None:
    assert sh("tty; stty size", tty=True)[1].split() == ["/dev/console", "0", "0"]


def test_resize_reaches_the_command(pod: Attachment, tmp_path: Path) -> None:
    async def work() -> str:
        argv = ("sh", "-c", "read x; stty size")
        process = start(Command(argv, pod.netns_path, str(tmp_path), "web", tty=True))
        try:
            process.resize(132, 43)
            os.write(process.stdin_fd, b"\n")
            text = await asyncio.to_thread(_read, process.stdout_fd)
            assert await process.wait() == 0
            return text
        finally:
            process.kill()
            process.close()

    assert "43 132" in asyncio.run(work())


def test_kill_takes_everyone_along(pod: Attachment, tmp_path: Path) -> None:
    async def work() -> int:
        argv = ("sh", "-c", "sleep 100 & echo ready; sleep 100")
        process = start(Command(argv, pod.netns_path, str(tmp_path), "web"))
        try:
            assert await asyncio.to_thread(_read_line, process.stdout_fd) == "ready\n"
            process.kill()
            await asyncio.to_thread(_read, process.stdout_fd)  # ends once nobody holds the pipe
            return await process.wait()
        finally:
            process.close()

    assert asyncio.run(work()) == 137


def _read_line(fd: int) -> str:
    os.set_blocking(fd, True)
    return os.read(fd, 100).decode()


def test_a_pod_that_is_gone_is_said_on_stderr(tmp_path: Path) -> None:
    command = Command(("true",), "/run/no-such-namespace", str(tmp_path), "x")
    code, _, stderr = asyncio.run(_finish(command))
    assert code == 125 and "no-such-namespace" in stderr


def test_an_empty_command_is_refused(tmp_path: Path) -> None:
    with pytest.raises(NetlabError, match="no command"):
        start(Command((), "/x", str(tmp_path), "x"))
