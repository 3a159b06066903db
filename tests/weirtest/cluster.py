"""Several Weir nodes as processes that are one cluster: started side by side, stopped, killed, frozen, one by one."""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time

from .node import PATIENCE, Node, NodeFailed, binary


GIVEN = set()  # what free_ports() gave to somebody who may not have used it yet


def free_ports(count, host="127.0.0.1"):
    """Ports that nobody has now. Another process may take one before it is used; a test that meets that fails at its start."""
    sockets, ports = [], []
    while len(ports) < count:
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((host, 0))
        sockets.append(s)
        port = s.getsockname()[1]
        if port not in GIVEN:
            ports.append(port)
    GIVEN.update(ports)
    for s in sockets:
        s.close()
    return ports


class Cluster:
    """`hosts[i]` is where node i listens, `prefixes[i]` what its command begins with (ip netns exec ...), `folders[i]` where it stores.
    The first three nodes are each one's seeds; further ones join."""

    def __init__(self, nodes=3, arguments=(), config=None, hosts=None, prefixes=None, folders=None, ports=None, founders=None):
        self.folder = tempfile.mkdtemp(prefix="weir-cluster-")
        self.founders = founders or nodes
        self.arguments = list(arguments)
        self.config = config
        self.nodes = []
        self.made = 0
        self.seeds = []
        for i in range(nodes):
            self.add(hosts[i] if hosts else "127.0.0.1", prefixes[i] if prefixes else (), folders[i] if folders else None,
                     ports[i] if ports else None)

    def add(self, host="127.0.0.1", prefix=(), folder=None, ports=None):
        """One more node, not started yet."""
        index, self.made = self.made, self.made + 1
        kafka, admin, rpc = ports or free_ports(3)
        if index < self.founders:
            self.seeds.append(f"{host}:{rpc}")
        data = folder or os.path.join(self.folder, str(index))
        os.makedirs(data, exist_ok=True)
        node = Node(self.arguments, self.config, data=data)
        node.prefix = list(prefix)
        node.kafka, node.admin, node.rpc = f"{host}:{kafka}", f"{host}:{admin}", f"{host}:{rpc}"
        node.index = index
        node.frozen = False
        self.nodes.append(node)
        return node

    def _prepare(self, node):
        if "--rpc" not in node.arguments:
            node.arguments += ["--rpc", node.rpc, "--seeds", ",".join(self.seeds)]
            if not node.rpc.startswith("127."):
                node.arguments += ["--cluster-secret", self.secret()]

    def secret(self):
        """The file of the cluster's secret, which nodes beyond loopback must have."""
        path = os.path.join(self.folder, "secret")
        if not os.path.exists(path):
            with open(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as f:
                f.write("a secret of the tests\n")
        return path

    def start(self, order=None, gap=0.0, seconds_max=60):
        """All that do not run, side by side, in this order; returns when each says that it serves."""
        failures = []

        def run(node):
            try:
                node.start(seconds_max * PATIENCE)
            except Exception as e:  # noqa: BLE001: told by the caller's thread
                failures.append(e)

        threads = []
        for i in order or range(len(self.nodes)):
            if self.nodes[i].process is not None:
                continue
            self._prepare(self.nodes[i])
            threads.append(threading.Thread(target=run, args=(self.nodes[i],)))
            threads[-1].start()
            time.sleep(gap)
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]
        return self

    def start_one(self, node, seconds_max=60):
        self._prepare(node)
        return node.start(seconds_max * PATIENCE)

    def freeze(self, node):
        node.process.send_signal(signal.SIGSTOP)
        node.frozen = True

    def thaw(self, node):
        node.process.send_signal(signal.SIGCONT)
        node.frozen = False

    def close(self):
        for node in self.nodes:
            if node.process is not None:
                node.process.kill()
                node.process.wait()
                node.process = None
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- facts

    @property
    def brokers(self):
        return ",".join(node.kafka for node in self.nodes)

    def weir(self, *arguments, node=None, check=True, timeout=120):
        """The `weir` command against the admin port of a node that runs; its JSON."""
        if node is None:
            node = next(n for n in self.nodes if n.process is not None and not n.frozen)
        done = subprocess.run([*node.prefix, binary(), *arguments, "--admin", node.admin, "--output", "json"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=timeout, check=False)
        if done.returncode != 0:
            if not check:
                return None
            raise NodeFailed(f"weir {' '.join(arguments)} ended with {done.returncode}: {done.stderr.decode()}")
        return json.loads(done.stdout)

    def health(self, node=None):
        return self.weir("cluster", "health", node=node, check=False, timeout=20)

    def partitions(self, topic, node=None):
        return self.weir("partition", "list", "--topic", topic, node=node)

    def await_healthy(self, seconds_max=60, nodes=None):
        """Until a node that runs says that all is well, with so many nodes."""
        deadline = time.monotonic() + seconds_max * PATIENCE
        while True:
            health = self.health()
            if health and health["healthy"] and (nodes is None or len(health["nodes"]) == nodes):
                return health
            if time.monotonic() > deadline:
                raise NodeFailed(f"not healthy after {seconds_max} s: {health}")
            time.sleep(0.2)

    def by_id(self, number):
        return next(n for n in self.nodes if n.number == number)
