"""Fetch and ListOffsets: items 36 to 62 of the conformance list (docs/conformance.md)."""

import threading
import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, list_offset, produce, send_fetch, send_produce
from weirtest.node import PATIENCE, Node, NodeTest
from weirtest.records import batch
from weirtest.wire import Connection


class FetchTest(NodeTest):
    def setUp(self):
        self.topic = create_topic(self.node, self.topic_name(), 4)
        self.c = Connection(self.node)
        self.addCleanup(self.c.close)

    def put(self, *values, partition=0, codec=records.NO_CODEC, **more):
        answer = produce(self.c, self.topic, batch(list(values), codec, **more), partition=partition)
        self.assertEqual(wire.NONE, answer["error"])
        return answer["base_offset"]

    def ask(self, offsets, topic=None, version=11, c=None, max_bytes=50 << 20, partition_max_bytes=1 << 20, **more):
        """Fetch of several partitions at once; offsets: {partition: offset}. The whole answer."""
        values = dict(replica=-1, max_wait_ms=0, min_bytes=1, max_bytes=max_bytes, session_id=0, session_epoch=-1, rack="", topics=[
            {"name": topic or self.topic, "partitions": [
                {"index": p, "leader_epoch": -1, "offset": o, "last_fetched_epoch": -1, "log_start": -1, "max_bytes": partition_max_bytes}
                for p, o in offsets.items()]}] if offsets else [])
        return (c or self.c).call("Fetch", version, dict(values, **more))


