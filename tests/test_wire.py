"""The connection: items 1 to 10 of the conformance list (docs/conformance.md)."""

import os
import re
import socket
import struct
import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, list_offset, send_fetch, send_produce
from weirtest.node import PATIENCE, TREE, NodeTest
from weirtest.wire import APIS, Connection

# A small valid request of each API, for every version that has the fields.
REQUESTS = {
    "Produce": dict(acks=1, timeout_ms=1000, topics=[]),
    "Fetch": dict(replica=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_epoch=-1, topics=[], rack=""),
    "ListOffsets": dict(replica=-1, topics=[]),
    "Metadata": dict(topics=[], auto_create=False),
    "OffsetCommit": dict(group="every-version", generation=-1, member="", retention_ms=-1, topics=[]),
    "OffsetFetch": dict(group="every-version", topics=[], groups=[{"group": "every-version", "epoch": -1, "topics": []}]),
    "FindCoordinator": dict(key="every-version", keys=["every-version"]),
    "JoinGroup": dict(group="", session_ms=10_000, rebalance_ms=10_000, member="", protocol_type="consumer",
                      protocols=[{"name": "range", "metadata": b""}]),
    "Heartbeat": dict(group="no-such-group", generation=1, member="nobody"),
    "LeaveGroup": dict(group="no-such-group", member="nobody", members=[{"member": "nobody"}]),
    "SyncGroup": dict(group="no-such-group", generation=1, member="nobody", protocol_type="consumer", protocol="range"),
    "DescribeGroups": dict(groups=["no-such-group"]),
    "ListGroups": dict(states=[], types=[]),
    "ApiVersions": dict(software_name="weir-test", software_version="1", node_id=-1),
    "CreateTopics": dict(topics=[{"name": "every-version", "partitions": 1, "replicas": 1}], timeout_ms=1000, validate_only=True),
    "DeleteTopics": dict(names=["no-such-topic"], topics=[{"name": "no-such-topic"}], timeout_ms=1000),
    "InitProducerId": dict(timeout_ms=1000, producer_id=-1, epoch=-1),
    "DeleteRecords": dict(topics=[{"name": "no-such-topic", "partitions": [{"index": 0, "offset": 0}]}], timeout_ms=1000),
    "OffsetForLeaderEpoch": dict(replica=-1, topics=[]),
    "DescribeAcls": dict(resource_type=1, pattern_type=1, operation=1, permission=1),
    "CreateAcls": dict(creations=[]),
    "DeleteAcls": dict(filters=[]),
    "AlterReplicaLogDirs": dict(dirs=[{"path": "/nowhere", "topics": [{"name": "no-such-topic", "partitions": [0]}]}]),
    "ListConfigResources": dict(types=[]),
    "DescribeConfigs": dict(resources=[{"type": 2, "name": "no-such-topic", "keys": None}]),
    "AlterConfigs": dict(resources=[], validate_only=True),
    "DescribeLogDirs": dict(topics=None),
    "CreatePartitions": dict(topics=[{"name": "no-such-topic", "count": 3, "assignments": None}], timeout_ms=1000, validate_only=True),
    "OffsetDelete": dict(group="no-such-group", topics=[]),
    "DescribeProducers": dict(topics=[{"name": "no-such-topic", "partitions": [0]}]),
    "DescribeTopicPartitions": dict(topics=[{"name": "no-such-topic"}], limit=100, cursor=None),
    "DeleteGroups": dict(groups=["no-such-group"]),
    "IncrementalAlterConfigs": dict(resources=[], validate_only=True),
    "DescribeCluster": dict(endpoint_type=1),
    "ElectLeaders": dict(topics=[{"name": "no-such-topic", "partitions": [0]}], timeout_ms=1000),
    "AlterPartitionReassignments": dict(topics=[{"name": "no-such-topic", "partitions": [{"index": 0, "replicas": None}]}], timeout_ms=1000),
    "ListPartitionReassignments": dict(topics=None, timeout_ms=1000),
    "DescribeQuorum": dict(topics=[{"name": "__cluster_metadata", "partitions": [{"index": 0}]}]),
    "UpdateFeatures": dict(updates=[{"feature": "no.such.feature", "level": 1, "type": 1}], timeout_ms=1000, validate_only=True),
    "UnregisterBroker": dict(node=4711),
}


