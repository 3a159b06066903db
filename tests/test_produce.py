"""Produce: items 11 to 35 of the conformance list (docs/conformance.md)."""

import gzip
import random
import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, fetch_all, list_offset, produce, send_produce
from weirtest.node import Node, NodeTest
from weirtest.records import batch
from weirtest.wire import Connection

INVALID = (wire.INVALID_RECORD, wire.CORRUPT_MESSAGE)


def init_producer(c, version=1):
    answer = c.call("InitProducerId", version, transactional_id=None, timeout_ms=60_000, producer_id=-1, epoch=-1)
    assert answer["error"] == wire.NONE, answer
    return answer["producer_id"], answer["epoch"]


class Produce(NodeTest):
    def setUp(self):
        self.topic = create_topic(self.node, self.topic_name())
        self.c = Connection(self.node)
        self.addCleanup(self.c.close)

    def end(self):
        return list_offset(self.c, self.topic, -1)[2]

    def stored(self):
        return records.records(fetch(self.c, self.topic, 0)["records"])

    def refused(self, data, errors, version=7):
        before = self.end()
        answer = produce(self.c, self.topic, data, version=version)
        self.assertIn(answer["error"], errors)
        self.assertEqual(-1, answer["base_offset"])
        self.assertEqual(before, self.end(), "something was appended all the same")
        return answer

    def accepted(self, data, version=7):
        answer = produce(self.c, self.topic, data, version=version)
        self.assertEqual(wire.NONE, answer["error"], answer)
        return answer

    # -- what a batch must be

    def test_item_11_one_batch_for_each_partition(self):
        self.refused(batch([b"a"]) + batch([b"b"]), INVALID)
        self.refused(b"", INVALID)
        self.refused(None, INVALID)

    def test_item_11_old_formats_only_in_old_versions(self):
        for magic in (0, 1):
            self.refused(records.message(magic, b"k", b"v"), INVALID)

    def test_item_11_old_formats_are_converted(self):
        now = int(time.time() * 1000)
        old = records.message(0, b"key 0", b"value 0") + records.message(0, None, b"value 1", offset=1)
        self.assertEqual(0, self.accepted(old, version=0)["base_offset"])
        newer = records.message(1, b"key 2", None, timestamp=now)
        self.assertEqual(2, self.accepted(newer, version=2)["base_offset"])
        inner = b"".join(records.message(1, b"key", b"value %d" % i, timestamp=now + i, offset=i) for i in range(3))
        wrapper = records.message(1, None, gzip.compress(inner), timestamp=now, attributes=1)
        self.assertEqual(3, self.accepted(wrapper, version=2)["base_offset"])
        got = self.stored()
        self.assertEqual([(b"key 0", b"value 0"), (None, b"value 1"), (b"key 2", None)] + [(b"key", b"value %d" % i) for i in range(3)],
                         [(r.key, r.value) for r in got])
        self.assertEqual([now, now, now + 1, now + 2], [r.timestamp for r in got[2:]])

    def test_item_12_a_wrong_checksum_is_refused(self):
        self.refused(batch([b"x"], crc=12345), (wire.CORRUPT_MESSAGE,))
        good = batch([b"some text"])
        for at in range(21, len(good), 7):
            self.refused(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1:], INVALID)

    def test_item_13_base_offset_and_leader_epoch_are_the_nodes(self):
        self.accepted(batch([b"a", b"b"], base_offset=999))
        self.accepted(batch([b"c"], base_offset=5))
        found = list(records.batches(fetch(self.c, self.topic, 0)["records"]))
        self.assertEqual([0, 2], [b.base_offset for b in found])
        self.assertTrue(all(b.leader_epoch >= 0 for b in found))
        self.assertEqual([0, 1, 2], [r.offset for r in self.stored()])

    def test_item_13_counts_that_do_not_agree_are_refused(self):
        self.refused(batch([b"a", b"b"], count=3), INVALID)
        self.refused(batch([b"a", b"b"], last_delta=5), INVALID)
        self.refused(batch([], count=0, last_delta=-1), INVALID)
        self.refused(batch([b"a"], count=-1, last_delta=0), INVALID)
        self.refused(batch([b"a", b"b"], count=2**31 - 1), INVALID)

    def test_item_13_offset_deltas_count_from_0(self):
        skipping = records.record(0, value=b"a") + records.record(2, value=b"b")
        self.refused(batch([b"a", b"b"], payload=skipping), INVALID)

    def test_item_14_compressed_batches_are_looked_into(self):
        for name, codec in records.CODECS.items():
            if codec == records.NO_CODEC:
                continue
            with self.subTest(name):
                self.accepted(batch([b"fine"] * 10, codec))
                self.refused(batch([b"x"] * 3, codec, payload=b"this is not compressed data at all"), INVALID)
                inner = b"".join(records.record(i, value=b"x") for i in range(3))
                self.refused(batch([b"x"] * 3, codec, payload=records.compress(codec, inner[:-2])), INVALID)
                self.refused(batch([b"x"] * 4, codec, payload=records.compress(codec, inner)), INVALID)
                self.refused(batch([b"x"] * 2, codec, payload=records.compress(codec, inner)), INVALID)
                self.refused(batch([b"x"] * 3, codec, payload=records.compress(codec, inner)[:-3]), INVALID)

    def test_item_14_record_errors_in_version_8(self):
        answer = self.refused(batch([b"a", b"b"], timestamps=[int(time.time() * 1000), int(time.time() * 1000) + 90_000_000]),
                              (wire.INVALID_TIMESTAMP,), version=8)
        self.assertEqual([1], [e["batch_index"] for e in answer["record_errors"]])

    def test_item_15_clients_write_no_control_and_no_transactional_batches(self):
        self.refused(batch([b"\0\0\0\1"], attributes=0x20), INVALID)
        before = self.end()
        answer = produce(self.c, self.topic, batch([b"x"], attributes=0x10, producer_id=1, epoch=0, sequence=0))
        self.assertNotEqual(wire.NONE, answer["error"])
        self.assertEqual(before, self.end())

    def test_item_14_records_of_a_compacted_topic_have_keys(self):
        self.topic = create_topic(self.node, self.topic_name(), configs={"cleanup.policy": "compact"})
        self.accepted(batch([(b"k", b"v"), (b"k", None)]))
        for codec in (records.NO_CODEC, records.ZSTD):
            answer = self.refused(batch([b"x", (b"k", b"y"), b"z"], codec), (wire.INVALID_RECORD,), version=8)
            self.assertEqual([0, 2], [e["batch_index"] for e in answer["record_errors"]])

    def test_item_15_a_transactional_id_is_refused(self):
        answer = self.c.call("Produce", 9, transactional_id="transaction", acks=-1, timeout_ms=5000, topics=[
            {"name": self.topic, "partitions": [{"index": 0, "records": batch([b"x"])}]}])
        self.assertNotEqual(wire.NONE, answer["topics"][0]["partitions"][0]["error"])
        self.assertEqual(0, self.end())

    def test_internal_topics_are_not_for_clients_to_write(self):
        await_coordinator(self.node)
        for partition in (0, 7):
            answer = produce(self.c, "__consumer_offsets", batch([(b"key", b"value")]), partition=partition)
            self.assertEqual((wire.INVALID_TOPIC, -1), (answer["error"], answer["base_offset"]))

    def test_item_15_an_unknown_codec_is_refused(self):
        for codec in (5, 6, 7):
            self.refused(batch([b"x"], codec, payload=records.record(0, value=b"x")), INVALID + (wire.UNSUPPORTED_COMPRESSION,))

    # -- time and size

    def test_item_16_create_time_is_the_clients(self):
        stamps = [1_600_000_000_000, 1_600_000_000_500, 1_600_000_000_250]
        answer = self.accepted(batch([b"a", b"b", b"c"], base_timestamp=stamps[0], timestamps=stamps))
        self.assertEqual(-1, answer["log_append_time"])
        self.assertEqual(stamps, [r.timestamp for r in self.stored()])

    def test_item_16_log_append_time_is_the_nodes(self):
        self.topic = create_topic(self.node, self.topic_name(), configs={"message.timestamp.type": "LogAppendTime"})
        for codec in (records.NO_CODEC, records.GZIP):
            before = int(time.time() * 1000)
            answer = self.accepted(batch([b"a", b"b"], codec, base_timestamp=1000))
            self.assertTrue(before - 1000 <= answer["log_append_time"] <= before + 5000, answer)
            found = list(records.batches(fetch(self.c, self.topic, answer["base_offset"])["records"]))[0]
            self.assertEqual(8, found.attributes & 8)
            self.assertEqual({answer["log_append_time"]}, {r.timestamp for r in found.records()})

    def test_item_17_stamps_too_far_ahead_or_behind_are_refused(self):
        now = int(time.time() * 1000)
        self.refused(batch([b"x"], base_timestamp=now + 2 * 3_600_000), (wire.INVALID_TIMESTAMP,))
        self.accepted(batch([b"x"], base_timestamp=now + 1_800_000))
        self.accepted(batch([b"x"], base_timestamp=0))
        self.topic = create_topic(self.node, self.topic_name(), configs={"message.timestamp.before.max.ms": "60000"})
        self.refused(batch([b"x"], base_timestamp=now - 120_000), (wire.INVALID_TIMESTAMP,))
        self.accepted(batch([b"x"], base_timestamp=now - 30_000))

    def test_item_18_a_batch_above_max_message_bytes_is_refused(self):
        self.refused(batch([bytes(1_100_000)]), (wire.MESSAGE_TOO_LARGE,))
        self.accepted(batch([bytes(1_000_000)]))
        self.topic = create_topic(self.node, self.topic_name(), configs={"max.message.bytes": "2000"})
        self.refused(batch([b"x" * 2000]), (wire.MESSAGE_TOO_LARGE,))
        self.accepted(batch([b"x" * 20_000], records.GZIP))  # the size is of the batch as it is stored

    def test_item_18_a_batch_above_segment_bytes_is_refused(self):
        self.topic = create_topic(self.node, self.topic_name(), configs={"segment.bytes": str(1 << 20), "max.message.bytes": "3000000"})
        self.refused(batch([bytes(1_500_000)]), (wire.RECORD_LIST_TOO_LARGE,))
        self.accepted(batch([bytes(1_000_000)]))

    def test_item_19_levels(self):
        random_ = random.Random(19)
        words = [random_.randbytes(random_.randrange(2, 9)).hex().encode() for _ in range(300)]
        text = b" ".join(random_.choice(words) for _ in range(60_000))
        for codec, levels in (("gzip", (1, 9)), ("lz4", (1, 17)), ("zstd", (1, 19))):
            sizes = []
            for level in levels:
                self.topic = create_topic(self.node, self.topic_name(), configs={
                    "compression.type": codec, f"compression.{codec}.level": str(level)})
                self.accepted(batch([text[i:i + 20_000] for i in range(0, len(text), 20_000)]))
                stored = fetch(self.c, self.topic, 0)["records"]
                self.assertEqual(text, b"".join(r.value for r in records.records(stored)))
                sizes.append(len(stored))
            self.assertLess(sizes[1], sizes[0], f"{codec}: the highest level packs no better than the lowest")

    def test_item_19_a_topics_own_codec(self):
        for name, codec in records.CODECS.items():
            with self.subTest(name):
                self.topic = create_topic(self.node, self.topic_name(), configs={
                    "compression.type": "uncompressed" if name == "none" else name})
                for sent in (records.NO_CODEC, records.GZIP, records.LZ4):
                    self.accepted(batch([b"the same text over and over " * 20] * 5, sent))
                got = self.stored()
                self.assertEqual({codec}, {r.codec for r in got})
                self.assertEqual({b"the same text over and over " * 20}, {r.value for r in got})
                self.assertEqual(list(range(15)), [r.offset for r in got])

    def test_item_20_zstd_only_from_version_7(self):
        data = batch([b"x" * 100] * 3, records.ZSTD)
        self.refused(data, (wire.UNSUPPORTED_COMPRESSION,), version=6)
        self.accepted(data, version=7)

    def test_item_20_snappy_with_and_without_java_frames(self):
        import snappy
        self.accepted(batch([b"text " * 50] * 3, records.SNAPPY))
        self.accepted(batch([b"text " * 50] * 3, records.SNAPPY, squeeze=lambda _, data: snappy.compress(data)))
        self.assertEqual([b"text " * 50] * 6, [r.value for r in self.stored()])

    # -- acks

    def test_item_22_acks_are_all_one_or_none(self):
        for acks in (2, -2, 7):
            answer = produce(self.c, self.topic, batch([b"x"]), acks=acks)
            self.assertEqual(wire.INVALID_REQUIRED_ACKS, answer["error"])
        self.assertEqual(0, self.end())

    def test_item_31_an_unknown_partition_or_topic(self):
        self.assertEqual(wire.UNKNOWN_TOPIC, produce(self.c, self.topic, batch([b"x"]), partition=7)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, produce(self.c, "no-such-topic", batch([b"x"]))["error"])
        self.accepted(batch([b"x"]))

    def test_item_32_produce_by_topic_id(self):
        with Connection(self.node) as c:
            ids = {t["name"]: t["topic_id"] for t in c.call("Metadata", 12, topics=None)["topics"]}

            def by_id(topic_id):
                return c.call("Produce", 13, acks=-1, timeout_ms=5000, topics=[
                    {"topic_id": topic_id, "partitions": [{"index": 0, "records": batch([b"x"])}]}])["topics"][0]["partitions"][0]

            self.assertEqual(wire.NONE, by_id(ids[self.topic])["error"])
            self.assertEqual(wire.UNKNOWN_TOPIC_ID, by_id(uuid.uuid4())["error"])

    def test_item_34_the_newest_record_is_tracked(self):
        stamps = [1_600_000_000_000, 1_600_000_009_000, 1_600_000_001_000]
        self.accepted(batch([b"a", b"b", b"c"], base_timestamp=stamps[0], timestamps=stamps))
        self.accepted(batch([b"d"], base_timestamp=1_600_000_005_000))
        self.assertEqual((wire.NONE, stamps[1], 1), list_offset(self.c, self.topic, -3, version=7))

    def test_item_35_acks_1_and_all_both_become_visible(self):
        self.assertEqual(0, produce(self.c, self.topic, batch([b"1"]), acks=1)["base_offset"])
        self.assertEqual(1, produce(self.c, self.topic, batch([b"all"]), acks=-1)["base_offset"])
        self.assertEqual([b"1", b"all"], [r.value for r in self.stored()])


