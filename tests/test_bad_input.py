"""Bad and greedy clients: the node goes on serving others and stays within its memory budget."""

import os
import random
import resource
import socket
import struct
import threading
import time
import unittest

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, produce, send_fetch, send_produce
from weirtest.node import PATIENCE, SANITIZED, Node, NodeTest
from weirtest.records import batch
from weirtest.wire import Connection

MEMORY_MIB = 256
# What is outside of the budget (docs/operating.md): the program itself, buffers, the codec of one batch; and of each shard.
SLACK_MIB = 64 + 16 * len(os.sched_getaffinity(0))


class FewDescriptors(unittest.TestCase):
    def test_more_idle_clients_than_descriptors_leave_room_for_files_and_for_another_client(self):
        for limit in (64, 256):
            node = Node(("--shards", "1", "--memory", "64MiB"))
            node.prefix = ["prlimit", f"--nofile={limit}:{limit}"]
            with node:
                idle = []
                for _ in range(limit + 200):
                    idle.append(socket.create_connection((node.host, node.port), timeout=20))
                topic = create_topic(node, "t", 8)
                with Connection(node) as c:
                    for partition in range(8):
                        self.assertEqual(wire.NONE, produce(c, topic, batch([b"x" * 300_000]), partition=partition)["error"])
                self.assertTrue(node.alive, node.log_tail())
                for s in idle:
                    s.close()


