"""Becomes another program, one that ends with its starter and, if asked, belongs to another user.

``launch.py PARENT SIGNAL OWNER NICENESS PROGRAM ARGUMENT...``: SIGNAL is sent to PROGRAM when the process PARENT ends,
however it ends. OWNER is ``UID:GID``, or ``-`` to stay who one is. NICENESS is added to that of this process.

This file is run as a script of its own, with the standard library alone: code between fork and exec is not safe in a
program with threads, and after the change of user the interpreter's folder may be out of reach.
"""

import contextlib
import ctypes
import os
import signal
import sys


PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_SET_NAME = 15
PR_SET_CHILD_SUBREAPER = 36
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
CAP_DAC_READ_SEARCH = 2
CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


libc = ctypes.CDLL(None, use_errno=True)


def become(uid: int, gid: int) -> None:
    """Change to this user for good; what root was permitted stays at hand for ``keep`` until the next exec."""
    libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def keep(capability: int) -> bool:
    """Take one capability along through exec, as an ambient one. Whether that was granted."""
    header = _Header(CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    if libc.capget(ctypes.byref(header), sets) != 0:
        return False
    sets[0].effective = sets[0].inheritable = sets[0].effective | 1 << capability
    if libc.capset(ctypes.byref(header), sets) != 0:
        return False
    return bool(libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, capability, 0, 0) == 0)


def end_with(parent: int, number: int) -> None:
    """Have the kernel send this signal when the parent ends; a later change of user or capabilities would undo it."""
    libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the process that started this one is gone")


def adopt_orphans() -> None:
    """Become the parent of those descendants whose own parent ends before them."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def call_oneself(name: str) -> None:
    """Be shown under this name, of which 15 bytes count, by ``ps`` and ``top``."""
    libc.prctl(PR_SET_NAME, name.encode(), 0, 0, 0)


def give_way(niceness: int) -> None:
    """Let others have the processor first.

    Where Linux groups processes by session, niceness only counts within the session; the group has one of its own
    (``man 7 sched``, "The autogroup feature").
    """
    os.nice(niceness)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as group:  # noqa: PTH123 - the standard library's start-up is what this script waits for
        group.write(str(niceness))


def main() -> None:
    """Read the arguments, change what was asked for, and become the program."""
    parent, number, owner, niceness, program, *arguments = sys.argv[1:]
    if int(niceness):
        give_way(int(niceness))
    # A shell without job control starts what it puts in the background with SIGINT ignored, and that is inherited.
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(each, signal.SIG_DFL)
    if owner != "-":
        try:
            become(*map(int, owner.split(":")))
        except OSError as error:
            sys.exit(f"root may not become user {owner} here: {error.strerror}")
        # Both the program and its data may lie below a folder that only root may enter, such as /root. Searching is
        # enough where it is granted (a container often holds only the wider capability).
        if not keep(CAP_DAC_READ_SEARCH):
            keep(CAP_DAC_OVERRIDE)
    end_with(int(parent), int(number))
    with contextlib.suppress(PermissionError):
        os.execv(program, [program, *arguments])  # noqa: S606 - becoming the program without a shell is the purpose
    sys.exit(f"{program}: user {os.geteuid()} may not run this file or not enter a folder above it")


if __name__ == "__main__":
    main()
