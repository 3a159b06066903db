"""Metadata, topics and their configurations: items 63 to 74 of the conformance list (docs/conformance.md), and 121 to 123 for topics."""

import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, list_offset, produce
from weirtest.node import Node, NodeTest
from weirtest.records import batch
from weirtest.wire import Connection

TOPIC_RESOURCE, BROKER_RESOURCE = 2, 4
SET, DELETE, APPEND, SUBTRACT = range(4)


class Topics(NodeTest):
    def setUp(self):
        self.c = Connection(self.node)
        self.addCleanup(self.c.close)

    def describe(self, name, version=12, **more):
        answer = self.c.call("Metadata", version, topics=[{"topic_id": None, "name": name}], auto_create=False, **more)
        return answer["topics"][0]

    def create(self, name, version=5, partitions=1, replicas=1, validate_only=False, **more):
        topic = dict(name=name, partitions=partitions, replicas=replicas, **more)
        return self.c.call("CreateTopics", version, topics=[topic], timeout_ms=10_000, validate_only=validate_only)["topics"][0]

    def delete(self, name, version=5):
        return self.c.call("DeleteTopics", version, names=[name], timeout_ms=10_000)["topics"][0]["error"]

    def test_item_63_topic_ids(self):
        name = create_topic(self.node, self.topic_name())
        first = self.describe(name)["topic_id"]
        self.assertNotEqual(uuid.UUID(int=0), first)
        self.assertEqual(first, self.describe(name)["topic_id"])
        by_id = self.c.call("Metadata", 12, topics=[{"topic_id": first, "name": None}])["topics"][0]
        self.assertEqual((wire.NONE, name), (by_id["error"], by_id["name"]))
        self.assertEqual(wire.NONE, self.delete(name))
        gone = self.c.call("Metadata", 12, topics=[{"topic_id": first, "name": None}])["topics"][0]
        self.assertEqual((wire.UNKNOWN_TOPIC_ID, first), (gone["error"], gone["topic_id"]))
        create_topic(self.node, name)
        self.assertNotEqual(first, self.describe(name)["topic_id"])

    def test_item_64_topics_are_made_when_asked_for(self):
        name = self.topic_name("made")
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"], "asking without auto-create has made it")
        error = self.c.call("Metadata", 4, topics=[{"name": name}], auto_create=True)["topics"][0]["error"]
        self.assertIn(error, (wire.NONE, wire.LEADER_NOT_AVAILABLE))
        deadline = time.monotonic() + 5
        while self.describe(name)["error"] != wire.NONE:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        self.assertEqual(wire.NONE, produce(self.c, name, batch([b"x"]))["error"])

    def test_item_64_before_version_4_asking_is_enough(self):
        name = self.topic_name("made")
        deadline = time.monotonic() + 5
        while self.c.call("Metadata", 1, topics=[{"name": name}])["topics"][0]["error"] != wire.NONE:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

    def test_item_65_names_that_no_topic_may_have(self):
        for name in ("", ".", "..", "with space", "slash/slash", "a" * 250, "größe", "a:b", "nul\0"):
            with self.subTest(name):
                self.assertEqual(wire.INVALID_TOPIC, self.create(name)["error"])
                asked = self.c.call("Metadata", 4, topics=[{"name": name}], auto_create=True)["topics"][0]["error"]
                self.assertIn(asked, (wire.INVALID_TOPIC, wire.UNKNOWN_TOPIC))
        name = "b" * (249 - 8) + self.topic_name("-")[-8:].rjust(8, "c")
        self.assertEqual(wire.NONE, self.create(name)["error"])

    def test_item_65_names_that_differ_only_in_dot_and_underscore(self):
        name = self.topic_name("a.b_c")
        self.assertEqual(wire.NONE, self.create(name)["error"])
        self.assertEqual(wire.INVALID_TOPIC, self.create(name.replace("_", "."))["error"])

    def test_item_66_leaders_and_replicas(self):
        name = create_topic(self.node, self.topic_name(), 3)
        for version in (1, 5, 7, 9, 12):
            answer = self.c.call("Metadata", version, topics=[{"name": name}])
            broker = answer["brokers"][0]["id"]
            partitions = sorted(answer["topics"][0]["partitions"], key=lambda p: p["index"])
            self.assertEqual([0, 1, 2], [p["index"] for p in partitions])
            for p in partitions:
                self.assertEqual((wire.NONE, broker, [broker], [broker]), (p["error"], p["leader"], p["replicas"], p["isr"]))
                self.assertFalse(p.get("offline"))

    def test_item_68_the_offsets_topic_is_internal(self):
        topic = create_topic(self.node, self.topic_name())
        await_coordinator(self.node, "some-group")
        self.c.call("OffsetCommit", 2, group="some-group", generation=-1, member="", retention_ms=-1, topics=[
            {"name": topic, "partitions": [{"index": 0, "offset": 0, "metadata": ""}]}])
        found = self.describe("__consumer_offsets")
        self.assertEqual((wire.NONE, True), (found["error"], found["internal"]))
        self.assertFalse(self.describe(topic)["internal"])
        self.assertEqual(50, len(found["partitions"]))
        end = max(list_offset(self.c, "__consumer_offsets", -1, p)[2] for p in range(50))
        self.assertGreater(end, 0, "a commit is a record in the offsets topic")

    def test_item_70_creating_topics(self):
        name = self.topic_name()
        self.assertEqual(wire.NONE, self.create(name, validate_only=True)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])
        made = self.create(name, 7, partitions=5)
        self.assertEqual((wire.NONE, 5, 1), (made["error"], made["partitions"], made["replicas"]))
        self.assertEqual(self.describe(name)["topic_id"], made["topic_id"])
        self.assertIn("retention.ms", [c["name"] for c in made["configs"]])
        self.assertEqual(wire.TOPIC_ALREADY_EXISTS, self.create(name)["error"])
        self.assertEqual(wire.TOPIC_ALREADY_EXISTS, self.create(name, validate_only=True)["error"])
        self.assertEqual(wire.INVALID_REPLICATION_FACTOR, self.create(self.topic_name(), replicas=3)["error"])
        self.assertEqual(wire.INVALID_REPLICATION_FACTOR, self.create(self.topic_name(), replicas=0)["error"])
        self.assertEqual(wire.INVALID_PARTITIONS, self.create(self.topic_name(), partitions=0)["error"])
        self.assertEqual(wire.NONE, self.create(self.topic_name(), partitions=-1, replicas=-1)["error"])
        self.assertEqual(wire.INVALID_CONFIG, self.create(self.topic_name(), configs=[{"name": "no.such.config", "value": "1"}])["error"])
        self.assertEqual(wire.INVALID_CONFIG, self.create(self.topic_name(), configs=[{"name": "retention.ms", "value": "soon"}])["error"])
        broker = self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"]
        name = self.topic_name()
        self.assertEqual(wire.NONE, self.create(name, partitions=-1, replicas=-1, assignments=[
            {"index": i, "brokers": [broker]} for i in range(3)])["error"])
        self.assertEqual(3, len(self.describe(name)["partitions"]))

    def test_item_70_some_topics_of_a_request_may_fail(self):
        good, bad = self.topic_name(), "bad name"
        answer = self.c.call("CreateTopics", 4, timeout_ms=10_000, topics=[dict(name=n, partitions=1, replicas=1) for n in (good, bad)])
        self.assertEqual({good: wire.NONE, bad: wire.INVALID_TOPIC}, {t["name"]: t["error"] for t in answer["topics"]})
        twice = self.topic_name()
        answer = self.c.call("CreateTopics", 4, timeout_ms=10_000, topics=[dict(name=twice, partitions=1, replicas=1)] * 2)
        self.assertNotIn(wire.NONE, [t["error"] for t in answer["topics"]])

    def test_item_70_a_topic_is_usable_when_its_creation_is_answered(self):
        for _ in range(20):
            name = self.topic_name()
            self.create(name, partitions=2)
            self.assertEqual(wire.NONE, produce(self.c, name, batch([b"x"]), partition=1)["error"])

    def test_item_71_deleting_topics(self):
        name = create_topic(self.node, self.topic_name(), 2)
        produce(self.c, name, batch([b"x"]))
        self.assertEqual(wire.UNKNOWN_TOPIC, self.delete("no-such-topic"))
        self.assertEqual(wire.NONE, self.delete(name))
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, fetch(self.c, name, 0)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, produce(self.c, name, batch([b"x"]))["error"])
        create_topic(self.node, name, 3)
        self.assertEqual(b"", fetch(self.c, name, 0)["records"])
        self.assertEqual(0, produce(self.c, name, batch([b"y"]))["base_offset"])
        by_id = self.describe(name)["topic_id"]
        answer = self.c.call("DeleteTopics", 6, topics=[{"name": None, "topic_id": by_id}], timeout_ms=5000)
        self.assertEqual(wire.NONE, answer["topics"][0]["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])

    def test_item_71_a_waiting_fetch_ends_when_its_topic_is_deleted(self):
        name = create_topic(self.node, self.topic_name())
        with Connection(self.node) as waiter:
            waiter.send("Fetch", 11, replica=-1, max_wait_ms=8000, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
                {"name": name, "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0, "log_start": -1, "max_bytes": 1 << 20}]}])
            time.sleep(0.3)
            self.assertEqual(wire.NONE, self.delete(name))
            waiter.receive()  # whatever it says, it is answered and the node lives
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])

    # -- configurations

    def configs(self, name, keys=None, kind=TOPIC_RESOURCE, version=3):
        answer = self.c.call("DescribeConfigs", version, resources=[{"type": kind, "name": name, "keys": keys}], synonyms=True, docs=True)
        return answer["resources"][0]["error"], {c["name"]: c for c in answer["resources"][0]["configs"]}

    def alter(self, name, *changes, validate_only=False):
        configs = [{"name": n, "op": op, "value": v} for n, op, v in changes]
        answer = self.c.call("IncrementalAlterConfigs", 0, resources=[{"type": TOPIC_RESOURCE, "name": name, "configs": configs}],
                             validate_only=validate_only)
        return answer["resources"][0]["error"]

    def test_item_123_configs_say_where_they_come_from(self):
        name = create_topic(self.node, self.topic_name(), configs={"retention.ms": "1234567"})
        error, found = self.configs(name)
        self.assertEqual(wire.NONE, error)
        self.assertEqual(("1234567", 1, False), tuple(found["retention.ms"][k] for k in ("value", "source", "read_only")))
        self.assertEqual(5, found["segment.bytes"]["source"])
        for key in ("cleanup.policy", "retention.bytes", "max.message.bytes", "compression.type", "message.timestamp.type", "segment.ms"):
            self.assertIn(key, found)
        self.assertEqual({"retention.ms"}, set(self.configs(name, ["retention.ms"])[1]))
        self.assertEqual(wire.UNKNOWN_TOPIC, self.configs("no-such-topic")[0])

    def test_item_121_configs_change_one_by_one(self):
        name = create_topic(self.node, self.topic_name())
        self.assertEqual(wire.NONE, self.alter(name, ("retention.ms", SET, "5000000"), ("max.message.bytes", SET, "3000")))
        found = self.configs(name)[1]
        self.assertEqual(("5000000", 1), (found["retention.ms"]["value"], found["retention.ms"]["source"]))
        self.assertEqual(wire.MESSAGE_TOO_LARGE, produce(self.c, name, batch([bytes(3000)]))["error"])
        self.assertEqual(wire.NONE, self.alter(name, ("max.message.bytes", DELETE, None)))
        self.assertEqual(wire.NONE, produce(self.c, name, batch([bytes(3000)]))["error"])
        found = self.configs(name)[1]
        self.assertEqual(("5000000", 5), (found["retention.ms"]["value"], found["max.message.bytes"]["source"]))
        self.assertEqual(wire.NONE, self.alter(name, ("retention.ms", SET, "1"), validate_only=True))
        self.assertEqual("5000000", self.configs(name)[1]["retention.ms"]["value"])
        self.assertEqual(wire.INVALID_CONFIG, self.alter(name, ("no.such.config", SET, "1"), ("retention.ms", SET, "1")))
        self.assertEqual("5000000", self.configs(name)[1]["retention.ms"]["value"])
        self.assertEqual(wire.INVALID_CONFIG, self.alter(name, ("retention.ms", SET, "never")))
        self.assertIn(self.alter(name, ("retention.ms", APPEND, "1")), (wire.INVALID_CONFIG, wire.INVALID_REQUEST))

    def test_item_124_configs_that_tools_set_are_kept(self):
        name = create_topic(self.node, self.topic_name(), configs={
            "segment.jitter.ms": "0", "unclean.leader.election.enable": "false", "min.insync.replicas": "1", "flush.messages": "1"})
        self.assertEqual("0", self.configs(name)[1]["segment.jitter.ms"]["value"])

    def test_broker_configs_are_described(self):
        broker = str(self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"])
        error, found = self.configs(broker, kind=BROKER_RESOURCE)
        self.assertEqual(wire.NONE, error)
        self.assertTrue(found)


class Kept(unittest.TestCase):
    def test_topics_and_configs_survive_restart_and_kill(self):
        with Node() as node:
            create_topic(node, "first", 3, {"retention.ms": "777000"})
            create_topic(node, "second")
            create_topic(node, "gone")
            with Connection(node) as c:
                c.call("DeleteTopics", 4, names=["gone"], timeout_ms=5000)
                cluster = c.call("Metadata", 2, topics=[])["cluster_id"]
                ids = {t["name"]: t["topic_id"] for t in c.call("Metadata", 12, topics=None)["topics"]}
            for end in (node.kill, node.stop):
                end()
                node.start()
                with Connection(node) as c:
                    self.assertEqual(cluster, c.call("Metadata", 2, topics=[])["cluster_id"])
                    found = c.call("Metadata", 12, topics=None)["topics"]
                    self.assertEqual(ids, {t["name"]: t["topic_id"] for t in found})
                    self.assertEqual({"first": 3, "second": 1}, {t["name"]: len(t["partitions"]) for t in found if not t["internal"]})
                    answer = c.call("DescribeConfigs", 1, resources=[{"type": TOPIC_RESOURCE, "name": "first", "keys": ["retention.ms"]}])
                    self.assertEqual("777000", answer["resources"][0]["configs"][0]["value"])

    def test_retention_by_size_removes_old_segments(self):
        with Node(config="log.retention.check.interval.ms = 300\n") as node:
            create_topic(node, "topic", 1, {"segment.bytes": str(1 << 20), "retention.bytes": str(3 << 20), "retention.ms": "-1"})
            with Connection(node) as c:
                for _ in range(60):
                    self.assertEqual(wire.NONE, produce(c, "topic", batch([bytes(250_000)]))["error"])
                deadline = time.monotonic() + 60
                while (start := list_offset(c, "topic", -2)[2]) == 0:
                    self.assertLess(time.monotonic(), deadline, "nothing was removed")
                    time.sleep(0.2)
                self.assertEqual(60, list_offset(c, "topic", -1)[2])
                self.assertLessEqual(start, 60 - 12, "more was removed than retention allows")
                self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(c, "topic", 0)["error"])
                got = records.records(fetch(c, "topic", start)["records"])
                self.assertEqual(start, got[0].offset)
            node.kill()
            node.start()
            with Connection(node) as c:
                self.assertGreaterEqual(list_offset(c, "topic", -2)[2], start)
                self.assertEqual(60, list_offset(c, "topic", -1)[2])


if __name__ == "__main__":
    unittest.main()
