"""Takes from a worker's process what it does not need, in two steps.

`enter` comes before OpenCL is loaded, while there is one thread: a process behind a keeper,
namespaces, a view of few files, Landlock. `lock` comes when the device is open and the worker has
its part, before anything of a guest's is read: an even smaller view, another user, limits, no
capabilities, and a list of system calls.

What the host's kernel does not have, or does not let us use, is left out and named.
docs/gpu-security.md says what that means.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import re
import resource
import select
import signal
import site
import socket
import sysconfig
from collections.abc import Callable, Sequence
from glob import escape, glob
from typing import Any

from gpu.worker import landlock, seccomp, system
from gpu.worker.view import OWN_PROCESSES, SCRATCH_BYTES, View

NOBODY = 65534
_USERS = range(61184, 65520)
"""Ids that nobody has, as systemd gives them to services (DynamicUser=)."""
_CAP_SYS_CHROOT = 18
_TO_CHANGE_USER = (0, 6, 7)  # CAP_CHOWN, CAP_SETGID, CAP_SETUID
_NEW_USER = 0x1000_0000
_NEW_OTHERS = {"mount": 0x2_0000, "PID": 0x2000_0000, "network": 0x4000_0000, "IPC": 0x800_0000}
_EXECUTE_VIEW, _COMPILE_VIEW = "/.execute", "/.compile"
_OVERHEAD = 2 << 30
"""Bytes of memory that the compiler, or a runtime besides the guest's buffers, may use."""
_PROCESSES = 64
"""Processes and threads of one worker, besides two for each of the host's processors."""
_LIBRARIES = (
    "/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/usr/local/lib",
    "/usr/share/pocl", "/etc/OpenCL", "/etc/ld.so.cache",
)  # fmt: skip
_FACTS = (
    "/proc/cpuinfo", "/proc/meminfo", "/sys/bus/cpu", "/sys/bus/node", "/sys/devices/system",
    "/sys/kernel/mm/hugepages", "/sys/bus/pci/devices/0000:00:00.0/vendor",
)  # fmt: skip
_PLAIN_DEVICES = ("/dev/null", "/dev/zero", "/dev/urandom")
_GPU_DEVICES = ("/dev/dri", "/dev/kfd", "/dev/nvidia*", "/dev/dxg")


