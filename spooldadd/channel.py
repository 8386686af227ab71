"""The way from the worker to a supervisor: a plan and its lease there, a report back. Light: the launcher loads it."""

from __future__ import annotations

import os
import sys

from spooldadd import durable
from spooldadd.bare import socket
from spooldadd.plan import Plan, from_wire

TYPE_CHECKING = False  # not from `typing`: that import alone would cost the launcher a megabyte
if TYPE_CHECKING:
    from collections.abc import Callable

# A plan that fits goes as one packet; a larger one (long `[config]` or `stdin`) as a file in memory.
PACKET_BYTES = 65536
IN_PACKET, IN_FILE, OFFERS = b"p", b"f", b"o"
FD_BYTES = 4  # of an `int` in C


def hand_over(channel: socket.socket, plan_bytes: bytes, lease: int) -> None:
    """Give an attempt and its lease to the supervisor at the other end. Raises: OSError where it is gone."""
    if len(plan_bytes) < PACKET_BYTES:
        send_fds(channel, IN_PACKET + plan_bytes, [lease])
        return
    memory = os.memfd_create("plan")
    try:
        durable.write_all(memory, plan_bytes)
        send_fds(channel, IN_FILE, [lease, memory])
    finally:
        os.close(memory)


def offer(channel: socket.socket, data: bytes) -> bool:
    """Tell a supervisor that runs a job of others that it may claim; return whether that was said.

    It is not where the supervisor is gone, or has not yet looked at what it was told before: it loses nothing by that.
    """
    try:
        return len(data) < PACKET_BYTES and channel.send(OFFERS + data, socket.MSG_DONTWAIT) > 0
    except OSError:
        return False


def receive_offers(channel: socket.socket) -> bytes | None:
    """Return the next offers, empty where there are none, or None when the worker has closed the channel."""
    try:
        data = channel.recv(PACKET_BYTES + 1, socket.MSG_DONTWAIT)
    except BlockingIOError:
        return b""
    except OSError:
        return None
    return data[1:] or None


def receive(channel: socket.socket, wait: Callable[[], object]) -> tuple[Plan, int] | None:
    """Return the next attempt and its lease, or None when the worker has closed the channel. Offers come too late here.

    `wait` is called before each look: it returns when there is something to read, or when nothing is lost by waiting.
    """
    data = OFFERS
    while data[:1] == OFFERS:
        wait()
        try:
            data, fds = receive_fds(channel, PACKET_BYTES + 1, 2)
        except OSError:
            return None
    if not data:
        return None
    if data[:1] == IN_FILE:
        size = os.fstat(fds[1]).st_size
        data = b" " + os.pread(fds[1], size, 0)
        os.close(fds[1])
    return from_wire(data[1:]), fds[0]


def receive_fds(from_socket: socket.socket, most_bytes: int, most_fds: int) -> tuple[bytes, list[int]]:
    """Return the next packet and the descriptors that came with it, which no program started from here inherits."""
    data, brought, _flags, _address = from_socket.recvmsg(
        most_bytes, socket.CMSG_LEN(most_fds * FD_BYTES), socket.MSG_CMSG_CLOEXEC
    )
    return data, [
        int.from_bytes(words[at : at + FD_BYTES], sys.byteorder)
        for level, kind, words in brought
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS
        for at in range(0, len(words) - FD_BYTES + 1, FD_BYTES)
    ]


def send_fds(to_socket: socket.socket, data: bytes, fds: list[int]) -> None:
    """Send a packet and descriptors with it. Raises: OSError."""
    words = b"".join([fd.to_bytes(FD_BYTES, sys.byteorder) for fd in fds])
    to_socket.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, words)])
