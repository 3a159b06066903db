"""Benchmarks of three nodes on one machine: what replication costs, how long clients wait when a leader dies or hands over, and many partitions."""

import collections
import concurrent.futures
import itertools
import signal
import socket
import struct
import sys
import threading
import time
import types

from harness import (ROOT, WEIR, BenchError, Server, bench, in_turns, median, megabytes, milliseconds, one_record_batch, read_exactly, remove,
                     run_json, scratch, start_weir)

sys.path.insert(0, str(ROOT / "tests"))
from weirtest import wire  # noqa: E402
from weirtest.cluster import free_ports  # noqa: E402


class Nodes:
    """Three nodes that are one cluster. A context: they are stopped at its end."""

    def __init__(self, directory, count=3, flags=("--shards", "1")):
        ports = free_ports(3 * count)
        seeds = ",".join(f"127.0.0.1:{port}" for port in ports[:count])
        self.commands, self.logs = [], []
        for i in range(count):
            kafka, admin = ports[count + i], ports[2 * count + i]
            self.commands.append([WEIR, "start", "--data", str(directory / f"data-{i}"), "--kafka", f"127.0.0.1:{kafka}",
                                  "--admin", f"127.0.0.1:{admin}", "--rpc", f"127.0.0.1:{ports[i]}", "--seeds", seeds, *flags])
            self.logs.append(directory / f"node-{i}.log")
        with concurrent.futures.ThreadPoolExecutor(count) as pool:
            self.servers = list(pool.map(Server, self.commands, self.logs))
        self.await_health()

    def by_id(self, number):
        return next(i for i, server in enumerate(self.servers) if server and int(server.fields["node"]) == number)

    def start(self, i):
        self.servers[i] = Server(self.commands[i], self.logs[i])

    def kill(self, i):
        self.servers[i].kill()
        self.servers[i] = None

    @property
    def alive(self):
        return [server for server in self.servers if server]

    @property
    def address(self):
        return ",".join(server.address for server in self.alive)

    def admin(self, *words, server=None):
        return run_json([WEIR, *words, "--admin", (server or self.alive[0]).fields["admin"], "--output", "json"])

    def health(self):
        """None while the node that is asked can't tell."""
        try:
            return self.admin("cluster", "health")
        except BenchError:
            return None

    def await_health(self, good=lambda health: health["healthy"], seconds_max=120):
        """Seconds until the cluster's health is good."""
        began = time.monotonic()
        while time.monotonic() - began < seconds_max:
            health = self.health()
            if health and good(health):
                return time.monotonic() - began
            time.sleep(0.05)
        raise BenchError(f"not healthy after {seconds_max} s: {health}")

    def leaders(self, topic):
        return {p["partition"]: p["leader"] for p in self.admin("partition", "list", "--topic", topic)}

    def cpu_seconds(self):
        return sum(server.cpu_seconds() for server in self.alive)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for server in self.alive:
            server.process.send_signal(signal.SIGTERM)
        for server in self.alive:
            server.stop()


def create(nodes, topic, partitions, replicas=3):
    run_json([WEIR, "topic", "create", topic, "--partitions", partitions, "--replicas", replicas, "--brokers", nodes.address, "--output", "json"])
    nodes.await_health()