class Idempotence(NodeTest):
    def setUp(self):
        self.topic = create_topic(self.node, self.topic_name())
        self.c = Connection(self.node)
        self.addCleanup(self.c.close)
        self.producer, self.epoch = init_producer(self.c)

    def put(self, sequence, count=1, epoch=None, c=None, text=b"x"):
        answer = produce(c or self.c, self.topic, batch([text] * count, producer_id=self.producer, sequence=sequence,
                                                        epoch=self.epoch if epoch is None else epoch))
        return answer["error"], answer["base_offset"]

    def end(self):
        return list_offset(self.c, self.topic, -1)[2]

    def test_producer_ids_are_never_given_twice(self):
        ids = [init_producer(self.c, version)[0] for version in (0, 1, 2, 3, 4) for _ in range(20)]
        self.assertEqual(len(ids), len(set(ids)))
        # A producer id without a transactional id is ignored, not an error: @platformatic/kafka sends one.
        answer = self.c.call("InitProducerId", 4, transactional_id=None, timeout_ms=0, producer_id=ids[0], epoch=0)
        self.assertEqual(wire.NONE, answer["error"])

    def test_item_23_a_duplicate_of_the_last_five_gets_its_first_answer(self):
        for i in range(8):
            self.assertEqual((wire.NONE, 2 * i), self.put(2 * i, 2))
        for i in range(3, 8):
            self.assertEqual((wire.NONE, 2 * i), self.put(2 * i, 2))
        self.assertEqual(16, self.end())
        error, _ = self.put(0, 2)
        self.assertIn(error, (wire.DUPLICATE_SEQUENCE, wire.OUT_OF_ORDER_SEQUENCE))
        self.assertEqual(16, self.end())
        self.assertEqual((wire.NONE, 16), self.put(16))

    def test_item_24_the_next_sequence_must_follow(self):
        self.assertEqual(wire.NONE, self.put(0, 3)[0])
        self.assertEqual(wire.OUT_OF_ORDER_SEQUENCE, self.put(4)[0])
        self.assertEqual(wire.OUT_OF_ORDER_SEQUENCE, self.put(100)[0])
        self.assertEqual((wire.NONE, 3), self.put(3))

    def test_item_24_sequences_wrap(self):
        top = 2**31 - 1
        self.assertEqual((wire.NONE, 0), self.put(top - 2, 2))  # an unknown producer may start anywhere: item 26
        self.assertEqual((wire.NONE, 2), self.put(top))
        self.assertEqual((wire.NONE, 3), self.put(0))
        self.assertEqual((wire.NONE, 4), self.put(1))
        self.assertEqual((wire.NONE, 2), self.put(top))  # still one of the five

    def test_item_24_a_batch_across_the_wrap(self):
        top = 2**31 - 1
        self.assertEqual((wire.NONE, 0), self.put(top - 1, 4))  # top - 1, top, 0, 1
        self.assertEqual((wire.NONE, 4), self.put(2))
        self.assertEqual((wire.NONE, 0), self.put(top - 1, 4))
        self.assertEqual(5, self.end())

    def test_item_25_epochs(self):
        self.assertEqual(wire.NONE, self.put(0)[0])
        self.assertEqual(wire.NONE, self.put(1)[0])
        self.assertEqual(wire.OUT_OF_ORDER_SEQUENCE, self.put(5, epoch=self.epoch + 1)[0])
        self.assertEqual((wire.NONE, 2), self.put(0, epoch=self.epoch + 1))
        self.assertEqual(wire.INVALID_PRODUCER_EPOCH, self.put(2)[0])
        self.assertEqual(3, self.end())

    def test_item_26_an_unknown_producer_may_start_anywhere(self):
        self.assertEqual((wire.NONE, 0), self.put(41))
        self.assertEqual((wire.NONE, 1), self.put(42))
        self.assertEqual(wire.OUT_OF_ORDER_SEQUENCE, self.put(44)[0])

    def test_item_28_duplicates_among_pipelined_batches(self):
        def send(i):
            send_produce(self.c, self.topic, batch([b"%d" % i], producer_id=self.producer, epoch=self.epoch, sequence=i))

        for i in range(5):
            send(i)
        for i in range(5):  # the client lost the answers and sends all again, without waiting
            send(i)
        send(5)
        offsets = [self.c.receive()["topics"][0]["partitions"][0]["base_offset"] for _ in range(11)]
        self.assertEqual([0, 1, 2, 3, 4] * 2 + [5], offsets)
        self.assertEqual(6, self.end())

    def test_item_28_a_gap_among_pipelined_batches_refuses_the_rest(self):
        for i in (0, 1, 3, 4, 5):
            send_produce(self.c, self.topic, batch([b"%d" % i], producer_id=self.producer, epoch=self.epoch, sequence=i))
        errors = [self.c.receive()["topics"][0]["partitions"][0]["error"] for _ in range(5)]
        self.assertEqual([wire.NONE] * 2 + [wire.OUT_OF_ORDER_SEQUENCE] * 3, errors)
        self.assertEqual(2, self.end())

    def test_a_refused_batch_leaves_no_trace_in_the_sequence(self):
        self.assertEqual(wire.NONE, self.put(0)[0])
        broken = batch([b"x"], producer_id=self.producer, epoch=self.epoch, sequence=1, crc=1)
        self.assertEqual(wire.CORRUPT_MESSAGE, produce(self.c, self.topic, broken)["error"])
        self.assertEqual((wire.NONE, 1), self.put(1))

    def test_item_27_state_survives_a_restart_and_a_kill(self):
        with Node() as node:
            create_topic(node, "topic")
            with Connection(node) as c:
                producer, epoch = init_producer(c)
                for i in range(7):
                    produce(c, "topic", batch([b"%d" % i], producer_id=producer, epoch=epoch, sequence=i))
            seen = {producer}
            sequence = 7
            for end in (node.stop, node.kill, node.kill, node.stop):
                end()
                node.start()
                with Connection(node) as c:
                    for i in range(sequence - 5, sequence):
                        answer = produce(c, "topic", batch([b"%d" % i], producer_id=producer, epoch=epoch, sequence=i))
                        self.assertEqual((wire.NONE, i), (answer["error"], answer["base_offset"]))
                    answer = produce(c, "topic", batch([b"gap"], producer_id=producer, epoch=epoch, sequence=sequence + 1))
                    self.assertEqual(wire.OUT_OF_ORDER_SEQUENCE, answer["error"])
                    answer = produce(c, "topic", batch([b"%d" % sequence], producer_id=producer, epoch=epoch, sequence=sequence))
                    self.assertEqual((wire.NONE, sequence), (answer["error"], answer["base_offset"]))
                    sequence += 1
                    fresh = init_producer(c)[0]
                    self.assertNotIn(fresh, seen)
                    seen.add(fresh)
            self.assertEqual([b"%d" % i for i in range(sequence)], [r.value for r in fetch_all(node, "topic", 1)[0]])


if __name__ == "__main__":
    unittest.main()
