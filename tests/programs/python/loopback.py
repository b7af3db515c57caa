#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""A channel inside one domain with nothing but Python's own open, ioctl, read, write and poll."""

import errno
import fcntl
import os
import select
import struct

BIND_INTERDOMAIN, BIND_UNBOUND_PORT, UNBIND, NOTIFY = 0x84501, 0x44502, 0x44503, 0x44504


def request(fd, number, *words):
    """The result of the ioctl itself, which Python gives when the argument is a buffer that can be changed."""
    return fcntl.ioctl(fd, number, bytearray(struct.pack(f"={len(words)}I", *words)))


def take(fd):
    (port,) = struct.unpack("=I", os.read(fd, 4))
    return port


def refused(error, call, *arguments):
    try:
        call(*arguments)
    except OSError as raised:
        assert raised.errno == error, raised
    else:
        raise AssertionError(f"not refused: {arguments}")


def main():
    listener_fd = os.open("/dev/xen/evtchn", os.O_RDWR | os.O_NONBLOCK)
    caller_fd = os.open("/dev/xen/evtchn", os.O_RDWR)
    listener = request(listener_fd, BIND_UNBOUND_PORT, 0)
    caller = request(caller_fd, BIND_INTERDOMAIN, 0, listener)
    assert take(caller_fd) == caller
    os.write(caller_fd, struct.pack("=I", caller))

    refused(errno.EAGAIN, take, listener_fd)
    for _ in range(3):
        request(caller_fd, NOTIFY, caller)
    poll = select.poll()
    poll.register(listener_fd, select.POLLIN)
    assert poll.poll(5000) == [(listener_fd, select.POLLIN)]
    assert take(listener_fd) == listener
    refused(errno.EAGAIN, take, listener_fd)
    request(caller_fd, NOTIFY, caller)
    assert poll.poll(50) == []  # disabled until it is written
    assert os.write(listener_fd, struct.pack("=I", listener)) == 4
    assert poll.poll(5000) and take(listener_fd) == listener

    refused(errno.ESRCH, request, caller_fd, BIND_INTERDOMAIN, 999, 1)
    refused(errno.ENOTCONN, request, caller_fd, NOTIFY, listener)
    refused(errno.ENOSYS, fcntl.ioctl, caller_fd, 0x4599)
    refused(errno.ESPIPE, os.lseek, caller_fd, 0, os.SEEK_SET)
    request(listener_fd, UNBIND, listener)
    refused(errno.ENOTCONN, request, listener_fd, UNBIND, listener)
    print("ok")


main()
