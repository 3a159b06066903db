"""Whoever reaches a node's rpc port and is no node of its cluster: nothing comes of what it says, and with a secret nothing of its hello either."""

import os
import subprocess
import time
import unittest

from confluent_kafka.admin import AdminClient, NewTopic

from weirtest import rpc
from weirtest.cluster import Cluster, free_ports
from weirtest.node import PATIENCE, Node, NodeFailed, binary
from weirtest.workload import Workload

ARGUMENTS = ("--shards", "2", "--memory", "128MiB")
WILD = 1 << 30  # the largest term that older versions believed
LOGS = range(1, 40)
SECRET = b"a secret that is long enough"

# Kinds that members alone may ask, and a body that each takes.
FOR_MEMBERS = {
    0x0204: bytes(24), 0x0206: (1000).to_bytes(8, "big"), 0x0208: rpc.varint(0), 0x0209: b"",
    0x0207: b"".join(rpc.varint(len(text)) + text for text in (b"POST", b"/v1/nodes/2/maintenance", b"on=true")),
    0x0203: b"\1" + rpc.varint(2) + rpc.varint(0) + rpc.varint(0) + rpc.varint(0),
    0x0301: bytes([0, 19, 0, 7, 0, 0, 0]) + bytes(8),
}


def create(cluster, topic, partitions):
    admin = AdminClient({"bootstrap.servers": cluster.brokers, "logger": None, "log_level": 0})
    for future in admin.create_topics([NewTopic(topic, partitions, 3)], operation_timeout=20).values():
        future.result(30)
    for node in cluster.nodes:  # each knows of it a moment later
        deadline = time.monotonic() + 20 * PATIENCE
        while not cluster.weir("partition", "list", "--topic", topic, node=node, check=False) and time.monotonic() < deadline:
            time.sleep(0.05)


def epochs(cluster, topic):
    return {p["partition"]: p["epoch"] for p in cluster.partitions(topic)}


class OnLoopback(unittest.TestCase):
    """Without a secret: who is registered is a member, by its number and uuid."""

    def test_heartbeats_of_a_wild_term_from_anybody_unseat_nobody_and_a_restart_goes_well(self):
        with Cluster(3, ARGUMENTS) as cluster:
            cluster.start()
            cluster.await_healthy(nodes=3)
            create(cluster, "topic", 6)
            cluster.await_healthy(nodes=3)
            before = epochs(cluster, "topic")
            target = cluster.nodes[0]
            with rpc.Peer(target.rpc) as peer:
                known, number, uuid = peer.cluster, peer.node, peer.peer_uuid
            others = []
            for node in cluster.nodes[1:]:
                with rpc.Peer(node.rpc) as peer:
                    others.append((peer.node, peer.peer_uuid))
            self.assertEqual(target.number, number)
            beats = b"".join(rpc.heartbeat(log, WILD) for log in LOGS)
            near = b"".join(rpc.heartbeat(log, term) for log in LOGS for term in (5, 50, 500))
            peers = [
                (dict(node=9999), beats + near),                                  # as the second look found it
                (dict(cluster=known, node=9999), beats + near),                   # a number that nobody has
                (dict(cluster=known, node=others[0][0]), beats + near),           # a member's, and another data directory
                (dict(node=others[0][0], uuid=others[0][1]), beats + near),       # a member of no cluster
                (dict(cluster=known, node=number, uuid=uuid), beats + near),      # the node itself
                (dict(cluster=known, node=others[0][0], uuid=others[0][1]), beats),  # a member, and a wild number
                (dict(cluster=known, node=others[1][0], uuid=others[1][1]), beats)]
            for who, body in peers:
                for shard_hint in range(2):
                    with rpc.Peer(target.rpc, transient=shard_hint == 1, **who) as peer:
                        if peer.refusal == rpc.REFUSED_UNKNOWN_NODE:
                            continue  # the metadata knows the number, and another uuid
                        self.assertEqual(rpc.REFUSED_NONE, peer.refusal, peer.reason)
                        peer.send(rpc.GROUP_MESSAGES, body)
                        if peer.uuid not in (u for _, u in others) or "cluster" not in who:
                            for kind, request in FOR_MEMBERS.items():
                                type, answer = peer.ask(kind, request, call=kind)
                                self.assertEqual(rpc.FAILURE, type, hex(kind))
                                self.assertIn(b"only members", answer)
            time.sleep(2)
            self.assertTrue(cluster.health()["healthy"])
            after = epochs(cluster, "topic")
            for partition, epoch in before.items():
                # Leadership may be handed back to the first replica meanwhile; an attack's terms begin at 5.
                self.assertLessEqual(after[partition], epoch + 2, "a leader was lost to a stranger")
            self.assertEqual(3, len(cluster.health()["nodes"]))
            for node in cluster.nodes:
                node.stop()
            cluster.start()
            cluster.await_healthy(nodes=3)


