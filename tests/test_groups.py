"""Classic consumer groups: items 75 to 92 of the conformance list (docs/conformance.md)."""

import os
import signal
import struct
import threading
import time
import unittest
import uuid

from weirtest import records, wire
from weirtest.kafka import await_coordinator, create_topic, fetch, list_offset
from weirtest.node import PATIENCE, QUICK_GROUPS, Node, NodeTest
from weirtest.wire import Connection


class Member:
    """One member on a connection of its own; every call's answer is kept in `last`."""

    def __init__(self, node, group, instance=None, session_ms=10_000, rebalance_ms=5_000, protocols=(("range", b"meta"),), kind="consumer"):
        self.c = Connection(node, timeout=40)
        self.group, self.instance, self.session_ms, self.rebalance_ms = group, instance, session_ms, rebalance_ms
        self.protocols, self.kind = protocols, kind
        self.id, self.generation, self.leader, self.last = "", -1, None, None

    def close(self):
        self.c.close()

    def send_join(self, version=5):
        self.c.send("JoinGroup", version, group=self.group, session_ms=self.session_ms, rebalance_ms=self.rebalance_ms, member=self.id,
                    instance=self.instance, protocol_type=self.kind,
                    protocols=[{"name": n, "metadata": m} for n, m in self.protocols], **({"reason": "test"} if version >= 8 else {}))

    def receive_join(self):
        self.last = self.c.receive()
        if self.last["error"] == wire.NONE:
            self.generation, self.leader = self.last["generation"], self.last["leader"]
            self.members = {m["member"]: m["metadata"] for m in self.last["members"]}
        if self.last["member"]:
            self.id = self.last["member"]
        return self.last["error"]

    def join(self, version=5):
        """Both steps of a join."""
        self.send_join(version)
        error = self.receive_join()
        if error == wire.MEMBER_ID_REQUIRED:
            self.send_join(version)
            error = self.receive_join()
        return error

    def send_sync(self, assignments=None, version=3):
        self.c.send("SyncGroup", version, group=self.group, generation=self.generation, member=self.id, instance=self.instance,
                    assignments=[{"member": m, "assignment": a} for m, a in (assignments or {}).items()])

    def sync(self, assignments=None):
        self.send_sync(assignments)
        self.last = self.c.receive()
        return self.last["error"]

    def heartbeat(self, generation=None):
        return self.c.call("Heartbeat", 3, group=self.group, generation=self.generation if generation is None else generation,
                           member=self.id, instance=self.instance)["error"]

    def leave(self):
        answer = self.c.call("LeaveGroup", 3, group=self.group, members=[{"member": self.id, "instance": self.instance}])
        return answer["error"] or answer["members"][0]["error"]

    def commit(self, topic, offset, generation=None, metadata="", version=7):
        answer = self.c.call("OffsetCommit", version, group=self.group, generation=self.generation if generation is None else generation,
                             member=self.id, instance=self.instance, topics=[
                                 {"name": topic, "partitions": [{"index": 0, "offset": offset, "leader_epoch": -1, "metadata": metadata}]}])
        return answer["topics"][0]["partitions"][0]["error"]

    @property
    def leads(self):
        return self.leader == self.id


def commit_simply(c, group, topic, offset, metadata="", partition=0):
    """A commit from outside of any generation: what tools do."""
    answer = c.call("OffsetCommit", 2, group=group, generation=-1, member="", retention_ms=-1, topics=[
        {"name": topic, "partitions": [{"index": partition, "offset": offset, "metadata": metadata}]}])
    return answer["topics"][0]["partitions"][0]["error"]


def committed(c, group, topic, partition=0):
    """(offset, metadata, error)"""
    answer = c.call("OffsetFetch", 5, group=group, topics=[{"name": topic, "partitions": [partition]}])
    p = answer["topics"][0]["partitions"][0]
    return p["offset"], p["metadata"], p["error"]


def java_hash(text):
    value = 0
    for byte in text.encode("utf-16-be")[1::2]:
        value = (31 * value + byte) & 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


