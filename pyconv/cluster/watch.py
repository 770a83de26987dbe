"""Watch: notices that another host cannot be reached, or that the rank there has gone or was stopped.

The first ranks of any two hosts hold a connection, on which nothing is sent. The kernels of the two hosts ask each
other every second whether it is still there, and answer for a process that computes, swaps or is stopped too: so a busy
host is never taken for a lost one. A connection that ends belongs to a rank that has gone. What a kernel does not tell,
that a rank was stopped, its :mod:`.sentinel` does.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import secrets
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from .beside import begin_sentinel
from .hosts import Here

ASK_S, ASKS = 1, 4
"""Seconds between two questions to another host's kernel, and how many may stay without an answer."""
SILENT_S = ASK_S * (1 + ASKS)
CONNECT_S = 2.5  # for a host to answer at one of its addresses
MEET_S = 5.0  # for all connections to be made
GONE_LOOKS = 8  # after so many looks that find a connection ended, a quarter of a second apart, its rank is lost
TOKEN = 16  # bytes that tell a rank of this run from others who connect
STOPPED = b"S"  # what a sentinel sends


class Watch:
    """This rank's connections to the first ranks of other hosts.

    Parameters
    ----------
    connections : dict of int to socket
        By rank.
    unwatched : sequence of int
        First ranks of other hosts to which there is none.

    Attributes
    ----------
    unreachable : bool
        Whether a host that was found lost cannot be reached.
    """

    def __init__(self, connections: dict[int, socket.socket] | None = None, unwatched: Sequence[int] = ()) -> None:
        self._connections, self.unwatched = connections or {}, list(unwatched)
        self._ended = dict.fromkeys(self._connections, 0)
        self._lost: dict[int, str] = {}
        self.unreachable = False
        self._sentinel: Any = None

    def lost(self) -> tuple[int, str] | None:
        """The first rank that is lost and what has happened to it, or None; called four times a second."""
        for rank, connection in self._connections.items():
            if rank not in self._lost and (what := self._look(rank, connection)) is not None:
                self._lost[rank] = what
        return min(self._lost.items(), default=None)

    def _look(self, rank: int, connection: socket.socket) -> str | None:
        try:
            if connection.recv(1, socket.MSG_DONTWAIT) == STOPPED:
                return "was stopped by a signal (SIGSTOP or SIGTSTP) and did not go on"
        except BlockingIOError:
            return None
        except ConnectionResetError:
            pass
        except OSError:
            self.unreachable = True
            return f"cannot be reached: its host has not answered for {SILENT_S} seconds"
        self._ended[rank] += 1
        return "has died" if self._ended[rank] >= GONE_LOOKS else None

    def speaks(self, rank: int) -> bool:
        """Whether `rank`, this one, reports a lost one: no host before its own can be reached."""
        return all(other in self._lost for other in self._connections if other < rank)

    def guard(self) -> None:
        """Start a sentinel: if this process is stopped, it tells the other hosts."""
        numbers = [connection.fileno() for connection in self._connections.values()]
        if not numbers:
            return
        self._sentinel = begin_sentinel(numbers)

    def close(self) -> None:
        """End the connections."""
        if self._sentinel is not None and self._sentinel.stdin is not None:
            self._sentinel.stdin.close()
            self._sentinel.wait()
        for connection in self._connections.values():
            connection.close()


def watch(
    places: Sequence[Here], rank: int, everybody: Callable[[dict[str, object]], list[dict[str, Any]]]
) -> Watch:  # fmt: skip
    """Connect the first ranks of all hosts; all ranks call it.

    Parameters
    ----------
    places : sequence of Here
        Of all ranks.
    rank : int
        This one.
    everybody : callable
        ``everybody(own)``: what each rank tells; all ranks call it.
    """
    hosts = [place.host for place in places]
    firsts = sorted(hosts.index(host) for host in set(hosts))
    if len(firsts) == 1:
        return Watch()
    is_first = rank in firsts
    token = secrets.token_bytes(TOKEN)
    listening = _listening(len(firsts)) if is_first else None
    told: dict[str, object] = {"addresses": [], "port": 0, "token": token.hex()}
    if listening is not None:
        told |= {"addresses": addresses(), "port": listening.getsockname()[1]}
    doors = everybody(told)
    if listening is None:
        return Watch()
    with listening:
        found = {other: _connected(doors[other], rank) for other in firsts if other < rank and doors[other]["port"]}
        made = {other: each for other, each in found.items() if each is not None}
        made |= _accepted(listening, token, {other for other in firsts if other > rank})
    for each in made.values():
        _keep(each)
    result = Watch(dict(sorted(made.items())), [other for other in firsts if other != rank and other not in made])
    if hosts.count(hosts[rank]) == 1:  # else a neighbour looks after this rank
        result.guard()
    return result


def _listening(most: int) -> socket.socket | None:
    try:
        return socket.create_server(("", 0), backlog=most + 16)  # others may connect too
    except OSError:
        return None


def _connected(door: dict[str, Any], rank: int) -> socket.socket | None:
    """A connection to a rank that listens, or None."""
    for address in door["addresses"]:
        with contextlib.suppress(OSError):
            made = socket.create_connection((address, door["port"]), CONNECT_S)
            made.sendall(bytes.fromhex(door["token"]) + struct.pack("!i", rank))
            return made
    return None


def _accepted(listening: socket.socket, token: bytes, expected: set[int]) -> dict[int, socket.socket]:
    """The connections that these ranks have made, as far as they come in time."""
    found: dict[int, socket.socket] = {}
    end = time.monotonic() + MEET_S
    while expected - found.keys() and (left := end - time.monotonic()) > 0:
        with contextlib.suppress(OSError):
            listening.settimeout(left)
            made, _ = listening.accept()
            made.settimeout(CONNECT_S)
            words = made.recv(TOKEN + 4, socket.MSG_WAITALL)
            other = struct.unpack("!i", words[TOKEN:])[0] if len(words) == TOKEN + 4 else -1
            if other in expected and secrets.compare_digest(words[:TOKEN], token):
                found[other] = made
            else:
                made.close()
    return found


def _keep(connection: socket.socket) -> None:
    """Have the kernel ask the other one whether the connection is still there."""
    connection.setblocking(True)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    settings = {"TCP_KEEPIDLE": ASK_S, "TCP_KEEPINTVL": ASK_S, "TCP_KEEPCNT": ASKS, "TCP_USER_TIMEOUT": SILENT_S * 1000}
    for name, value in settings.items():
        if hasattr(socket, name):  # those of Linux
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


SIOCGIFADDR = 0x8915


def addresses() -> list[str]:
    """IPv4 addresses of this host, without the loopback's; those that other hosts can reach are among them."""
    return [each for each in _every_address() if not ipaddress.ip_address(each).is_loopback]


def _every_address() -> Iterator[str]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # an interface without one
                record = fcntl.ioctl(asking.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()[:15]))
                yield socket.inet_ntoa(record[20:24])
