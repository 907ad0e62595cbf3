#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# A whole client: msgpack and a socket. Usage: ten_lines.py SOCKET
import socket, sys, msgpack

connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
payload = msgpack.packb({"name": "search", "args": {"query": "SSN 123-45-6789"}})
call = {"hook": "tool_pre_invoke", "payload": payload, "context": {"request_id": "r1"}}
connection.sendall(msgpack.packb([0, 1, "invoke", [call]]))
_, msgid, error, answer = next(iter(msgpack.Unpacker(connection.makefile("rb", buffering=0))))
print(error or (answer["continue_processing"], answer["modified_payload"] and msgpack.unpackb(answer["modified_payload"])))
