# ruff: noqa: PTH101, PTH102, PTH103, PTH106, PTH110, PTH112, PTH114, PTH115, PTH120, PTH123, PTH211
# pathlib would double the time this program needs to start.
"""The inside half of `netlab.sandbox`: builds a sandbox around itself, then runs one command in it.

A program of its own, run by `python -I -S` and importing next to nothing, for it starts with every
`kubectl exec`. It enters the pod's network namespace, makes new pid, ipc, uts and mount namespaces,
and a root out of the pod's own directory with the host's programs mounted read-only into it. Only
what is listed here can be seen of the host. Then it gives up every capability.

What the pod may have put into its directory (links that point out of it) must not lead this
program, which is root, astray: so everything of the host is picked up first as detached mounts,
then the pod's directory becomes the root, and only then a path inside it is touched.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import signal
import struct
import termios
import warnings  # noqa: F401 - os.execvpe wants it when the host's files are out of sight

SPEC_FD = 3
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC = 1, 2, 4, 8, 32, 4096, 16384
_PRIVATE = 1 << 18
_DETACH = 2
_OPEN_TREE, _MOVE_MOUNT, _MOUNT_SETATTR = 428, 429, 442
_PIVOT_ROOT = 41 if os.uname().machine == "aarch64" else 155
_AT_FDCWD, _AT_EMPTY_PATH, _CLONE_TREE, _MOVE_EMPTY_PATH = -100, 0x1000, 1 | os.O_CLOEXEC, 4
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_SECUREBITS, _NO_NEW_PRIVS, _CAP_AMBIENT = 1, 24, 28, 38, 47
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Of the host's root: they cannot be written, and hold nothing secret."""
ETC_FILES = (
    "passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "localtime", "timezone",
    "os-release", "debian_version", "services", "protocols", "host.conf", "gai.conf", "profile",
    "bash.bashrc", "inputrc", "mime.types", "shells", "networks", "login.defs",
)  # fmt: skip
ETC_DIRECTORIES = ("alternatives", "ssl/certs", "ca-certificates", "ld.so.conf.d", "terminfo")
OWN = (
    "tmp", "root", "home", "var/tmp", "var/log", "run", "opt", "srv", "mnt", "proc", "sys", "dev",
    "etc",
)  # fmt: skip
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
READ_ONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN_PROC = (
    "acpi", "kcore", "keys", "latency_stats", "timer_list", "sched_debug", "scsi", "kmsg",
)  # fmt: skip
_libc = ctypes.CDLL(None, use_errno=True)


class Spec:
    """What to run, as `netlab.sandbox` wrote it down."""

    def __init__(self, data: bytes) -> None:
        read = json.loads(data)
        self.argv: list[str] = read["argv"]
        self.env: dict[str, str] = read["env"]
        self.netns_path: str = read["netns_path"]
        self.root_dir: str = read["root_dir"]
        self.hostname: str = read["hostname"]
        self.working_dir: str = read["working_dir"]
        self.binds: dict[str, tuple[str, bool]] = read["binds"]
        self.hidden: list[str] = read["hidden"]
        self.tty: bool = read["tty"]
        self.uid: int = read["uid"]
        self.gid: int = read["gid"]


class Piece:
    """Something of the host, picked up to be mounted at `target`."""

    def __init__(self, source: str, target: str, read_only: bool) -> None:
        self.target = target
        self.directory = os.path.isdir(source)
        self.fd = _syscall(_OPEN_TREE, source, _AT_FDCWD, source.encode(), _CLONE_TREE)
        if read_only:
            attributes = struct.pack("=QQQQ", _RDONLY | _NOSUID, 0, 0, 0)
            _syscall(
                _MOUNT_SETATTR, source, self.fd, b"", _AT_EMPTY_PATH, attributes, len(attributes)
            )

    def put(self) -> None:
        """Mount it; its mount point is made where that can be."""
        if self.directory:
            os.makedirs(self.target, exist_ok=True)
        elif not os.path.exists(self.target):
            os.makedirs(os.path.dirname(self.target), exist_ok=True)
            os.close(os.open(self.target, os.O_CREAT | os.O_RDONLY, 0o644))
        to = self.target.encode()
        _syscall(_MOVE_MOUNT, self.target, self.fd, b"", _AT_FDCWD, to, _MOVE_EMPTY_PATH)
        os.close(self.fd)


def _syscall(number: int, what: str, *args: int | bytes) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in args]
    result = int(_libc.syscall(ctypes.c_long(number), *wide))
    if result < 0:
        _fail(what)
    return result


