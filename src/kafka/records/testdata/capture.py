#!/usr/bin/env python3
"""Writes golden.txt: record batches and message sets as real clients send them.

Listens on loopback as a broker with one topic of one partition, lets librdkafka (confluent_kafka) and kafka-python produce the same four
records to it with every codec and message format that they have, and writes down the records field of each produce request as a line
"client/magic/codec hex". Needs Debian's python3-confluent-kafka, python3-kafka, python3-lz4, python3-snappy, python3-xxhash,
python3-zstandard.
"""
import socketserver
import struct
import sys
import threading

import confluent_kafka
import kafka

TOPIC = "t"
TIME = 1_700_000_000_000
# Produce, Fetch, Metadata, FindCoordinator, ApiVersions: what the clients want to see before they use a format or a codec.
VERSIONS = {
    1: [(0, 0, 2), (1, 0, 2), (3, 0, 2), (10, 0, 0), (18, 0, 0)],
    2: [(0, 0, 7), (1, 0, 10), (3, 0, 4), (10, 0, 0), (18, 0, 0)],
}
captured = []


def records(codec, headers):
    filler = b"0123456789" * (200 if codec == "none" else 4000)
    rows = [(b"k0", b"value 0"), (None, filler), (b"k2", None), (b"k3", b"last")]
    extra = [("trace", b"abc"), ("null", None), ("empty", b"")] if headers else []
    return [(key, value, TIME + 5 * i, extra if i == 0 else []) for i, (key, value) in enumerate(rows)]


class Request:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        values = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return values[0] if len(values) == 1 else values

    def sized(self, form):
        size = self.take(form)
        if size < 0:
            return None
        self.at += size
        return self.data[self.at - size : self.at]


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def answer_produce(request, version):
    if version >= 3:
        request.sized("h")
    request.take("hi")
    topics = b""
    count = request.take("i")
    for _ in range(count):
        name = request.sized("h").decode()
        partitions = b""
        partition_count = request.take("i")
        for _ in range(partition_count):
            index = request.take("i")
            captured.append(request.sized("i"))
            partitions += struct.pack(">ihq", index, 0, 0)
            partitions += struct.pack(">q", -1) if version >= 2 else b""
            partitions += struct.pack(">q", 0) if version >= 5 else b""
        topics += text(name) + struct.pack(">i", partition_count) + partitions
    return struct.pack(">i", count) + topics + (struct.pack(">i", 0) if version >= 1 else b"")


def answer_metadata(version, host, port):
    body = struct.pack(">i", 0) if version >= 3 else b""
    body += struct.pack(">ii", 1, 0) + text(host) + struct.pack(">i", port)
    body += struct.pack(">h", -1) if version >= 1 else b""
    body += struct.pack(">h", -1) if version >= 2 else b""
    body += struct.pack(">i", 0) if version >= 1 else b""
    body += struct.pack(">ih", 1, 0) + text(TOPIC) + (b"\0" if version >= 1 else b"")
    return body + struct.pack(">ihiiiiii", 1, 0, 0, 0, 1, 0, 1, 0)


class Broker(socketserver.BaseRequestHandler):
    def handle(self):
        stream = self.request.makefile("rb")
        while len(size := stream.read(4)) == 4:
            request = Request(stream.read(struct.unpack(">i", size)[0]))
            key, version, correlation = request.take("hhi")
            request.sized("h")
            if key == 0:
                body = answer_produce(request, version)
            elif key == 3:
                body = answer_metadata(version, *self.server.server_address)
            elif key == 18:
                body = struct.pack(">hi", 0 if version == 0 else 35, len(VERSIONS[self.server.magic]))
                body += b"".join(struct.pack(">hhh", *row) for row in VERSIONS[self.server.magic])
            else:
                raise ValueError(f"request {key} v{version}")
            body = struct.pack(">i", correlation) + body
            self.request.sendall(struct.pack(">i", len(body)) + body)


def with_librdkafka(address, magic, codec):
    config = {"bootstrap.servers": address, "compression.type": codec, "linger.ms": 1000}
    if magic == 0:
        config |= {"api.version.request": False, "broker.version.fallback": "0.9.0"}
    producer = confluent_kafka.Producer(config)
    for key, value, timestamp, headers in records(codec, magic == 2):
        if magic == 0:
            producer.produce(TOPIC, key=key, value=value, partition=0)
        else:
            producer.produce(TOPIC, key=key, value=value, partition=0, timestamp=timestamp, headers=headers or None)
    if producer.flush(15) != 0:
        raise TimeoutError(f"librdkafka {magic} {codec}")


def with_kafka_python(address, magic, codec):
    producer = kafka.KafkaProducer(
        bootstrap_servers=address, api_version=[(0, 9), (0, 10, 1), (2, 1, 0)][magic], linger_ms=1000, batch_size=1 << 20,
        retries=0,
        compression_type=None if codec == "none" else codec)
    for key, value, timestamp, headers in records(codec, magic == 2):
        # kafka-python has no null header values.
        headers = [(name, content or b"") for name, content in headers]
        producer.send(TOPIC, key=key, value=value, partition=0, timestamp_ms=timestamp, headers=headers or None)
    producer.flush(15)
    producer.close()


def main():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Broker)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = "%s:%d" % server.server_address
    clients = [("librdkafka", with_librdkafka), ("kafka-python", with_kafka_python)]
    with open(sys.argv[1], "w") as out:
        for client, produce in clients:
            for magic in (0, 1, 2):
                for codec in ["none", "gzip", "snappy", "lz4"] + ["zstd"] * (magic == 2):
                    server.magic = magic
                    # A slow machine may let a client send its records in two requests.
                    for _ in range(5):
                        captured.clear()
                        produce(address, magic, codec)
                        if len(captured) == 1:
                            break
                    if len(captured) != 1:
                        raise ValueError(f"{client} {magic} {codec}: {len(captured)} requests")
                    out.write(f"{client}/{magic}/{codec} {captured[0].hex()}\n")
    server.shutdown()


main()
