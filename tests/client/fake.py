# SPDX-License-Identifier: Apache-2.0
"""A stand-in for the daemon that does exactly what a test tells it. It shares nothing with the client under test."""

import os
import socket
import threading

import msgpack


class Peer:
    """One accepted connection."""

    def __init__(self, sock):
        self.sock = sock
        self._unpacker = msgpack.Unpacker(strict_map_key=False)

    def receive(self):
        """The next message as a list, None at the end."""
        while True:
            for message in self._unpacker:
                return message
            try:
                data = self.sock.recv(65536)
            except OSError:
                return None
            if not data:
                return None
            self._unpacker.feed(data)

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass

    def answer(self, msgid, result):
        self.send(msgpack.packb([1, msgid, None, result]))

    def fail(self, msgid, error):
        self.send(msgpack.packb([1, msgid, error, None]))

    def close(self):
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        self.sock.close()


class FakeDaemon:
    """Listens on `path`; `serve(peer)` runs in a thread for each connection, which is closed when it returns."""

    def __init__(self, path, serve):
        self.path = str(path)
        self.serve = serve
        self.peers = []
        self.failures = []
        self.start()

    def start(self):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.path)
        self._listener.listen(64)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self):
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            peer = Peer(sock)
            self.peers.append(peer)
            threading.Thread(target=self._run, args=(peer,), daemon=True).start()

    def _run(self, peer):
        try:
            self.serve(peer)
        except Exception as error:  # a failed assert in a test's serve()
            self.failures.append(error)
        finally:
            peer.close()

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(5)
        self._listener.close()
        os.unlink(self.path)
        for peer in self.peers:
            peer.close()
        self.peers.clear()
        assert not self.failures


def echo(peer):
    """Answers every call with its method and parameters."""
    while (message := peer.receive()) is not None:
        if message[0] == 0:
            peer.answer(message[1], {"method": message[2], "params": message[3][0]})