def _fail(what: str) -> None:
    code = ctypes.get_errno()
    raise OSError(code, f"{what}: {os.strerror(code)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, data: str = "") -> None:
    """mount(2)."""
    encoded = [x.encode() if x else None for x in (source, target, kind, data)]
    at, to, what, options = encoded
    if _libc.mount(at, to, what, ctypes.c_ulong(flags), options) != 0:
        _fail(f"mount {target}")


def pick_up(spec: Spec) -> list[Piece]:
    """The host's part of the root, in the order in which it is to be mounted."""
    pieces = []
    for name in PROGRAMS:
        if os.path.isdir(f"/{name}") and not os.path.islink(f"/{name}"):
            pieces.append(Piece(f"/{name}", f"/{name}", True))
    for name in ETC_DIRECTORIES:
        if os.path.isdir(f"/etc/{name}"):
            pieces.append(Piece(f"/etc/{name}", f"/etc/{name}", True))
    return pieces


def links_of_root() -> dict[str, str]:
    """On a merged-usr system /bin and others are links."""
    return {f"/{n}": os.readlink(f"/{n}") for n in PROGRAMS if os.path.islink(f"/{n}")}


def public_files() -> dict[str, bytes]:
    """The files of /etc that a pod gets a copy of."""
    found = {}
    for name in ETC_FILES:
        try:
            with open(f"/etc/{name}", "rb") as file:
                if os.fstat(file.fileno()).st_mode & 0o004:
                    found[f"/etc/{name}"] = file.read()
        except OSError:
            continue
    return found


def device_pieces(tty: bool) -> list[Piece]:
    pieces = [Piece(f"/dev/{name}", f"/dev/{name}", False) for name in DEVICES]
    if tty:
        pieces.append(Piece(os.ttyname(0), "/dev/console", False))
    return pieces


def enter_root(root: str) -> None:
    """Make `root` the root and let go of the host's."""
    mount(root, root, flags=_BIND)
    os.chdir(root)
    _syscall(_PIVOT_ROOT, "pivot_root", b".", b".")
    if _libc.umount2(b".", _DETACH) != 0:
        _fail("umount of the host's root")
    os.chdir("/")


def lay_out(links: dict[str, str], files: dict[str, bytes]) -> None:
    """The pod's own directories and files; what the pod has made of them stays."""
    for name in OWN:
        os.makedirs(f"/{name}", exist_ok=True)
    for name in ("/tmp", "/var/tmp"):
        os.chmod(name, 0o1777)
    for path, to in {"/var/run": "/run", **links}.items():
        if not os.path.lexists(path):
            os.symlink(to, path)
    for path, data in files.items():
        if not os.path.lexists(path):
            with open(path, "wb") as file:
                file.write(data)


def let_volumes_in(targets: list[str]) -> None:
    """Where a volume's place is among the host's programs and not there, lay a layer over them in
    which it can be made."""
    for name in PROGRAMS:
        place = f"/{name}"
        missing = [t for t in targets if t.startswith(place + "/") and not os.path.exists(t)]
        if not missing or os.path.islink(place):
            continue
        os.makedirs("/mnt/.layer", exist_ok=True)
        mount("tmpfs", "/mnt/.layer", "tmpfs", _NOSUID, "mode=0755")
        os.mkdir("/mnt/.layer/upper")
        os.mkdir("/mnt/.layer/work")
        layers = f"lowerdir={place},upperdir=/mnt/.layer/upper,workdir=/mnt/.layer/work"
        mount("overlay", place, "overlay", _NOSUID, layers)
        _libc.umount2(b"/mnt/.layer", _DETACH)
        os.rmdir("/mnt/.layer")


def build_dev(pieces: list[Piece]) -> None:
    mount("tmpfs", "/dev", "tmpfs", _NOSUID | _NOEXEC, "mode=0755,size=64k")
    for piece in pieces:
        piece.put()
    os.mkdir("/dev/pts")
    os.mkdir("/dev/shm")
    options = "newinstance,ptmxmode=0666,mode=620"
    mount("devpts", "/dev/pts", "devpts", _NOSUID | _NOEXEC, options)
    mount("shm", "/dev/shm", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=1777,size=64m")
    os.symlink("pts/ptmx", "/dev/ptmx")
    os.symlink("/proc/self/fd", "/dev/fd")
    for i, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"/proc/self/fd/{i}", f"/dev/{name}")


def hide(paths: list[str]) -> None:
    """Directories of the host that happen to be among the programs."""
    for path in paths:
        if path.startswith(tuple(f"/{n}/" for n in PROGRAMS)) and os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", _RDONLY)


def mount_proc() -> None:
    mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for name in READ_ONLY_PROC:
        path = f"/proc/{name}"
        if os.path.exists(path):
            mount(path, path, flags=_BIND)
            mount("", path, flags=_BIND | _REMOUNT | _RDONLY | _NOSUID | _NOEXEC)
    for name in HIDDEN_PROC:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", _RDONLY)
        elif os.path.exists(path):
            mount("/dev/null", path, flags=_BIND)
    mount("sysfs", "/sys", "sysfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def set_sysctls() -> None:
    """What container runtimes allow in a pod's network namespace without capabilities."""
    wanted = {"ip_unprivileged_port_start": "0", "ping_group_range": "0 2147483647"}
    for name, value in wanted.items():
        try:
            with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                file.write(value)
        except OSError:
            continue


def drop_rights(uid: int, gid: int) -> None:
    """No capability is left, none can come back by any program."""
    os.setgroups([])
    for capability in range(64):
        if _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    _libc.prctl(_CAP_AMBIENT, 4, 0, 0, 0)
    _prctl(_SET_SECUREBITS, 0x2F)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    if _libc.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())) != 0:
        _fail("capset")
    _prctl(_NO_NEW_PRIVS, 1)


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, value, 0, 0, 0) != 0:
        _fail("prctl")