class Sandbox:
    """`linker` is the program that the compiler runs, its path first, and the files it needs;
    `folder` is the worker's, the only one it writes to."""

    def __init__(self, folder: str, linker: Sequence[str]) -> None:
        self.missing: list[str] = []
        """What the host's kernel did not give."""
        self._folder = folder
        self._linker = linker
        self._gpu_devices = [path for pattern in _GPU_DEVICES for path in glob(pattern)]
        self._has_view = False
        self._has_user_namespace = False
        self._has_seccomp = False
        self._was_root = os.geteuid() == 0
        self._user: int | None = None
        """Who root becomes."""

    def enter(self, connection: socket.socket, tell: Callable[[int], None]) -> None:
        """Returns in another process behind this one, whose id `tell` is called with before."""
        with contextlib.suppress(OSError):
            # When the host has no memory left, rather this process than another.
            _write("/proc/self/oom_score_adj", "1000")
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        free_user = _free_user()
        is_private = self._unshare()
        _fork_behind_keeper(connection, tell)
        try:
            self._without("no_new_privs", system.prctl, system.PR_SET_NO_NEW_PRIVS, 1)
            if is_private:
                self._without("private file system", self._make_view)
            self._without(
                "Landlock",
                landlock.restrict,
                (*self._readable(), *self._for_compiler(), _COMPILE_VIEW, OWN_PROCESSES),
                (self._folder,),
                (*_PLAIN_DEVICES, *self._gpu_devices),
            )
            self._has_seccomp = self._without("seccomp", seccomp.check)
            self._provide_linker()
            if self._was_root and self._may_change_user():
                self._user = free_user
            self._keep_few_capabilities()
        except OSError as error:
            self.missing.append(f"sandbox ({error.strerror})")

    def lock(self, part: str, platform: str, memory: int) -> None:
        """For good: `part` is "compile" or "execute", `platform` OpenCL's name of it, `memory` the
        bytes that a guest's buffers may have."""
        is_known = platform == "Portable Computing Language" and _is_our_pocl()
        if is_known and self._has_view:
            os.chroot(_COMPILE_VIEW if part == "compile" else _EXECUTE_VIEW)
        os.chdir(self._folder)
        if self._user is not None:
            self._become(self._user)
        system.keep_capabilities()
        is_alone = self._user not in (None, NOBODY) or (
            self._has_user_namespace and counts_by_namespace(os.uname().release)
        )
        _limit(_OVERHEAD + (memory if part == "execute" else 0), is_alone)
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        system.prctl(system.PR_SET_DUMPABLE, 0)
        if self._has_seccomp:
            seccomp.restrict(part == "compile", not is_known)

    def _without(self, name: str, call: Any, *arguments: Any) -> bool:
        """Whether it could be done."""
        try:
            call(*arguments)
        except OSError as error:
            self.missing.append(f"{name} ({error.strerror})")
            return False
        return True

    def _provide_linker(self) -> None:
        """A folder with the `ld` that PoCL looks for, and nothing else."""
        folder = os.path.join(self._folder, "bin")
        os.mkdir(folder)
        if not self._linker:
            return
        program, path = self._linker[0], os.path.join(folder, "ld")
        if os.path.basename(program) == "ld":
            os.symlink(program, path)
        else:
            # The linker gets this file as an argument too. For it, the line is a comment.
            _write(path, f"#!{program} ld.lld\n")
            os.chmod(path, 0o755)

    # -- namespaces ---------------------------------------------------------------------------

    def _unshare(self) -> bool:
        """Whether mounts are private now. Root needs no user namespace for it, unless it is root of
        a container."""
        everything = sum(_NEW_OTHERS.values())
        try:
            if self._was_root and system.libc.unshare(everything) == 0:
                return True
            user, group = os.geteuid(), os.getegid()
            system.check(system.libc.unshare(_NEW_USER | everything))
            self._has_user_namespace = True
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{user} {user} 1")
            _write("/proc/self/gid_map", f"{group} {group} 1")
        except OSError as error:
            self.missing.append(f"namespaces ({error.strerror})")
            return False
        return True

    def _make_view(self) -> None:
        view = View(self._folder)
        try:
            view.scratch(self._folder)
            view.show(self._readable())
            view.show_devices((*_PLAIN_DEVICES, *self._gpu_devices))
            with contextlib.suppress(OSError):
                # Intel's runtime looks there for its own libraries; others do without.
                view.show_own_process()
            view.reveal(self._folder, _EXECUTE_VIEW)
            self._show_to_compiler(view)
            view.enter()
        except OSError:
            view.give_up()
            raise
        self._has_view = True

    def _show_to_compiler(self, view: View) -> None:
        """PoCL's headers and built-in functions, and the linker; for any other runtime, the linker
        beside all that it was loaded from."""
        libraries = _beside("pyopencl", ".libs")
        view.reveal(self._folder, _COMPILE_VIEW)
        view.show(self._for_compiler(), _COMPILE_VIEW)
        view.show(self._linker)
        view.show_devices(_PLAIN_DEVICES, _COMPILE_VIEW)
        # PoCL names its headers by a path that goes through the folder of its library.
        view.folder(_COMPILE_VIEW + libraries)
        for name in ("libgcc.a", "libgcc_s.a", "libc.a"):
            # The linker is told to use these. Kernels need nothing of them.
            view.file(f"{_COMPILE_VIEW}/lib/{name}", b"!<arch>\n")

    def _for_compiler(self) -> tuple[str, ...]:
        return _beside("pocl_binary_distribution", ".libs/share"), *self._linker

    def _readable(self) -> list[str]:
        """All that is needed until the device is open."""
        python = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")]
        packages = [*site.getsitepackages(), os.path.dirname(os.path.dirname(__file__))]
        packages += [os.path.dirname(os.path.dirname(_beside("pyopencl", "")))]
        named = os.environ.get("LD_LIBRARY_PATH", "").split(":")
        named += [os.environ.get(name, "") for name in ("OCL_ICD_VENDORS", "OCL_ICD_FILENAMES")]
        facts = (*_FACTS, "/sys") if self._gpu_devices else _FACTS
        paths = [*python, *packages, *_LIBRARIES, *facts, *named, *_folders_of_icds(named)]
        return [path for path in paths if path.startswith("/")]

    # -- privileges ---------------------------------------------------------------------------

    def _may_change_user(self) -> bool:
        reason = ""
        if self._has_user_namespace or not system.has_capabilities(*_TO_CHANGE_USER):
            reason = "it has no right to"
        elif not self._has_view and not _others_can_read(self._for_compiler()[0]):
            reason = "others can not read OpenCL's files"
        if reason:
            self.missing.append(f"another user than root ({reason})")
        return not reason

    def _keep_few_capabilities(self) -> None:
        kept = (_CAP_SYS_CHROOT,) if self._has_view else ()
        system.keep_capabilities(*kept, *(() if self._user is None else _TO_CHANGE_USER))

    def _become(self, user: int) -> None:
        groups = sorted({os.stat(path).st_gid for path in self._gpu_devices} - {0})
        for folder, _, files in os.walk(self._folder, topdown=False):
            for path in (*(os.path.join(folder, name) for name in files), folder):
                os.chown(path, user, NOBODY, follow_symlinks=False)
        os.setgroups(groups)
        os.setresgid(NOBODY, NOBODY, NOBODY)
        os.setresuid(user, user, user)


