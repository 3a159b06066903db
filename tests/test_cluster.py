"""Three nodes as processes: they find each other, survive the loss of one, restart one after the other, take a fourth in, let one go."""

import subprocess
import threading
import time
import unittest
import urllib.request

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from weirtest.cluster import Cluster
from weirtest.node import PATIENCE
from weirtest.workload import Workload

ARGUMENTS = ("--shards", "1", "--memory", "128MiB")
PARTITIONS = 6


def admin_of(cluster):
    return AdminClient({"bootstrap.servers": cluster.brokers, "logger": None, "log_level": 0})


def create(cluster, topic, partitions=PARTITIONS, replicas=3, config=None):
    new = NewTopic(topic, partitions, replicas, config=config or {})
    admin = admin_of(cluster)  # lives until the answer is here
    for future in admin.create_topics([new], operation_timeout=20).values():
        future.result(30)


def metric(node, name):
    with urllib.request.urlopen(f"http://{node.admin}/metrics", timeout=10 * PATIENCE) as page:
        return next(float(line.split()[1]) for line in page.read().decode().splitlines() if line.startswith(name + " "))


class BringUp(unittest.TestCase):
    def test_any_order_makes_one_cluster(self):
        for order, gap in (([0, 1, 2], 0), ([2, 0, 1], 0.5)):
            with self.subTest(order=order), Cluster(3, ARGUMENTS) as cluster:
                cluster.start(order, gap)
                health = cluster.await_healthy(nodes=3)
                self.assertEqual([1, 2, 3], sorted(node["id"] for node in health["nodes"]))
                seen = {cluster.weir("cluster", "info", node=node)["cluster_id"] for node in cluster.nodes}
                self.assertEqual(1, len(seen))
                numbers = [node.number for node in cluster.nodes]
                for node in cluster.nodes:
                    node.stop()
                cluster.start()
                self.assertEqual(numbers, [node.number for node in cluster.nodes], "a node keeps its number")
                cluster.await_healthy(nodes=3)


class UnderLoad(unittest.TestCase):
    config = None

    def setUp(self):
        self.cluster = Cluster(3, ARGUMENTS).start()
        self.addCleanup(self.cluster.close)
        self.cluster.await_healthy(nodes=3)
        create(self.cluster, "topic", config=self.config)

    def work(self):
        load = Workload(self.cluster.brokers, "topic", PARTITIONS).start()
        self.addCleanup(load.readers_stopped.set)
        self.addCleanup(load.stopped.set)
        self.await_more(load, 500)
        return load

    def await_more(self, load, count, seconds_max=30):
        """So many more acknowledgements."""
        wanted = load.acknowledged + count
        deadline = time.monotonic() + seconds_max * PATIENCE
        while load.acknowledged < wanted:
            self.assertEqual([], load.fatal)
            self.assertLess(time.monotonic(), deadline, "the producers do not get on\n" +
                            "\n".join(node.log_tail(15) for node in self.cluster.nodes))
            time.sleep(0.02)

    def finish(self, load):
        load.stop()
        self.assertEqual([], load.problems())
        self.assertGreater(load.acknowledged, 500)


class Faults(UnderLoad):
    def test_kcat_reads_what_confluent_wrote_from_any_node(self):
        load = self.work()
        self.finish(load)
        total = sum(len(records) for records in load.history.final.values())
        for node in self.cluster.nodes:
            done = subprocess.run(["kcat", "-C", "-b", node.kafka, "-t", "topic", "-o", "beginning", "-e", "-q", "-f", "%o\n"],
                                  stdout=subprocess.PIPE, timeout=60 * PATIENCE, check=True)
            self.assertEqual(total, len(done.stdout.splitlines()))

    def test_leaders_that_are_killed_lose_nothing(self):
        load = self.work()
        for partition in range(3):
            leader = self.cluster.partitions("topic")[partition]["leader"]
            node = self.cluster.by_id(leader)
            node.kill()
            self.await_more(load, 300)
            self.cluster.start_one(node)
            self.cluster.await_healthy(nodes=3)
        self.finish(load)

    def test_a_rolling_restart_fails_no_request(self):
        load = self.work()
        for node in self.cluster.nodes:
            node.stop()
            self.await_more(load, 100)
            self.cluster.start_one(node)
            self.cluster.await_healthy(nodes=3)
        self.finish(load)

    def test_a_frozen_leader_is_replaced_and_comes_back(self):
        load = self.work()
        node = self.cluster.by_id(self.cluster.partitions("topic")[0]["leader"])
        self.cluster.freeze(node)
        self.await_more(load, 300)
        self.cluster.thaw(node)
        self.cluster.await_healthy(nodes=3)
        self.finish(load)

    def test_a_node_joins_and_another_leaves_under_load(self):
        load = self.work()
        fourth = self.cluster.add()
        self.cluster.start_one(fourth)
        self.cluster.await_healthy(nodes=4)
        leaving = self.cluster.nodes[0]
        self.cluster.weir("cluster", "decommission", str(leaving.number), node=self.cluster.nodes[1], timeout=180 * PATIENCE)
        leaving.kill()
        self.cluster.await_healthy(nodes=3)
        for partition in self.cluster.partitions("topic", node=self.cluster.nodes[1]):
            self.assertNotIn(leaving.number, partition["replicas"])
            self.assertEqual(3, len(partition["replicas"]))
        self.finish(load)

    def test_partitions_are_moved_and_leaders_transferred_under_load(self):
        load = self.work()
        for partition in self.cluster.partitions("topic"):
            target = next(n for n in partition["replicas"] if n != partition["leader"])
            self.cluster.weir("partition", "transfer-leader", "topic", str(partition["partition"]), "--to", str(target))
        first = self.cluster.partitions("topic")[0]["replicas"]
        for replicas in (first[:2], first[1:], first):
            self.cluster.weir("partition", "move", "topic", "0", "--replicas", ",".join(map(str, replicas)))
        self.cluster.weir("cluster", "maintenance", "1", "on")
        self.assertNotIn(1, [p["leader"] for p in self.cluster.partitions("topic")])
        self.cluster.weir("cluster", "maintenance", "1", "off")
        self.finish(load)


