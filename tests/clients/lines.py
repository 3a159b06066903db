"""How the client programs of this folder and the tests exchange records; lines.mjs says what a line is."""

import os
import sys


class Line:
    def __init__(self, partition, timestamp, key, value, headers, offset=None):
        self.offset, self.partition, self.timestamp = offset, partition, timestamp
        self.key, self.value, self.headers = key, value, list(headers)


def _bytes(text):
    return None if text == "-" else bytes.fromhex(text[1:])


def _text(data):
    return "-" if data is None else "=" + bytes(data).hex()


def _headers(text):
    pairs = (pair.split(":") for pair in text.split(",") if pair)
    return [(bytes.fromhex(name).decode(), _bytes(content)) for name, content in pairs]


def parse_produced(line):
    partition, timestamp, key, value, headers = line.rstrip("\n").split("\t")
    return Line(int(partition), int(timestamp), _bytes(key), _bytes(value), _headers(headers))


def parse_consumed(line):
    offset, partition, timestamp, key, value, headers = line.rstrip("\n").split("\t")
    return Line(int(partition), int(timestamp), _bytes(key), _bytes(value), _headers(headers), int(offset))


def print_produced(r):
    headers = ",".join(f"{name.encode().hex()}:{_text(content)}" for name, content in r.headers)
    return f"{r.partition}\t{r.timestamp}\t{_text(r.key)}\t{_text(r.value)}\t{headers}\n"


def print_consumed(r):
    return f"{r.offset}\t{print_produced(r)}"


def read_records():
    return [parse_produced(line) for line in sys.stdin]


def write_records(records):
    sys.stdout.writelines(print_consumed(r) for r in records)


def main(commands):
    """Runs one command: client.py BROKERS COMMAND arguments"""
    brokers, command, *rest = sys.argv[1:]
    commands[command](brokers, *rest)
    sys.stdout.flush()
    os._exit(0)  # some clients' threads outlive them