def replication(report, options):
    """Three replicas on three nodes of this machine beside one replica on one node: the same processors and the same disk do three times the work."""
    report.heading("Three replicas (first column) beside one replica on one node, 3 partitions, 4 producers, 1 MiB in flight")
    directory = scratch()
    (directory / "one").mkdir()
    load = {"partitions": 3, "seconds": options.seconds}
    with start_weir(directory / "one", "--shards", "1") as one, Nodes(directory) as three:
        # Leaders go where they are preferred some seconds after the topics are there; the load generator does not follow them.
        for topic in ("t1", "t16", "t100", "slow"):
            create(three, topic, 3)
        time.sleep(8)
        for records in (1, 16, 100):
            def run(address, replicas, cpu):
                def go():
                    before = cpu()
                    done = bench("produce", address, batch_records=records, topic=f"t{records}", replicas=replicas, warmup=0, **load)
                    return done["bytes_per_second"], done["latency"]["p99_ms"], (cpu() - before) / (done["bytes"] / 1e9), done["client_cpu_seconds"] / (done["bytes"] / 1e9)
                return go
            ours, single = in_turns(options.rounds, run(three.address, 3, three.cpu_seconds), run(one.address, 1, one.cpu_seconds))
            a, b = ([median(column) for column in zip(*runs)] for runs in (ours, single))
            report.add(f"throughput, {records}-record batches", megabytes(a[0]), megabytes(b[0]), a[0] / b[0], "", None)
            report.add("  p99 under this load", milliseconds(a[1]), milliseconds(b[1]), a[1] / b[1], "", None)
            report.add("  processor seconds a GB, all nodes", f"{a[2]:.2f} s", f"{b[2]:.2f} s", a[2] / b[2], "", None)
            report.add("  processor seconds a GB, load generator", f"{a[3]:.2f} s", f"{b[3]:.2f} s", a[3] / b[3], "", None)
        rate = 300
        def slow(address, replicas):
            return lambda: bench("latency", address, rate=rate, seconds=options.seconds, batch_records=1, record_bytes=3000, topic="slow", replicas=replicas, partitions=3)["latency"]
        ours, single = in_turns(options.rounds, slow(three.address, 3), slow(one.address, 1))
        for name, key in (("p50", "p50_ms"), ("p99", "p99_ms"), ("p99.9", "p999_ms")):
            a, b = (median([run[key] for run in runs]) for runs in (ours, single))
            report.add(f"latency at {rate}/s, {name}", milliseconds(a), milliseconds(b), a / b, "", None)
    remove(directory)


class Acknowledged(threading.Thread):
    """A librdkafka producer with default settings: so many records a second, to the partitions in turns; when each was sent and acknowledged."""

    def __init__(self, address, topic, partitions, rate=300):
        super().__init__()
        import confluent_kafka
        self.producer = confluent_kafka.Producer({"bootstrap.servers": address, "logger": None, "log_level": 0})
        self.topic, self.partitions, self.rate = topic, partitions, rate
        self.done = []  # (partition, sent, acknowledged)
        self.errors = collections.Counter()
        self.stopped = threading.Event()

    def run(self):
        began = time.monotonic()
        for n in itertools.count():
            if self.stopped.is_set():
                break
            self.producer.poll(max(0, began + n / self.rate - time.monotonic()))
            partition = n % self.partitions
            def delivered(error, _, partition=partition, sent=time.monotonic()):
                if error is None:
                    self.done.append((partition, sent, time.monotonic()))
                else:
                    self.errors[str(error)] += 1
            self.producer.produce(self.topic, b"x" * 100, partition=partition, on_delivery=delivered)
        self.producer.flush(60)

    def stop(self):
        self.stopped.set()
        self.join()

    def first_after(self, partition, moment):
        """When the first record that was sent after the moment was acknowledged; None: not yet."""
        return min((acknowledged for p, sent, acknowledged in self.done[-20_000:] if p == partition and sent >= moment), default=None)