def run_command(spec: Spec) -> None:
    """Become the command. Exit codes as a shell's."""
    try:
        os.makedirs(spec.working_dir, exist_ok=True)
    except OSError:
        pass
    try:
        drop_rights(spec.uid, spec.gid)
        for number in range(1, 32):
            if number not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(number, signal.SIG_DFL)
        os.chdir(spec.working_dir)
        os.execvpe(spec.argv[0], spec.argv, spec.env)
    except FileNotFoundError:
        code, why = NOT_FOUND, "executable file not found in $PATH"
        if not os.path.isdir(spec.working_dir):
            code, why = NOT_EXECUTABLE, f"no such directory: {spec.working_dir}"
    except OSError as error:
        code, why = NOT_EXECUTABLE, error.strerror or str(error)
    os.write(2, f'exec: "{spec.argv[0]}": {why}\n'.encode())
    os._exit(code)


def code_of(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def close_streams() -> None:
    """So that the reader sees the end when the command ends."""
    for fd in (0, 1, 2):
        os.close(fd)


def be_init(spec: Spec) -> None:
    """Process 1 of the sandbox: reaps, and takes everyone along when the command ends."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    mount_proc()
    command = os.fork()
    if command == 0:
        if spec.tty:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        run_command(spec)
    close_streams()
    while True:
        pid, status = os.wait()
        if pid == command:
            os._exit(code_of(status))


def build(spec: Spec) -> None:
    """Everything up to the point where the command could run."""
    namespace = os.open(spec.netns_path, os.O_RDONLY)
    if _libc.setns(namespace, _NEWNET) != 0:
        _fail("setns")
    os.close(namespace)
    set_sysctls()
    root = os.path.realpath(spec.root_dir) + "/rootfs"
    os.makedirs(root, exist_ok=True)
    if _libc.unshare(_NEWNS | _NEWUTS | _NEWIPC | _NEWPID) != 0:
        _fail("unshare")
    mount("", "/", flags=_REC | _PRIVATE)
    name = spec.hostname.encode()
    if _libc.sethostname(name, len(name)) != 0:
        _fail("sethostname")
    host, links, files = pick_up(spec), links_of_root(), public_files()
    volumes = [Piece(source, path, ro) for path, (source, ro) in spec.binds.items()]
    devices = device_pieces(spec.tty)
    enter_root(root)
    lay_out(links, files)
    for piece in host:
        piece.put()
    hide(spec.hidden)
    let_volumes_in(list(spec.binds))
    for piece in volumes:
        piece.put()
    build_dev(devices)


def main() -> None:
    """Build, run, wait."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    with os.fdopen(SPEC_FD, "rb") as file:
        file.seek(0)
        spec = Spec(file.read())
    if not spec.tty:
        os.setsid()
    build(spec)
    init = os.fork()
    if init == 0:
        be_init(spec)
    close_streams()
    os._exit(code_of(os.waitpid(init, 0)[1]))


if __name__ == "__main__":
    try:
        main()
    except BaseException as failure:  # noqa: BLE001 - the one place to say it: stderr is read
        os.write(2, f"sandbox: {failure}\n".encode())
        os._exit(FAILED)