class Wire(NodeTest):
    def advertised(self, c):
        """{name: (first, last)} of the APIs that these tests can write."""
        names = {api[0]: name for name, api in APIS.items()}
        answer = c.call("ApiVersions", 3, software_name="weir-test", software_version="1")
        self.assertEqual(wire.NONE, answer["error"])
        self.unknown_keys = [a["key"] for a in answer["apis"] if a["key"] not in names]
        return {names[a["key"]]: (a["min"], a["max"]) for a in answer["apis"] if a["key"] in names}

    def test_item_1_answers_come_in_the_order_of_the_requests(self):
        topic = create_topic(self.node, self.topic_name())
        with Connection(self.node) as c:
            send_fetch(c, topic, 0, max_wait_ms=700)  # waits, and holds back what comes after it
            for _ in range(3):
                c.send("Metadata", 4, topics=[{"name": topic}])
                c.send("ListOffsets", 5, replica=-1, topics=[
                    {"name": topic, "partitions": [{"index": 0, "leader_epoch": -1, "timestamp": -1}]}])
            began = time.monotonic()
            c.receive()
            self.assertGreater(time.monotonic() - began, 0.5)
            while c.waiting:
                c.receive()
            self.assertLess(time.monotonic() - began, 3 * PATIENCE)

    def test_item_1_many_produces_in_flight_keep_their_order(self):
        topic = create_topic(self.node, self.topic_name(), 4)
        with Connection(self.node) as c:
            for i in range(200):
                send_produce(c, topic, records.batch([b"%d" % i]), partition=i % 4)
            offsets = [c.receive()["topics"][0]["partitions"][0]["base_offset"] for _ in range(200)]
            self.assertEqual([i // 4 for i in range(200)], offsets)
            for p in range(4):
                got = records.records(fetch(c, topic, 0, partition=p)["records"])
                self.assertEqual([b"%d" % i for i in range(p, 200, 4)], [r.value for r in got])

    def test_item_1_requests_in_one_segment_and_byte_by_byte(self):
        with Connection(self.node) as c:
            frames = b"".join(wire.request_frame("ApiVersions", 0, {}, i) for i in range(1, 11))
            c.send_raw(frames)
            for i in range(1, 11):
                self.assertEqual(i, wire.decode_response("ApiVersions", 0, c.frame())[0])
            for byte in wire.request_frame("ApiVersions", 0, {}, 11):
                c.send_raw(bytes([byte]))
                time.sleep(0.001)
            self.assertEqual(11, wire.decode_response("ApiVersions", 0, c.frame())[0])

    def test_item_2_acks_0_has_no_answer(self):
        topic = create_topic(self.node, self.topic_name())
        with Connection(self.node) as c:
            for i in range(10):
                send_produce(c, topic, records.batch([b"%d" % i]), acks=0)
            self.assertEqual(0, c.call("ApiVersions", 0)["error"])  # the next answer is to this
            deadline = time.monotonic() + 5 * PATIENCE
            while list_offset(c, topic, -1)[2] < 10:
                self.assertLess(time.monotonic(), deadline)
            self.assertEqual([b"%d" % i for i in range(10)], [r.value for r in records.records(fetch(c, topic, 0)["records"])])

    def test_item_2_acks_0_that_fails_closes_the_connection(self):
        with Connection(self.node) as c:
            topic = create_topic(self.node, self.topic_name())
            send_produce(c, topic, records.batch([b"x"], crc=1), acks=0)
            self.assertTrue(c.closed_by_node())

    def test_item_3_a_frame_too_large_or_negative_closes_the_connection(self):
        for size in (2**31 - 1, 200 << 20, -1, -2**31):
            with self.subTest(size), Connection(self.node) as c:
                before = self.node.status("VmRSS")
                c.send_raw(struct.pack(">i", size) + b"\0" * 100)
                self.assertTrue(c.closed_by_node())
                self.assertLess(self.node.status("VmRSS") - before, 20 << 10)

    def test_item_4_every_advertised_version_is_served(self):
        with Connection(self.node) as c:
            advertised = self.advertised(c)
        self.assertEqual([], self.unknown_keys, "these tests cannot write all that is advertised")
        for name, (first, last) in advertised.items():
            for version in range(first, last + 1):
                with self.subTest(f"{name} {version}"), Connection(self.node) as c:
                    values = {f.name: REQUESTS[name][f.name] for f in wire.PARSED[name][0] if f.name in REQUESTS[name]}
                    c.call(name, version, values)
                    c.call("ApiVersions", 0)  # the connection is still good

    def test_item_4_the_documented_versions_are_those_advertised(self):
        """docs/reference/kafka-compatibility.md has them in a table of two columns: name, versions."""
        with open(os.path.join(TREE, "docs", "reference", "kafka-compatibility.md"), encoding="utf-8") as f:
            table = f.read().split("## APIs", 1)[1].split("## ", 1)[0]
        documented = {}
        for row in re.findall(r"^\|(.*)\|$", table, re.MULTILINE)[2:]:
            cells = [cell.strip() for cell in row.split("|")]
            for names, versions in (cells[0:2], cells[3:5]):
                ranges = re.findall(r"(\d+)(?:-(\d+))?", versions)
                for name, (first, last) in zip(names.split(", "), ranges, strict=True):
                    documented[name] = (int(first), int(last or first))
        with Connection(self.node) as c:
            self.assertEqual(documented, self.advertised(c))
        self.assertEqual([], self.unknown_keys)

    def test_item_4_everything_that_clients_need_is_advertised(self):
        """What librdkafka 2.15, kafkajs, kafka-python and @platformatic/kafka send without security and transactions."""
        needed = {"Produce": (0, 11), "Fetch": (4, 17), "ListOffsets": (0, 7), "Metadata": (0, 13), "OffsetCommit": (2, 9),
                  "OffsetFetch": (1, 9), "FindCoordinator": (0, 6), "JoinGroup": (0, 9), "Heartbeat": (0, 4), "LeaveGroup": (0, 5),
                  "SyncGroup": (0, 5), "DescribeGroups": (0, 5), "ListGroups": (0, 4), "ApiVersions": (0, 4), "CreateTopics": (2, 7),
                  "DeleteTopics": (1, 6), "DeleteRecords": (0, 2), "InitProducerId": (0, 5), "OffsetForLeaderEpoch": (2, 4),
                  "DescribeConfigs": (1, 4), "AlterConfigs": (0, 2), "CreatePartitions": (0, 3), "DeleteGroups": (0, 2),
                  "IncrementalAlterConfigs": (0, 1), "OffsetDelete": (0, 0), "DescribeCluster": (0, 1)}
        with Connection(self.node) as c:
            advertised = self.advertised(c)
        for name, (first, last) in needed.items():
            with self.subTest(name):
                self.assertIn(name, advertised)
                self.assertLessEqual(advertised[name][0], first)
                self.assertGreaterEqual(advertised[name][1], last)

    def test_item_4_produce_is_advertised_from_0(self):
        """Older librdkafka switches compression off when Produce starts above 0 (KAFKA-18659)."""
        with Connection(self.node) as c:
            self.assertEqual(0, self.advertised(c)["Produce"][0])

    def test_item_4_unknown_tagged_fields_are_ignored(self):
        with Connection(self.node) as c:
            head_tags = {7: b"in the header", 9: b""}
            values = dict(topics=[], auto_create=False, _tags={0: b"unknown", 300: b"\1" * 200})
            c.send_raw(wire.request_frame("Metadata", 12, values, 77, header_tags=head_tags))
            correlation, answer = wire.decode_response("Metadata", 12, c.frame())
            self.assertEqual(77, correlation)
            self.assertEqual(1, len(answer["brokers"]))

    def test_item_5_empty_and_null_arrays(self):
        topic = create_topic(self.node, self.topic_name())
        await_coordinator(self.node, "nulls")
        with Connection(self.node) as c:
            self.assertIn(topic, [t["name"] for t in c.call("Metadata", 0, topics=[])["topics"]])
            for version in (1, 4, 9, 12):
                self.assertIn(topic, [t["name"] for t in c.call("Metadata", version, topics=None)["topics"]])
                self.assertEqual([], c.call("Metadata", version, topics=[])["topics"])
            c.call("OffsetCommit", 2, group="nulls", generation=-1, member="", retention_ms=-1, topics=[
                {"name": topic, "partitions": [{"index": 0, "offset": 5, "metadata": ""}]}])
            for version in (2, 5, 7):
                found = c.call("OffsetFetch", version, group="nulls", topics=None)["topics"]
                self.assertEqual([(topic, 5)], [(t["name"], t["partitions"][0]["offset"]) for t in found])
                self.assertEqual([], c.call("OffsetFetch", version, group="nulls", topics=[])["topics"])

    def test_item_6_an_unknown_version_of_api_versions_is_answered_in_version_0(self):
        for version in (6, 100, 32767):
            with self.subTest(version), Connection(self.node) as c:
                head = struct.pack(">hhi", 18, version, 4242) + wire.encode_value("str", "weir-test", False) + b"\0" + b"\0\0\0"
                c.send_raw(struct.pack(">i", len(head)) + head)
                correlation, answer = wire.decode_response("ApiVersions", 0, c.frame())
                self.assertEqual(4242, correlation)
                self.assertEqual(wire.UNSUPPORTED_VERSION, answer["error"])
                self.assertIn(18, [a["key"] for a in answer["apis"]])
                self.assertEqual(0, c.call("ApiVersions", 0)["error"])  # the client goes on with what it learnt

    def test_item_6_an_unknown_api_or_version_closes_the_connection(self):
        for key, version in ((0, 99), (1, 0), (3, -1), (4, 0), (999, 0), (-1, 0)):
            with self.subTest((key, version)), Connection(self.node) as c:
                head = struct.pack(">hhi", key, version, 1) + wire.encode_value("str", "weir-test", False)
                c.send_raw(struct.pack(">i", len(head)) + head)
                self.assertTrue(c.closed_by_node())

    def test_item_10_a_client_that_meant_another_cluster(self):
        with Connection(self.node) as c:
            metadata = c.call("Metadata", 4, topics=[])
            meant = dict(REQUESTS["ApiVersions"], cluster_id=metadata["cluster_id"], node_id=metadata["brokers"][0]["id"])
            self.assertEqual(wire.NONE, c.call("ApiVersions", 5, meant)["error"])
            self.assertEqual(wire.NONE, c.call("ApiVersions", 5, REQUESTS["ApiVersions"])["error"])
            self.assertEqual(wire.REBOOTSTRAP_REQUIRED, c.call("ApiVersions", 5, dict(meant, cluster_id="another"))["error"])
            self.assertEqual(wire.REBOOTSTRAP_REQUIRED, c.call("ApiVersions", 5, dict(meant, node_id=4711))["error"])

    def test_item_9_metadata_names_the_listener_that_was_asked(self):
        with Connection(self.node) as c:
            answer = c.call("Metadata", 4, topics=[])
            self.assertEqual([("127.0.0.1", self.node.port)], [(b["host"], b["port"]) for b in answer["brokers"]])
            self.assertEqual(answer["brokers"][0]["id"], answer["controller"])
            cluster = c.call("DescribeCluster", 0)
            self.assertEqual(answer["cluster_id"], cluster["cluster_id"])
            self.assertEqual([("127.0.0.1", self.node.port)], [(b["host"], b["port"]) for b in cluster["brokers"]])
            coordinator = c.call("FindCoordinator", 1, key="any")
            self.assertEqual(("127.0.0.1", self.node.port), (coordinator["host"], coordinator["port"]))

    def test_trailing_bytes_in_a_request_do_no_harm_to_the_next(self):
        """Kafka's own broker ignores them; a closed connection would do too, a wrong next answer would not."""
        with Connection(self.node) as c:
            frame = wire.request_frame("ApiVersions", 0, {}, 5)[4:] + b"left over"
            c.send_raw(struct.pack(">i", len(frame)) + frame)
            try:
                self.assertEqual(5, wire.decode_response("ApiVersions", 0, c.frame())[0])
                self.assertEqual(0, c.call("ApiVersions", 0)["error"])
            except wire.Closed:
                pass

    def test_every_truncation_of_a_request_is_survived(self):
        topic = create_topic(self.node, self.topic_name())
        whole = [
            wire.request_frame("Metadata", 12, dict(topics=[{"topic_id": uuid.UUID(int=0), "name": topic}]), 1),
            wire.request_frame("Produce", 9, dict(acks=-1, timeout_ms=100, topics=[
                {"name": topic, "partitions": [{"index": 0, "records": records.batch([b"x"])}]}]), 1),
            wire.request_frame("JoinGroup", 6, REQUESTS["JoinGroup"], 1)]
        for frame in whole:
            for size in range(4, len(frame) - 4, 3):
                with Connection(self.node) as c:
                    c.send_raw(struct.pack(">i", size - 4) + frame[4:size])
                    c.send_raw(wire.request_frame("ApiVersions", 0, {}, 9))
                    try:
                        while struct.unpack(">i", c.frame()[:4])[0] != 9:
                            pass
                    except wire.Closed:
                        pass
        with Connection(self.node) as c:
            self.assertEqual(0, c.call("ApiVersions", 0)["error"])


class Bounds(NodeTest):
    config = "connections.max.idle.ms = 1500\nmax.connections = 30\n"

    def test_item_7_an_idle_connection_is_closed(self):
        with Connection(self.node) as idle, Connection(self.node) as busy:
            idle.call("ApiVersions", 0)
            began = time.monotonic()
            while time.monotonic() - began < 3:
                busy.call("ApiVersions", 0)
                time.sleep(0.1)
            self.assertTrue(idle.closed_by_node(3))
            self.assertEqual(0, busy.call("ApiVersions", 0)["error"])

    def test_item_7_a_waiting_fetch_is_not_idle(self):
        topic = create_topic(self.node, self.topic_name())
        with Connection(self.node) as c:
            send_fetch(c, topic, 0, max_wait_ms=4000)
            self.assertEqual(wire.NONE, c.receive()["error"])

    def test_item_7_connections_above_the_bound_are_closed(self):
        time.sleep(2)  # what other tests left is closed for idling
        held = [Connection(self.node) for _ in range(30)]
        for c in held:
            c.call("ApiVersions", 0)
        with Connection(self.node) as one_more:
            self.assertTrue(one_more.closed_by_node(3))
        held.pop().close()
        time.sleep(0.3)
        with Connection(self.node) as c:
            c.call("ApiVersions", 0)
        for c in held:
            c.close()


class BoundsByAddress(NodeTest):
    config = '"max.connections.per.ip" = 3\n"max.connections.per.ip.overrides" = "127.0.0.2:5"\n'

    def served(self, address, count):
        """How many of so many connections from there are served."""
        held = []
        for _ in range(count):
            c = socket.create_connection((self.node.host, self.node.port), timeout=10, source_address=(address, 0))
            c.sendall(wire.request_frame("ApiVersions", 0, {}, 1))
            held.append(c)
        try:
            return sum(len(answer_of(c)) > 0 for c in held)
        finally:
            for c in held:
                c.close()

    def test_item_7_connections_of_one_address(self):
        self.assertEqual(3, self.served("127.0.0.1", 6))
        self.assertEqual(5, self.served("127.0.0.2", 8))
        self.assertEqual(3, self.served("127.0.0.3", 5))


def answer_of(c):
    try:
        return c.recv(4)
    except ConnectionResetError:
        return b""


if __name__ == "__main__":
    unittest.main()