class Durability(UnderLoad):
    """What counts when it is in memory (weir.durability=relaxed), and what a kill -9 then takes."""
    config = {"weir.durability": "relaxed"}

    def await_recovered(self):
        deadline = time.monotonic() + 30 * PATIENCE
        while any(metric(node, "weir_partitions_recovering") for node in self.cluster.nodes):
            self.assertLess(time.monotonic(), deadline, "a replica does not recover")
            time.sleep(0.1)

    def end_of(self, consumer):
        deadline = time.monotonic() + 30 * PATIENCE
        while True:
            try:
                return consumer.get_watermark_offsets(TopicPartition("topic", 0), timeout=5)[1]
            except KafkaException:  # a leader may be on its way, or the client not know of the topic yet
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.2)

    def kill_all(self):
        for node in self.cluster.nodes:
            node.process.kill()  # one right after the other; then they are waited for
        for node in self.cluster.nodes:
            node.kill()
        self.cluster.start()
        self.cluster.await_healthy(nodes=3)

    def test_leaders_and_followers_killed_one_by_one_lose_nothing(self):
        load = self.work()
        for partition in range(4):
            state = self.cluster.partitions("topic")[partition]
            follower = next(n for n in state["replicas"] if n != state["leader"])
            node = self.cluster.by_id(state["leader"] if partition % 2 == 0 else follower)
            node.kill()
            self.await_more(load, 300)
            self.cluster.start_one(node)
            self.cluster.await_healthy(nodes=3)
            self.await_recovered()
            self.assertEqual(PARTITIONS, metric(node, "weir_recoveries_total"), "each replica came back as one that may have lost something")
        for node in self.cluster.nodes:
            self.assertEqual(0, metric(node, "weir_elections_by_all_total"))
        self.finish(load)

    def test_all_killed_at_once_leaves_the_beginning_in_order(self):
        consumer = Workload(self.cluster.brokers, "topic", 1).consumer()
        self.addCleanup(consumer.close)
        for _ in range(2):
            # One after the other, none twice: what is left must be the first so many.
            producer = Producer({"bootstrap.servers": self.cluster.brokers, "acks": "all", "retries": 0, "linger.ms": 0,
                                 "max.in.flight": 1, "message.timeout.ms": 5_000, "logger": None, "log_level": 0})
            first = self.end_of(consumer)
            failed = []
            killer = threading.Timer(1.0, lambda: [node.process.kill() for node in self.cluster.nodes])
            killer.start()
            sent = 0
            while not failed:
                producer.produce("topic", str(sent).encode(), partition=0, on_delivery=lambda e, _: failed.append(e) if e else None)
                producer.flush(30 * PATIENCE)
                sent += 1
            killer.join()
            self.assertGreater(sent, 20)
            self.kill_all()
            self.await_recovered()
            end = self.end_of(consumer)
            self.assertLessEqual(end - first, sent)
            consumer.assign([TopicPartition("topic", 0, first)])
            values = []
            while len(values) < end - first:
                message = consumer.poll(30 * PATIENCE)
                self.assertIsNone(message.error())
                values.append(int(message.value()))
            self.assertEqual(list(range(end - first)), values)
            self.assertEqual(PARTITIONS, sum(metric(node, "weir_elections_by_all_total") for node in self.cluster.nodes))

    def test_flushed_again_it_survives_the_death_of_all(self):
        load = self.work()
        change = ConfigResource(ConfigResource.Type.TOPIC, "topic", set_config={"weir.durability": "flush"})
        admin = admin_of(self.cluster)
        for future in admin.alter_configs([change]).values():
            future.result(30 * PATIENCE)
        time.sleep(2)  # all replicas have heard, and what they had in memory is flushed
        self.kill_all()
        self.await_more(load, 300)
        for node in self.cluster.nodes:
            self.assertEqual(0, metric(node, "weir_elections_by_all_total"))
        self.finish(load)


if __name__ == "__main__":
    unittest.main()