def counts_by_namespace(release: str) -> bool:
    """Whether Linux of this release counts the processes of a user (RLIMIT_NPROC) in each user
    namespace for itself, which it does since 5.14; before, all that the user has anywhere."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (5, 14)


def _fork_behind_keeper(connection: socket.socket, tell: Callable[[int], None]) -> None:
    """The child goes on; this process waits, and ends as the child does. It is outside of the
    child's PID namespace."""
    told, telling = os.pipe()
    child = os.fork()
    if child == 0:
        system.prctl(system.PR_SET_PDEATHSIG, signal.SIGKILL)
        os.close(telling)
        os.read(told, 1)
        os.close(told)
        return
    tell(child)
    os.close(telling)
    poll = select.poll()
    poll.register(os.pidfd_open(child), select.POLLIN)
    poll.register(connection, 0)  # only tells of its end
    poll.poll()
    os.kill(child, signal.SIGKILL)
    connection.close()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def _free_user() -> int:
    """Another one for each worker, where the host has that many."""
    user = _USERS[os.getpid() % len(_USERS)]
    try:
        with open("/proc/self/uid_map") as file:
            maps = [[int(word) for word in line.split()] for line in file]
    except OSError:
        return NOBODY
    return user if any(first <= user < first + size for first, _, size in maps) else NOBODY


def _limit(memory: int, is_alone: bool) -> None:
    """`memory` bytes of its own. `is_alone`: its processes are all that its user has."""
    limits = {
        resource.RLIMIT_DATA: memory,
        resource.RLIMIT_FSIZE: SCRATCH_BYTES,
        resource.RLIMIT_NOFILE: 1024,
        resource.RLIMIT_NPROC: _PROCESSES + 2 * (os.cpu_count() or 1) if is_alone else 4096,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for which, most in limits.items():
        _, hard = resource.getrlimit(which)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(which, (value, value))


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)


def _others_can_read(path: str) -> bool:
    while path != "/" and os.path.exists(path):
        path = os.path.dirname(path)
        if not os.stat(path).st_mode & 1:
            return False
    return True


def _beside(package: str, name: str) -> str:
    """A path in a package that may not be installed, then one that does not exist."""
    spec = importlib.util.find_spec(package)
    origin = spec.origin if spec is not None and spec.origin else f"/nonexistent/{package}/."
    return os.path.join(os.path.dirname(origin), name)


def _is_our_pocl() -> bool:
    """Whether PoCL of the Python package is what was loaded, and nothing else."""
    for path in glob(escape(_beside("pyopencl", ".libs")) + "/libpocl*.so*"):
        try:
            ctypes.CDLL(path, os.RTLD_NOLOAD | os.RTLD_LAZY)
        except OSError:
            continue
        return True
    return False


def _folders_of_icds(named: Sequence[str]) -> list[str]:
    """Where the libraries lie that the .icd files name."""
    files = [path for folder in ("/etc/OpenCL/vendors", *named) for path in glob(f"{folder}/*.icd")]
    files += [path for path in named if path.endswith(".icd")]
    folders = []
    for path in files:
        try:
            with open(path) as file:
                library = file.read().strip()
        except (OSError, UnicodeDecodeError):
            continue
        folders.append(os.path.dirname(library))
    return folders