class WithASecret(unittest.TestCase):
    def setUp(self):
        self.nodes = []

    def node(self, address, seeds, secret, *more):
        node = Node(list(ARGUMENTS))
        self.addCleanup(node.close)
        path = os.path.join(node.folder, "secret")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
            f.write(secret + b"\n")
        node.arguments += ["--rpc", address, "--cluster-secret", path, *more]
        if seeds:
            node.arguments += ["--seeds", seeds]
        return node

    def test_a_node_with_another_secret_cannot_join_and_one_with_the_right_one_can(self):
        ports = free_ports(3)
        first = self.node(f"127.0.0.1:{ports[0]}", None, SECRET)
        first.start()
        wrong = self.node(f"127.0.0.1:{ports[1]}", f"127.0.0.1:{ports[0]}", SECRET + b"!")
        with self.assertRaises(NodeFailed) as failed:
            wrong.start(3)
        self.assertIn("another cluster secret", str(failed.exception))
        for peer in (dict(), dict(secret=SECRET + b"!"), dict(version_max=1)):
            with rpc.Peer(f"127.0.0.1:{ports[0]}", **peer) as stranger:
                self.assertEqual(rpc.REFUSED_NOT_PROVEN, stranger.refusal, stranger.reason)
        second = self.node(f"127.0.0.1:{ports[2]}", f"127.0.0.1:{ports[0]}", SECRET)
        second.start(30)
        with rpc.Peer(f"127.0.0.1:{ports[0]}", secret=SECRET) as member:
            self.assertEqual(rpc.REFUSED_NONE, member.refusal, member.reason)
        self.assertNotEqual(first.number, second.number)

    def test_a_cluster_takes_a_secret_up_in_two_rolling_restarts_under_load(self):
        with Cluster(3, ARGUMENTS) as cluster:
            cluster.start()
            cluster.await_healthy(nodes=3)
            create(cluster, "topic", 6)
            cluster.await_healthy(nodes=3)
            load = Workload(cluster.brokers, "topic", 6).start()
            self.addCleanup(load.readers_stopped.set)
            self.addCleanup(load.stopped.set)
            path = os.path.join(cluster.folder, "secret")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
                f.write(SECRET + b"\n")
            plain = {node: list(node.arguments) for node in cluster.nodes}
            for step in (["--cluster-secret", path, "--cluster-secret-optional"], ["--cluster-secret", path]):
                for node in cluster.nodes:
                    node.stop()
                    node.arguments = plain[node] + step
                    node.start(60 * PATIENCE)
                    cluster.await_healthy(nodes=3)
                with rpc.Peer(cluster.nodes[0].rpc) as stranger:
                    expected = rpc.REFUSED_NONE if "--cluster-secret-optional" in step else rpc.REFUSED_NOT_PROVEN
                    self.assertEqual(expected, stranger.refusal, stranger.reason)
            acknowledged = load.acknowledged
            deadline = time.monotonic() + 30 * PATIENCE
            while load.acknowledged < acknowledged + 100 and time.monotonic() < deadline:
                time.sleep(0.05)
            self.assertEqual([], load.fatal)
            self.assertGreaterEqual(load.acknowledged, acknowledged + 100)

    def test_a_secret_is_needed_beyond_loopback_and_each_refusal_is_one_line(self):
        folder = Node()
        self.addCleanup(folder.close)
        secrets = {"empty": b"\n", "short": b"fifteen bytes..", "long": b"x" * 1025}
        for name, text in secrets.items():
            with open(os.open(os.path.join(folder.folder, name), os.O_WRONLY | os.O_CREAT, 0o600), "wb") as f:
                f.write(text)
        rpc_option = ["--rpc", "192.0.2.1:9700"]
        cases = [(rpc_option, "give --cluster-secret FILE"), (["--rpc", "node-1:9700"], "give --cluster-secret FILE"),
                 (["--rpc", "127.0.0.1:9700", "--seeds", "127.0.0.1:9700,192.0.2.1:9700"], "give --cluster-secret FILE"),
                 ([*rpc_option, "--cluster-secret", os.path.join(folder.folder, "missing")], "cannot read the cluster secret"),
                 ([*rpc_option, "--cluster-secret", os.path.join(folder.folder, "empty")], "no secret is in it"),
                 ([*rpc_option, "--cluster-secret", os.path.join(folder.folder, "short")], "16 to 1024 bytes"),
                 ([*rpc_option, "--cluster-secret", os.path.join(folder.folder, "long")], "16 to 1024 bytes"),
                 (["--rpc", "127.0.0.1:9700", "--cluster-secret-optional"], "needs --cluster-secret")]
        for options, expected in cases:
            with self.subTest(options=options):
                ended = subprocess.run([binary(), "start", "--data", os.path.join(folder.folder, "data"), *options],
                                       capture_output=True, text=True, timeout=30 * PATIENCE)
                self.assertEqual(1, ended.returncode, ended.stderr)
                self.assertEqual(1, len(ended.stderr.strip().splitlines()), ended.stderr)
                self.assertIn(expected, ended.stderr)


if __name__ == "__main__":
    unittest.main()