class Fetch(FetchTest):
    def test_item_36_a_long_poll_is_woken_by_new_data(self):
        def later():
            time.sleep(0.5)
            with Connection(self.node) as other:
                produce(other, self.topic, batch([b"news"]))

        began = time.monotonic()
        thread = threading.Thread(target=later)
        thread.start()
        answer = fetch(self.c, self.topic, 0, max_wait_ms=10_000)
        waited = time.monotonic() - began
        thread.join()
        self.assertEqual([b"news"], [r.value for r in records.records(answer["records"])])
        self.assertEqual(1, answer["high_watermark"])
        self.assertTrue(0.45 < waited < 2 * PATIENCE, waited)

    def test_item_36_a_long_poll_ends_after_its_wait(self):
        began = time.monotonic()
        answer = fetch(self.c, self.topic, 0, max_wait_ms=600)
        self.assertTrue(0.5 < time.monotonic() - began < 2 * PATIENCE)
        self.assertEqual((wire.NONE, 0), (answer["error"], answer["high_watermark"]))

    def test_item_36_min_bytes_holds_a_small_batch_back(self):
        def later():
            for size in (100, 100, 20_000):
                time.sleep(0.4)
                with Connection(self.node) as other:
                    produce(other, self.topic, batch([bytes(size)]))

        thread = threading.Thread(target=later)
        began = time.monotonic()
        thread.start()
        answer = fetch(self.c, self.topic, 0, max_wait_ms=10_000, min_bytes=10_000)
        waited = time.monotonic() - began
        thread.join()
        self.assertEqual(3, len(records.records(answer["records"])))
        self.assertTrue(1.1 < waited < 3 * PATIENCE, waited)

    def test_item_36_data_at_hand_is_answered_at_once(self):
        self.put(b"here")
        began = time.monotonic()
        fetch(self.c, self.topic, 0, max_wait_ms=10_000)
        self.assertLess(time.monotonic() - began, 1 * PATIENCE)

    def test_item_36_an_error_ends_the_wait_at_once(self):
        began = time.monotonic()
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(self.c, self.topic, 99, max_wait_ms=10_000)["error"])
        self.assertEqual(wire.UNKNOWN_TOPIC, fetch(self.c, self.topic, 0, partition=99, max_wait_ms=10_000)["error"])
        self.assertLess(time.monotonic() - began, 2 * PATIENCE)

    def test_item_36_many_waiters_on_one_partition_all_wake(self):
        waiters = [Connection(self.node) for _ in range(50)]
        for w in waiters:
            send_fetch(w, self.topic, 0, max_wait_ms=15_000)
        time.sleep(0.3)
        began = time.monotonic()
        self.put(b"to all")
        for w in waiters:
            answer = w.receive()["topics"][0]["partitions"][0]
            self.assertEqual([b"to all"], [r.value for r in records.records(answer["records"])])
            w.close()
        self.assertLess(time.monotonic() - began, 3 * PATIENCE)

    def test_item_37_the_first_batch_comes_whole_whatever_the_limits(self):
        self.put(bytes(300_000))
        self.put(b"small")
        for limits in (dict(partition_max_bytes=1), dict(max_bytes=1), dict(max_bytes=1, partition_max_bytes=1), dict(partition_max_bytes=0)):
            with self.subTest(limits):
                got = fetch(self.c, self.topic, 0, **limits)["records"]
                self.assertEqual([300_000], [len(r.value) for r in records.records(got)])

    def test_item_37_the_first_partition_with_data_has_the_right_to_it(self):
        for p in range(4):
            if p:
                self.put(bytes(100_000), partition=p)
        answer = self.ask({p: 0 for p in range(4)}, max_bytes=1000)
        sizes = {p["index"]: len(records.records(p["records"])) for p in answer["topics"][0]["partitions"]}
        self.assertEqual({0: 0, 1: 1, 2: 0, 3: 0}, sizes)
        answer = self.ask({3: 0, 2: 0, 1: 0}, max_bytes=1000)
        self.assertEqual([3, 2, 1], [p["index"] for p in answer["topics"][0]["partitions"]])
        self.assertEqual([1, 0, 0], [len(records.records(p["records"])) for p in answer["topics"][0]["partitions"]])

    def test_item_37_the_partitions_of_a_session_take_turns(self):
        for _ in range(3):
            for p in range(4):
                self.put(bytes(50_000), partition=p)
        answer = self.ask({p: 0 for p in range(4)}, session_epoch=0, max_bytes=1)
        session, read, turns = answer["session_id"], dict.fromkeys(range(4), 0), []
        for epoch in range(1, 12):
            moved = [p["index"] for t in answer["topics"] for p in t["partitions"] if p["records"]]
            self.assertEqual(1, len(moved), "room for one batch")
            turns += moved
            read[moved[0]] += 1
            answer = self.ask({moved[0]: read[moved[0]]}, session_id=session, session_epoch=epoch, max_bytes=1)
        self.assertEqual([0, 1, 2, 3] * 2, turns[:8])

    def test_item_37_limits_hold_from_the_second_batch_on(self):
        for i in range(20):
            self.put(bytes(10_000))
        got = fetch(self.c, self.topic, 0, partition_max_bytes=35_000)["records"]
        self.assertLessEqual(len(got), 35_000 + 100)
        self.assertEqual(3, len(records.records(got)))
        answer = self.ask({0: 0}, max_bytes=45_000)
        self.assertEqual(4, len(records.records(answer["topics"][0]["partitions"][0]["records"])))

    def test_item_38_a_batch_is_never_cut(self):
        for codec in (records.NO_CODEC, records.ZSTD):
            first = self.put(*[b"%d" % i for i in range(10)], codec=codec)
            for offset in range(first, first + 10):
                found = list(records.batches(fetch(self.c, self.topic, offset)["records"]))
                self.assertEqual((first, first + 9), (found[0].base_offset, found[0].last_offset))

    def test_item_38_bytes_are_stored_as_they_came(self):
        sent = batch([(b"k", b"v" * 100, [("h", b"x")])] * 5, records.GZIP)
        produce(self.c, self.topic, sent)
        got = fetch(self.c, self.topic, 0)["records"]
        self.assertEqual(sent[17:], got[17:])  # all but base offset, length and leader epoch, which are the node's
        self.assertEqual(sent[8:12], got[8:12])

    def test_item_40_a_fetch_session(self):
        for p in range(4):
            self.put(b"%d" % p, partition=p)
        full = self.ask({p: 0 for p in range(4)}, session_epoch=0)
        self.assertEqual(wire.NONE, full["error"])
        session = full["session_id"]
        self.assertNotEqual(0, session, "no session was given")
        self.assertEqual(4, len(full["topics"][0]["partitions"]))
        # Positions move on in the session by what the client names; nothing new: nothing in the answer.
        step = self.ask({p: 1 for p in range(4)}, session_id=session, session_epoch=1)
        self.assertEqual(([], session), (step["topics"], step["session_id"]))
        self.put(b"more", partition=2)
        step = self.ask({}, session_id=session, session_epoch=2)
        self.assertEqual([2], [p["index"] for p in step["topics"][0]["partitions"]])
        self.assertEqual([b"more"], [r.value for r in records.records(step["topics"][0]["partitions"][0]["records"])])
        # Forgotten partitions are gone.
        step = self.ask({2: 2}, session_id=session, session_epoch=3, forgotten=[{"name": self.topic, "partitions": [1]}])
        self.put(b"x", partition=1)
        self.put(b"y", partition=3)
        step = self.ask({}, session_id=session, session_epoch=4)
        self.assertEqual([3], [p["index"] for t in step["topics"] for p in t["partitions"]])
        # A wrong epoch, an unknown session, and the end.
        self.assertEqual(wire.INVALID_FETCH_SESSION_EPOCH, self.ask({}, session_id=session, session_epoch=9)["error"])
        self.assertEqual(wire.FETCH_SESSION_ID_NOT_FOUND, self.ask({}, session_id=session ^ 0x55, session_epoch=5)["error"])
        self.assertEqual(wire.NONE, self.ask({0: 0}, session_id=session, session_epoch=-1)["error"])
        self.assertEqual(wire.FETCH_SESSION_ID_NOT_FOUND, self.ask({}, session_id=session, session_epoch=5)["error"])

    def test_item_41_a_session_waits_for_news_of_any_of_its_partitions(self):
        session = self.ask({p: 0 for p in range(4)}, session_epoch=0)["session_id"]

        def later():
            time.sleep(0.4)
            with Connection(self.node) as other:
                produce(other, self.topic, batch([b"late"]), partition=3)

        thread = threading.Thread(target=later)
        thread.start()
        began = time.monotonic()
        step = self.ask({}, session_id=session, session_epoch=1, max_wait_ms=10_000)
        waited = time.monotonic() - began
        self.assertTrue(0.3 < waited < 3 * PATIENCE, waited)
        thread.join()
        self.assertEqual([3], [p["index"] for p in step["topics"][0]["partitions"]])

    def test_item_43_read_uncommitted_has_no_aborted_list(self):
        self.put(b"x")
        self.assertFalse(fetch(self.c, self.topic, 0)["aborted"])

    def test_item_44_read_committed_reads_to_the_last_stable_offset(self):
        self.put(b"a")
        answer = fetch(self.c, self.topic, 0, isolation=1)
        self.assertEqual((1, 1), (answer["high_watermark"], answer["last_stable"]))
        self.assertEqual([b"a"], [r.value for r in records.records(answer["records"])])

    def test_item_46_offsets_out_of_range(self):
        for i in range(3):
            self.put(b"%d" % i)
        self.assertEqual(wire.NONE, fetch(self.c, self.topic, 3)["error"])
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(self.c, self.topic, 4)["error"])
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(self.c, self.topic, -5)["error"])

    def test_item_47_watermarks_are_always_there(self):
        self.put(b"a", b"b")
        answer = fetch(self.c, self.topic, 0)
        self.assertEqual((2, 2, 0), (answer["high_watermark"], answer["last_stable"], answer["log_start"]))
        for wrong in (fetch(self.c, self.topic, 77), fetch(self.c, self.topic, 0, partition=77)):
            self.assertEqual(-1, wrong["high_watermark"])
            self.assertEqual(b"", wrong["records"] or b"")

    def test_item_48_leader_epochs_are_checked(self):
        self.put(b"a")
        epoch = next(records.batches(fetch(self.c, self.topic, 0)["records"])).leader_epoch
        self.assertEqual(wire.NONE, fetch(self.c, self.topic, 0, leader_epoch=epoch)["error"])
        self.assertEqual(wire.UNKNOWN_LEADER_EPOCH, fetch(self.c, self.topic, 0, leader_epoch=epoch + 1)["error"])
        if epoch > 0:
            self.assertEqual(wire.FENCED_LEADER_EPOCH, fetch(self.c, self.topic, 0, leader_epoch=epoch - 1)["error"])

    def test_item_49_the_epoch_that_was_read_last_is_checked(self):
        self.put(b"a", b"b")
        epoch = next(records.batches(fetch(self.c, self.topic, 0)["records"])).leader_epoch

        def ask(last_fetched_epoch):
            answer = self.c.call("Fetch", 12, replica=-1, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
                {"name": self.topic, "partitions": [{"index": 0, "leader_epoch": -1, "offset": 1, "log_start": -1,
                                                     "last_fetched_epoch": last_fetched_epoch, "max_bytes": 1 << 20}]}])
            return answer["topics"][0]["partitions"][0]

        for read in (-1, epoch):
            self.assertEqual((wire.NONE, 2), (ask(read)["error"], len(records.records(ask(read)["records"]))))
        # An epoch that never was has no end to go back to: an empty answer would have the client ask for ever.
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, ask(epoch + 5)["error"])

    def test_item_52_no_records_are_empty_not_null(self):
        for version in (4, 11, 12):
            answer = self.ask({0: 0}, version=version)
            self.assertEqual(b"", answer["topics"][0]["partitions"][0]["records"])

    def test_item_54_an_unknown_topic_is_an_error_of_that_topic_alone(self):
        self.put(b"a")
        answer = self.c.call("Fetch", 11, replica=-1, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
            {"name": name, "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0, "log_start": -1, "max_bytes": 1 << 20}]}
            for name in ("no-such-topic", self.topic)])
        self.assertEqual(wire.NONE, answer["error"])
        self.assertEqual({"no-such-topic": wire.UNKNOWN_TOPIC, self.topic: wire.NONE},
                         {t["name"]: t["partitions"][0]["error"] for t in answer["topics"]})

    def test_fetch_by_topic_id(self):
        self.put(b"by id")
        ids = {t["name"]: t["topic_id"] for t in self.c.call("Metadata", 12, topics=None)["topics"]}
        for version in (13, 15, 16):
            answer = self.c.call("Fetch", version, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
                {"topic_id": ids[self.topic], "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0, "last_fetched_epoch": -1,
                                                              "log_start": -1, "max_bytes": 1 << 20}]}],
                                 **({"replica": -1} if version < 15 else {}))
            self.assertEqual([b"by id"], [r.value for r in records.records(answer["topics"][0]["partitions"][0]["records"])])
        answer = self.c.call("Fetch", 16, max_wait_ms=0, min_bytes=1, max_bytes=1 << 20, session_epoch=-1, rack="", topics=[
            {"topic_id": uuid.uuid4(), "partitions": [{"index": 0, "leader_epoch": -1, "offset": 0,
                                                                     "last_fetched_epoch": -1, "log_start": -1, "max_bytes": 1 << 20}]}])
        codes = {answer["error"]} | {p["error"] for t in answer["topics"] for p in t["partitions"]}
        self.assertIn(wire.UNKNOWN_TOPIC_ID, codes)

    def test_consumers_see_only_whole_growing_prefixes_under_load(self):
        """A reader beside a writer: offsets dense, high watermark never back, every record what was written there."""
        count = 3000

        def write():
            with Connection(self.node) as w:
                for first in range(0, count, 100):
                    for i in range(first, first + 100):
                        send_produce(w, self.topic, batch([b"%d" % i]))
                    for _ in range(100):
                        w.receive()

        thread = threading.Thread(target=write)
        thread.start()
        offset = mark = 0
        deadline = time.monotonic() + 60
        while offset < count:
            self.assertLess(time.monotonic(), deadline)
            answer = fetch(self.c, self.topic, offset, max_wait_ms=500)
            self.assertGreaterEqual(answer["high_watermark"], mark)
            mark = answer["high_watermark"]
            for r in records.records(answer["records"]):
                if r.offset >= offset:
                    self.assertEqual((offset, b"%d" % offset), (r.offset, r.value))
                    self.assertLess(r.offset, mark)
                    offset += 1
        thread.join()


