"""Brings the loopback of a new network namespace up, then keeps the namespace until stdin ends.

Dynamo's event plane listens on every interface, whatever it is told; in a namespace there is one.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import sys

_SET_FLAGS = 0x8914
_UP = 0x1

with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", b"lo", _UP))
sys.stdout.write("up\n")
sys.stdout.flush()
sys.stdin.read()
