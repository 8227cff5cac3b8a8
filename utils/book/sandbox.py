"""`offline`: run a command with no network but loopback.

On Linux the command gets a network namespace of its own, in which only `lo` is up; it keeps its
user, home and files. Where that is refused (containers, macOS) Python processes are held by an audit
hook instead, which other programs and `python -I` do not see.
"""

import ctypes
import fcntl
import os
import shutil
import socket
import struct
import sys
from pathlib import Path

from . import BookError, discover

CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 0x1
GUARD = Path(__file__).parent / "guard"


def add_parser(subparsers):
    parser = subparsers.add_parser(
        "offline",
        help="run a command without a network",
        description=__doc__,
        formatter_class=discover.RawHelp,
        usage="%(prog)s [--guard] -- COMMAND...",
    )
    parser.add_argument(
        "--guard", action="store_true", help="use the audit hook even where namespaces work"
    )
    parser.add_argument("command", nargs="+", metavar="COMMAND")


def main(args) -> int:
    command = args.command[
        args.command[0] == "--" :
    ]  # argparse keeps or drops it, by Python version
    if not command or shutil.which(command[0]) is None:
        raise BookError(f"there is no command {' '.join(command)!r}")
    if not args.guard and namespaces_work():
        isolate()
        how = "a network namespace with loopback only"
    else:
        path = os.environ.get("PYTHONPATH")
        os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), *([path] if path else [])])
        how = "a guard in every Python process; other programs are not held"
    print(f"offline: {how}", file=sys.stderr, flush=True)
    os.execvp(command[0], command)


def isolate() -> None:
    """Move this process into a network namespace with only loopback; OSError where that is refused."""
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(CLONE_NEWNET) != 0:  # needs root; others become root of a user namespace first
        if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "unshare")
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
        Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def namespaces_work() -> bool:
    """Try in a child, since a half-successful attempt cannot be taken back."""
    if sys.platform != "linux":
        return False
    child = os.fork()
    if child == 0:
        try:
            isolate()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