class SessionCache(FetchTest):
    """On a node of its own: a full cache keeps sessions younger than two minutes, and gives no new ones."""

    def test_item_40_sessions_are_bounded(self):
        """1,000 slots in Kafka; beyond, a fetch is served without a session or in the place of an old one."""
        sessions = [self.ask({0: 0}, session_epoch=0)["session_id"] for _ in range(2500)]
        given = [s for s in sessions if s]
        self.assertEqual(len(given), len(set(given)))
        self.assertEqual(wire.NONE, self.ask({0: 0})["error"])


class ListOffsets(FetchTest):
    def find(self, timestamp, version=7, partition=0):
        return list_offset(self.c, self.topic, timestamp, partition, version)

    def test_item_56_earliest_and_latest(self):
        for version in (1, 2, 4, 5, 6, 7):
            self.assertEqual((wire.NONE, -1, 0), self.find(-2, version))
            self.assertEqual((wire.NONE, -1, 0), self.find(-1, version))
        self.put(b"a", b"b", b"c")
        for version in (1, 2, 4, 5, 6, 7):
            self.assertEqual((wire.NONE, -1, 0), self.find(-2, version))
            self.assertEqual((wire.NONE, -1, 3), self.find(-1, version))

    def test_item_56_the_newest_record(self):
        self.assertEqual((wire.NONE, -1, -1), self.find(-3))
        base = 1_600_000_000_000
        self.put(b"a", b"b", b"c", base_timestamp=base, timestamps=[base + 5, base + 900, base + 7])
        self.put(b"d", base_timestamp=base + 100)
        self.assertEqual((wire.NONE, base + 900, 1), self.find(-3))

    def test_item_57_by_time_is_by_record(self):
        base = 1_600_000_000_000
        for codec in (records.NO_CODEC, records.LZ4):
            with self.subTest(codec):
                self.topic = create_topic(self.node, self.topic_name())
                for i in range(0, 100, 10):
                    stamps = [base + 1000 * j for j in range(i, i + 10)]
                    self.put(*[b"%d" % j for j in range(i, i + 10)], codec=codec, base_timestamp=stamps[0], timestamps=stamps)
                for i in (0, 1, 9, 10, 55, 99):
                    self.assertEqual((wire.NONE, base + 1000 * i, i), self.find(base + 1000 * i))
                    self.assertEqual((wire.NONE, base + 1000 * i, i), self.find(base + 1000 * i - 1))
                self.assertEqual((wire.NONE, base, 0), self.find(0))
                self.assertEqual((wire.NONE, -1, -1), self.find(base + 99_001))

    def test_item_57_by_time_with_stamps_out_of_order(self):
        base = 1_600_000_000_000
        stamps = [base + s for s in (50, 10, 80, 20, 90, 30)]
        self.put(*[b"x"] * 6, base_timestamp=base, timestamps=stamps)
        self.put(b"y", base_timestamp=base + 5)
        self.assertEqual((wire.NONE, base + 50, 0), self.find(base + 40))
        self.assertEqual((wire.NONE, base + 80, 2), self.find(base + 60))
        self.assertEqual((wire.NONE, base + 90, 4), self.find(base + 85))

    def test_item_58_the_leader_epoch_is_in_the_answer(self):
        self.put(b"a")
        answer = self.c.call("ListOffsets", 4, replica=-1, topics=[
            {"name": self.topic, "partitions": [{"index": 0, "leader_epoch": -1, "timestamp": -1}]}])
        epoch = next(records.batches(fetch(self.c, self.topic, 0)["records"])).leader_epoch
        self.assertEqual(epoch, answer["topics"][0]["partitions"][0]["leader_epoch"])

    def test_unknown_partitions_and_topics(self):
        self.assertEqual(wire.UNKNOWN_TOPIC, self.find(-1, partition=99)[0])
        self.assertEqual(wire.UNKNOWN_TOPIC, list_offset(self.c, "no-such-topic", -1)[0])

    def test_item_60_the_end_of_a_leader_epoch(self):
        self.put(b"a", b"b")
        epoch = next(records.batches(fetch(self.c, self.topic, 0)["records"])).leader_epoch

        def end_of(wanted, current=-1):
            answer = self.c.call("OffsetForLeaderEpoch", 3, replica=-1, topics=[
                {"name": self.topic, "partitions": [{"index": 0, "current_epoch": current, "epoch": wanted}]}])
            p = answer["topics"][0]["partitions"][0]
            return p["error"], p["epoch"], p["end"]

        self.assertEqual((wire.NONE, epoch, 2), end_of(epoch))
        self.assertEqual((wire.NONE, -1, -1), end_of(epoch + 5))
        self.assertEqual(wire.UNKNOWN_LEADER_EPOCH, end_of(epoch, current=epoch + 1)[0])