def failover(report, options):
    """kill -9 of the leader: until each partition that it led acknowledges a record that was sent after the kill."""
    report.heading(f"A leader is killed, {options.kills} times; librdkafka with default settings goes on writing to 6 partitions")
    directory = scratch()
    partitions = 6
    pauses = []
    with Nodes(directory) as nodes:
        create(nodes, "failover", partitions)
        errors, records = collections.Counter(), 0
        for kill in range(options.kills):
            # A client of its own for each: one that met a node dead puts off its next attempt to reach it, by up to 10 s (librdkafka's
            # reconnect.backoff.max.ms), and the node that takes over now may be the one that was killed before.
            load = Acknowledged(nodes.address, "failover", partitions)
            load.start()
            try:
                time.sleep(1)
                leaders = nodes.leaders("failover")
                victim = nodes.by_id(leaders[kill % partitions])
                led = [p for p, leader in leaders.items() if nodes.by_id(leader) == victim]
                moment = time.monotonic()
                nodes.kill(victim)
                again = {}
                while len(again) < len(led):
                    time.sleep(0.02)
                    again |= {p: first for p in led if p not in again and (first := load.first_after(p, moment))}
                    if time.monotonic() - moment > 60:
                        raise BenchError(f"partitions {set(led) - set(again)} acknowledge nothing a minute after kill {kill}")
                pauses.append(max(again.values()) - moment)
            finally:
                load.stop()
            errors += load.errors
            records += len(load.done)
            nodes.start(victim)
            nodes.await_health()
    pauses.sort()
    p99 = pauses[min(len(pauses) - 1, int(len(pauses) * 0.99))]
    report.add("until all its partitions acknowledge again, p50", f"{median(pauses) * 1e3:.0f} ms", "", None, "", None)
    report.add("p99", f"{p99 * 1e3:.0f} ms", f"longest {pauses[-1] * 1e3:.0f} ms", None, "<= 1 s", p99 <= 1)
    report.add("records that failed", str(sum(errors.values())), f"of {records}", None, "0", not errors)
    remove(directory)


class Following:
    """The least of a client that follows KIP-951: Produce v10, one record after the other; told of another leader, it asks that one at once."""

    def __init__(self, addresses, topic, leader):
        self.topic, self.leader = topic.encode(), leader
        self.connections = {}
        for node, address in addresses.items():
            host, port = address.rsplit(":", 1)
            self.connections[node] = socket.create_connection((host, int(port)), timeout=30)
            self.connections[node].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.batch = one_record_batch()
        self.redirected = 0

    def produce(self):
        """Seconds until it is acknowledged."""
        began = time.monotonic()
        while True:
            error, hint = self.ask(self.connections[self.leader])
            if error == 0:
                return time.monotonic() - began
            if error != 6 or time.monotonic() - began > 30:
                raise BenchError(f"produce: error {error}")
            self.redirected += 1
            if hint >= 0:
                self.leader = hint
            else:
                time.sleep(0.001)

    def ask(self, connection):
        header = struct.pack(">hhih", 0, 10, 1, 4) + b"weir" + b"\0"
        body = b"\0" + struct.pack(">hi", -1, 30_000) + bytes([2, len(self.topic) + 1]) + self.topic
        body += b"\x02" + struct.pack(">i", 0) + bytes([(len(self.batch) + 1) & 0x7f | 0x80, (len(self.batch) + 1) >> 7]) + self.batch + b"\0\0\0"
        frame = header + body
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        answer = read_exactly(connection, struct.unpack(">i", read_exactly(connection, 4))[0])
        at = 4 + 1 + 1 + 1 + len(self.topic) + 1  # correlation id, tags, one topic, its name, one partition
        error = struct.unpack_from(">h", answer, at + 4)[0]
        at += 4 + 2 + 8 + 8 + 8
        if answer[at] != 1:
            raise BenchError("errors of single records were not asked for")
        at += 1
        message = answer[at]
        at += max(1, message)
        if answer[at] == 0:
            return error, -1
        at += 1
        if answer[at] != 0:
            raise BenchError("an unknown tagged field")
        return error, struct.unpack_from(">i", answer, at + 2)[0]

    def close(self):
        for connection in self.connections.values():
            connection.close()


