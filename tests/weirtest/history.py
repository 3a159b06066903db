"""What clients sent, were told and read, and the rules that must hold whatever was done to the nodes meanwhile.

A record's name is (writer, partition, number); each writer numbers its records to each partition from 0. Writers are idempotent and wait for
all replicas. Nothing in here knows a client or a node."""

import collections
import struct
import threading

HEAD = struct.Struct(">IQ")


def value_of(writer, number, pad=b""):
    return HEAD.pack(writer, number) + pad


def name_of(value):
    return HEAD.unpack_from(value)


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.sent = collections.Counter()  # (writer, partition): how many
        self.acknowledged = {}  # (writer, partition, number): offset, -1 where the broker did not say it
        self.failed = []
        self.reads = collections.defaultdict(list)  # (reader, partition): [(offset, writer, number)], in the order in which it got them
        self.final = {}  # partition: the same, read when all was over
        self.renumbered = set()

    def next_number(self, writer, partition):
        with self.lock:
            number = self.sent[writer, partition]
            self.sent[writer, partition] = number + 1
            return number

    def take_back(self, writer, partition):
        """The last one was not handed to the client library after all."""
        with self.lock:
            self.sent[writer, partition] -= 1

    def acknowledge(self, writer, partition, number, offset):
        with self.lock:
            self.acknowledged[writer, partition, number] = -1 if offset is None else offset

    def fail(self, writer, partition, number, error):
        with self.lock:
            self.failed.append((writer, partition, number, error))

    def read(self, reader, partition, offset, value):
        with self.lock:
            self.reads[reader, partition].append((offset, *name_of(value)))

    def twice(self):
        """By partition: the offsets of records that are there more than once, first and later ones."""
        found = {}
        for partition, records in self.final.items():
            where = collections.defaultdict(list)
            for offset, writer, number in records:
                where[writer, number].append(offset)
            pairs = [(offsets[0], later) for offsets in where.values() for later in offsets[1:]]
            if pairs:
                found[partition] = pairs
        return found

    def check(self, renumbered=()):
        """What is wrong, as sentences; at most a few of each kind. `renumbered`: (partition, offset) of records that a client library
        wrote a second time itself, as other records, so that no broker can know them."""
        self.renumbered = set(renumbered)
        wrong = []
        for partition, records in sorted(self.final.items()):
            wrong += self._check_final(partition, records)
        for (reader, partition), records in sorted(self.reads.items()):
            wrong += self._check_reader(reader, partition, records)
        for writer, partition, number in sorted(set(self.acknowledged)):
            if number >= self.sent[writer, partition]:
                wrong.append(f"writer {writer}: #{number} of partition {partition} was acknowledged and never sent")
        return wrong

    def _check_final(self, partition, records):
        wrong, where, expected = [], {}, collections.Counter()

        def say(text):
            if len(wrong) < 10:
                wrong.append(f"partition {partition}: {text}")

        for index, (offset, writer, number) in enumerate(records):
            if offset != index:
                say(f"offset {index} holds no record")
                break
            if number >= self.sent[writer, partition]:
                say(f"offset {offset} holds #{number} of writer {writer}, which was never sent")
            if (partition, offset) in self.renumbered:
                continue
            if (writer, number) in where:
                say(f"#{number} of writer {writer} is at offset {where[writer, number]} and at {offset}")
            elif number != expected[writer]:
                say(f"offset {offset} holds #{number} of writer {writer}, expected #{expected[writer]}")
            where.setdefault((writer, number), offset)
            expected[writer] = number + 1
        for (writer, p, number), offset in sorted(self.acknowledged.items()):
            if p != partition:
                continue
            if (writer, number) not in where:
                say(f"#{number} of writer {writer}, acknowledged at offset {offset}, is lost")
            elif offset >= 0 and where[writer, number] != offset and (partition, offset) not in self.renumbered:
                say(f"#{number} of writer {writer} was acknowledged at offset {offset} and is at {where[writer, number]}")
        return wrong

    def _check_reader(self, reader, partition, records):
        final = dict((offset, (writer, number)) for offset, writer, number in self.final.get(partition, ()))
        last = -1
        for offset, writer, number in records:
            if offset <= last:
                return [f"reader {reader} of partition {partition} went back from offset {last} to {offset}"]
            if last >= 0 and offset != last + 1:
                return [f"reader {reader} of partition {partition} went from offset {last} to {offset}"]
            last = offset
            if final.get(offset) != (writer, number):
                return [f"reader {reader} of partition {partition} got #{number} of writer {writer} at offset {offset}, which holds "
                        f"{final.get(offset)} in the end"]
        return []