class Cap(FetchTest):
    config = "fetch.max.bytes = 300000\n"

    def test_item_39_the_nodes_own_cap_on_an_answer(self):
        for p in range(4):
            for _ in range(2):
                self.put(bytes(100_000), partition=p)
        answer = self.ask({p: 0 for p in range(4)}, max_bytes=50 << 20)
        sizes = [len(p["records"]) for p in answer["topics"][0]["partitions"]]
        self.assertLessEqual(sum(sizes), 300_000)
        self.assertGreater(sizes[0], 100_000)
        # A batch that is larger than the cap comes whole all the same.
        self.put(bytes(900_000), partition=0)
        answer = self.ask({0: 2})
        self.assertGreater(len(answer["topics"][0]["partitions"][0]["records"]), 900_000)


class OlderSegments(FetchTest):
    def test_item_36_min_bytes_are_not_waited_for_in_an_older_segment(self):
        """Nobody appends to it, so that what it has is all there will be; as in Kafka. A wait would outlast the connection's patience."""
        create_topic(self.node, "rolled", 2, {"segment.bytes": str(1 << 20)})
        for i in range(5):  # the second segment begins at 3
            self.assertEqual(i, produce(self.c, "rolled", batch([bytes([i]) * 300_000]))["base_offset"])
        ask = lambda offset, **more: fetch(self.c, "rolled", offset, min_bytes=5 << 20, partition_max_bytes=310_000, version=11, **more)
        for offset in range(3):
            self.assertGreater(len(ask(offset, max_wait_ms=60_000)["records"]), 300_000, offset)
        before = time.monotonic()
        self.assertGreater(len(ask(4, max_wait_ms=500)["records"]), 300_000)
        self.assertGreaterEqual(time.monotonic() - before, 0.4, "the last segment may grow")
        # One partition of several is enough; whole segments below the limits are too.
        answer = self.ask({0: 0, 1: 0}, topic="rolled", max_wait_ms=60_000, min_bytes=5 << 20)
        self.assertGreater(len(answer["topics"][0]["partitions"][0]["records"]), 600_000)