def transfer(report, options):
    """The leader hands over under load; what the slowest record around it took beyond the median."""
    report.heading(f"A planned leader transfer under load, {options.transfers} times")
    directory = scratch()
    with Nodes(directory) as nodes:
        create(nodes, "transfer", 1)
        time.sleep(6)  # leadership goes back to who is preferred 5 s after a change, once
        load = Acknowledged(nodes.address, "transfer", 1)
        load.start()
        addresses = {int(server.fields["node"]): server.address for server in nodes.servers}
        numbers = sorted(addresses)
        following = Following(addresses, "transfer", nodes.leaders("transfer")[0])
        took, stop = [], threading.Event()

        def follow():
            while not stop.is_set():
                took.append((time.monotonic(), following.produce()))
                time.sleep(0.002)

        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            thread = pool.submit(follow)
            moments = []
            try:
                time.sleep(2)
                for _ in range(options.transfers):
                    leader = nodes.leaders("transfer")[0]
                    to = numbers[(numbers.index(leader) + 1) % len(numbers)]
                    moments.append(time.monotonic())
                    nodes.admin("partition", "transfer-leader", "transfer", "0", "--to", to)
                    time.sleep(2)
            finally:
                stop.set()
                load.stop()
                thread.result(60)
        following.close()
    usual = median([seconds for _, seconds in took])
    usual_rdkafka = median([acknowledged - sent for _, sent, acknowledged in load.done])
    added = sorted(max((s for at, s in took if m - 0.5 <= at <= m + 1.5), default=0) - usual for m in moments)
    added_rdkafka = sorted(max((a - s for _, s, a in load.done if m - 0.5 <= s <= m + 1.5), default=0) - usual_rdkafka for m in moments)
    report.add("added latency, a client that follows KIP-951, median", milliseconds(median(added) * 1e3), f"usual {milliseconds(usual * 1e3)}", None, "<= 50 ms", median(added) <= 0.05)
    report.add("  the worst transfer", milliseconds(added[-1] * 1e3), f"{following.redirected} times redirected", None, "<= 50 ms", added[-1] <= 0.05)
    report.add("added latency, librdkafka of Debian 12, median", milliseconds(median(added_rdkafka) * 1e3), f"usual {milliseconds(usual_rdkafka * 1e3)}", None, "", None)
    report.add("records that failed", str(sum(load.errors.values())), f"of {len(load.done) + len(took)}", None, "0", not load.errors)
    remove(directory)


def scale(report, options):
    """10,000 partitions with three replicas each, on three nodes of this machine."""
    count = options.partitions
    report.heading(f"{count} partitions, three replicas each, three nodes on this machine")
    directory = scratch()
    with Nodes(directory) as nodes:
        create(nodes, "first", 1)
        time.sleep(3)
        idle = [server.resident_bytes() for server in nodes.servers]
        began = time.monotonic()
        run_json([WEIR, "topic", "create", "many", "--partitions", count, "--replicas", 3, "--brokers", nodes.address, "--output", "json"])
        nodes.await_health(seconds_max=300)
        took = time.monotonic() - began
        report.add("created, all of them with leaders and in sync", f"{took:.1f} s", "", None, "<= 60 s", took <= 60)
        began = time.monotonic()
        while time.monotonic() - began < 300:
            leaders = collections.Counter(nodes.leaders("many").values())
            if len(leaders) == 3 and max(leaders.values()) - min(leaders.values()) <= count // 20:
                break
            time.sleep(2)
        report.add("until each node leads a third of them", f"{time.monotonic() - began:.0f} s", "", None, "", None)
        time.sleep(10)
        before, began = nodes.cpu_seconds(), time.monotonic()
        time.sleep(20)
        share = (nodes.cpu_seconds() - before) / (time.monotonic() - began)
        report.add("idle: processor, all three nodes", f"{share * 100:.1f} %", "", None, "<= 5 %", share <= 0.05)
        each = max(server.resident_bytes() - base for server, base in zip(nodes.servers, idle)) / count
        report.add("memory of an idle replica, the largest node", f"{each / 1024:.2f} KiB", "", None, "<= 8 KiB", each <= 8192)
        leaders = collections.Counter(nodes.leaders("many").values())
        report.add("leaders by node", " ".join(str(leaders[n]) for n in sorted(leaders)), "", None, "", None)
        victim = nodes.by_id(leaders.most_common(1)[0][0])
        began = time.monotonic()
        nodes.kill(victim)
        nodes.await_health(lambda health: health["leaderless"] == 0 and any(not node["alive"] for node in health["nodes"]))
        took = time.monotonic() - began
        report.add("a node is killed: until no partition is without a leader", f"{took:.2f} s", "", None, "<= 5 s", took <= 5)
        time.sleep(5)
        nodes.start(victim)
        ready = nodes.servers[victim].ready_seconds
        report.add("the node starts again: ready", f"{ready:.2f} s", "", None, "<= 5 s", ready <= 5)
        took = nodes.await_health()
        report.add("  and then until all its replicas are in sync", f"{took:.2f} s", "", None, "", None)
    remove(directory)