class BadInput(NodeTest):
    arguments = ("--memory", f"{MEMORY_MIB}MiB")

    def setUp(self):
        self.topic = create_topic(self.node, self.topic_name())
        self.random = random.Random(self.id())  # the same bytes each time

    def tearDown(self):
        self.still_serves()
        if not SANITIZED:
            self.assertLess(self.node.status("VmHWM") >> 10, MEMORY_MIB + SLACK_MIB, "the node grew out of its budget")

    def still_serves(self):
        self.assertTrue(self.node.alive, self.node.log_tail())
        began = time.monotonic()
        with Connection(self.node, timeout=5) as c:
            answer = produce(c, self.topic, batch([b"still here"]))
            self.assertEqual(wire.NONE, answer["error"])
            got = records.records(fetch(c, self.topic, answer["base_offset"])["records"])
            self.assertEqual(b"still here", got[-1].value)
        self.assertLess(time.monotonic() - began, 2 * PATIENCE)

    def raw(self):
        s = socket.create_connection((self.node.host, self.node.port), timeout=5)
        self.addCleanup(s.close)
        return s

    def test_random_bytes(self):
        for i in range(300):
            s = self.raw()
            try:
                s.sendall(self.random.randbytes(self.random.choice((1, 4, 50, 5000))))
            except OSError:
                pass
            s.close()
        self.still_serves()

    def test_random_bodies_behind_a_good_header(self):
        for i in range(600):
            key = self.random.choice(list(wire.KEYS.values()))
            version = self.random.randrange(0, 17)
            body = struct.pack(">hhi", key, version, i) + wire.encode_value("str", "x", False) + self.random.randbytes(
                self.random.choice((0, 1, 10, 100, 1000)))
            with Connection(self.node) as c:
                try:
                    c.send_raw(struct.pack(">i", len(body)) + body)
                except OSError:
                    pass
        self.still_serves()

    def test_good_requests_with_a_few_bytes_changed(self):
        good = []
        for i in range(2):
            good.append(wire.request_frame("Produce", 7 + 2 * i, dict(acks=-1, timeout_ms=100, topics=[
                {"name": self.topic, "partitions": [{"index": 0, "records": batch([(b"k", b"v", [("h", b"x")])] * 5, i * 2)}]}]), 1))
        good.append(wire.request_frame("Fetch", 11, dict(replica=-1, max_wait_ms=1, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
            {"name": self.topic, "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0, "log_start": -1, "max_bytes": 1 << 20}]}]), 1))
        good.append(wire.request_frame("JoinGroup", 5, dict(group="g", session_ms=10_000, rebalance_ms=100, member="", protocol_type="consumer",
                                                           protocols=[{"name": "range", "metadata": b"x" * 50}]), 1))
        good.append(wire.request_frame("CreateTopics", 7, dict(topics=[dict(name="made-by-noise", partitions=1, replicas=1)], timeout_ms=10,
                                                              validate_only=True), 1))
        for i in range(1500):
            frame = bytearray(self.random.choice(good))
            for _ in range(self.random.randrange(1, 5)):
                frame[self.random.randrange(8, len(frame))] = self.random.choice((0, 1, 0x7F, 0x80, 0xFF, self.random.randrange(256)))
            with Connection(self.node) as c:
                c.send_raw(frame)
        self.still_serves()

    def test_half_frames_that_never_end(self):
        halves = []
        for i in range(200):
            s = self.raw()
            frame = wire.request_frame("ApiVersions", 0, {}, 1)
            s.sendall(frame[:self.random.randrange(1, len(frame))])
            halves.append(s)
        self.still_serves()

    def test_huge_and_negative_lengths(self):
        for size in (2**31 - 1, 2**31 - 1024, 1 << 30, 101 << 20, -1, -2**31):
            s = self.raw()
            s.sendall(struct.pack(">i", size) + bytes(1000))
            try:
                self.assertEqual(b"", s.recv(1))
            except ConnectionResetError:
                pass

    def test_many_large_frames_at_once_that_stall(self):
        """Each promises 90 MiB, which is allowed, and sends a little: nothing may be allocated for a promise."""
        before = self.node.status("VmRSS")
        for i in range(50):
            s = self.raw()
            s.sendall(struct.pack(">i", 90 << 20) + bytes(10_000))
        time.sleep(0.5)
        if not SANITIZED:
            self.assertLess(self.node.status("VmRSS") - before, 64 << 10)
        self.still_serves()

    def test_more_in_flight_than_the_budget(self):
        """Twenty producers, each with 60 MiB of requests under way: slower, but every one is answered."""
        value = self.random.randbytes(900_000)
        errors = []

        def push():
            with Connection(self.node, timeout=120) as c:
                waiting = 0
                for i in range(64):
                    send_produce(c, self.topic, batch_bytes)
                    waiting += 1
                for _ in range(waiting):
                    errors.append(c.receive()["topics"][0]["partitions"][0]["error"])

        batch_bytes = batch([value])
        threads = [threading.Thread(target=push) for _ in range(20)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual([wire.NONE] * (20 * 64), errors)

    test_more_in_flight_than_the_budget.seconds_max = 400

    def test_ten_thousand_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < 10_500:
            self.skipTest(f"this machine allows {hard} open files")
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        held, refused = [], 0
        frame = wire.request_frame("ApiVersions", 0, {}, 1)
        try:
            for i in range(10_000):
                s = socket.socket()
                s.settimeout(10)
                s.bind((f"127.0.1.{1 + i // 5000}", 0))
                s.connect((self.node.host, self.node.port))
                held.append(s)
            for s in held:
                try:
                    s.sendall(frame)
                except OSError:
                    refused += 1
            served = 0
            for s in held:
                try:
                    served += 1 if s.recv(4) else 0
                except OSError:
                    pass
            self.assertGreater(served, 9_000, "a node with this much memory holds that many connections")
            # A new client beside them: served, or refused in so many words; not left hanging.
            self.still_serves()
        finally:
            for s in held:
                s.close()
        deadline = time.monotonic() + 20 * PATIENCE
        while time.monotonic() < deadline:
            if len(os.listdir(f"/proc/{self.node.process.pid}/fd")) < 200:
                break
            time.sleep(0.2)
        else:
            self.fail("connections that clients closed are still open in the node")

    def test_a_client_that_never_reads(self):
        with Connection(self.node) as c:
            for i in range(8):
                produce(c, self.topic, batch([bytes(1_000_000)]))
        before = self.node.status("VmRSS")
        greedy = [Connection(self.node) for _ in range(20)]
        for c in greedy:
            c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            c.socket.setblocking(False)
        frame = wire.request_frame("Fetch", 11, dict(replica=-1, max_wait_ms=0, min_bytes=1, max_bytes=8 << 20, session_epoch=-1, rack="", topics=[
            {"name": self.topic, "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0, "log_start": -1, "max_bytes": 8 << 20}]}]), 1)
        end = time.monotonic() + 3
        while time.monotonic() < end:  # each asks for 8 MiB as often as the node will listen
            for c in greedy:
                try:
                    c.socket.send(frame * 20)
                except (BlockingIOError, ConnectionError):
                    pass
            time.sleep(0.02)
        if not SANITIZED:
            self.assertLess((self.node.status("VmRSS") - before) >> 10, MEMORY_MIB)
        self.still_serves()
        for c in greedy:
            c.close()

    def test_decompression_bombs(self):
        """A gibibyte of zeros in a small batch, in each codec, from several clients at once."""
        bombs = []
        zeros = bytes(1 << 20)
        import zlib
        squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
        bombs.append((records.GZIP, b"".join(squeeze.compress(zeros) for _ in range(1024)) + squeeze.flush()))
        import zstandard
        squeeze = zstandard.ZstdCompressor(level=3).compressobj()
        bombs.append((records.ZSTD, b"".join(squeeze.compress(zeros) for _ in range(1024)) + squeeze.flush()))
        import lz4.frame
        squeeze = lz4.frame.LZ4FrameCompressor()
        bombs.append((records.LZ4, squeeze.begin() + b"".join(squeeze.compress(zeros) for _ in range(150)) + squeeze.flush()))
        import snappy
        block = snappy.compress(bytes(8 << 20))
        bombs.append((records.SNAPPY, b"\x82SNAPPY\0" + struct.pack(">ii", 1, 1) + (struct.pack(">i", len(block)) + block) * 2))
        topic = create_topic(self.node, self.topic_name(), configs={"max.message.bytes": str(16 << 20)})

        def throw(codec, payload):
            with Connection(self.node, timeout=60) as c:
                answer = produce(c, topic, batch([b"x"], codec, payload=payload))
                results.append((codec, answer["error"]))

        results = []
        threads = [threading.Thread(target=throw, args=bomb) for bomb in bombs * 3]
        for t in threads:
            t.start()
        while any(t.is_alive() for t in threads):
            self.still_serves()
        self.assertEqual(len(bombs) * 3, len(results))
        self.assertNotIn(wire.NONE, [error for _, error in results])

    def flood(self, topic, payload, codec, clients, batches):
        """From each client so many requests of the batch at once; waits for all answers, gives their errors."""
        body = batch([b"x"], codec, payload=payload)
        errors = []

        def throw():
            with Connection(self.node, timeout=120) as c:
                for _ in range(batches):
                    send_produce(c, topic, body, timeout_ms=60_000)
                for _ in range(batches):
                    errors.append(c.receive()["topics"][0]["partitions"][0]["error"])

        threads = [threading.Thread(target=throw) for _ in range(clients)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        return errors

    def test_many_batches_at_once_that_need_large_codecs(self):
        """Small batches; each needs 8 MiB of a window, or unpacks from one block of 19 MiB. They wait for each other, and none is refused."""
        import snappy
        import zstandard
        plain = records.record(0, None, self.random.randbytes(4096) * (20 << 8))
        squeeze = zstandard.ZstdCompressor(compression_params=zstandard.ZstdCompressionParameters(window_log=23, compression_level=1)).compressobj()
        window = squeeze.compress(plain) + squeeze.flush()
        block = snappy.compress(records.record(0, None, bytes(19 << 20)))
        for codec, payload in ((records.ZSTD, window), (records.SNAPPY, block)):
            errors = self.flood(self.topic, payload, codec, 10, 8)
            self.assertEqual([wire.NONE] * 80, errors)

    def test_batches_that_are_packed_anew_at_the_highest_level(self):
        topic = create_topic(self.node, self.topic_name(), configs={"compression.type": "zstd", "compression.zstd.level": "22"})
        plain = records.record(0, None, self.random.randbytes(1000) * 900)
        self.assertEqual([wire.NONE] * 4, self.flood(topic, plain, records.NO_CODEC, 4, 1))

    def test_a_snappy_length_that_lies(self):
        with Connection(self.node) as c:
            for size in (1 << 31, (1 << 32) - 1, 1 << 28):
                payload = wire.uvarint(size) + b"\0" * 20
                self.assertNotEqual(wire.NONE, produce(c, self.topic, batch([b"x"], records.SNAPPY, payload=payload))["error"])

    def test_array_counts_that_lie(self):
        """A request of a few bytes that says it has two thousand million topics."""
        with Connection(self.node) as c:
            head = struct.pack(">hhi", 3, 4, 1) + wire.encode_value("str", "x", False)
            for count in (2**31 - 1, 1 << 24, 100_000):
                body = head + struct.pack(">i", count)
                with Connection(self.node) as other:
                    other.send_raw(struct.pack(">i", len(body)) + body)
                    self.assertTrue(other.closed_by_node())

    def test_questions_and_wishes_out_of_all_proportion(self):
        """A hundred thousand topics that nobody has, topics of a million and of two thousand million partitions, names of 32 KiB."""
        long_name = "x" * 32_000
        with Connection(self.node, timeout=60) as c:
            topics = [{"name": f"unknown-{i}"} for i in range(100_000)]
            answer = c.call("Metadata", 5, topics=topics, auto_create=False)["topics"]
            self.assertEqual((100_000, {wire.UNKNOWN_TOPIC}), (len(answer), {t["error"] for t in answer}))
            for partitions in (1_000_000, 2**31 - 1):
                topic = {"name": self.topic_name(), "partitions": partitions, "replicas": 1, "configs": []}
                answer = c.call("CreateTopics", 5, topics=[topic], timeout_ms=10_000)["topics"][0]
                self.assertEqual(wire.INVALID_PARTITIONS, answer["error"])
            topic = {"name": long_name, "partitions": 1, "replicas": 1, "configs": []}
            self.assertEqual(wire.INVALID_TOPIC, c.call("CreateTopics", 5, topics=[topic], timeout_ms=10_000)["topics"][0]["error"])
            self.assertEqual(wire.INVALID_TOPIC, c.call("Metadata", 5, topics=[{"name": long_name}], auto_create=True)["topics"][0]["error"])
            answer = c.call("JoinGroup", 5, group=long_name, session_ms=10_000, rebalance_ms=100, member="", protocol_type="consumer",
                            protocols=[{"name": "range", "metadata": b""}])
            self.assertIn(answer["error"], (wire.INVALID_GROUP_ID, wire.NOT_COORDINATOR, wire.COORDINATOR_NOT_AVAILABLE, wire.COORDINATOR_LOADING))

    def test_one_name_over_and_over(self):
        """What is named 20,000 times is described once: the answer does not grow with how often."""
        name, group, times = self.topic_name(), "a-group-with-a-long-name", 20_000
        with Connection(self.node, timeout=60) as c:
            topic = {"name": name, "partitions": 200, "replicas": 1, "configs": []}
            self.assertEqual(wire.NONE, c.call("CreateTopics", 5, topics=[topic], timeout_ms=10_000)["topics"][0]["error"])
            answer = c.call("Metadata", 5, topics=[{"name": name}] * times + [{"name": self.topic}], auto_create=False)
            self.assertEqual([name, self.topic], [t["name"] for t in answer["topics"]])
            self.assertEqual(200, len(answer["topics"][0]["partitions"]))
            resource = {"type": 2, "name": name, "keys": None}
            answer = c.call("DescribeConfigs", 4, resources=[resource] * times + [{**resource, "type": 4, "name": "0"}], synonyms=True, docs=True)
            self.assertEqual([2, 4], [r["type"] for r in answer["resources"]])
            answer = c.call("DescribeGroups", 5, groups=[group] * times + ["h"], ops=False)
            self.assertEqual([group, "h"], [g["group"] for g in answer["groups"]])
            await_coordinator(self.node, group)
            # A topic may be there again with other partitions.
            topics = [{"name": name, "partitions": [0] * times}, {"name": name, "partitions": [0, 1]}]
            for api, version, more in (("DescribeProducers", 0, {}), ("OffsetFetch", 6, {"group": group})):
                answer = c.call(api, version, topics=topics, **more)["topics"]
                self.assertEqual([[0], [1]], [[p["index"] for p in t["partitions"]] for t in answer], api)

    def test_admin_requests_of_any_bytes(self):
        """Also those that are no text: what is said of them is JSON all the same."""
        host, _, port = self.node.admin.rpartition(":")
        requests = [b"GET /v1/partitions?topic=\xff", b"POST /v1/cluster/features/\xff/1", b"POST /v1/partitions/\xff\xfe/0/move?replicas=1"]
        requests += [b"GET /v1/" + self.random.randbytes(50) for _ in range(100)]
        for request in requests:
            with socket.create_connection((host, int(port)), timeout=20) as s:
                s.sendall(request + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n")
                s.recv(1000)
            self.assertTrue(self.node.alive, (request, self.node.log_tail()))

    def test_admin_requests_of_another_origin_change_nothing(self):
        """What a browser sends for a page of somebody else, or for one whose name was made to point here."""
        host, _, port = self.node.admin.rpartition(":")
        own = f"{host}:{port}"
        for status, headers in ((403, f"Host: {own}\r\nOrigin: http://evil.example\r\nContent-Type: text/plain"),
                                (403, "Host: evil.example\r\nOrigin: http://evil.example\r\nContent-Type: application/json"),
                                (403, f"Host: {own}\r\nOrigin: null\r\nContent-Type: application/json"),
                                (415, f"Host: {own}\r\nContent-Type: text/plain"),
                                (200, f"Host: {own}\r\nOrigin: http://{own}\r\nContent-Type: application/json")):
            with socket.create_connection((host, int(port)), timeout=20) as s:
                s.sendall(f"POST /v1/cluster/features/weir.version/0 HTTP/1.1\r\n{headers}\r\nContent-Length: 0\r\n\r\n".encode())
                answer = s.recv(1000).decode()
            if status == 200:
                self.assertNotIn(answer.split(" ")[1], ("403", "415"))
            else:
                self.assertEqual(str(status), answer.split(" ")[1], headers)

    def test_connections_that_come_and_go(self):
        for i in range(2000):
            s = socket.create_connection((self.node.host, self.node.port))
            if i % 3 == 0:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
            elif i % 3 == 1:
                s.sendall(wire.request_frame("Metadata", 4, dict(topics=None), i))
            s.close()
        self.still_serves()

    def test_a_client_that_goes_away_while_it_waits(self):
        for i in range(300):
            c = Connection(self.node)
            send_fetch(c, self.topic, 0, max_wait_ms=60_000, min_bytes=1 << 30)
            if i % 2:
                c.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            c.close()
        deadline = time.monotonic() + 10 * PATIENCE
        while len(os.listdir(f"/proc/{self.node.process.pid}/fd")) > 200:
            self.assertLess(time.monotonic(), deadline, "the node still holds what its clients left")
            time.sleep(0.1)


if __name__ == "__main__":
    unittest.main()