def delete_records(c, topic, offset, partition=0, version=2):
    """(error, low watermark)"""
    answer = c.call("DeleteRecords", version, timeout_ms=10_000, topics=[
        {"name": topic, "partitions": [{"index": partition, "offset": offset}]}])
    p = answer["topics"][0]["partitions"][0]
    return p["error"], p["low_watermark"]


class DeleteRecords(FetchTest):
    def test_item_62_records_below_an_offset_are_gone(self):
        for i in range(5):
            self.put(b"%d" % i)
        for version in (0, 1, 2):
            self.assertEqual((wire.NONE, 2), delete_records(self.c, self.topic, 2, version=version))
        self.assertEqual((wire.NONE, 2), delete_records(self.c, self.topic, 1), "what is gone stays gone")
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(self.c, self.topic, 1)["error"])
        answer = fetch(self.c, self.topic, 2)
        self.assertEqual((2, 5, [b"2", b"3", b"4"]),
                         (answer["log_start"], answer["high_watermark"], [r.value for r in records.records(answer["records"])]))
        self.assertEqual((wire.NONE, -1, 2), list_offset(self.c, self.topic, -2))
        self.assertEqual(5, self.put(b"5"))

    def test_item_62_minus_1_is_the_high_watermark(self):
        self.put(b"a", b"b", b"c")
        self.assertEqual((wire.NONE, 3), delete_records(self.c, self.topic, -1))
        self.assertEqual((wire.NONE, -1, 3), list_offset(self.c, self.topic, -2))
        self.assertEqual(3, self.put(b"d"))

    def test_item_62_to_the_record_within_a_batch(self):
        base = 1_600_000_000_000
        self.put(*[b"%d" % i for i in range(10)], base_timestamp=base, timestamps=[base + i for i in range(10)])
        self.assertEqual((wire.NONE, 6), delete_records(self.c, self.topic, 6))
        self.assertEqual(wire.OFFSET_OUT_OF_RANGE, fetch(self.c, self.topic, 5)["error"])
        found = list(records.batches(fetch(self.c, self.topic, 6)["records"]))
        self.assertEqual(0, found[0].base_offset, "the batch is not cut: clients skip")
        self.assertEqual((wire.NONE, base + 6, 6), list_offset(self.c, self.topic, base, version=7))

    def test_item_62_what_is_refused(self):
        self.put(b"a")
        for offset in (2, 99, -2):
            self.assertEqual((wire.OFFSET_OUT_OF_RANGE, -1), delete_records(self.c, self.topic, offset))
        self.assertEqual((wire.UNKNOWN_TOPIC, -1), delete_records(self.c, self.topic, 0, partition=99))
        self.assertEqual((wire.UNKNOWN_TOPIC, -1), delete_records(self.c, "no-such-topic", 0))
        compacted = create_topic(self.node, self.topic_name(), configs={"cleanup.policy": "compact"})
        self.assertEqual((wire.POLICY_VIOLATION, -1), delete_records(self.c, compacted, 0))
        both = create_topic(self.node, self.topic_name(), configs={"cleanup.policy": "compact,delete"})
        self.assertEqual((wire.NONE, 0), delete_records(self.c, both, 0))
        await_coordinator(self.node)
        self.assertEqual((wire.INVALID_TOPIC, -1), delete_records(self.c, "__consumer_offsets", 0))

    def test_item_62_a_waiting_reader_is_told_the_new_start(self):
        self.put(b"a")
        with Connection(self.node) as waiter:
            send_fetch(waiter, self.topic, 1, max_wait_ms=1500)
            time.sleep(0.3)
            self.assertEqual((wire.NONE, 1), delete_records(self.c, self.topic, -1))
            answer = waiter.receive()["topics"][0]["partitions"][0]
            self.assertEqual((wire.NONE, 1), (answer["error"], answer["log_start"]))

    def test_item_62_the_low_watermark_survives_a_kill(self):
        with Node() as node:
            create_topic(node, "topic")
            with Connection(node) as c:
                for i in range(10):
                    produce(c, "topic", batch([b"%d" % i]))
                self.assertEqual((wire.NONE, 7), delete_records(c, "topic", 7))
            for end in (node.kill, node.stop):
                end()
                node.start()
                with Connection(node) as c:
                    self.assertEqual((wire.NONE, -1, 7), list_offset(c, "topic", -2))
                    self.assertEqual((wire.NONE, -1, 10), list_offset(c, "topic", -1))
                    self.assertEqual([b"7", b"8", b"9"], [r.value for r in records.records(fetch(c, "topic", 7)["records"])])


if __name__ == "__main__":
    unittest.main()
