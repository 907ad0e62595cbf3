# SPDX-License-Identifier: Apache-2.0
"""A host in fifty lines: what docs/protocol.md says, and nothing of the client library, so that both are tested."""

import socket

import msgpack


class CallError(Exception):
    """The error's map of a response, as attributes."""

    def __init__(self, error):
        super().__init__(f"{error.get('type')} {error.get('code')!r}: {error.get('message')}")
        self.error = error

    def __getattr__(self, key):
        return self.error.get(key)


class Host:
    def __init__(self, path, timeout=30):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        self.socket.connect(str(path))
        self.unpacker = msgpack.Unpacker(strict_map_key=False, max_buffer_size=1 << 28)
        self.next_id = 0
        self.early = {}

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.socket.close()

    def request(self, method, **params):
        """Sends a request without waiting. Returns its id."""
        self.next_id += 1
        self.socket.sendall(msgpack.packb([0, self.next_id, method, [params]]))
        return self.next_id

    def notify(self, method, **params):
        self.socket.sendall(msgpack.packb([2, method, [params]]))

    def message(self):
        """The next message of any kind; EOFError when the daemon has closed the connection."""
        while True:
            for message in self.unpacker:
                return message
            data = self.socket.recv(1 << 16)
            if not data:
                raise EOFError
            self.unpacker.feed(data)

    def response(self, msgid):
        while msgid not in self.early:
            message = self.message()
            if message[0] == 1:
                assert message[1] not in self.early, "a request was answered twice"
                self.early[message[1]] = message[2:]
        error, result = self.early.pop(msgid)
        assert (error is None) != (result is None)
        if error is not None:
            raise CallError(error)
        return result

    def call(self, method, **params):
        return self.response(self.request(method, **params))

    def begin(self, hook, payload, context=None, **rest):
        """Sends an invoke. Returns its id."""
        context = {"request_id": "r1"} | (context or {})
        return self.request("invoke", hook=hook, payload=msgpack.packb(payload), context=context, **rest)

    def end(self, msgid):
        """The answer with every key that may be missing, and its documents decoded."""
        answer = NEUTRAL | self.response(msgid)
        if answer["modified_payload"] is not None:
            answer["modified_payload"] = msgpack.unpackb(answer["modified_payload"], strict_map_key=False)
        return answer

    def invoke(self, hook, payload, context=None, **rest):
        return self.end(self.begin(hook, payload, context, **rest))


NEUTRAL = {
    "continue_processing": True,
    "modified_payload": None,
    "payload_type": None,
    "violation": None,
    "metadata": {},
    "retry_delay_ms": 0,
    "modified_extensions": None,
    "http_headers": None,
    "contexts": None,
    "state": {},
    "global_metadata": {},
    "executions": [],
}
