"""A node alone whose journal is damaged: `weir debug repair` says what is lost, and lets it go on without."""

import json
import os
import socket
import subprocess
import unittest

from weirtest.kafka import create_topic, fetch_all, produce
from weirtest.node import Node, NodeFailed, binary
from weirtest.records import batch, record
from weirtest.wire import Connection

RECORDS = 60


def journals(data):
    found = []
    for folder, _, names in os.walk(data):
        if "damaged" not in folder:
            found += [os.path.join(folder, name) for name in names if name.startswith("journal-")]
    return sorted(found)


class Repair(unittest.TestCase):
    def repair(self, node, *flags):
        return subprocess.run([binary(), "debug", "repair", "--data", node.data, *flags], capture_output=True, text=True, timeout=60)

    def filled(self, node):
        create_topic(node, "topic")
        with Connection(node) as c:
            for i in range(RECORDS):
                produce(c, "topic", batch([record(0, value=b"%d " % i + b"x" * 500)]))

    def values(self, node):
        return [(r.offset, r.value) for r in fetch_all(node, "topic", 1)[0]]

    def test_a_node_goes_on_with_what_comes_before_the_damage(self):
        with Node(["--shards", "1"]) as node:
            self.filled(node)
            before = self.values(node)
            node.kill()
            path = journals(node.data)[0]
            with open(path, "r+b") as file:  # a block in the middle: each commit takes a page at least
                file.seek(40 * 4096 + 100)
                byte = file.read(1)
                file.seek(-1, 1)
                file.write(bytes([byte[0] ^ 1]))
            with self.assertRaisesRegex(NodeFailed, "weir debug repair"):
                node.start()

            dry = self.repair(node, "--output", "json")
            self.assertEqual(dry.returncode, 1, dry.stderr)
            shard = json.loads(dry.stdout)["shards"][0]
            self.assertTrue(shard["can_be_mended"])
            self.assertGreater(shard["blocks_lost"], 0)
            self.assertFalse(os.path.exists(os.path.join(node.data, "damaged")))

            done = self.repair(node, "--apply")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("are lost", done.stdout)
            self.assertTrue(os.path.exists(os.path.join(node.data, "damaged")))
            again = self.repair(node, "--apply")
            self.assertEqual((again.returncode, again.stdout.strip()), (0, "shard 0: whole"))

            node.start()
            running = self.repair(node)
            self.assertEqual(running.returncode, 1)
            self.assertIn("a node runs on this data directory", running.stderr)
            after = self.values(node)
            self.assertEqual(after, before[:len(after)])
            self.assertGreater(len(after), 0)
            self.assertLess(len(after), RECORDS)

    def test_a_node_with_the_only_replica_of_the_metadata_waits_for_an_operator(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        with Node(["--shards", "1", "--rpc", f"127.0.0.1:{port}"]) as node:
            self.filled(node)
            before = self.values(node)
            node.kill()
            with open(journals(node.data)[0], "r+b") as file:
                file.truncate(50 * 4096)
            for _ in range(2):
                with self.assertRaisesRegex(NodeFailed, "the journal of the metadata log was damaged"):
                    node.start()
            self.assertIn("wait for --apply", self.repair(node).stdout)
            self.assertEqual(self.repair(node, "--apply").returncode, 0)
            node.start()
            after = self.values(node)
            self.assertEqual(after, before[:len(after)])
            self.assertGreater(len(after), 0)


if __name__ == "__main__":
    unittest.main()
