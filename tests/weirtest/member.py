#!/usr/bin/python3
"""One member of the million-record group, as a process: member.py BROKERS TOPIC GROUP OUT

Writes what it consumes to OUT, a fixed-size row a record, and commits what it wrote: when partitions are taken from it, now and
then, and when SIGTERM asks it to leave. So a record is consumed twice only if a member is killed between writing and committing.

It takes one message at a time and commits offsets that it counts itself. librdkafka's consume() collects a list, and a rebalance
meanwhile throws away what was collected while commit() without offsets commits it: records lost by the client."""

import signal
import struct
import sys
import zlib

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

ROW = struct.Struct(">iqqI")  # partition, offset, sequence, checksum of key, value and headers
GIVEN_UP = (KafkaError.UNKNOWN_MEMBER_ID, KafkaError.ILLEGAL_GENERATION, KafkaError.REBALANCE_IN_PROGRESS, KafkaError._NO_OFFSET)

brokers, topic, group, out_path = sys.argv[1:]
out = open(out_path, "wb")
stopped = False
written = {}  # partition: the offset after the last record written and not yet committed


def stop(*_):
    global stopped
    stopped = True


signal.signal(signal.SIGTERM, stop)
consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                     "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "fetch.wait.max.ms": 100,
                     "queued.max.messages.kbytes": 8192})


def commit():
    out.flush()
    if not written:
        return
    try:
        consumer.commit(offsets=[TopicPartition(topic, p, offset) for p, offset in written.items()], asynchronous=False)
    except KafkaException as e:
        # This member was given up, and another one goes on from the last commit.
        if e.args[0].code() not in GIVEN_UP:
            raise
    written.clear()


def revoked(c, partitions):
    commit()


consumer.subscribe([topic], on_revoke=revoked)
since = 0
while not stopped:
    message = consumer.poll(0.2)
    if message is None:
        commit()
        since = 0
        continue
    if message.error():
        raise KafkaException(message.error())
    content = zlib.crc32(message.key() + message.value() + b"".join(name.encode() + value for name, value in message.headers()))
    out.write(ROW.pack(message.partition(), message.offset(), struct.unpack_from(">q", message.value())[0], content))
    written[message.partition()] = message.offset() + 1
    since += 1
    if since > 20_000:
        commit()
        since = 0
consumer.close()  # revokes, and so commits
out.close()
