"""What the benchmarks share: a broker and a floor program as processes, the load generator, and rows of a table.

Every figure is taken beside what it is compared with, in turns (A B A B ...), and the medians make the ratio: these machines are shared, so an
absolute figure says little.
"""

import json
import os
import pathlib
import re
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = pathlib.Path(os.environ.get("WEIR_BUILD", ROOT / "build" / "release"))
WEIR = os.environ.get("WEIR_BINARY", str(BUILD / "weir"))
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    pass


def scratch():
    """A directory on the disk that is measured: $WEIR_BENCH_DIR, else build/bench."""
    base = pathlib.Path(os.environ.get("WEIR_BENCH_DIR", ROOT / "build" / "bench-data"))
    base.mkdir(parents=True, exist_ok=True)
    return pathlib.Path(tempfile.mkdtemp(prefix="run-", dir=base))


class Server:
    """A process that prints `ready kafka=HOST:PORT ...` and serves until it is told to stop."""

    def __init__(self, command, log):
        self.started = time.monotonic()
        self.log = open(log, "ab")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        if not line.startswith("ready "):
            self.process.wait(10)
            raise BenchError(f"{command[0]} did not become ready: {pathlib.Path(log).read_text()[-2000:]}")
        self.ready_seconds = time.monotonic() - self.started
        self.fields = dict(part.split("=", 1) for part in line.split()[1:])
        self.address = self.fields["kafka"]

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_bytes(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise BenchError("no VmRSS")

    def metric(self, name):
        """The sum of a metric over its labels."""
        with urllib.request.urlopen(f"http://{self.fields['admin']}/metrics", timeout=10) as page:
            lines = page.read().decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if re.match(rf"{name}[{{ ]", line))

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()
                raise BenchError("did not stop within 15 s of SIGTERM")
        self.log.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()


def start_weir(directory, *flags, driver="auto", binary=WEIR):
    command = [binary, "start", "--data", str(directory / "data"), "--kafka", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--driver", driver, *flags]
    return Server(command, directory / "weir.log")


def start_sink(directory):
    return Server([str(BUILD / "bench" / "weir_floor_sink"), "--file", str(directory / "floor-sink")], directory / "sink.log")


def run_json(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=540)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(str(part) for part in command)}: {done.stderr.strip()} {done.stdout.strip()[:300]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def bench(kind, address, **flags):
    """`weir bench KIND` against a broker; flags by name, with '_' for '-'."""
    command = [WEIR, "bench", kind, "--brokers", address, "--output", "json"]
    for name, value in flags.items():
        flag = "--" + name.replace("_", "-")
        command += [flag] if value is True else [flag, value]
    return run_json(command)


def floor_disk(kind, path, **flags):
    command = [BUILD / "bench" / "weir_floor_disk", kind, "--file", path]
    for name, value in flags.items():
        command += ["--" + name, value]
    return run_json(command)


def in_turns(times, *functions):
    """Runs the functions one after another, `times` times; gives a list of results for each."""
    results = [[] for _ in functions]
    for _ in range(times):
        for index, function in enumerate(functions):
            results[index].append(function())
    return results


def median(values):
    return statistics.median(values)


class Report:
    """Rows of: what, Weir's figure, what it is compared with, the ratio, the goal."""

    def __init__(self):
        self.rows = []

    def add(self, what, figure, compared, ratio, goal, met, unit=""):
        self.rows.append({"what": what, "figure": figure, "compared_with": compared, "ratio": ratio, "goal": goal, "met": met})
        mark = {True: "ok", False: "SHORT", None: ""}[met]
        ratio_text = "" if ratio is None else f"{ratio:.2f} x"
        print(f"{what:<58} {figure:>16} {compared:>26} {ratio_text:>9}  {goal:<10} {mark}", flush=True)

    def heading(self, text):
        print(f"\n{text}\n{'what':<58} {'Weir':>16} {'compared with':>26} {'ratio':>9}  goal", flush=True)

    def save(self):
        path = BUILD / "bench.json"
        path.write_text(json.dumps(self.rows, indent=1))
        print(f"\nwritten to {os.path.relpath(path)}")


def megabytes(bytes_per_second):
    return f"{bytes_per_second / 1e6:.1f} MB/s"


def milliseconds(value):
    return f"{value:.2f} ms"


def remove(directory):
    shutil.rmtree(directory, ignore_errors=True)


def first_durable_produce(address, topic="first"):
    """Speaks the least Kafka that there is: one Produce v7 of one record with acks=all to an existing topic's partition 0, until it is acknowledged."""
    host, port = address.rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        batch = one_record_batch()
        body = struct.pack(">hhi", -1, -1, 30000)  # no transactional id, acks=all, timeout
        body += struct.pack(">i", 1) + struct.pack(">h", len(topic)) + topic.encode()
        body += struct.pack(">i", 1) + struct.pack(">i", 0) + struct.pack(">i", len(batch)) + batch
        header = struct.pack(">hhih", 0, 7, 1, 4) + b"weir"
        frame = header + body
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        size = struct.unpack(">i", read_exactly(connection, 4))[0]
        answer = read_exactly(connection, size)
        at = 4 + 4 + 2 + len(topic) + 4 + 4
        return struct.unpack(">h", answer[at:at + 2])[0]


def read_exactly(connection, size):
    parts = b""
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise BenchError("the broker closed the connection")
        parts += part
    return parts


def one_record_batch():
    record = struct.pack(">bbbBB", 0, 0, 0, 1, 2) + b"x" + b"\x00"  # attributes, deltas, null key (-1), value of 1 byte, no headers
    record = bytes([len(record) * 2]) + record
    after_crc = struct.pack(">hiqqqhii", 0, 0, 1700000000000, 1700000000000, -1, -1, -1, 1) + record
    return struct.pack(">qiibI", 0, 4 + 1 + 4 + len(after_crc), -1, 2, crc32c(after_crc)) + after_crc


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF
