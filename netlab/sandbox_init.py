"""The inside half of `netlab.sandbox`: builds a sandbox around itself, then runs one command in it.

A program of its own, run by `python -I -S` and importing next to nothing, for it starts with every
`kubectl exec`: it enters the pod's network namespace, makes new pid, ipc, uts and mount namespaces,
and a root out of the pod's own directory with the host's programs mounted read-only into it. Only
what is listed here can be seen of the host. Then it gives up every capability.
"""

import ctypes
import fcntl
import json
import os
import signal
import termios
import warnings  # noqa: F401 - os.execvpe wants it when the host's files are out of sight

SPEC_FD = 3
FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
_NEWNS, _NEWUTS, _NEWIPC, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = (
    1, 2, 4, 8, 32, 4096, 16384, 1 << 18,
)  # fmt: skip
_DETACH = 2
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_SECUREBITS, _NO_NEW_PRIVS, _CAP_AMBIENT = 1, 24, 28, 38, 47
PROGRAMS = ("usr", "bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Of the host's root; nothing in them is secret, and they cannot be written."""
ETC_FILES = (
    "passwd", "group", "nsswitch.conf", "ld.so.cache", "ld.so.conf", "localtime", "timezone",
    "os-release", "debian_version", "services", "protocols", "host.conf", "gai.conf", "profile",
    "bash.bashrc", "inputrc", "mime.types", "shells", "networks", "login.defs",
)  # fmt: skip
ETC_DIRECTORIES = ("alternatives", "ssl/certs", "ca-certificates", "ld.so.conf.d", "terminfo")
OWN = (
    "tmp",
    "root",
    "home",
    "var/tmp",
    "var/log",
    "run",
    "opt",
    "srv",
    "mnt",
    "proc",
    "sys",
    "dev",
    "etc",
)
DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
READ_ONLY_PROC = ("bus", "fs", "irq", "sys", "sysrq-trigger")
HIDDEN_PROC = (
    "acpi",
    "kcore",
    "keys",
    "latency_stats",
    "timer_list",
    "sched_debug",
    "scsi",
    "kmsg",
)
_libc = ctypes.CDLL(None, use_errno=True)


def _call(name, *args):
    if getattr(_libc, name)(*args) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


def mount(source, target, kind=None, flags=0, data=None):
    encoded = [x.encode() if x is not None else None for x in (source, target, kind, data)]
    try:
        _call("mount", encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3])
    except OSError as error:
        raise OSError(error.errno, f"mount {target}: {os.strerror(error.errno)}") from None


def bind(source, target, read_only):
    """Mount a file or directory of the host; its mount point is made if the place can be
    written."""
    make_mount_point(target, os.path.isdir(source))
    mount(source, target, flags=_BIND)
    if read_only:
        mount(None, target, flags=_BIND | _REMOUNT | _RDONLY | _NOSUID)


def make_mount_point(path, directory):
    if os.path.lexists(path) and not os.path.islink(path):
        return
    if directory:
        os.makedirs(path, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDONLY | os.O_NOFOLLOW, 0o644))


def build_root(spec, root):
    """The pod's own directory as root, with the host's programs in it."""
    for name in OWN:
        os.makedirs(f"{root}/{name}", exist_ok=True)
    os.chmod(f"{root}/tmp", 0o1777)
    os.chmod(f"{root}/var/tmp", 0o1777)
    if not os.path.lexists(f"{root}/var/run"):
        os.symlink("/run", f"{root}/var/run")
    mount(root, root, flags=_BIND)
    targets = list(spec["binds"])
    for name in PROGRAMS:
        source, target = f"/{name}", f"{root}/{name}"
        if os.path.islink(source):
            if not os.path.lexists(target):
                os.symlink(os.readlink(source), target)
        elif os.path.isdir(source):
            missing = [t for t in targets if t.startswith(source + "/") and not os.path.exists(t)]
            (mount_writable_copy if missing else mount_programs)(source, target)
    for name in ETC_FILES:
        copy_file(f"/etc/{name}", f"{root}/etc/{name}")
    for name in ETC_DIRECTORIES:
        if os.path.isdir(f"/etc/{name}"):
            bind(f"/etc/{name}", f"{root}/etc/{name}", True)
    for target, (source, read_only) in spec["binds"].items():
        bind(source, inside(root, target), read_only)
    build_dev(f"{root}/dev", spec["tty"])


def mount_programs(source, target):
    bind(source, target, True)


def mount_writable_copy(source, target):
    """A volume is mounted at a place below that the host has not: lay a layer over it in which it
    can be made."""
    os.makedirs(target, exist_ok=True)
    mount("tmpfs", target, "tmpfs", _NOSUID, "mode=0755")
    os.makedirs(f"{target}/upper")
    os.makedirs(f"{target}/work")
    layers = f"lowerdir={source},upperdir={target}/upper,workdir={target}/work"
    mount("overlay", target, "overlay", _NOSUID, layers)


def copy_file(source, target):
    """Public files only, once: the pod may change its copy."""
    if os.path.lexists(target):
        return
    try:
        with open(source, "rb") as file:
            if not os.fstat(file.fileno()).st_mode & 0o004:
                return
            data = file.read()
    except OSError:
        return
    with open(target, "wb") as file:
        file.write(data)


