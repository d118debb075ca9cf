"""What this process gives up before it opens a file that is code. Linux takes the most from it.

Every measure is tried by itself and reported as being in force or not: nothing is claimed that the system
did not confirm. Standard library only, and before any thread is started.
"""

from __future__ import annotations

import ctypes
import os
import platform
import resource
import struct
import sys

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
PR_SET_NO_NEW_PRIVS = 38
PR_SET_SECCOMP = 22
SECCOMP_MODE_FILTER = 2
EACCES, EPERM, ENOSYS = 13, 1, 38
CLONE_THREAD = 0x00010000

# x86_64, then aarch64; None where the architecture has no such call.
_DENIED = {
    "socket": (41, 198),
    "connect": (42, 203),
    "bind": (49, 200),
    "sendto": (44, 206),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "execveat": (322, 281),
    "kill": (62, 129),
    "tkill": (200, 130),
    "pidfd_send_signal": (424, 424),
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "mount": (165, 40),
    "bpf": (321, 280),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "unshare": (272, 97),
    "setns": (308, 268),
}
_ABSENT = {"clone3": (435, 435), "io_uring_setup": (425, 425)}
"""Answered as if the kernel had none, so that libraries take the older way, which is looked at."""
_CLONE = (56, 220)
_AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# Landlock: what a process may do to files; see landlock(7).
_WRITE_FILE, _TRUNCATE = 1 << 1, 1 << 14
_CHANGES = _WRITE_FILE | sum(1 << bit for bit in range(4, 13))
"""Writing, removing and making of files, folders, links, devices and sockets."""
_REFER = 1 << 13
_LANDLOCK_CREATE, _LANDLOCK_ADD, _LANDLOCK_RESTRICT = 444, 445, 446


def confine(folder: str, memory_bytes: int, seconds: int) -> dict[str, str]:
    """Give up the network, other processes, and writing outside `folder`; bound memory and time.

    Args:
        folder: the only place where files may be written.
        memory_bytes: of this process's own data (RLIMIT_DATA).
        seconds: of processor time (RLIMIT_CPU); the other side keeps the wall clock.

    Returns:
        measure -> "yes", or why it is not in force: `memory`, `network`, `files`, `processes`.
    """
    report = {"memory": _limits(memory_bytes, seconds)}
    if not sys.platform.startswith("linux"):
        reason = f"not available on {platform.system()}"
        return report | {"network": reason, "files": reason, "processes": reason}
    libc = ctypes.CDLL(None, use_errno=True)
    namespace = _no_network(libc)
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    report["files"] = _only_writes_in(libc, folder)
    filtered = _filter_calls(libc)
    report["processes"] = filtered
    report["network"] = "yes" if "yes" in (namespace, filtered) else namespace
    return report


def _limits(memory_bytes: int, seconds: int) -> str:
    wanted = [(resource.RLIMIT_CORE, 0), (resource.RLIMIT_CPU, seconds), (resource.RLIMIT_DATA, memory_bytes)]
    try:
        for which, value in wanted:
            _, hard = resource.getrlimit(which)
            bound = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(which, (bound, bound))
    except (OSError, ValueError) as problem:
        return f"the system refused: {problem}"
    # Elsewhere the limit exists and is not kept for memory that is mapped.
    return "yes" if sys.platform.startswith("linux") else f"kept in part on {platform.system()}"


def _no_network(libc: ctypes.CDLL) -> str:
    """A network of our own with nothing in it. Needs a user namespace where this is not root."""
    user, group = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            try:
                with open(f"/proc/self/{name}", "w") as file:
                    file.write(text)
            except OSError:
                break  # a nobody in its namespace is as well
        return "yes"
    if libc.unshare(CLONE_NEWNET) == 0:
        return "yes"
    return f"no network namespace: {os.strerror(ctypes.get_errno())}"


def _only_writes_in(libc: ctypes.CDLL, folder: str) -> str:
    version = libc.syscall(_LANDLOCK_CREATE, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return f"no Landlock: {os.strerror(ctypes.get_errno())}"
    handled = _CHANGES | (_REFER if version >= 2 else 0) | (_TRUNCATE if version >= 3 else 0)
    attributes = struct.pack("<Q", handled)
    ruleset = libc.syscall(_LANDLOCK_CREATE, attributes, ctypes.c_size_t(len(attributes)), 0)
    if ruleset < 0:
        return f"no Landlock: {os.strerror(ctypes.get_errno())}"
    try:
        for path, allowed in ((folder, handled), ("/dev/null", handled & (_WRITE_FILE | _TRUNCATE))):
            place = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                rule = struct.pack("<Qi", allowed, place)
                if libc.syscall(_LANDLOCK_ADD, ruleset, 1, rule, 0):
                    return f"Landlock refused a rule: {os.strerror(ctypes.get_errno())}"
            finally:
                os.close(place)
        if libc.syscall(_LANDLOCK_RESTRICT, ruleset, 0):
            return f"Landlock refused: {os.strerror(ctypes.get_errno())}"
    finally:
        os.close(ruleset)
    return "yes"


def _filter_calls(libc: ctypes.CDLL) -> str:
    """A seccomp filter: no sockets, no programs, no processes beside this one, no signals to others."""
    machine = platform.machine()
    if machine not in _AUDIT_ARCH:
        return f"no filter for {machine}"
    program = _program(machine)

    class Filter(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_char_p))

    whole = Filter(len(program) // 8, program)
    if libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(whole), 0, 0):
        return f"seccomp refused: {os.strerror(ctypes.get_errno())}"
    return "yes"


def _program(machine: str) -> bytes:
    """The filter in classic BPF: the call's number is compared with one after another."""
    load, equal, bits, at_least, answer = 0x20, 0x15, 0x45, 0x35, 0x06
    fail, allow = 0x00050000, 0x7FFF0000
    column = 0 if machine == "x86_64" else 1
    code: list[tuple[int, int, int, int]] = [
        (load, 0, 0, 4),
        (equal, 1, 0, _AUDIT_ARCH[machine]),
        (answer, 0, 0, fail | EPERM),
        (load, 0, 0, 0),
    ]
    if machine == "x86_64":
        # The x32 numbers of the same calls.
        code += [(at_least, 0, 1, 0x40000000), (answer, 0, 0, fail | EPERM)]
    for table, reason in ((_DENIED, EACCES), (_ABSENT, ENOSYS)):
        for numbers in table.values():
            if (number := numbers[column]) is not None:
                code += [(equal, 0, 1, number), (answer, 0, 0, fail | reason)]
    code += [
        (equal, 0, 3, _CLONE[column]),
        (load, 0, 0, 16),  # the low half of its first argument: the flags
        (bits, 1, 0, CLONE_THREAD),
        (answer, 0, 0, fail | EACCES),
        (answer, 0, 0, allow),
    ]
    return b"".join(struct.pack("<HBBI", *each) for each in code)
