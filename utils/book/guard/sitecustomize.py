"""Put on PYTHONPATH by `python -m utils.book offline` where namespaces are refused.

Every Python process below then reaches this machine only. Other programs are not held.
"""

import errno
import ipaddress
import sys


def is_local(host) -> bool:
    if isinstance(host, bytes):
        host = host.decode(errors="replace")
    if not isinstance(host, str) or host in ("", "localhost"):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def refuse(event, args):
    if event == "socket.getaddrinfo":
        host = args[0]
    elif event in ("socket.connect", "socket.sendto", "socket.sendmsg") and isinstance(
        args[1], tuple
    ):
        host = args[1][0]
    else:  # also: Unix sockets, whose address is a path
        return
    if not is_local(host):
        raise OSError(
            errno.ENETUNREACH,
            f"offline: {host} is not on this machine, and the network is switched off",
        )


sys.addaudithook(refuse)
