#!/usr/bin/python3
"""./dev chaos: three nodes, each in a network namespace of its own, are broken in every way while real clients write and read; then what they
were told and read is checked. Ends with a report for people, and with 1 if a rule was broken. tests/README.md says what is checked.

Needs root for namespaces and disks; without, it runs on loopback, and says which faults are left out."""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from weirtest.cluster import Cluster, free_ports  # noqa: E402
from weirtest.kafka import fetch, list_offset  # noqa: E402
from weirtest.node import NodeFailed  # noqa: E402
from weirtest.records import batches  # noqa: E402
from weirtest.wire import Connection  # noqa: E402
from weirtest.workload import Workload  # noqa: E402

PARTITIONS = 8
DISK_MIB, DISK_MIB_PER_MINUTE = 600, 50  # nothing that is written goes away again
STALL_SECONDS = 20  # a record that waits longer is looked into while it does
LOOK_SECONDS = 10  # so soon again
ANSWER_SECONDS = 60  # after a fault each record that was sent by then must have its answer so soon
FAKETIME = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1"


def sh(*command, check=True):
    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=check).stdout.decode(errors="replace")


class Net:
    """Namespaces behind one bridge; node i is 10.97.N.(i+1), the clients' side is .254."""

    def __init__(self, nodes):
        self.tag = f"wc{os.getpid() % 10000}"
        self.subnet = f"10.97.{os.getpid() % 250}"
        self.count = 0
        self.bridge = self.tag + "b"
        sh("ip", "link", "add", self.bridge, "type", "bridge")
        sh("ip", "addr", "add", self.subnet + ".254/24", "dev", self.bridge)
        sh("ip", "link", "set", self.bridge, "up")
        for _ in range(nodes):
            self.add()

    def add(self):
        i = self.count
        self.count += 1
        name = self.name(i)
        sh("ip", "netns", "add", name)
        sh("ip", "link", "add", self.outer(i), "type", "veth", "peer", "name", "eth0", "netns", name)
        sh("ip", "link", "set", self.outer(i), "master", self.bridge, "up")
        for command in (("ip", "addr", "add", self.host(i) + "/24", "dev", "eth0"), ("ip", "link", "set", "eth0", "up"),
                        ("ip", "link", "set", "lo", "up")):
            sh("ip", "netns", "exec", name, *command)

    def name(self, i):
        return f"{self.tag}n{i}"

    def outer(self, i):
        return f"{self.tag}v{i}"

    def host(self, i):
        return f"{self.subnet}.{i + 1}"

    def prefix(self, i):
        return ("ip", "netns", "exec", self.name(i))

    def cut(self, i, j, both=True):
        """What j sends to i goes nowhere; the other way too if both."""
        sh(*self.prefix(i), "ip", "route", "add", "blackhole", self.host(j) + "/32", check=False)
        if both:
            sh(*self.prefix(j), "ip", "route", "add", "blackhole", self.host(i) + "/32", check=False)

    def heal(self, i):
        for j in list(range(self.count)) + [253]:
            sh(*self.prefix(i), "ip", "route", "del", "blackhole", self.host(j) + "/32", check=False)
        sh(*self.prefix(i), "tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        sh(*self.prefix(i), "nft", "delete", "table", "inet", "chaos", check=False)

    def delay(self, i, milliseconds, loss_percent):
        """What i sends arrives late by that, more or less, and some of it never."""
        sh(*self.prefix(i), "tc", "qdisc", "replace", "dev", "eth0", "root", "netem", "delay", f"{milliseconds}ms", f"{milliseconds // 2}ms",
           "loss", f"{loss_percent}%")

    def squeeze(self, i, kilobits, loss_percent):
        """The same where the kernel has no netem: what i sends queues before a narrow link, for up to 400 ms, and some of it is dropped."""
        sh(*self.prefix(i), "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", f"{kilobits}kbit", "burst", "16kb", "latency", "400ms")
        sh(*self.prefix(i), "nft", "add table inet chaos; add chain inet chaos out { type filter hook output priority 0; }; "
           f"add rule inet chaos out meta oifname eth0 numgen random mod 100 < {loss_percent} drop")

    def close(self):
        for i in range(self.count):
            sh("ip", "netns", "del", self.name(i), check=False)
        sh("ip", "link", "del", self.bridge, check=False)


class SmallDisk:
    """A file system of its own in a file, so that it can be filled."""

    def __init__(self, folder, mib):
        self.image, self.mount = os.path.join(folder, "disk.img"), os.path.join(folder, "disk")
        os.makedirs(self.mount)
        with open(self.image, "wb") as f:
            f.truncate(mib << 20)
        sh("mkfs.ext4", "-q", "-m", "0", self.image)
        sh("mount", "-o", "loop", self.image, self.mount)
        self.ballast = os.path.join(self.mount, "ballast")

    def fill(self):
        free = os.statvfs(self.mount)
        with open(self.ballast, "wb") as f:
            os.posix_fallocate(f.fileno(), 0, max(4096, free.f_bavail * free.f_frsize - (1 << 20)))

    def make_room(self):
        if os.path.exists(self.ballast):
            os.remove(self.ballast)

    def close(self):
        sh("umount", "-l", self.mount, check=False)


class Chaos:
    def __init__(self, minutes, seed, out, only=(), answer_max=60):
        self.only, self.answer_max = only, answer_max
        self.seconds, self.draw, self.out = minutes * 60, random.Random(seed), out
        self.began = time.monotonic()
        self.events, self.left_out = [], []
        self.stalls = 0
        self.counts = {}
        self.folder = tempfile.mkdtemp(prefix="weir-chaos-")
        self.net = self.disk = None
        try:
            self.net = Net(3)
        except (subprocess.CalledProcessError, OSError) as e:
            self.left_out.append(f"partitions, delay and loss: no network namespaces here ({e})")
        self.delays = self.squeezes = False
        if self.net:
            self.delays = self.can(lambda: self.net.delay(0, 1, 0))
            self.squeezes = not self.delays and self.can(lambda: self.net.squeeze(0, 1000, 1))
            if self.squeezes:
                self.left_out.append("delay on an idle link: this kernel has no netem (a narrow link that queues and loses packets stands for it)")
            elif not self.delays:
                self.left_out.append("delay and loss: this kernel has no netem, and no tbf or nftables either")
        try:
            self.disk = SmallDisk(self.folder, int(DISK_MIB + minutes * DISK_MIB_PER_MINUTE))
        except (subprocess.CalledProcessError, OSError) as e:
            self.left_out.append(f"a full disk: no file system in a file can be mounted here ({e})")
        if not os.path.exists(FAKETIME):
            self.left_out.append("a wrong clock: libfaketime is not installed (the simulator jumps clocks)")
        folders = [self.disk.mount + "/0" if self.disk and i == 0 else os.path.join(self.folder, str(i)) for i in range(3)]
        if self.net:
            self.cluster = Cluster(3, self.arguments(), hosts=[self.net.host(i) for i in range(3)], prefixes=[self.net.prefix(i) for i in range(3)],
                                   folders=folders, ports=[(9092, 9644, 9700)] * 3)
        else:
            self.cluster = Cluster(3, self.arguments(), folders=folders)

    @staticmethod
    def arguments():
        return ("--shards", "1", "--memory", "128MiB", "-c", "journal.bytes=67108864", "-c", "log.segment.bytes=16777216")

    # What the nodes make of a partition that gets nowhere.

    def watch_stalls(self, load, over):
        looked, elsewhere = {}, {}
        while not over.wait(1):
            oldest = load.oldest()
            if not oldest or oldest[0] < STALL_SECONDS or time.monotonic() < looked.get(oldest[1:], 0) + LOOK_SECONDS:
                continue
            age, writer, partition, number = oldest
            looked[oldest[1:]] = time.monotonic()
            self.stalls += 1
            self.say(f"#{number} of writer {writer} to partition {partition} has had no answer for {age:.0f} s")
            leader, goes_to, text = load.client_says(writer, partition)
            self.say("  its client: " + text)
            told = []
            for node in list(self.cluster.nodes):
                its, text = self.says(node, partition)
                told += [] if its is None else [its]
                self.say(f"  node {node.number}: {text}")
            if goes_to in (leader, -1) or len(told) < 2 or set(told) != {leader}:
                elsewhere.pop(writer, None)
                continue
            elsewhere[writer] = elsewhere.get(writer, 0) + 1
            if elsewhere[writer] == 2:
                load.abandon(writer, f"told by all nodes that node {leader} leads partition {partition}, it knew, and sent #{number} to node {goes_to} for ever")

    def says(self, node, partition):
        """(who leads by its Metadata, all that it says)"""
        if node.process is None or node.frozen:
            return None, "is down" if node.process is None else "is stopped"
        leader, said = None, []
        try:
            with Connection(node, timeout=3) as c:
                topic = c.call("Metadata", 9, topics=[{"name": "chaos"}], auto_create=False, cluster_ops=False,
                               topic_ops=False)["topics"][0]
                row = next(p for p in topic["partitions"] if p["index"] == partition)
                leader = row["leader"]
                said.append(f"Metadata leader {leader} epoch {row['leader_epoch']} in sync {row['isr']}")
                error, _, offset = list_offset(c, "chaos", -1, partition=partition)
                said.append(f"ListOffsets error {error} end {offset}")
        except Exception as e:  # noqa: BLE001: no answer is one too
            said.append(f"{type(e).__name__}: {e}")
        try:
            rows = self.cluster.weir("partition", "list", "--topic", "chaos", node=node, timeout=5)
            said.append(f"weir partition list {next(row for row in rows if row['partition'] == partition)}")
        except Exception as e:  # noqa: BLE001
            said.append(f"weir partition list: {type(e).__name__}: {e}")
        return leader, "; ".join(said)

    def say(self, text):
        line = f"{time.monotonic() - self.began:7.1f} s  {text}"
        self.events.append(line)
        print(line, flush=True)

    # -- faults: each does, waits, undoes; no more than one node is away at a time

    def pick(self):
        return self.draw.choice(self.cluster.nodes[:3])

    def pause(self, low=1.0, high=6.0):
        time.sleep(self.draw.uniform(low, high))

    def kill(self):
        node = self.pick()
        self.say(f"kill -9 of node {node.number}")
        node.kill()
        self.pause(0.1, 5)
        self.cluster.start_one(node)

    def freeze(self):
        node = self.pick()
        self.say(f"SIGSTOP of node {node.number}")
        self.cluster.freeze(node)
        self.pause(0.5, 8)
        self.cluster.thaw(node)

    def partition(self, both):
        node = self.pick()
        others = [other for other in self.cluster.nodes[:3] if other is not node]
        if self.draw.random() < 0.3:
            others = others[:1]
        self.say(f"node {node.number} {'is cut off from' if both else 'hears and cannot answer'} nodes {[o.number for o in others]}")
        for other in others:
            self.net.cut(node.index, other.index, both)
        self.pause(2, 10)
        for i in range(3):
            self.net.heal(i)

    def two_way(self):
        self.partition(True)

    def one_way(self):
        self.partition(False)

    def can(self, disturb):
        try:
            disturb()
            return True
        except (subprocess.CalledProcessError, OSError):
            return False
        finally:
            self.net.heal(0)

    def slow_network(self):
        node = self.pick()
        amount, loss = self.draw.randrange(5, 200), self.draw.choice((0, 1, 5, 20))
        if self.delays:
            self.say(f"the network of node {node.number}: {amount} ms and {loss} % lost")
            self.net.delay(node.index, amount, loss)
        else:
            self.say(f"the network of node {node.number}: {amount * 20} kbit/s and {loss} % lost")
            self.net.squeeze(node.index, amount * 20, loss)
        self.pause(2, 10)
        self.net.heal(node.index)

    def full_disk(self):
        node = self.cluster.nodes[0]
        self.say(f"the disk of node {node.number} is full")
        self.disk.fill()
        self.pause(2, 8)
        self.disk.make_room()

    def wrong_clock(self):
        node = self.pick()
        by = self.draw.choice(("-1d", "+1d", "-1h", "+30m"))
        self.say(f"node {node.number} starts with its clock wrong by {by}")
        node.stop()
        prefix = node.prefix
        node.prefix = [*prefix, "env", f"LD_PRELOAD={FAKETIME}", f"FAKETIME={by}", "FAKETIME_DONT_FAKE_MONOTONIC=1", "FAKETIME_NO_CACHE=0"]
        self.cluster.start_one(node)
        self.pause(2, 8)
        node.stop()
        node.prefix = prefix
        self.cluster.start_one(node)

    def rolling_restart(self):
        self.say("rolling restart")
        for node in self.cluster.nodes[:3]:
            node.stop()
            self.cluster.start_one(node)
            self.cluster.await_healthy(60)

    def reassign(self):
        partition = self.draw.randrange(PARTITIONS)
        numbers = [node.number for node in self.cluster.nodes[:3]]
        self.draw.shuffle(numbers)
        for replicas in (numbers[:2], numbers):
            self.say(f"partition {partition} moves to {replicas}")
            self.cluster.weir("partition", "move", "chaos", str(partition), "--replicas", ",".join(map(str, replicas)), timeout=120)

    def decommission(self):
        """A fourth node comes, is given replicas, and leaves."""
        if self.net:
            i = self.net.count
            self.net.add()
            node = self.cluster.add(self.net.host(i), self.net.prefix(i), None, (9092, 9644, 9700))
        else:
            node = self.cluster.add("127.0.0.1", (), None, free_ports(3))
        self.cluster.start_one(node)
        self.say(f"node {node.number} joins, is given a partition, and is decommissioned")
        first = self.cluster.nodes[0].number
        self.cluster.weir("partition", "move", "chaos", "0", "--replicas", f"{node.number},{first}", timeout=120)
        self.cluster.weir("cluster", "decommission", str(node.number), timeout=180)
        node.kill()
        self.cluster.nodes.remove(node)

    def maintenance(self):
        node = self.pick()
        self.say(f"maintenance of node {node.number}")
        self.cluster.weir("cluster", "maintenance", str(node.number), "on", timeout=120)
        self.cluster.weir("cluster", "maintenance", str(node.number), "off", timeout=120)

    # -- the run

    def faults(self):
        known = self.known_faults()
        return [fault for fault in known if not self.only or fault.__name__ in self.only]

    def known_faults(self):
        faults = [self.kill, self.kill, self.freeze, self.rolling_restart, self.reassign, self.maintenance, self.decommission]
        if self.net:
            faults += [self.two_way, self.one_way]
        if self.delays or self.squeezes:
            faults += [self.slow_network]
        if self.disk:
            faults += [self.full_disk]
        if os.path.exists(FAKETIME):
            faults += [self.wrong_clock]
        return faults

    def run(self):
        self.cluster.start()
        self.cluster.await_healthy(60, nodes=3)
        admin = AdminClient({"bootstrap.servers": self.cluster.brokers, "logger": None, "log_level": 0})
        # A node whose clock is behind would, by default, rightly refuse what is an hour or more ahead of it.
        topic = NewTopic("chaos", PARTITIONS, 3, config={"message.timestamp.after.max.ms": str(2**63 - 1)})
        for future in admin.create_topics([topic], operation_timeout=20).values():
            future.result(30)
        load = Workload(self.cluster.brokers, "chaos", PARTITIONS, writers=3, readers=2, pause=0.004, seed=self.draw.randrange(1 << 30),
                        answer_max=self.answer_max).start()
        over = threading.Event()
        watcher = threading.Thread(target=self.watch_stalls, args=(load, over))
        watcher.start()
        wrong = []
        try:
            deck = []
            while time.monotonic() - self.began < self.seconds:
                # Each fault once, in a drawn order, before any comes again.
                if not deck:
                    deck = self.faults()
                    self.draw.shuffle(deck)
                fault = deck.pop()
                fault()
                self.counts[fault.__name__] = self.counts.get(fault.__name__, 0) + 1
                self.cluster.await_healthy(90)
                self.await_answers(load, fault.__name__)
        except Exception as e:  # noqa: BLE001: it belongs into the report, and the history is checked all the same
            wrong.append(f"{type(e).__name__}: {e}")
            self.say(wrong[-1])
            self.repair()
        self.say("the last fault is over: reading everything")
        try:
            load.stop()
        except Exception as e:  # noqa: BLE001
            wrong.append(f"reading everything: {type(e).__name__}: {e}")
            load.readers_stopped.set()
        over.set()
        watcher.join()
        self.renumbered = self.find_renumbered(load) if not wrong else []
        wrong += load.problems(self.renumbered)
        self.report(load, wrong)
        return wrong

    def await_answers(self, load, fault):
        """Until what was sent by now is answered, on every partition."""
        now = time.monotonic()
        while True:
            oldest = load.oldest()
            waited = time.monotonic() - now
            if not oldest or oldest[0] < waited:
                return
            if waited > ANSWER_SECONDS:
                age, writer, partition, number = oldest
                raise NodeFailed(f"a minute after {fault} #{number} of writer {writer} to partition {partition} still waits, for {age:.0f} s by now")
            time.sleep(0.05)

    def batch_of(self, partition, offset):
        for node in self.cluster.nodes:
            if node.process is None:
                continue
            with Connection(node) as c:
                answer = fetch(c, "chaos", offset, partition=partition)
            for batch in batches(answer["records"]):
                if batch.base_offset <= offset <= batch.last_offset:
                    return batch
        raise NodeFailed(f"no node has offset {offset} of partition {partition}")

    def find_renumbered(self, load):
        """(partition, offset) of each second copy that its client sent as a new record: under a later epoch of its producer id. librdkafka 2.0
        does so when it sends to a new leader before it has taken back what the old one refused. Copies with one number are the nodes' fault."""
        found = []
        for partition, pairs in load.history.twice().items():
            for first, later in pairs:
                a, b = self.batch_of(partition, first), self.batch_of(partition, later)
                if a.producer_id == b.producer_id and a.epoch < b.epoch:
                    found.append((partition, later))
        return found

    def repair(self):
        for i in range(self.net.count if self.net else 0):
            self.net.heal(i)
        if self.disk:
            self.disk.make_room()
        for node in self.cluster.nodes:
            if node.process is not None and node.frozen:
                self.cluster.thaw(node)
            if node.process is None:
                try:
                    self.cluster.start_one(node)
                except NodeFailed as e:
                    self.say(str(e))

    def report(self, load, wrong):
        reads = sum(len(records) for records in load.history.reads.values())
        lines = ["", f"chaos: {(time.monotonic() - self.began) / 60:.1f} minutes, 3 nodes " +
                 ("in network namespaces" if self.net else "on loopback"),
                 "faults: " + ", ".join(f"{count} {name}" for name, count in sorted(self.counts.items())),
                 *(f"left out: {text}" for text in self.left_out),
                 f"records: {sum(load.history.sent.values())} sent, {load.acknowledged} acknowledged, {reads} read by the readers, "
                 f"{sum(len(r) for r in load.history.final.values())} there in the end",
                 *([f"written again by their client under a new epoch, which no broker can know: {len(self.renumbered)} records"] if self.renumbered else []),
                 *(f"the client gave up, not for a fault of a node, and another went on: {text}" for text in load.history.client_gave_up),
                 f"longest time without an acknowledgement: {load.longest_gap:.1f} s; the longest that one record waited for its own: "
                 f"{load.longest_wait[0]:.1f} s ({load.longest_wait[1]})",
                 *([f"records that waited longer than {STALL_SECONDS} s were looked into {self.stalls} times, above"] if self.stalls else []),
                 "every acknowledged record is there once and in order, no read went back, nothing was there that was never sent" if not wrong
                 else f"BROKEN: {len(wrong)} findings", *wrong]
        text = "\n".join(lines)
        print(text, flush=True)
        with open(self.out, "w", encoding="utf-8") as f:
            f.write("\n".join(self.events) + "\n" + text + "\n")
        print(f"the report is in {self.out}")

    def keep_logs(self):
        folder = self.out + ".logs"
        os.makedirs(folder, exist_ok=True)
        for node in self.cluster.nodes:
            if os.path.exists(node.log_path):
                shutil.copy(node.log_path, os.path.join(folder, f"node-{node.number}.log"))
        print(f"the nodes' logs are in {folder}")

    def close(self):
        self.cluster.close()
        if self.net:
            self.net.close()
        if self.disk:
            self.disk.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def main():
    parser = argparse.ArgumentParser(prog="./dev chaos", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the faults' order and kind")
    parser.add_argument("--only", default="", metavar="FAULT,...", help="these faults alone, by the names that the report has for them")
    parser.add_argument("--answer-max", type=int, default=60, metavar="SECONDS", help="how long a producer waits for one answer [60]")
    parser.add_argument("--report", default="chaos-report.txt", help="where the report goes [chaos-report.txt]")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}")
    only = [name for name in arguments.only.split(",") if name]
    chaos = Chaos(arguments.minutes, arguments.seed, os.path.abspath(arguments.report), only, arguments.answer_max)
    try:
        wrong = chaos.run()
        if wrong:
            chaos.keep_logs()
        return 1 if wrong else 0
    finally:
        chaos.close()


if __name__ == "__main__":
    sys.exit(main())
