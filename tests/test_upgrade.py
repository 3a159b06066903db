"""A cluster of two versions: it is upgraded node by node under load, downgraded before the new level is finalized, and upgraded again.

The other version is the same source with one level of weir.version more (build/PRESET/tests/weir_next), which is what tells versions apart."""

import os
import time
import unittest

from confluent_kafka.admin import AdminClient, NewTopic

from weirtest import wire
from weirtest.cluster import Cluster
from weirtest.node import PATIENCE, NodeFailed, binary
from weirtest.wire import Connection
from weirtest.workload import Workload

ARGUMENTS = ("--shards", "1", "--memory", "128MiB")
PARTITIONS = 6
OLD, NEXT = binary(), os.environ.get("WEIR_NEXT_BINARY", os.path.join(os.path.dirname(binary()), "tests", "weir_next"))
FEATURE = "weir.version"


class Upgrade(unittest.TestCase):
    def setUp(self):
        self.cluster = Cluster(3, ARGUMENTS)
        self.addCleanup(self.cluster.close)
        for node in self.cluster.nodes:
            node.binary = OLD
        self.cluster.start()
        self.cluster.await_healthy(nodes=3)
        self.create("topic", PARTITIONS)
        self.level, possible = self.features()  # a new cluster begins at the newest that its binary knows
        self.assertEqual(self.level, possible)
        self.next_level = self.level + 1

    def create(self, topic, partitions):
        admin = AdminClient({"bootstrap.servers": self.cluster.brokers, "logger": None, "log_level": 0})
        for future in admin.create_topics([NewTopic(topic, partitions, 3)], operation_timeout=20).values():
            future.result(30)

    def features(self, node=None):
        """(finalized, possible) as a node says."""
        row = next(f for f in self.cluster.weir("cluster", "features", node=node) if f["feature"] == FEATURE)
        return row["finalized"], row["possible"]

    def ask_to_finalize(self, node, level, validate_only=False):
        with Connection(node) as c:
            answer = c.call("UpdateFeatures", 1, timeout_ms=10_000, validate_only=validate_only,
                            updates=[{"feature": FEATURE, "level": level, "type": 1}])
        return answer["error"], answer["message"]

    def await_more(self, load, count, seconds_max=30):
        wanted = load.acknowledged + count
        deadline = time.monotonic() + seconds_max * PATIENCE
        while load.acknowledged < wanted:
            self.assertEqual([], load.fatal)
            self.assertLess(time.monotonic(), deadline, "the producers do not get on")
            time.sleep(0.02)

    def replace(self, load, node, program):
        """The node goes on with another binary, as an operator does it."""
        node.stop()
        self.await_more(load, 100)
        node.binary = program
        self.cluster.start_one(node)
        self.cluster.await_healthy(nodes=3)

    def refuses_to_start(self, node):
        """With the old binary: one line that says why, and exit 1."""
        node.binary = OLD
        logged = len(node.log())
        with self.assertRaisesRegex(NodeFailed, "ended with 1 before it served"):
            self.cluster.start_one(node)
        said = node.log()[logged:].splitlines()
        lines = [line for line in said if not line.startswith("ts=")]
        self.assertEqual(1, len(lines), said)
        self.assertRegex(lines[0], f"^weir: .*the cluster is at level {self.next_level} of {FEATURE}")
        self.assertEqual([], [line for line in said if "level=error" in line])

    def go_on(self, load, node):
        node.binary = NEXT
        self.cluster.start_one(node)
        self.cluster.await_healthy(nodes=3)
        self.await_more(load, 100)

    def test_up_and_down_and_up_under_load_and_no_way_back_when_it_is_final(self):
        load = Workload(self.cluster.brokers, "topic", PARTITIONS).start()
        self.addCleanup(load.readers_stopped.set)
        self.addCleanup(load.stopped.set)
        self.await_more(load, 300)
        self.assertEqual((self.level, self.level), self.features())

        # Up. As long as an old node is there the new level can't be final, and topics come and move as before.
        for count, node in enumerate(self.cluster.nodes, 1):
            self.replace(load, node, NEXT)
            if count < 3:
                old = [n.number for n in self.cluster.nodes[count:]]
                error, message = self.ask_to_finalize(node, self.next_level)
                self.assertEqual(wire.INVALID_UPDATE_VERSION, error)
                self.assertRegex(message, rf"level {self.next_level} of {FEATURE}: {', '.join(map(str, old))}|has levels 0 to {self.level}")
                self.assertEqual((self.level, self.level), self.features(node))
                self.create(f"mixed-{count}", 3)
                self.cluster.weir("partition", "move", f"mixed-{count}", "0", "--replicas", "2,3", node=node)
        self.assertEqual((self.level, self.next_level), self.features())
        self.assertEqual((wire.NONE, None), self.ask_to_finalize(self.cluster.nodes[0], self.next_level, validate_only=True))

        # Down again, all of them.
        for node in self.cluster.nodes:
            self.replace(load, node, OLD)
        self.assertEqual((self.level, self.level), self.features())
        self.assertLessEqual({"mixed-1", "mixed-2", "topic"}, {p["topic"] for p in self.cluster.weir("partition", "list")})

        # And up for good. One node is away when it becomes final: what it registered with counts.
        for node in self.cluster.nodes:
            self.replace(load, node, NEXT)
        away = self.cluster.nodes[1]
        away.stop()
        self.assertEqual({"feature": FEATURE, "finalized": self.next_level},
                         self.cluster.weir("cluster", "finalize", FEATURE, str(self.next_level), node=self.cluster.nodes[0]))
        self.assertEqual((wire.NONE, None), self.ask_to_finalize(self.cluster.nodes[2], self.next_level))  # again
        self.refuses_to_start(away)  # it learns of it from the others
        self.go_on(load, away)
        for node in self.cluster.nodes:
            self.assertEqual((self.next_level, self.next_level), self.features(node))
            with Connection(node) as c:
                answer = c.call("ApiVersions", 4, software_name="weir-test", software_version="1")
                self.assertEqual(({FEATURE: (0, self.next_level)}, {FEATURE: self.next_level}), wire.features(answer)[:2])
        self.cluster.nodes[2].stop()
        self.refuses_to_start(self.cluster.nodes[2])  # it has it on its disk
        self.go_on(load, self.cluster.nodes[2])

        load.stop()
        self.assertEqual([], load.problems())
        self.assertGreater(load.acknowledged, 1500)
        print(f"{load.acknowledged} records, no request failed, longest time without an answer {load.longest_gap:.2f} s", flush=True)


if __name__ == "__main__":
    unittest.main()
