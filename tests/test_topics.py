"""Metadata, topics and their configurations: items 63 to 74 of the conformance list (docs/conformance.md), and 121 to 123 for topics."""

import pathlib
import re
import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, list_offset, produce
from weirtest.node import PATIENCE, TREE, Node, NodeTest
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
        for other in ("", "another-name"):
            by_id = self.c.call("Metadata", 13, topics=[{"topic_id": first, "name": other}], auto_create=True)["topics"][0]
            self.assertEqual((wire.NONE, name), (by_id["error"], by_id["name"]))
        self.assertEqual(wire.NONE, self.delete(name))
        # Java's clients send an empty name with an id; whatever stands there, the id counts.
        for version, other in ((12, ""), (13, ""), (13, "another-name"), (10, "")):
            by_id = self.c.call("Metadata", version, topics=[{"topic_id": first, "name": other}], auto_create=True)["topics"][0]
            self.assertEqual((wire.UNKNOWN_TOPIC_ID, first), (by_id["error"], by_id["topic_id"]))
        gone = self.c.call("Metadata", 12, topics=[{"topic_id": first, "name": None}])["topics"][0]
        self.assertEqual((wire.UNKNOWN_TOPIC_ID, first), (gone["error"], gone["topic_id"]))
        create_topic(self.node, name)
        self.assertNotEqual(first, self.describe(name)["topic_id"])

    def test_item_64_topics_are_made_when_asked_for(self):
        name = self.topic_name("made")
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(name)["error"], "asking without auto-create has made it")
        asked = self.c.call("Metadata", 4, topics=[{"name": name}], auto_create=True)["topics"][0]
        self.assertEqual((wire.UNKNOWN_TOPIC, []), (asked["error"], asked["partitions"]), "as Kafka answers the request that makes it")
        made = self.describe(name)
        self.assertEqual((wire.NONE, [wire.NONE]), (made["error"], [p["error"] for p in made["partitions"]]))
        self.assertEqual(wire.NONE, produce(self.c, name, batch([b"x"]))["error"])

    def test_item_64_before_version_4_asking_is_enough(self):
        name = self.topic_name("made")
        deadline = time.monotonic() + 5 * PATIENCE
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
        self.assertEqual({wire.INVALID_REQUEST}, {t["error"] for t in answer["topics"]})
        self.assertEqual(wire.UNKNOWN_TOPIC, self.describe(twice)["error"])

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

    def test_item_71_a_topic_that_is_named_twice_is_not_deleted(self):
        name = create_topic(self.node, self.topic_name())
        answer = self.c.call("DeleteTopics", 5, names=[name, name], timeout_ms=5000)["topics"]
        self.assertEqual([wire.INVALID_REQUEST] * 2, [t["error"] for t in answer])
        topic_id = self.describe(name)["topic_id"]
        for topics in ([{"name": None, "topic_id": topic_id}] * 2, [{"name": name, "topic_id": topic_id}]):
            answer = self.c.call("DeleteTopics", 6, topics=topics, timeout_ms=5000)["topics"]
            self.assertEqual({wire.INVALID_REQUEST}, {t["error"] for t in answer})
        answer = self.c.call("DeleteTopics", 6, topics=[{"name": None, "topic_id": uuid.uuid4()}], timeout_ms=5000)["topics"]
        self.assertEqual((wire.UNKNOWN_TOPIC_ID, None), (answer[0]["error"], answer[0]["name"]))
        self.assertEqual(wire.NONE, self.describe(name)["error"])

    def grow(self, name, count, assignments=None, validate_only=False, version=2):
        answer = self.c.call("CreatePartitions", version, timeout_ms=10_000, validate_only=validate_only, topics=[
            {"name": name, "count": count, "assignments": assignments}])
        return answer["results"][0]["error"]

    def test_item_72_a_topic_grows_and_never_shrinks(self):
        name = create_topic(self.node, self.topic_name(), 2)
        produce(self.c, name, batch([b"before"]), partition=1)
        self.assertEqual(wire.NONE, self.grow(name, 5, validate_only=True))
        self.assertEqual(2, len(self.describe(name)["partitions"]))
        for version, count in ((0, 3), (1, 4), (2, 5), (3, 6)):
            self.assertEqual(wire.NONE, self.grow(name, count, version=version))
            self.assertEqual(list(range(count)), sorted(p["index"] for p in self.describe(name)["partitions"]))
            self.assertEqual(0, produce(self.c, name, batch([b"new"]), partition=count - 1)["base_offset"])
        for count in (6, 5, 1, 0, -1):
            self.assertEqual(wire.INVALID_PARTITIONS, self.grow(name, count))
        self.assertEqual([b"before"], [r.value for r in records.records(fetch(self.c, name, 0, partition=1)["records"])])
        self.assertEqual(wire.UNKNOWN_TOPIC, self.grow("no-such-topic", 3))

    def test_item_72_the_offsets_topic_does_not_grow_and_keeps_its_offsets(self):
        await_coordinator(self.node, "any-group")
        count = len(self.describe("__consumer_offsets")["partitions"])
        for validate_only in (True, False):
            self.assertEqual(wire.INVALID_PARTITIONS, self.grow("__consumer_offsets", count + 10, validate_only=validate_only))
        self.assertEqual(count, len(self.describe("__consumer_offsets")["partitions"]))

    def test_item_72_assignments_of_new_partitions(self):
        name = create_topic(self.node, self.topic_name())
        broker = self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"]
        for wrong in ([{"brokers": [broker]}], [{"brokers": [broker + 1]}] * 2, [{"brokers": [broker, broker]}] * 2, [{"brokers": []}] * 2):
            self.assertEqual(wire.INVALID_REPLICA_ASSIGNMENT, self.grow(name, 3, wrong))
        self.assertEqual(1, len(self.describe(name)["partitions"]))
        self.assertEqual(wire.NONE, self.grow(name, 3, [{"brokers": [broker]}] * 2))
        self.assertEqual(3, len(self.describe(name)["partitions"]))
        answer = self.c.call("CreatePartitions", 2, timeout_ms=5000, topics=[{"name": name, "count": 9, "assignments": None}] * 2)
        self.assertEqual({wire.INVALID_REQUEST}, {t["error"] for t in answer["results"]})

    def test_item_73_partitions_page_by_page(self):
        prefix = self.topic_name("page")
        sizes = {f"{prefix}-{i}": count for i, count in enumerate((3, 1, 7, 2))}
        for name, count in sizes.items():
            create_topic(self.node, name, count)
        asked = [{"name": name} for name in reversed(sizes)]
        for limit in (1, 2, 3, 4, 100):
            found, cursor, pages = [], None, 0
            while True:
                answer = self.c.call("DescribeTopicPartitions", 0, topics=asked, limit=limit, cursor=cursor)
                page = [(t["name"], p["index"]) for t in answer["topics"] for p in t["partitions"]]
                self.assertLessEqual(len(page), limit)
                found += page
                pages += 1
                if answer["cursor"] is None:
                    break
                cursor = {k: answer["cursor"][k] for k in ("name", "partition")}
            self.assertEqual([(name, i) for name, count in sizes.items() for i in range(count)], found)
            self.assertEqual(-(-13 // limit), pages)

    def test_item_73_topics_that_are_not_there_and_all_that_are(self):
        name = create_topic(self.node, self.topic_name(), 2)
        answer = self.c.call("DescribeTopicPartitions", 0, limit=2000, cursor=None, topics=[{"name": n} for n in (name, "no-such-topic", "a b")])
        self.assertEqual({name: wire.NONE, "no-such-topic": wire.UNKNOWN_TOPIC, "a b": wire.INVALID_TOPIC},
                         {t["name"]: t["error"] for t in answer["topics"]})
        found = next(t for t in answer["topics"] if t["name"] == name)
        plain = self.describe(name)
        self.assertEqual(plain["topic_id"], found["topic_id"])
        self.assertEqual([{k: p[k] for k in ("error", "index", "leader", "leader_epoch", "replicas", "isr", "offline")} for p in plain["partitions"]],
                         [{k: p[k] for k in ("error", "index", "leader", "leader_epoch", "replicas", "isr", "offline")} for p in found["partitions"]])
        names = [t["name"] for t in self.c.call("DescribeTopicPartitions", 0, topics=[], limit=2000, cursor=None)["topics"]]
        self.assertIn(name, names)
        self.assertEqual(sorted(names), names)

    def test_item_69_all_operations_are_authorized(self):
        name = create_topic(self.node, self.topic_name())
        topic_operations, cluster_operations = 0b110111111000, 0b1111110100000
        answer = self.c.call("Metadata", 8, topics=[{"name": name}], topic_ops=True, cluster_ops=True)
        self.assertEqual((topic_operations, cluster_operations), (answer["topics"][0]["ops"], answer["cluster_ops"]))
        self.assertEqual(cluster_operations, self.c.call("DescribeCluster", 0, ops=True)["ops"])
        answer = self.c.call("Metadata", 8, topics=[{"name": name}])
        self.assertEqual((-2**31, -2**31), (answer["topics"][0]["ops"], answer["cluster_ops"]))

    def test_item_44_the_producers_of_a_partition(self):
        name = create_topic(self.node, self.topic_name(), 2)
        producer = self.c.call("InitProducerId", 1, transactional_id=None, timeout_ms=1000)
        for sequence in (0, 3):
            produce(self.c, name, batch([b"x"] * 3, producer_id=producer["producer_id"], epoch=producer["epoch"], sequence=sequence))
        answer = self.c.call("DescribeProducers", 0, topics=[{"name": name, "partitions": [0, 1, 9]}, {"name": "no-such-topic", "partitions": [0]}])
        found = answer["topics"][0]["partitions"]
        self.assertEqual([wire.NONE, wire.NONE, wire.UNKNOWN_TOPIC], [p["error"] for p in found])
        self.assertEqual([(producer["producer_id"], producer["epoch"], 5, -1)],
                         [tuple(p[k] for k in ("id", "epoch", "last_sequence", "transaction_start")) for p in found[0]["producers"]])
        self.assertEqual([], found[1]["producers"])
        self.assertEqual(wire.UNKNOWN_TOPIC, answer["topics"][1]["partitions"][0]["error"])

    def test_item_139_what_partitions_take_on_disk(self):
        name = create_topic(self.node, self.topic_name(), 2)
        for version in range(6):
            for _ in range(5):
                produce(self.c, name, batch([bytes(10_000)]), partition=1)
            answer = self.c.call("DescribeLogDirs", version, topics=[{"name": name, "partitions": [0, 1, 9]}, {"name": "no-such-topic", "partitions": [0]}])
            self.assertEqual([(wire.NONE, self.node.data)], [(d["error"], d["path"]) for d in answer["dirs"]])
            sizes = {(t["name"], p["index"]): p["size"] for t in answer["dirs"][0]["topics"] for p in t["partitions"]}
            self.assertEqual({(name, 0), (name, 1)}, set(sizes))
            self.assertTrue(self.node.data.startswith("/"))
            self.assertEqual(0, sizes[name, 0])
            self.assertTrue(50_000 <= sizes[name, 1] / (version + 1) <= 60_000, sizes)
            if version >= 4:
                total, usable = answer["dirs"][0]["total"], answer["dirs"][0]["usable"]
                self.assertTrue(0 < usable <= total, (usable, total))
        everything = self.c.call("DescribeLogDirs", 4, topics=None)["dirs"][0]["topics"]
        self.assertIn(name, [t["name"] for t in everything])

    def test_replicas_are_in_the_one_directory_there_is(self):
        name = create_topic(self.node, self.topic_name(), 2)
        for version in (1, 2):
            for path, index, expected in ((self.node.data, 0, wire.NONE), (self.node.data + "/", 1, wire.NONE),
                                          (self.node.data, 7, wire.UNKNOWN_TOPIC), ("/elsewhere", 0, wire.LOG_DIR_NOT_FOUND)):
                answer = self.c.call("AlterReplicaLogDirs", version, dirs=[{"path": path, "topics": [{"name": name, "partitions": [index]}]}])
                self.assertEqual([(name, [{"index": index, "error": expected}])],
                                 [(t["name"], [{k: p[k] for k in ("index", "error")} for p in t["partitions"]]) for t in answer["topics"]])

    def test_acls_need_an_authorizer(self):
        acl = {"type": 2, "name": "t", "pattern_type": 3, "principal": "User:a", "host": "*", "operation": 2, "permission": 3}
        for version in range(4):
            found = self.c.call("DescribeAcls", version, resource_type=1, pattern_type=1, operation=1, permission=1)
            self.assertEqual((wire.SECURITY_DISABLED, []), (found["error"], found["resources"]))
            for api, field in (("CreateAcls", "creations"), ("DeleteAcls", "filters")):
                answer = self.c.call(api, version, **{field: [acl if version else {k: v for k, v in acl.items() if k != "pattern_type"}] * 2})
                self.assertEqual([wire.SECURITY_DISABLED] * 2, [r["error"] for r in answer["results"]])

    def test_transactions_are_refused_with_an_error_that_clients_take_as_final(self):
        for version in range(1, 7):
            answer = self.c.call("FindCoordinator", version, key="tx", type=1, keys=["tx"])
            found = answer["coordinators"][0] if version >= 4 else answer
            self.assertEqual(wire.TRANSACTIONAL_ID_AUTHORIZATION_FAILED, found["error"])

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
        for version in range(5):
            self.assertEqual(set(found), set(self.configs(name, [], version=version)[1]), "no keys ask for all, as null does")
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

    def test_item_121_lists_grow_and_shrink(self):
        name = create_topic(self.node, self.topic_name())
        for op, value, after in ((APPEND, "compact", "delete,compact"), (APPEND, "compact", "delete,compact"), (SUBTRACT, "delete", "compact")):
            self.assertEqual(wire.NONE, self.alter(name, ("cleanup.policy", op, value)))
            self.assertEqual(after, self.configs(name)[1]["cleanup.policy"]["value"])
        self.assertEqual(wire.INVALID_CONFIG, self.alter(name, ("cleanup.policy", APPEND, "burn")))
        self.assertEqual("compact", self.configs(name)[1]["cleanup.policy"]["value"])

    def test_item_122_alter_configs_replaces_all(self):
        name = create_topic(self.node, self.topic_name(), configs={"retention.ms": "1000000", "segment.bytes": "2000000"})

        def alter(*configs, topic=name, validate_only=False, version=1):
            answer = self.c.call("AlterConfigs", version, validate_only=validate_only, resources=[
                {"type": TOPIC_RESOURCE, "name": topic, "configs": [{"name": n, "value": v} for n, v in configs]}])
            return answer["resources"][0]["error"]

        def own():
            return {n: c["value"] for n, c in self.configs(name)[1].items() if c["source"] == 1}

        before = {"retention.ms": "1000000", "segment.bytes": "2000000"}
        self.assertEqual(wire.NONE, alter(("retention.ms", "7"), validate_only=True))
        self.assertEqual(wire.INVALID_CONFIG, alter(("retention.ms", "7"), ("no.such.config", "1")))
        self.assertEqual(wire.INVALID_CONFIG, alter(("retention.ms", "soon")))
        self.assertEqual(wire.UNKNOWN_TOPIC, alter(("retention.ms", "7"), topic="no-such-topic"))
        self.assertEqual(before, own())
        for version in (0, 1, 2):
            self.assertEqual(wire.NONE, alter(("retention.ms", f"200000{version}"), version=version))
            self.assertEqual({"retention.ms": f"200000{version}"}, own())
        self.assertEqual(wire.NONE, alter())
        self.assertEqual({}, own())

    def test_item_125_options_of_brokers_and_other_resources(self):
        broker = str(self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"])
        groups, client_metrics, default_source, broker_source = 32, 16, 3, 2

        def alter(kind, name, *changes):
            answer = self.c.call("IncrementalAlterConfigs", 1, resources=[{"type": kind, "name": name, "configs": [
                {"name": n, "op": op, "value": v} for n, op, v in changes]}])
            return answer["resources"][0]["error"]

        topic = create_topic(self.node, self.topic_name())
        self.assertEqual(wire.NONE, alter(BROKER_RESOURCE, "", ("log.segment.bytes", SET, "7000000")))
        self.assertEqual(("7000000", default_source), tuple(self.configs(topic)[1]["segment.bytes"][k] for k in ("value", "source")))
        self.assertEqual(wire.NONE, alter(BROKER_RESOURCE, broker, ("log.segment.bytes", SET, "8000000")))
        found = self.configs(topic)[1]["segment.bytes"]
        self.assertEqual(("8000000", broker_source), (found["value"], found["source"]))
        self.assertEqual([("8000000", broker_source), ("7000000", default_source)], [(s["value"], s["source"]) for s in found["synonyms"]][:2])
        # KIP-966: the least number of replicas in sync is always set for the cluster.
        self.assertEqual({"log.segment.bytes", "min.insync.replicas"}, set(self.configs("", kind=BROKER_RESOURCE)[1]))
        for name in ("", broker):
            self.assertEqual(wire.NONE, alter(BROKER_RESOURCE, name, ("log.segment.bytes", DELETE, None)))
        self.assertEqual(5, self.configs(topic)[1]["segment.bytes"]["source"])
        self.assertEqual(wire.INVALID_REQUEST, alter(BROKER_RESOURCE, "4711", ("log.segment.bytes", SET, "7000000")))
        self.assertEqual(wire.INVALID_REQUEST, self.configs("4711", kind=BROKER_RESOURCE)[0])
        for kind, name, option, value in ((groups, "some-group", "consumer.session.timeout.ms", "50000"), (client_metrics, "some", "interval.ms", "1000")):
            self.assertEqual(wire.NONE, alter(kind, name, (option, SET, value)))
            self.assertEqual(value, self.configs(name, kind=kind)[1][option]["value"])
        for kind, name, option, value, expected in (
                (groups, "some-group", "nosuch", "1", wire.INVALID_CONFIG), (groups, "some-group", "consumer.session.timeout.ms", "1", wire.INVALID_CONFIG),
                (client_metrics, "some", "nosuch", "1", wire.INVALID_REQUEST), (client_metrics, "some", "interval.ms", "1", wire.INVALID_REQUEST)):
            self.assertEqual(expected, alter(kind, name, (option, SET, value)))
        defaults = self.configs("never-configured", kind=groups)[1]
        self.assertEqual(("45000", 5), tuple(defaults["consumer.session.timeout.ms"][k] for k in ("value", "source")))
        self.assertEqual("300000", self.configs("never-configured", kind=client_metrics)[1]["interval.ms"]["value"])
        # Everything that has configuration is listed; version 0 knows subscriptions alone.
        listed = {(r["type"], r["name"]) for r in self.c.call("ListConfigResources", 1, types=[])["resources"]}
        self.assertLessEqual({(groups, "some-group"), (client_metrics, "some"), (4, broker), (8, broker), (2, topic)}, listed)
        self.assertEqual({"some"}, {r["name"] for r in self.c.call("ListConfigResources", 0)["resources"]})
        self.assertEqual({groups}, {r["type"] for r in self.c.call("ListConfigResources", 1, types=[groups])["resources"]})
        self.assertEqual(wire.UNSUPPORTED_VERSION, self.c.call("ListConfigResources", 1, types=[77])["error"])

    def test_item_125_a_broker_has_a_logger_for_each_component_that_logs(self):
        call = re.compile(r'\.(?:event|trace|debug|info|warn|error)\(\s*(?:[^"();]*?,\s*)?"([a-z]+)",')
        logged = {name for path in pathlib.Path(TREE, "src").rglob("*.cc") if "_test" not in path.name for name in call.findall(path.read_text())}
        self.assertGreater(len(logged), 5)
        broker = str(self.node.number)
        loggers = self.configs(broker, kind=8)[1]
        self.assertEqual(logged | {"root"}, set(loggers))
        self.assertEqual({("INFO", 6)}, {(each["value"], each["source"]) for each in loggers.values()})
        answer = self.c.call("IncrementalAlterConfigs", 1, resources=[{"type": 8, "name": broker, "configs": [{"name": "rpc", "op": 0, "value": "DEBUG"}]}])
        self.assertEqual(wire.INVALID_REQUEST, answer["resources"][0]["error"], "levels are read at the start")
        self.assertIn("log.level", answer["resources"][0]["message"])

    def test_item_125_brokers_take_what_reassignments_set_and_what_nobody_knows(self):
        broker = str(self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"])

        def alter(name, *changes, version=1):
            answer = self.c.call("IncrementalAlterConfigs", version, resources=[{"type": BROKER_RESOURCE, "name": name, "configs": [
                {"name": n, "op": op, "value": v} for n, op, v in changes]}])
            return answer["resources"][0]["error"]

        throttles = ("leader.replication.throttled.rate", "follower.replication.throttled.rate", "replica.alter.log.dirs.io.max.bytes.per.second")
        for name in (broker, ""):
            self.assertEqual(wire.NONE, alter(name, *((t, DELETE, None) for t in throttles)))
            self.assertEqual(wire.NONE, alter(name, *((t, SET, "1000000") for t in throttles)))
            found = self.configs(name, kind=BROKER_RESOURCE)[1]
            self.assertEqual({"1000000"}, {found[t]["value"] for t in throttles})
            self.assertEqual(wire.NONE, alter(name, *((t, DELETE, None) for t in throttles)))
        # Kafka hides values whose type it does not know.
        self.assertEqual(wire.NONE, alter(broker, ("my.plugin.setting", SET, "x"), ("num.io.threads", SET, "16")))
        found = self.configs(broker, kind=BROKER_RESOURCE)[1]
        self.assertEqual((None, True, True), tuple(found["my.plugin.setting"][k] for k in ("value", "sensitive", "read_only")))
        self.assertEqual(("16", 2), tuple(found["num.io.threads"][k] for k in ("value", "source")))
        self.assertEqual(wire.NONE, alter(broker, ("my.plugin.setting", DELETE, None), ("num.io.threads", DELETE, None)))
        for option, value in (("broker.id", "7"), ("num.partitions", "4"), ("auto.create.topics.enable", "false"), ("num.io.threads", "0"),
                              ("max.connections", "0"), ("max.connections.per.ip", "0"), ("connections.max.idle.ms", "0"),
                              ("max.connections.per.ip.overrides", "127.0.0.1:0")):
            self.assertEqual(wire.INVALID_REQUEST, alter(broker, (option, SET, value)), option)

    def test_item_124_configs_that_tools_set_are_kept(self):
        name = create_topic(self.node, self.topic_name(), configs={
            "segment.jitter.ms": "0", "unclean.leader.election.enable": "false", "min.insync.replicas": "1", "flush.messages": "1"})
        self.assertEqual("0", self.configs(name)[1]["segment.jitter.ms"]["value"])

    def test_broker_configs_are_described(self):
        broker = str(self.c.call("Metadata", 1, topics=[])["brokers"][0]["id"])
        error, found = self.configs(broker, kind=BROKER_RESOURCE)
        self.assertEqual(wire.NONE, error)
        self.assertGreater(len(found), 350)
        address = f"PLAINTEXT://127.0.0.1:{self.node.port}"
        for name, value in (("broker.id", broker), ("node.id", broker), ("log.dirs", self.node.data), ("log.dir", self.node.data),
                            ("listeners", address), ("advertised.listeners", address), ("process.roles", "broker,controller"),
                            ("log.retention.check.interval.ms", "300000"), ("num.io.threads", "8"), ("transaction.state.log.replication.factor", "3")):
            self.assertEqual(value, found[name]["value"], name)
            self.assertTrue(found[name]["doc"], name)


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

    def test_retention_by_time_empties_a_topic_that_goes_quiet(self):
        """Kafka rolls the active segment and deletes it; so the usual way to purge a topic works."""
        quiet = {"alone": {"retention.ms": "1000"}, "stamped": {"retention.ms": "1000", "message.timestamp.type": "LogAppendTime"},
                 "both": {"retention.ms": "1000", "cleanup.policy": "compact,delete"}, "later": {}, "none": {"retention.bytes": "0"}}
        kept = {"young": {}, "compacted": {"retention.ms": "1000", "cleanup.policy": "compact"}}
        with Node(config="log.retention.check.interval.ms = 300\n") as node, Connection(node) as c:
            now = int(time.time() * 1000)
            for name, configs in (quiet | kept).items():
                create_topic(node, name, 1, configs)
                self.assertEqual(wire.NONE, produce(c, name, batch([(b"k", b"v")] * 3, base_timestamp=now))["error"])
            create_topic(node, "of 1970".replace(" ", "-"), 1)
            produce(c, "of-1970", batch([b"x"] * 3, base_timestamp=0))
            c.call("IncrementalAlterConfigs", 1, resources=[{"type": TOPIC_RESOURCE, "name": "later",
                                                            "configs": [{"name": "retention.ms", "op": 0, "value": "1000"}]}])
            deadline = time.monotonic() + 30 * PATIENCE
            while waiting := [name for name in (*quiet, "of-1970") if list_offset(c, name, -2)[2] != 3]:
                self.assertLess(time.monotonic(), deadline, waiting)
                time.sleep(0.2)
            self.assertEqual([0, 0], [list_offset(c, name, -2)[2] for name in kept])
            self.assertEqual(3, produce(c, "alone", batch([b"x"]))["base_offset"])

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
