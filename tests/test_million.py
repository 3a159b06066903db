"""A million records with keys and headers, through a group whose members come and go: none lost, none out of order."""

import os
import signal
import struct
import subprocess
import tempfile
import time
import unittest
import zlib

from confluent_kafka import Consumer, Producer, TopicPartition

from weirtest.kafka import create_topic
from weirtest.node import SANITIZED, TREE, Node

RECORDS = 100_000 if SANITIZED else 1_000_000
RECORDS_OTHER_DRIVER = RECORDS // 5
PARTITIONS = 8
MEMBER = os.path.join(TREE, "tests", "weirtest", "member.py")
ROW = struct.Struct(">iqqI")


class Members:
    def __init__(self, node, folder):
        self.node, self.folder = node, folder
        self.processes, self.paths, self.killed = [], [], set()

    def add(self):
        path = os.path.join(self.folder, f"member-{len(self.paths)}")
        self.paths.append(path)
        self.processes.append(subprocess.Popen(["/usr/bin/python3", MEMBER, self.node.kafka, "million", "group", path]))

    def rows(self):
        """How many records were consumed so far, by all."""
        return sum(os.path.getsize(p) // ROW.size for p in self.paths if os.path.exists(p))

    def leave(self, index):
        self.processes[index].send_signal(signal.SIGTERM)
        code = self.processes[index].wait(30)
        assert code == 0, f"member {index} ended with {code}"

    def kill(self, index):
        self.killed.add(index)
        self.processes[index].kill()
        self.processes[index].wait()

    def close(self):
        for p in self.processes:
            if p.poll() is None:
                p.kill()
                p.wait()


class Million(unittest.TestCase):
    records = RECORDS

    def test_a_group_whose_members_come_and_go(self):
        self.run_on([])

    def test_a_group_whose_members_come_and_go_without_io_uring(self):
        self.records = RECORDS_OTHER_DRIVER
        self.run_on(["--driver", "aio"])

    def run_on(self, arguments):
        with Node(arguments) as node, tempfile.TemporaryDirectory() as folder:
            create_topic(node, "million", PARTITIONS)
            began = time.monotonic()
            wanted = self.fill(node)
            produced = time.monotonic() - began
            members = Members(node, folder)
            self.addCleanup(members.close)
            began = time.monotonic()
            self.consume(members)
            consumed = time.monotonic() - began
            self.check(members, wanted)
            node.stop()
            print(f"        {self.records} records, {node.driver}: produced in {produced:.1f} s, "
                  f"consumed in {consumed:.1f} s by {len(members.paths)} members")

    def fill(self, node):
        """[[checksum of record]] by partition; the position in the list is the sequence in the record."""
        producer = Producer({"bootstrap.servers": node.kafka, "enable.idempotence": True, "compression.type": "lz4", "linger.ms": 20,
                             "queue.buffering.max.messages": 200_000})
        failed = []

        def delivered(error, _):
            if error is not None:
                failed.append(error)

        wanted = [[] for _ in range(PARTITIONS)]
        for i in range(self.records):
            partition = i % PARTITIONS
            key = b"key-%d" % (i % 1000)
            value = struct.pack(">q", len(wanted[partition])) + b"the value of record %d" % i
            headers = [("number", b"%d" % i), ("kind", b"test")]
            wanted[partition].append(zlib.crc32(key + value + b"number%dkindtest" % i))
            while True:
                try:
                    producer.produce("million", value, key, partition=partition, headers=headers, on_delivery=delivered)
                    break
                except BufferError:
                    producer.poll(0.1)
            producer.poll(0)
        self.assertEqual(0, producer.flush(120))
        self.assertEqual([], failed)
        return wanted

    def consume(self, members):
        """Members join while others read, leave in order, and one is killed."""

        def until(part):
            deadline = time.monotonic() + 120
            while members.rows() < self.records * part:
                self.assertLess(time.monotonic(), deadline, f"{members.rows()} of {self.records} records consumed")
                for index, p in enumerate(members.processes):
                    self.assertIn(p.poll(), (None, 0) if index not in members.killed else (-9,), f"member {index} failed")
                time.sleep(0.05)

        members.add()
        until(0.05)
        members.add()
        members.add()
        until(0.3)
        members.leave(0)
        until(0.45)
        members.add()
        members.kill(1)
        until(0.7)
        members.add()
        members.leave(2)
        until(1.0)
        # Not before the killed member's partitions are done: rows counts its repeated records too.
        deadline = time.monotonic() + 120
        while not self.complete(members):
            if time.monotonic() >= deadline:
                self.fail(f"records are missing: {self.missing(members)}")
            time.sleep(0.5)
        for index in (3, 4):
            members.leave(index)

    def read(self, members):
        for index, path in enumerate(members.paths):
            with open(path, "rb") as f:
                data = f.read()
            yield index, list(ROW.iter_unpack(data[:len(data) // ROW.size * ROW.size]))

    def missing(self, members):
        """By partition: the first and last offset that nobody consumed, and what the group committed. A commit beyond them is a
        client's doing; one at them is a fetch that gave nothing."""
        seen = [set() for _ in range(PARTITIONS)]
        for _, rows in self.read(members):
            for partition, offset, _, _ in rows:
                seen[partition].add(offset)
        group = Consumer({"bootstrap.servers": members.node.kafka, "group.id": "group"})
        committed = group.committed([TopicPartition("million", p) for p in range(PARTITIONS)], timeout=10)
        group.close()
        holes = [sorted(set(range(self.records // PARTITIONS)) - offsets) for offsets in seen]
        return {p: (h[0], h[-1], len(h), committed[p].offset) for p, h in enumerate(holes) if h}

    def complete(self, members):
        return len({(p, o) for _, rows in self.read(members) for p, o, _, _ in rows}) >= self.records

    def check(self, members, wanted):
        seen = [dict() for _ in range(PARTITIONS)]  # offset: the member that consumed it
        repeated = 0
        for index, rows in self.read(members):
            last = [-1] * PARTITIONS
            for partition, offset, sequence, checksum in rows:
                self.assertEqual(offset, sequence, "one producer a partition: the offset is the sequence")
                self.assertEqual(wanted[partition][sequence], checksum, "the record is not what was produced")
                self.assertGreater(offset, last[partition], f"member {index} went back in partition {partition}")
                last[partition] = offset
                if offset in seen[partition]:
                    repeated += 1
                    self.assertTrue({seen[partition][offset], index} & members.killed,
                                    f"partition {partition}, offset {offset}: consumed by {seen[partition][offset]} and by {index}")
                seen[partition][offset] = index
        for partition in range(PARTITIONS):
            self.assertEqual(len(wanted[partition]), len(seen[partition]), f"lost in partition {partition}")
        self.assertLess(repeated, 100_000, "a killed member's uncommitted records, and no more")


if __name__ == "__main__":
    unittest.main()
