#!/usr/bin/python3
"""confluent-kafka: librdkafka 2.0.2 from Python."""

import confluent_kafka
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from lines import Line, main, read_records, write_records


def create(brokers, topic, partitions):
    admin = AdminClient({"bootstrap.servers": brokers})  # the futures do not keep it alive
    admin.create_topics([NewTopic(topic, int(partitions), 1)])[topic].result(20)


def produce(brokers, topic, codec):
    producer = Producer({"bootstrap.servers": brokers, "compression.type": codec, "acks": "all", "linger.ms": 20,
                         "batch.num.messages": 100, "enable.idempotence": codec != "none"})
    failed = []
    for r in read_records():
        producer.produce(topic, value=r.value, key=r.key, headers=r.headers, timestamp=r.timestamp, partition=r.partition,
                         on_delivery=lambda error, _: error and failed.append(error))
        producer.poll(0)
    assert producer.flush(30) == 0
    assert not failed, failed


def connect(brokers, group):
    return Consumer({"bootstrap.servers": brokers, "group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest",
                     "session.timeout.ms": 10000, "fetch.wait.max.ms": 200})


def take(consumer, count):
    records = []
    while len(records) < count:
        for m in consumer.consume(count - len(records), 1):
            if m.error():
                raise confluent_kafka.KafkaException(m.error())
            records.append(Line(m.partition(), m.timestamp()[1], m.key(), m.value(), m.headers() or [], m.offset()))
    return records


def offset(brokers, topic, partition, first, count):
    consumer = connect(brokers, "by-offset")
    consumer.assign([TopicPartition(topic, int(partition), int(first))])
    write_records(take(consumer, int(count)))
    consumer.close()


def timestamp(brokers, topic, partition, stamp, count):
    consumer = connect(brokers, "by-timestamp")
    found = consumer.offsets_for_times([TopicPartition(topic, int(partition), int(stamp))], 20)
    consumer.assign(found)
    write_records(take(consumer, int(count)))
    consumer.close()


def group(brokers, topic, name, count):
    consumer = connect(brokers, name)
    consumer.subscribe([topic])
    records = take(consumer, int(count))
    consumer.commit(asynchronous=False)
    consumer.close()
    write_records(records)


main({"create": create, "produce": produce, "offset": offset, "timestamp": timestamp, "group": group})
