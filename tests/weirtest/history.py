"""What clients sent, were told and read, and the rules that must hold whatever was done to the nodes meanwhile.

A record's name is (writer, partition, number); each writer numbers its records to each partition from 0. Writers are idempotent and wait for
all replicas. One that gives up for good is followed by another writer, under another name. Nothing in here knows a client or a node."""

import collections
import struct
import threading

HEAD = struct.Struct(">IQ")
OUT_OF_ORDER = "OUT_OF_ORDER_SEQUENCE_NUMBER"
ELSEWHERE = "ELSEWHERE"  # it knows the leader and sends to another node for good


def value_of(writer, number, pad=b""):
    return HEAD.pack(writer, number) + pad


def name_of(value):
    return HEAD.unpack_from(value)


class History:
    def __init__(self):
        self.lock = threading.Lock()
        self.sent = collections.Counter()  # (writer, partition): how many
        self.acknowledged = {}  # (writer, partition, number): offset, -1 where the broker did not say it
        self.failed = {}  # (writer, partition, number): the error's name
        self.gave_up = {}  # writer: (the error's name, what the client library said)
        self.client_gave_up = []  # check() finds who did so though no node was wrong: sentences
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
            self.failed[writer, partition, number] = error

    def give_up(self, writer, error, text):
        """The writer's client library can't go on. All its records have their answers by now, or get none."""
        with self.lock:
            self.gave_up[writer] = error, text

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
        self.client_gave_up = []
        for writer in sorted(self.gave_up):
            wrong += self._check_gave_up(writer)
        wrong += [f"#{number} of writer {writer} to partition {partition} was given up: {error}"
                  for (writer, partition, number), error in sorted(self.failed.items()) if writer not in self.gave_up][:3]
        return wrong

    def _check_gave_up(self, writer):
        """A node that calls a record out of order is right if one that was sent before it is not there: that was on its way when the client
        sent this one, or it was lost, which is found elsewhere. Also if it is the first of all and a later one is there: of a producer that
        it does not know a node takes what comes first, as Kafka's does. Whatever else a client gives up for counts against the nodes."""
        error, text = self.gave_up[writer]
        if error == ELSEWHERE:
            self.client_gave_up.append(f"writer {writer}: {text}")
            return []
        if error != OUT_OF_ORDER:
            return [f"writer {writer} gave up: {error}: {text}"]
        refused = {}
        for (w, partition, number), why in self.failed.items():
            if w == writer and why == OUT_OF_ORDER:
                refused[partition] = min(number, refused.get(partition, number))
        wrong = [] if refused else [f"writer {writer} gave up, and no record of it was refused: {error}: {text}"]
        for partition, number in sorted(refused.items()):
            there = {n for _, w, n in self.final.get(partition, ()) if w == writer}
            missing = [n for n in range(number) if n not in there]
            if missing or (number == 0 and there):
                missing = missing or [0]
                number = number or min(there)
                self.client_gave_up.append(f"writer {writer} sent #{number} to partition {partition} before #{missing[0]} was there: {text}")
            else:
                wrong.append(f"#{number} of writer {writer} to partition {partition} was called out of order, and all before it is there: {text}")
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
            elif number < expected[writer] or any((writer, partition, n) not in self.failed for n in range(expected[writer], number)):
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
