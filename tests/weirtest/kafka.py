"""What the tests do with a node all the time, in terms of the protocol: create a topic, produce, fetch, find an end."""

import time

from . import records as batches
from . import wire
from .wire import Connection


def create_topic(node, name, partitions=1, configs=None, connection=None):
    with connection or Connection(node) as c:
        topic = {"name": name, "partitions": partitions, "replicas": 1,
                 "configs": [{"name": k, "value": v} for k, v in (configs or {}).items()]}
        answer = c.call("CreateTopics", 5, topics=[topic], timeout_ms=10_000)["topics"][0]
        assert answer["error"] == wire.NONE, answer
    return name


def await_coordinator(node, group="any", seconds_max=30):
    """Asks for a group's coordinator, as every client does first, until there is one: the offsets topic is made when it is needed."""
    deadline = time.monotonic() + seconds_max
    with Connection(node) as c:
        while True:
            error = c.call("FindCoordinator", 1, key=group)["error"]
            if error == wire.NONE:
                error = c.call("OffsetFetch", 5, group=group, topics=[])["error"]
            if error == wire.NONE:
                return
            assert error in (wire.COORDINATOR_LOADING, wire.COORDINATOR_NOT_AVAILABLE, wire.NOT_COORDINATOR), error
            assert time.monotonic() < deadline, error
            time.sleep(0.05)


def send_produce(c, topic, data, partition=0, acks=-1, version=7, timeout_ms=10_000):
    c.send("Produce", version, acks=acks, timeout_ms=timeout_ms, expect=acks != 0,
           topics=[{"name": topic, "partitions": [{"index": partition, "records": data}]}])


def produce(c, topic, data, partition=0, acks=-1, version=7, timeout_ms=10_000):
    """The answer for that one partition."""
    send_produce(c, topic, data, partition, acks, version, timeout_ms)
    return c.receive()["topics"][0]["partitions"][0]


def send_fetch(c, topic, offset, partition=0, version=11, max_wait_ms=0, min_bytes=1, max_bytes=50 << 20, partition_max_bytes=1 << 20,
               leader_epoch=-1, session_id=0, session_epoch=-1, isolation=0):
    c.send("Fetch", version, replica=-1, max_wait_ms=max_wait_ms, min_bytes=min_bytes, max_bytes=max_bytes, isolation=isolation,
           session_id=session_id, session_epoch=session_epoch, rack="",
           topics=[{"name": topic, "partitions": [{"index": partition, "leader_epoch": leader_epoch, "offset": offset,
                                                   "last_fetched_epoch": -1, "log_start": -1, "max_bytes": partition_max_bytes}]}])


def fetch(c, topic, offset, **more):
    """The answer for that one partition."""
    send_fetch(c, topic, offset, **more)
    return c.receive()["topics"][0]["partitions"][0]


def list_offset(c, topic, timestamp, partition=0, version=5):
    """(error, timestamp, offset)"""
    answer = c.call("ListOffsets", version, replica=-1, topics=[
        {"name": topic, "partitions": [{"index": partition, "leader_epoch": -1, "timestamp": timestamp}]}])
    p = answer["topics"][0]["partitions"][0]
    return p["error"], p["timestamp"], p["offset"]


def fetch_all(node, topic, partitions, seconds_max=30):
    """Every record of the topic up to the high watermark, by partition."""
    result = []
    deadline = time.monotonic() + seconds_max
    with Connection(node) as c:
        for partition in range(partitions):
            found, offset = [], 0
            while True:
                answer = fetch(c, topic, offset, partition=partition, version=11, partition_max_bytes=8 << 20)
                assert answer["error"] == wire.NONE, answer["error"]
                found += [r for r in batches.records(answer["records"]) if r.offset >= offset]
                offset = found[-1].offset + 1 if found else 0
                if offset >= answer["high_watermark"]:
                    break
                assert time.monotonic() < deadline, f"at offset {offset} of {answer['high_watermark']}"
            result.append(found)
    return result
