# SPDX-License-Identifier: Apache-2.0
"""The worker of the two-hop floor: `floor_worker.py SOCKET` answers each frame with itself."""

import socket
import struct
import sys

LENGTH = struct.Struct(">I")

with socket.socket(socket.AF_UNIX) as listening:
    listening.bind(sys.argv[1])
    listening.listen()
    connection, _ = listening.accept()
    stream = connection.makefile("rb", buffering=1 << 16)
    while len(head := stream.read(4)) == 4:
        connection.sendall(head + stream.read(LENGTH.unpack(head)[0]))