class GroupTest(NodeTest):
    config = QUICK_GROUPS

    def setUp(self):
        self.topic = create_topic(self.node, self.topic_name())
        self.group = f"group-of-{self.topic}"
        await_coordinator(self.node, self.group)
        self.c = Connection(self.node)
        self.addCleanup(self.c.close)

    def member(self, **more):
        m = Member(self.node, more.pop("group", self.group), **more)
        if m.group:
            await_coordinator(self.node, m.group)
        self.addCleanup(m.close)
        return m

    def joined(self, *members):
        """Joins all of them into one generation and syncs; the assignment of each is its own name."""
        for m in members:
            if not m.id and m.instance is None:
                m.send_join()
                self.assertEqual(wire.MEMBER_ID_REQUIRED, m.receive_join())
            m.send_join()
        for m in members:
            self.assertEqual(wire.NONE, m.receive_join())
        leader = next(m for m in members if m.leads)
        for m in members:
            m.send_sync({x: b"for " + x.encode() for x in leader.members} if m is leader else None)
        for m in members:
            m.last = m.c.receive()
            self.assertEqual((wire.NONE, b"for " + m.id.encode()), (m.last["error"], m.last["assignment"]))
        return leader

    def describe(self, group=None):
        return self.c.call("DescribeGroups", 4, groups=[group or self.group])["groups"][0]