def creation(report, options):
    """Topics of three replicas, created one after the other, each asked for and produced to at once."""
    count = 100
    report.heading(f"{count} topics of three replicas, created one after the other, each produced to at once")
    directory = scratch()
    records = one_record_batch()
    with Nodes(directory) as nodes:
        create(nodes, "first", 1)
        time.sleep(3)
        lines = {int(server.fields["node"]): wire.Connection(types.SimpleNamespace(host=server.address.split(":")[0], port=int(server.address.split(":")[1]))) for server in nodes.servers}
        order, created, produced, moved = itertools.cycle(sorted(lines)), [], [], []
        without_leader = refused = 0
        for i in range(count):
            name, ask = f"new-{i}", lines[next(order)]
            began = time.monotonic()
            answer = ask.call("CreateTopics", 4, topics=[{"name": name, "partitions": 1, "replicas": 3, "assignments": [], "configs": []}], timeout_ms=30000)
            if answer["topics"][0]["error"]:
                raise BenchError(f"{name} was not created: {answer}")
            answered = time.monotonic()
            leader = None
            while True:
                topic = ask.call("Metadata", 7, topics=[{"name": name}], auto_create=False)["topics"][0]
                partition = topic["partitions"][0] if topic["partitions"] else {"error": topic["error"], "leader": -1}
                if partition["leader"] < 0:
                    without_leader += 1
                    time.sleep(0.002)
                    continue
                leader = leader or (partition["leader"], partition["replicas"][0])
                done = lines[partition["leader"]].call("Produce", 7, transactional_id=None, acks=-1, timeout_ms=30000,
                                                       topics=[{"name": name, "partitions": [{"index": 0, "records": records}]}])
                if done["topics"][0]["partitions"][0]["error"] == 0:
                    break
                refused += 1
                time.sleep(0.002)
            created.append(answered - began)
            produced.append(time.monotonic() - answered)
            moved.append(leader[0] != leader[1])
        time.sleep(8)  # leadership goes back to who is preferred 5 s after a change
        after = sum(nodes.leaders(f"new-{i}")[0] != ask.call("Metadata", 7, topics=[{"name": f"new-{i}"}], auto_create=False)["topics"][0]["partitions"][0]["replicas"][0]
                    for i in range(0, count, 10))
        for line in lines.values():
            line.close()
    produced.sort()
    created.sort()
    worst = produced[count * 99 // 100 - 1]
    report.add("CreateTopics is answered: median, p99", milliseconds(median(created) * 1e3), f"p99 {milliseconds(created[count * 99 // 100 - 1] * 1e3)}", None, "", None)
    report.add("from there to the first acknowledged produce: median", milliseconds(median(produced) * 1e3), "", None, "", None)
    report.add("  p99", milliseconds(worst * 1e3), f"longest {milliseconds(produced[-1] * 1e3)}", None, "<= 100 ms", worst <= 0.1)
    report.add("answers of Metadata without a leader", str(without_leader), "", None, "0", without_leader == 0)
    report.add("produces that were sent to a node that did not lead", str(refused), "", None, "0", refused == 0)
    report.add("leaders that are not the first replica: at first, 8 s later", f"{sum(moved)}, {after}", "", None, "0, 0", not any(moved) and not after)
    remove(directory)


PARTS = {f.__name__: f for f in (replication, failover, transfer, scale, creation)}

