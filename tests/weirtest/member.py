#!/usr/bin/python3
"""One member of the million-record group, as a process: member.py BROKERS TOPIC GROUP OUT

Writes what it consumes to OUT, a fixed-size row a record, and commits what it wrote: when partitions are taken from it, now and
then, and when SIGTERM asks it to leave. So a record is consumed twice only if a member is killed between writing and committing."""

import signal
import struct
import sys
import zlib

from confluent_kafka import Consumer, KafkaError, KafkaException

ROW = struct.Struct(">iqqI")  # partition, offset, sequence, checksum of key, value and headers

brokers, topic, group, out_path = sys.argv[1:]
out = open(out_path, "wb")
stopped = False


def stop(*_):
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                     "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100,
                     "queued.max.messages.kbytes": 8192})


def commit():
    out.flush()
    try:
        consumer.commit(asynchronous=False)
    except KafkaException as e:
        # Nothing new to commit; or this member was given up, and another one goes on from the last commit.
        if e.args[0].code() not in (KafkaError._NO_OFFSET, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION,
                                    KafkaError.REBALANCE_IN_PROGRESS):
            raise


def revoked(c, partitions):
    commit()


consumer.subscribe([topic], on_revoke=revoked)
since = 0
while not stopped:
    messages = consumer.consume(1000, 0.2)
    for m in messages:
        if m.error():
            raise KafkaException(m.error())
        content = zlib.crc32(m.key() + m.value() + b"".join(name.encode() + value for name, value in m.headers()))
        out.write(ROW.pack(m.partition(), m.offset(), struct.unpack_from(">q", m.value())[0], content))
    since += len(messages)
    if since > 20_000 or (since and not messages):
        commit()
        since = 0
consumer.close()  # revokes, and so commits
out.close()
