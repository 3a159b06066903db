"""What nodes say to each other, for tests that play a node: docs/formats/rpc.md and replication.md."""

import hashlib
import hmac
import os
import socket
import struct

from .records import crc32c

REFUSED_NONE, REFUSED_UNKNOWN_NODE, REFUSED_NOT_PROVEN = 0, 3, 5
REQUEST, MESSAGE, RESPONSE, FAILURE, KEEP_ALIVE = 2, 1, 3, 4, 5
GROUP_MESSAGES, HEARTBEAT = 0x0101, 5
NO_UUID = bytes(16)


def _sealed(magic, body):
    return magic + struct.pack(">II", len(body), crc32c(body)) + body


def varint(n):
    out = b""
    while n > 0x7F:
        out += bytes([n & 0x7F | 0x80])
        n >>= 7
    return out + bytes([n])


def zigzag(n):
    return varint((n << 1) ^ (n >> 63))


def heartbeat(log, term, offset=0):
    """One message of a group; several behind each other are a frame's body."""
    position = zigzag(offset) + varint(0)
    return bytes([HEARTBEAT]) + varint(log) + zigzag(0) + zigzag(term) + b"\0" + zigzag(0) + position + position


def frame(kind, body, type=MESSAGE, call=0):
    rest = struct.pack(">IHBBIQII", len(body), kind, type, 0, 0, call, len(body), 0) + body
    return struct.pack(">I", crc32c(rest)) + rest


class Peer:
    """A connection to a node's rpc port. `secret`: the bytes that it proves, if it is asked to."""

    def __init__(self, address, cluster=NO_UUID, node=-1, uuid=None, secret=None, transient=False, version_max=2, timeout=5):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=timeout)
        self.uuid = uuid or os.urandom(16)
        flags = (1 if transient else 0) | (2 if secret else 0)
        body = struct.pack(">HH", 1, version_max) + cluster + struct.pack(">i", node) + self.uuid
        body += struct.pack(">IIIiH", 1, 0, 0, -1, flags) + (os.urandom(32) if version_max > 1 else b"")
        said = _sealed(b"WRPC", body)
        self.socket.sendall(said)
        reply, body = self._read_sealed(b"WRPR")
        self.refusal, version = struct.unpack(">HH", body[:4])
        self.cluster, self.node, self.peer_uuid = body[4:20], struct.unpack(">i", body[20:24])[0], body[24:40]
        length = struct.unpack(">H", body[44:46])[0]
        self.reason = body[46:46 + length].decode()
        rest = body[46 + length:]
        self.proves = version > 1 and rest[:1] == b"\1"
        if self.proves and secret:
            prove = hmac.new(secret, b"weir rpc proof: dialling side\n" + said + reply, hashlib.sha256).digest()
            self.socket.sendall(_sealed(b"WRPP", prove))
            verdict = self._read_sealed(b"WRPV")[1]
            self.refusal = struct.unpack(">H", verdict[:2])[0]
            self.reason = verdict[4:].decode()

    def _read(self, size):
        data = b""
        while len(data) < size:
            got = self.socket.recv(size - len(data))
            if not got:
                raise EOFError("the node closed the connection")
            data += got
        return data

    def _read_sealed(self, magic):
        head = self._read(12)
        assert head[:4] == magic, head
        body = self._read(struct.unpack(">I", head[4:8])[0])
        return head + body, body

    def send(self, kind, body):
        self.socket.sendall(frame(kind, body))

    def ask(self, kind, body, call=1):
        """(type, body) of the answer."""
        self.socket.sendall(frame(kind, body, REQUEST, call))
        while True:
            head = self._read(32)
            _, size, _, type, _, _, answered, _, _ = struct.unpack(">IIHBBIQII", head)
            body = self._read(size)
            if type != KEEP_ALIVE and answered == call:
                return type, body

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
