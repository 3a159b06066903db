"""A Weir node as a process: started on free ports, stopped with SIGTERM, killed, started again on the same port."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time
import unittest

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
SANITIZED = os.environ.get("WEIR_PRESET", "release") in ("asan", "tsan")
# A build with sanitizers is for what it reports: how long something takes shows nothing there, so every bound is this much wider.
PATIENCE = 10 if SANITIZED else 1
START_SECONDS_MAX = 60 if SANITIZED else 30
# Groups that do not wait for members that may still come: the tests have many small groups.
QUICK_GROUPS = "group.initial.rebalance.delay.ms = 200\n"
STOP_SECONDS_MAX = 20 if SANITIZED else 5


def binary():
    return os.environ.get("WEIR_BINARY", os.path.join(TREE, "build", "release", "weir"))


class NodeFailed(AssertionError):
    pass


class Node:
    """One node. `config` is the text of a configuration file; `arguments` are further arguments of `weir start`."""

    def __init__(self, arguments=(), config=None, data=None):
        self.own_folder = data is None
        self.folder = data or tempfile.mkdtemp(prefix="weir-test-")
        self.data = os.path.join(self.folder, "data")
        self.log_path = os.path.join(self.folder, "log")
        self.arguments = list(arguments)
        if config is not None:
            path = os.path.join(self.folder, "weir.toml")
            with open(path, "w", encoding="utf-8") as f:
                f.write(config)
            self.arguments += ["--config", path]
        self.process = None
        self.kafka = self.admin = None
        self.prefix = []  # what the command begins with
        self.binary = None  # another than all tests have
        self.number = 0  # in its cluster
        self.starts = 0
        self.start_seconds = 0.0

    # -- life

    def start(self, seconds_max=START_SECONDS_MAX):
        """Returns when the node says that it serves. A second start uses the ports of the first."""
        assert self.process is None
        command = [*self.prefix, self.binary or binary(), "start", "--data", self.data, "--kafka", self.kafka or "127.0.0.1:0",
                   "--admin", self.admin or "127.0.0.1:0"] + self.arguments
        began = time.monotonic()
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        ready = []

        def read():
            with stdout:
                for line in stdout:
                    ready.append(line.decode(errors="replace").rstrip("\n"))

        stdout = self.process.stdout
        self.reader = threading.Thread(target=read, daemon=True)
        self.reader.start()
        while not ready:
            if self.process.poll() is not None:
                code, self.process = self.process.returncode, None
                raise NodeFailed(f"start {self.starts + 1} ended with {code} before it served\n{self.log_tail()}")
            if time.monotonic() - began > seconds_max:
                self.kill()
                raise NodeFailed(f"start {self.starts + 1} said nothing for {seconds_max} s\n{self.log_tail()}")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began
        self.starts += 1
        match = re.fullmatch(r"ready kafka=(\S+) admin=(\S+) shards=(\d+) driver=(\S+)(?: node=(\d+))?", ready[0])
        if not match:
            self.kill()
            raise NodeFailed(f"the first line is not the ready line: {ready[0]!r}")
        self.kafka, self.admin = match[1], match[2]
        self.shards, self.driver = int(match[3]), match[4]
        self.number = int(match[5] or 0)
        self.ready_line = ready[0]
        return self

    def stop(self):
        """SIGTERM; the node must end by itself, in time, with 0."""
        process, self.process = self.process, None
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise NodeFailed(f"still there {STOP_SECONDS_MAX} s after SIGTERM\n{self.log_tail()}") from None
        self.reader.join()
        if code != 0:
            raise NodeFailed(f"ended with {code} after SIGTERM\n{self.log_tail()}")
        return time.monotonic() - began

    def kill(self):
        """kill -9: no word of warning."""
        process, self.process = self.process, None
        process.kill()
        process.wait()

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        """For tear-down: whatever state it is in, nothing is left of it."""
        if self.process is not None:
            self.kill()
        if self.own_folder:
            shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, *_):
        self.close()

    # -- facts

    @property
    def host(self):
        return self.kafka.rsplit(":", 1)[0]

    @property
    def port(self):
        return int(self.kafka.rsplit(":", 1)[1])

    @property
    def alive(self):
        return self.process is not None and self.process.poll() is None

    def status(self, field):
        """A field of /proc/PID/status in KiB: VmRSS, VmHWM."""
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            for line in f:
                if line.startswith(field + ":"):
                    return int(line.split()[1])
        raise KeyError(field)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat", encoding="utf-8") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def log(self):
        try:
            with open(self.log_path, encoding="utf-8", errors="replace") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def log_tail(self, lines=40):
        return "the node's log ends:\n" + "\n".join(self.log().splitlines()[-lines:])


class NodeTest(unittest.TestCase):
    """Tests that share one node, started before the first and stopped with SIGTERM after the last."""

    arguments = ()
    config = None

    @classmethod
    def setUpClass(cls):
        cls.node = Node(cls.arguments, cls.config)
        cls.addClassCleanup(cls.node.close)
        cls.node.start()

    @classmethod
    def tearDownClass(cls):
        if cls.node.process is not None:
            if not cls.node.alive:
                raise NodeFailed("the node died\n" + cls.node.log_tail())
            cls.node.stop()

    topics = 0

    @classmethod
    def topic_name(cls, hint="topic"):
        """A name that no other test uses."""
        NodeTest.topics += 1
        return f"{hint}-{NodeTest.topics}"