def inside(root, path):
    """`path` below `root`, whatever `..` it contains. Symlinks on the way must not lead out."""
    clean = os.path.normpath("/" + path)
    place = os.path.realpath(os.path.dirname(root + clean))
    if place != root and not place.startswith(root + "/"):
        inner = os.path.normpath("/" + os.path.dirname(clean))
        place = root + inner.replace("/var/run", "/run", 1)
    return f"{place}/{os.path.basename(clean)}"


def build_dev(dev, tty):
    mount("tmpfs", dev, "tmpfs", _NOSUID | _NOEXEC, "mode=0755,size=64k")
    for name in DEVICES:
        bind(f"/dev/{name}", f"{dev}/{name}", False)
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    mount("devpts", f"{dev}/pts", "devpts", _NOSUID | _NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("shm", f"{dev}/shm", "tmpfs", _NOSUID | _NODEV | _NOEXEC, "mode=1777,size=64m")
    for name, to in (
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ):
        os.symlink(to, f"{dev}/{name}")
    if tty:
        bind(os.ttyname(0), f"{dev}/console", False)


def enter_root(root):
    """Make `root` the root and let go of the host's."""
    os.chdir(root)
    _call("syscall", 155, b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/")


def mount_proc():
    mount("proc", "/proc", "proc", _NOSUID | _NODEV | _NOEXEC)
    for name in READ_ONLY_PROC:
        if os.path.exists(f"/proc/{name}"):
            mount(f"/proc/{name}", f"/proc/{name}", flags=_BIND)
            mount(None, f"/proc/{name}", flags=_BIND | _REMOUNT | _RDONLY | _NOSUID | _NOEXEC)
    for name in HIDDEN_PROC:
        path = f"/proc/{name}"
        if os.path.isdir(path):
            mount("tmpfs", path, "tmpfs", _RDONLY)
        elif os.path.exists(path):
            mount("/dev/null", path, flags=_BIND)
    mount("sysfs", "/sys", "sysfs", _RDONLY | _NOSUID | _NODEV | _NOEXEC)


def set_sysctls():
    """What container runtimes allow in a pod's network namespace without capabilities."""
    for name, value in (("ip_unprivileged_port_start", "0"), ("ping_group_range", "0 2147483647")):
        try:
            with open(f"/proc/sys/net/ipv4/{name}", "w") as file:
                file.write(value)
        except OSError:
            continue


def drop_rights(uid, gid):
    """No capability is left, none can come back by any program."""
    os.setgroups([])
    for capability in range(64):
        if _libc.prctl(_CAPBSET_DROP, capability, 0, 0, 0) != 0:
            break
    _libc.prctl(_CAP_AMBIENT, 4, 0, 0, 0)
    _call("prctl", _SET_SECUREBITS, 0x2F, 0, 0, 0)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _call("capset", ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)()))
    _call("prctl", _NO_NEW_PRIVS, 1, 0, 0, 0)


def run_command(spec):
    """Become the command. Exit codes as a shell's."""
    try:
        os.makedirs(spec["working_dir"], exist_ok=True)
    except OSError:
        pass
    try:
        drop_rights(spec["uid"], spec["gid"])
        for number in (
            signal.SIGINT,
            signal.SIGTERM,
            signal.SIGHUP,
            signal.SIGPIPE,
            signal.SIGXFSZ,
        ):
            signal.signal(number, signal.SIG_DFL)
        os.chdir(spec["working_dir"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except FileNotFoundError:
        code, why = NOT_FOUND, "executable file not found in $PATH"
        if not os.path.isdir(spec["working_dir"]):
            code, why = NOT_EXECUTABLE, f"no such directory: {spec['working_dir']}"
    except OSError as error:
        code, why = NOT_EXECUTABLE, error.strerror or str(error)
    os.write(2, f'exec: "{spec["argv"][0]}": {why}\n'.encode())
    os._exit(code)


def code_of(status):
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def be_init(spec, root):
    """Process 1 of the sandbox: reaps, and takes everyone along when the command ends."""
    _call("prctl", _SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    enter_root(root)
    mount_proc()
    command = os.fork()
    if command == 0:
        if spec["tty"]:
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)
        run_command(spec)
    for fd in (0, 1, 2):
        os.close(fd)
    while True:
        pid, status = os.wait()
        if pid == command:
            os._exit(code_of(status))


def main():
    _call("prctl", _SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    with os.fdopen(SPEC_FD, "rb") as file:
        file.seek(0)
        spec = json.load(file)
    if not spec["tty"]:
        os.setsid()
    namespace = os.open(spec["netns_path"], os.O_RDONLY)
    _call("setns", namespace, _NEWNET)
    os.close(namespace)
    set_sysctls()
    root = os.path.realpath(spec["root_dir"]) + "/rootfs"
    os.makedirs(root, exist_ok=True)
    _call("unshare", _NEWNS | _NEWUTS | _NEWIPC | _NEWPID)
    mount(None, "/", flags=_REC | _PRIVATE)
    _call("sethostname", spec["hostname"].encode(), len(spec["hostname"].encode()))
    build_root(spec, root)
    init = os.fork()
    if init == 0:
        be_init(spec, root)
    for fd in (0, 1, 2):
        os.close(fd)
    os._exit(code_of(os.waitpid(init, 0)[1]))


if __name__ == "__main__":
    try:
        main()
    except BaseException as failure:  # the one place to say it: the caller reads stderr
        os.write(2, f"sandbox: {failure}\n".encode())
        os._exit(FAILED)
