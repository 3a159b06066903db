#!/usr/bin/python3
"""kafka-python 2.0.2: old versions of the API, no idempotence."""

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic

from lines import Line, main, read_records, write_records


def create(brokers, topic, partitions):
    admin = KafkaAdminClient(bootstrap_servers=brokers)
    admin.create_topics([NewTopic(topic, int(partitions), 1)])
    admin.close()


def produce(brokers, topic, codec):
    producer = KafkaProducer(bootstrap_servers=brokers, compression_type=None if codec == "none" else codec, acks="all", linger_ms=20)
    sent = [producer.send(topic, value=r.value, key=r.key, headers=r.headers, timestamp_ms=r.timestamp, partition=r.partition)
            for r in read_records()]
    producer.flush(30)
    for future in sent:
        future.get(1)
    producer.close()


def connect(brokers, name=None, *topics):
    return KafkaConsumer(*topics, bootstrap_servers=brokers, group_id=name, enable_auto_commit=False, auto_offset_reset="earliest",
                         session_timeout_ms=10000, heartbeat_interval_ms=500, fetch_max_wait_ms=200)


def take(consumer, count):
    records = []
    while len(records) < count:
        for found in consumer.poll(500, max_records=count - len(records)).values():
            records += [Line(m.partition, m.timestamp, m.key, m.value, m.headers, m.offset) for m in found]
    return records


def offset(brokers, topic, partition, first, count):
    consumer = connect(brokers)
    at = TopicPartition(topic, int(partition))
    consumer.assign([at])
    consumer.seek(at, int(first))
    write_records(take(consumer, int(count)))


def timestamp(brokers, topic, partition, stamp, count):
    consumer = connect(brokers)
    at = TopicPartition(topic, int(partition))
    consumer.assign([at])
    consumer.seek(at, consumer.offsets_for_times({at: int(stamp)})[at].offset)
    write_records(take(consumer, int(count)))


def group(brokers, topic, name, count):
    consumer = connect(brokers, name, topic)
    records = take(consumer, int(count))
    consumer.commit()
    consumer.close()
    write_records(records)


main({"create": create, "produce": produce, "offset": offset, "timestamp": timestamp, "group": group})