class Membership(GroupTest):
    def test_item_75_a_member_id_is_required(self):
        m = self.member()
        m.send_join(4)
        self.assertEqual(wire.MEMBER_ID_REQUIRED, m.receive_join())
        self.assertTrue(m.id)
        m.send_join(4)
        self.assertEqual(wire.NONE, m.receive_join())
        self.assertTrue(m.leads)
        self.assertEqual({m.id: b"meta"}, m.members)

    def test_item_75_before_version_4_one_step_is_enough(self):
        for version in (0, 1, 2, 3):
            m = self.member(group=f"{self.group}-{version}")
            m.send_join(version)
            self.assertEqual(wire.NONE, m.receive_join())

    def test_item_76_members_that_come_together_are_one_generation(self):
        members = [self.member() for _ in range(4)]
        began = time.monotonic()
        self.joined(*members)
        self.assertLess(time.monotonic() - began, 10 * PATIENCE)
        self.assertEqual({1}, {m.generation for m in members})
        self.assertEqual(1, len({m.leader for m in members}))
        leader = next(m for m in members if m.leads)
        self.assertEqual({m.id for m in members}, set(leader.members))
        self.assertEqual([{}] * 3, [m.members for m in members if not m.leads])

    def test_item_77_session_timeouts_have_bounds(self):
        for session_ms in (0, 100, 5_999, 1_800_001, -1):
            m = self.member(session_ms=session_ms)
            m.send_join()
            self.assertEqual(wire.INVALID_SESSION_TIMEOUT, m.receive_join())

    def test_item_77_a_member_that_falls_silent_is_removed(self):
        quiet, lively = self.member(session_ms=6_000), self.member(session_ms=30_000)
        self.joined(quiet, lively)
        deadline = time.monotonic() + 12 * PATIENCE
        while (error := lively.heartbeat()) == wire.NONE:
            self.assertLess(time.monotonic(), deadline, "the silent member is still there")
            time.sleep(0.3)
        self.assertEqual(wire.REBALANCE_IN_PROGRESS, error)
        self.assertEqual(wire.NONE, lively.join())
        self.assertEqual({lively.id}, set(lively.members))
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, quiet.heartbeat())

    def test_item_77_a_node_that_stood_still_does_not_take_its_members_for_silent(self):
        m = self.member(session_ms=6_000)
        self.joined(m)
        os.kill(self.node.process.pid, signal.SIGSTOP)
        try:
            time.sleep(6.5)
        finally:
            os.kill(self.node.process.pid, signal.SIGCONT)
        time.sleep(0.3)  # timers fire first
        self.assertEqual(wire.NONE, m.heartbeat())

    def test_an_empty_group_name_is_refused(self):
        m = self.member(group="")
        m.send_join()
        self.assertEqual(wire.INVALID_GROUP_ID, m.receive_join())

    def test_item_78_generations_are_fenced(self):
        m = self.member()
        self.joined(m)
        self.assertEqual(wire.NONE, m.heartbeat())
        self.assertEqual(wire.ILLEGAL_GENERATION, m.heartbeat(m.generation + 1))
        self.assertEqual(wire.ILLEGAL_GENERATION, m.heartbeat(m.generation - 1))
        self.assertEqual(wire.ILLEGAL_GENERATION, m.commit(self.topic, 1, m.generation - 1))
        stranger = self.member()
        stranger.id, stranger.generation = "a stranger", m.generation
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, stranger.heartbeat())
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, stranger.commit(self.topic, 1))
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, stranger.sync())
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, stranger.leave())

    def test_item_78_a_newcomer_starts_a_rebalance(self):
        old, new = self.member(), self.member()
        self.joined(old)
        new.send_join()
        self.assertEqual(wire.MEMBER_ID_REQUIRED, new.receive_join())
        new.send_join()
        deadline = time.monotonic() + 5 * PATIENCE
        while (error := old.heartbeat()) == wire.NONE:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        self.assertEqual(wire.REBALANCE_IN_PROGRESS, error)
        self.assertEqual(wire.NONE, old.commit(self.topic, 42), "commits are taken while members rejoin")
        old.send_join()
        self.assertEqual(wire.NONE, old.receive_join())
        self.assertEqual(wire.NONE, new.receive_join())
        self.assertEqual((2, 2), (old.generation, new.generation))
        self.assertEqual(wire.REBALANCE_IN_PROGRESS, old.commit(self.topic, 43), "and refused until the assignment is there")
        self.assertEqual((42, "", wire.NONE), committed(self.c, self.group, self.topic))

    def test_item_79_the_protocol_that_all_know(self):
        a = self.member(protocols=(("fancy", b"a1"), ("range", b"a2"), ("roundrobin", b"a3")))
        b = self.member(protocols=(("roundrobin", b"b1"), ("range", b"b2")))
        c = self.member(protocols=(("range", b"c1"), ("roundrobin", b"c2")))
        self.joined(a, b, c)
        leader = next(m for m in (a, b, c) if m.leads)
        self.assertEqual({a.id: b"a2", b.id: b"b2", c.id: b"c1"}, leader.members)  # two of three vote for range
        stranger = self.member(protocols=(("unheard-of", b""),))
        self.assertEqual(wire.INCONSISTENT_GROUP_PROTOCOL, stranger.join())
        other_kind = self.member(kind="connect", protocols=(("range", b""),))
        self.assertEqual(wire.INCONSISTENT_GROUP_PROTOCOL, other_kind.join())
        nothing = self.member(group=self.group + "-2", protocols=())
        self.assertEqual(wire.INCONSISTENT_GROUP_PROTOCOL, nothing.join())

    def test_item_79_the_kind_of_protocol_is_free_text(self):
        m = self.member(kind="connect", protocols=(("compatible", b"\0\1\2"),))
        self.joined(m)
        self.assertEqual(("connect", "compatible", "Stable"), tuple(self.describe()[k] for k in ("protocol_type", "protocol", "state")))

    def test_item_80_a_static_member_keeps_its_place(self):
        one, two = self.member(instance="one"), self.member(instance="two")
        self.joined(one, two)
        generation, old_id = one.generation, one.id
        again = self.member(instance="one")
        again.send_join()
        self.assertEqual(wire.NONE, again.receive_join())
        self.assertNotEqual(old_id, again.id)
        self.assertEqual(generation, again.generation, "no rebalance when nothing changed")
        self.assertEqual(wire.NONE, again.sync({}))
        self.assertEqual(b"for " + old_id.encode(), again.last["assignment"])
        self.assertEqual(wire.NONE, two.heartbeat())
        self.assertEqual(wire.FENCED_INSTANCE_ID, one.heartbeat())
        self.assertEqual(wire.FENCED_INSTANCE_ID, one.commit(self.topic, 1))
        self.assertEqual(wire.NONE, again.commit(self.topic, 1))

    def test_item_80_a_static_leader_does_not_assign_again(self):
        """Before version 9 the answer names the leader's old id, so that the client takes itself for a follower."""
        for version in (5, 9):
            group = f"{self.group}-{version}"
            m = self.member(group=group, instance="one")
            self.assertEqual(wire.NONE, m.join(version))
            self.assertTrue(m.leads)
            self.assertEqual(wire.NONE, m.sync({m.id: b"mine"}))
            again = self.member(group=group, instance="one")
            self.assertEqual(wire.NONE, again.join(version))
            self.assertEqual(m.generation, again.generation)
            if version < 9:
                self.assertEqual(m.id, again.leader)
            else:
                self.assertEqual((again.id, True), (again.leader, again.last["skip_assignment"]))
            self.assertEqual(wire.NONE, again.sync({}))
            self.assertEqual(b"mine", again.last["assignment"])

    def test_item_82_leaving_several_at_once(self):
        one, two, three = (self.member(instance=i) for i in ("one", "two", "three"))
        self.joined(one, two, three)
        answer = self.c.call("LeaveGroup", 3, group=self.group, members=[
            {"member": "", "instance": "one"}, {"member": "", "instance": "two"}, {"member": "", "instance": "nobody"}])
        self.assertEqual(wire.NONE, answer["error"])
        self.assertEqual([wire.NONE, wire.NONE, wire.UNKNOWN_MEMBER_ID], [m["error"] for m in answer["members"]])
        self.assertEqual(["three"], [m["instance"] for m in self.describe()["members"]])

    def test_item_82_leaving_starts_a_rebalance_at_once(self):
        one, two = self.member(), self.member()
        self.joined(one, two)
        self.assertEqual(wire.NONE, one.leave())
        self.assertEqual(wire.REBALANCE_IN_PROGRESS, two.heartbeat())
        began = time.monotonic()
        self.assertEqual(wire.NONE, two.join())
        self.assertLess(time.monotonic() - began, 2 * PATIENCE)
        self.assertEqual({two.id}, set(two.members))

    def test_item_83_a_follower_waits_for_the_leaders_assignment(self):
        members = [self.member() for _ in range(2)]
        for m in members:
            m.send_join()
            m.receive_join()
            m.send_join()
        for m in members:
            self.assertEqual(wire.NONE, m.receive_join())
        leader = next(m for m in members if m.leads)
        follower = next(m for m in members if not m.leads)
        follower.send_sync()
        follower.c.socket.settimeout(0.7)
        with self.assertRaises(TimeoutError):
            follower.c.socket.recv(1)
        follower.c.socket.settimeout(20)
        self.assertEqual(wire.NONE, leader.sync({leader.id: b"all"}))
        follower.last = follower.c.receive()
        self.assertEqual((wire.NONE, b""), (follower.last["error"], follower.last["assignment"] or b""))
        self.assertEqual(b"all", leader.last["assignment"])

    def test_item_83_a_waiting_follower_learns_of_a_new_join(self):
        members = [self.member() for _ in range(2)]
        for m in members:
            m.send_join()
            m.receive_join()
            m.send_join()
        for m in members:
            self.assertEqual(wire.NONE, m.receive_join())
        follower = next(m for m in members if not m.leads)
        follower.send_sync()
        newcomer = self.member()
        newcomer.send_join()
        newcomer.receive_join()
        newcomer.send_join()
        self.assertEqual(wire.REBALANCE_IN_PROGRESS, follower.c.receive()["error"])

    def test_item_81_assignments_pass_through_untouched(self):
        blob = bytes(range(256)) * 400
        m = self.member(protocols=(("cooperative-sticky", blob),))
        self.assertEqual(wire.NONE, m.join())
        self.assertEqual({m.id: blob}, m.members)
        self.assertEqual(wire.NONE, m.sync({m.id: blob[::-1]}))
        self.assertEqual(blob[::-1], m.last["assignment"])

    def test_item_90_listing_and_describing(self):
        m = self.member()
        self.joined(m)
        commit_simply(self.c, self.group + "-empty", self.topic, 1)
        listed = {g["group"]: g for g in self.c.call("ListGroups", 4, states=[])["groups"]}
        self.assertEqual(("consumer", "Stable"), (listed[self.group]["protocol_type"], listed[self.group]["state"]))
        self.assertEqual("Empty", listed[self.group + "-empty"]["state"])
        stable = {g["group"] for g in self.c.call("ListGroups", 4, states=["Stable"])["groups"]}
        self.assertIn(self.group, stable)
        self.assertNotIn(self.group + "-empty", stable)
        found = self.describe()
        self.assertEqual((wire.NONE, "Stable", "range"), (found["error"], found["state"], found["protocol"]))
        self.assertEqual([(m.id, b"meta", b"for " + m.id.encode())],
                         [(x["member"], x["metadata"], x["assignment"]) for x in found["members"]])
        self.assertIn("127.0.0.1", found["members"][0]["client_host"])
        self.assertEqual("Dead", self.describe("no-such-group")["state"])

    def test_item_90_filters_and_unknown_groups(self):
        commit_simply(self.c, self.group, self.topic, 1)

        def listed(**filters):
            return {g["group"] for g in self.c.call("ListGroups", 5, **dict(dict(states=[], types=[]), **filters))["groups"]}

        self.assertIn(self.group, listed(types=["classic"]))
        self.assertIn(self.group, listed(types=["Classic"], states=["empty"]))
        self.assertNotIn(self.group, listed(types=["consumer"]))
        self.assertNotIn(self.group, listed(states=["Stable"]))
        for version, error in ((5, wire.NONE), (6, wire.GROUP_ID_NOT_FOUND)):
            found = self.c.call("DescribeGroups", version, groups=["no-such-group"])["groups"][0]
            self.assertEqual((error, "Dead"), (found["error"], found["state"]))


