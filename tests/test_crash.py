"""kill -9 under load: what was acknowledged is there once and in order, and no start fails."""

import collections
import random
import struct
import threading
import time
import unittest

from confluent_kafka import Producer

from weirtest import wire
from weirtest.kafka import await_coordinator, create_topic, fetch_all
from weirtest.node import Node
from weirtest.wire import Connection

KILLS = 20
PARTITIONS = 6
PRODUCERS = 3


class Load:
    """An idempotent producer that writes numbered records to every partition, as fast as its node takes them."""

    def __init__(self, number, brokers):
        self.number = number
        self.acknowledged = collections.defaultdict(list)  # partition: [(sequence, offset)], in the order of the answers
        self.failed = []
        self.stopped = threading.Event()
        self.producer = Producer({
            "bootstrap.servers": brokers, "enable.idempotence": True, "acks": "all", "linger.ms": 2, "batch.num.messages": 200,
            "queue.buffering.max.messages": 5_000, "message.timeout.ms": 300_000, "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 50, "socket.timeout.ms": 10_000,
            "compression.type": ("none", "lz4", "zstd")[number % 3], "error_cb": self.error,
            "logger": None, "log_level": 0})
        self.errors = []
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def error(self, error):
        if error.fatal():
            self.errors.append(error)

    def delivered(self, error, message):
        if error is not None:
            self.failed.append((message.value()[:12], error))
            return
        sequence = struct.unpack_from(">iq", message.value())[1]
        self.acknowledged[message.partition()].append((sequence, message.offset()))

    def run(self):
        next_ = [0] * PARTITIONS
        random_ = random.Random(self.number)
        pad = random_.randbytes(2000)
        while not self.stopped.is_set() and not self.errors:
            partition = random_.randrange(PARTITIONS)
            value = struct.pack(">iq", self.number, next_[partition]) + pad[:random_.randrange(2000)]
            try:
                self.producer.produce("topic", value, key=b"%d" % next_[partition], partition=partition, on_delivery=self.delivered)
                next_[partition] += 1
            except BufferError:
                self.producer.poll(0.01)
            self.producer.poll(0)
        self.left = self.producer.flush(120)

    def stop(self):
        self.stopped.set()
        self.thread.join()


class Crash(unittest.TestCase):
    def kill_under_load(self, arguments):
        random_ = random.Random(5)
        with Node(arguments) as node:
            create_topic(node, "topic", PARTITIONS)
            loads = [Load(i, node.kafka) for i in range(PRODUCERS)]
            starts = []
            try:
                for _ in range(KILLS):
                    before = sum(len(a) for load in loads for a in load.acknowledged.values())
                    deadline = time.monotonic() + 30
                    # Not before something was acknowledged in this life of the node, so that every kill is one under load.
                    while sum(len(a) for load in loads for a in load.acknowledged.values()) < before + 500:
                        self.assertLess(time.monotonic(), deadline, "the producers do not get on\n" + node.log_tail())
                        time.sleep(0.01)
                    time.sleep(random_.random() * 0.6)
                    node.kill()
                    time.sleep(random_.random() * 0.1)
                    node.start()
                    starts.append(node.start_seconds)
            finally:
                for load in loads:
                    load.stop()
            for load in loads:
                self.assertEqual([], load.errors, "a producer gave up")
                self.assertEqual([], load.failed[:3], "a record was given up")
                self.assertEqual(0, load.left, "records without an answer")
            self.check(node, loads)
            # And once more, from what the disk holds alone.
            node.kill()
            node.start()
            self.check(node, loads)
            node.stop()
            total = sum(len(a) for load in loads for a in load.acknowledged.values())
            print(f"        {total} records acknowledged over {KILLS} kills; starts took {max(starts):.2f} s at most")

    def check(self, node, loads):
        stored = fetch_all(node, "topic", PARTITIONS, seconds_max=120)
        for partition, found in enumerate(stored):
            self.assertEqual(list(range(len(found))), [r.offset for r in found], "offsets are dense")
            sequences = collections.defaultdict(list)
            for r in found:
                number, sequence = struct.unpack_from(">iq", r.value)
                self.assertEqual(b"%d" % sequence, r.key)
                sequences[number].append((sequence, r.offset))
            for load in loads:
                have = sequences[load.number]
                # Everything was flushed, so everything is acknowledged: once each, without a gap, in the order it was produced.
                self.assertEqual(list(range(len(have))), [s for s, _ in have], f"producer {load.number}, partition {partition}")
                where = dict(have)
                acknowledged = load.acknowledged[partition]
                self.assertEqual(len(have), len(acknowledged))
                for sequence, offset in acknowledged:
                    # librdkafka does not know the offset of what was acknowledged as a duplicate after a reconnect.
                    if offset >= 0:
                        self.assertEqual(where.get(sequence), offset)

    def test_twenty_kills_under_load(self):
        self.kill_under_load(())

    def test_twenty_kills_under_load_on_native_aio(self):
        self.kill_under_load(("--driver", "aio"))

    def test_kills_while_topics_and_offsets_are_made(self):
        """The node's own logs: what was answered is there after a kill."""
        random_ = random.Random(6)
        with Node() as node:
            made, committed = [], {}
            for round_ in range(10):
                stop = threading.Event()

                def work():
                    try:
                        with Connection(node) as c:
                            while not stop.is_set():
                                name = f"topic-{round_}-{len(made)}"
                                answer = c.call("CreateTopics", 4, topics=[{"name": name, "partitions": 2, "replicas": 1}], timeout_ms=5000)
                                if answer["topics"][0]["error"] != wire.NONE:
                                    raise AssertionError(answer)
                                made.append(name)
                                answer = c.call("OffsetCommit", 2, group="group", generation=-1, member="", retention_ms=-1, topics=[
                                    {"name": name, "partitions": [{"index": 1, "offset": len(made), "metadata": ""}]}])
                                if answer["topics"][0]["partitions"][0]["error"] == wire.NONE:
                                    committed[name] = len(made)
                    except (wire.Closed, OSError):
                        pass

                await_coordinator(node, "group")
                thread = threading.Thread(target=work)
                thread.start()
                time.sleep(0.1 + random_.random() * 0.3)
                node.kill()
                stop.set()
                thread.join()
                node.start()
                await_coordinator(node, "group")
                with Connection(node) as c:
                    have = {t["name"]: t for t in c.call("Metadata", 4, topics=None)["topics"]}
                    self.assertEqual([], [name for name in made if name not in have])
                    answer = c.call("OffsetFetch", 5, group="group", topics=[{"name": n, "partitions": [1]} for n in committed])
                    self.assertEqual(committed, {t["name"]: t["partitions"][0]["offset"] for t in answer["topics"]})
            self.assertGreater(len(committed), 20)
            node.stop()

    test_twenty_kills_under_load.seconds_max = 600
    test_twenty_kills_under_load_on_native_aio.seconds_max = 600


if __name__ == "__main__":
    unittest.main()