class Offsets(GroupTest):
    def test_item_85_simple_commits(self):
        self.assertEqual(wire.NONE, commit_simply(self.c, self.group, self.topic, 17, "note"))
        self.assertEqual((17, "note", wire.NONE), committed(self.c, self.group, self.topic))
        m = self.member()
        self.joined(m)
        self.assertEqual(wire.UNKNOWN_MEMBER_ID, commit_simply(self.c, self.group, self.topic, 18))
        self.assertEqual(wire.NONE, m.commit(self.topic, 19))
        self.assertEqual((19, "", wire.NONE), committed(self.c, self.group, self.topic))

    def test_item_85_a_commit_of_a_generation_to_an_unknown_group(self):
        for version, error in ((7, wire.ILLEGAL_GENERATION), (8, wire.ILLEGAL_GENERATION), (9, wire.GROUP_ID_NOT_FOUND)):
            m = self.member()
            m.id, m.generation = "nobody", 3
            self.assertEqual(error, m.commit(self.topic, 1, version=version))

    def test_item_88_by_topic_id(self):
        ids = {t["name"]: t["topic_id"] for t in self.c.call("Metadata", 12, topics=None)["topics"]}
        unknown = uuid.uuid4()
        answer = self.c.call("OffsetCommit", 10, group=self.group, generation=-1, member="", topics=[
            {"topic_id": i, "partitions": [{"index": 0, "offset": 8, "leader_epoch": -1, "metadata": ""}]} for i in (ids[self.topic], unknown)])
        self.assertEqual([(ids[self.topic], wire.NONE), (unknown, wire.UNKNOWN_TOPIC_ID)],
                         [(t["topic_id"], t["partitions"][0]["error"]) for t in answer["topics"]])
        answer = self.c.call("OffsetFetch", 10, stable=False, groups=[{"group": self.group, "member": None, "epoch": -1, "topics": [
            {"topic_id": i, "partitions": [0]} for i in (ids[self.topic], unknown)]}])
        self.assertEqual([(ids[self.topic], 8, wire.NONE), (unknown, -1, wire.UNKNOWN_TOPIC_ID)],
                         [(t["topic_id"], t["partitions"][0]["offset"], t["partitions"][0]["error"]) for t in answer["groups"][0]["topics"]])

    def test_item_87_long_metadata_is_refused(self):
        self.assertEqual(wire.NONE, commit_simply(self.c, self.group, self.topic, 1, "x" * 4096))
        self.assertEqual(wire.OFFSET_METADATA_TOO_LARGE, commit_simply(self.c, self.group, self.topic, 2, "x" * 4097))
        self.assertEqual(1, committed(self.c, self.group, self.topic)[0])

    def test_item_88_no_offset_is_minus_1(self):
        self.assertEqual((-1, "", wire.NONE), committed(self.c, "no-such-group", self.topic))
        commit_simply(self.c, self.group, self.topic, 3)
        answer = self.c.call("OffsetFetch", 7, group=self.group, topics=[{"name": self.topic, "partitions": [0, 5]}], stable=True)
        self.assertEqual([3, -1], [p["offset"] for p in answer["topics"][0]["partitions"]])

    def test_item_88_many_groups_at_once(self):
        commit_simply(self.c, self.group, self.topic, 3)
        commit_simply(self.c, self.group + "-b", self.topic, 4)
        answer = self.c.call("OffsetFetch", 8, stable=False, groups=[
            {"group": self.group, "topics": None}, {"group": self.group + "-b", "topics": [{"name": self.topic, "partitions": [0]}]}])
        self.assertEqual({self.group: 3, self.group + "-b": 4},
                         {g["group"]: g["topics"][0]["partitions"][0]["offset"] for g in answer["groups"]})

    def test_item_89_only_empty_groups_are_deleted(self):
        def delete(group):
            return self.c.call("DeleteGroups", 1, groups=[group])["groups"][0]["error"]

        m = self.member()
        self.joined(m)
        m.commit(self.topic, 5)
        self.assertEqual(wire.NON_EMPTY_GROUP, delete(self.group))
        m.leave()
        self.assertEqual(wire.NONE, delete(self.group))
        self.assertEqual(-1, committed(self.c, self.group, self.topic)[0])
        self.assertEqual(wire.GROUP_ID_NOT_FOUND, delete(self.group))

    def offset_delete(self, group, *topics):
        """(error, {topic: error})"""
        answer = self.c.call("OffsetDelete", 0, group=group, topics=[{"name": t, "partitions": [{"index": 0}]} for t in topics])
        return answer["error"], {t["name"]: t["partitions"][0]["error"] for t in answer["topics"]}

    def test_item_89_offsets_of_topics_that_nobody_subscribes_to_can_be_deleted(self):
        other = create_topic(self.node, self.topic_name())
        subscription = struct.pack(">hi", 0, 1) + wire.encode_value("str", self.topic, False) + struct.pack(">i", -1)
        m = self.member(protocols=(("range", subscription),))
        self.joined(m)
        self.assertEqual([wire.NONE] * 2, [m.commit(self.topic, 3), m.commit(other, 4)])
        self.assertEqual((wire.NONE, {self.topic: wire.GROUP_SUBSCRIBED_TO_TOPIC, other: wire.NONE, "no-such-topic": wire.UNKNOWN_TOPIC}),
                         self.offset_delete(self.group, self.topic, other, "no-such-topic"))
        self.assertEqual((3, -1), (committed(self.c, self.group, self.topic)[0], committed(self.c, self.group, other)[0]))
        m.leave()
        self.assertEqual((wire.NONE, {self.topic: wire.NONE}), self.offset_delete(self.group, self.topic))
        self.assertEqual(-1, committed(self.c, self.group, self.topic)[0])

    def test_item_89_offset_delete_of_groups_that_it_is_not_for(self):
        self.assertEqual((wire.GROUP_ID_NOT_FOUND, {}), self.offset_delete("no-such-group", self.topic))
        m = self.member(kind="connect")
        self.joined(m)
        self.assertEqual((wire.NON_EMPTY_GROUP, {}), self.offset_delete(self.group, self.topic))

    def test_item_91_a_group_lives_where_javas_hash_says(self):
        group = "where-is-" + self.group
        await_coordinator(self.node, group)
        before = [list_offset(self.c, "__consumer_offsets", -1, p)[2] for p in range(50)]
        self.assertEqual(wire.NONE, commit_simply(self.c, group, self.topic, 1))
        after = [list_offset(self.c, "__consumer_offsets", -1, p)[2] for p in range(50)]
        self.assertEqual([abs(java_hash(group)) % 50], [p for p in range(50) if after[p] != before[p]])

    def test_item_92_a_commit_to_an_unknown_topic_is_refused(self):
        self.assertEqual(wire.UNKNOWN_TOPIC, commit_simply(self.c, self.group, "no-such-topic", 1))
        self.assertEqual(wire.UNKNOWN_TOPIC, commit_simply(self.c, self.group, self.topic, 1, partition=99))

    def test_item_92_offsets_of_a_deleted_topic_are_gone(self):
        commit_simply(self.c, self.group, self.topic, 9)
        self.c.call("DeleteTopics", 4, names=[self.topic], timeout_ms=5000)
        create_topic(self.node, self.topic)
        deadline = time.monotonic() + 5 * PATIENCE
        while committed(self.c, self.group, self.topic)[0] != -1:
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)

    def test_commits_of_many_members_at_once_are_all_kept(self):
        def work(i):
            with Connection(self.node) as c:
                for j in range(50):
                    errors.append(commit_simply(c, f"{self.group}-{i}", self.topic, j))

        errors = []
        threads = [threading.Thread(target=work, args=(i,)) for i in range(10)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        self.assertEqual([wire.NONE] * 500, errors)
        self.assertEqual([49] * 10, [committed(self.c, f"{self.group}-{i}", self.topic)[0] for i in range(10)])


class InitialDelay(NodeTest):
    config = "group.initial.rebalance.delay.ms = 2000\n"

    def test_item_76_the_first_members_wait_for_more(self):
        await_coordinator(self.node, "group")
        members = [Member(self.node, "group") for _ in range(3)]
        began = time.monotonic()
        for m in members:
            m.send_join()
            self.assertEqual(wire.MEMBER_ID_REQUIRED, m.receive_join())
            m.send_join()
            time.sleep(0.8)
        for m in members:
            self.assertEqual(wire.NONE, m.receive_join())
        self.assertGreater(time.monotonic() - began, 1.9)
        self.assertEqual([3], [len(m.members) for m in members if m.leads])
        for m in members:
            m.close()


class Kept(unittest.TestCase):
    def test_item_84_offsets_and_members_survive_a_restart_and_a_kill(self):
        with Node(config=QUICK_GROUPS) as node:
            create_topic(node, "topic")
            await_coordinator(node, "group")
            await_coordinator(node, "simple")
            member = Member(node, "group")
            self.assertEqual(wire.NONE, member.join())
            self.assertEqual(wire.NONE, member.sync({member.id: b"everything"}))
            self.assertEqual(wire.NONE, member.commit("topic", 11))
            with Connection(node) as c:
                commit_simply(c, "simple", "topic", 22, "note")
            for round_, end in enumerate((node.kill, node.stop)):
                member.close()
                end()
                node.start()
                member.c = Connection(node, timeout=40)
                await_coordinator(node, "group")
                await_coordinator(node, "simple")
                with Connection(node) as c:
                    self.assertEqual((11 + round_, "", wire.NONE), committed(c, "group", "topic"))
                    self.assertEqual((22, "note", wire.NONE), committed(c, "simple", "topic"))
                self.assertEqual(wire.NONE, member.heartbeat(), "a member goes on after its coordinator came back")
                self.assertEqual(wire.NONE, member.commit("topic", 12 + round_))
            member.close()

    def test_the_offsets_topic_is_in_kafkas_own_format(self):
        """Tools read __consumer_offsets: key version 1 is (group, topic, partition), value version 1 or 3 starts with the offset."""
        with Node(config=QUICK_GROUPS) as node:
            create_topic(node, "topic")
            await_coordinator(node, "some-group")
            with Connection(node) as c:
                commit_simply(c, "some-group", "topic", 1234, "note")
                partition = abs(java_hash("some-group")) % 50
                found = records.records(fetch(c, "__consumer_offsets", 0, partition=partition)["records"])
            self.assertEqual(1, len(found))
            reader = wire.Reader(found[0].key)
            self.assertEqual((1, "some-group", "topic", 0), (reader.fixed("i16"), reader.value("str", False), reader.value("str", False),
                                                             reader.fixed("i32")))
            self.assertEqual(1234, struct.unpack_from(">q", found[0].value, 2)[0])


if __name__ == "__main__":
    unittest.main()
