"""Real clients that write numbered records to a cluster and read them, into a History: librdkafka's idempotent producer and its consumer."""

import random
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition

from .history import History, name_of, value_of


class Workload:
    def __init__(self, brokers, topic, partitions, writers=2, readers=1, pause=0.002, seed=1):
        self.brokers, self.topic, self.partitions = brokers, topic, partitions
        self.history = History()
        self.stopped = threading.Event()
        self.readers_stopped = threading.Event()
        self.fatal = []  # of producers: what no retry mends
        self.left = 0
        self.pause = pause
        self.last_acknowledged = time.monotonic()
        self.longest_gap = 0.0
        self.writers = [threading.Thread(target=self.write, args=(i, random.Random(seed * 100 + i))) for i in range(writers)]
        self.readers = [threading.Thread(target=self.read, args=(f"reader {i}",)) for i in range(readers)]

    def start(self):
        for thread in self.writers + self.readers:
            thread.start()
        return self

    def producer(self):
        return Producer({
            "bootstrap.servers": self.brokers, "enable.idempotence": True, "acks": "all", "linger.ms": 2, "batch.num.messages": 100,
            "queue.buffering.max.messages": 2_000, "message.timeout.ms": 300_000, "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20, "socket.timeout.ms": 5_000,
            "socket.connection.setup.timeout.ms": 2_000, "topic.metadata.refresh.interval.ms": 5_000, "error_cb": self.error,
            "logger": None, "log_level": 0})

    def error(self, error):
        if error.fatal():
            self.fatal.append(str(error))

    def write(self, writer, draw):
        try:
            self.write_all(writer, draw)
        except Exception as e:  # noqa: BLE001: a thread that ends in silence would look like one that had nothing to do
            self.fatal.append(f"writer {writer}: {type(e).__name__}: {e}")

    def write_all(self, writer, draw):
        producer = self.producer()

        def delivered(partition, number):
            def done(error, message):
                if error is not None:
                    return self.history.fail(writer, partition, number, str(error))
                now = time.monotonic()
                self.longest_gap = max(self.longest_gap, now - self.last_acknowledged)
                self.last_acknowledged = now
                self.history.acknowledge(writer, partition, number, message.offset())
            return done

        pad = draw.randbytes(1000)
        while not self.stopped.is_set() and not self.fatal:
            partition = draw.randrange(self.partitions)
            number = self.history.next_number(writer, partition)
            try:
                producer.produce(self.topic, value_of(writer, number, pad[:draw.randrange(1000)]), partition=partition,
                                 on_delivery=delivered(partition, number))
            except BufferError:
                self.history.take_back(writer, partition)
                producer.poll(0.01)
            producer.poll(0)
            time.sleep(self.pause)
        left = producer.flush(120)
        self.left += left

    def consumer(self):
        return Consumer({"bootstrap.servers": self.brokers, "group.id": "unused", "enable.auto.commit": False,
                         "auto.offset.reset": "error", "fetch.wait.max.ms": 100, "reconnect.backoff.ms": 20,
                         "reconnect.backoff.max.ms": 200, "socket.timeout.ms": 5_000, "topic.metadata.refresh.interval.ms": 5_000,
                         "fetch.error.backoff.ms": 50, "logger": None, "log_level": 0})

    def read(self, name):
        """From the start of each partition, through everything that happens."""
        consumer = self.consumer()
        consumer.assign([TopicPartition(self.topic, p, 0) for p in range(self.partitions)])
        while not self.readers_stopped.is_set():
            message = consumer.poll(0.2)
            if message is None or message.error():
                continue
            self.history.read(name, message.partition(), message.offset(), message.value())
        consumer.close()

    def stop(self):
        """Writers finish what they began; then everything is read to its end, and readers stop."""
        self.stopped.set()
        for thread in self.writers:
            thread.join()
        self.read_final()
        self.readers_stopped.set()
        for thread in self.readers:
            thread.join()
        return self.history

    def read_final(self, seconds_max=120):
        consumer = self.consumer()
        deadline = time.monotonic() + seconds_max
        for p in range(self.partitions):
            end = None
            while end is None:
                try:
                    end = consumer.get_watermark_offsets(TopicPartition(self.topic, p), timeout=10)[1]
                except Exception:  # noqa: BLE001: a leader may be on its way
                    if time.monotonic() > deadline:
                        raise
                    time.sleep(0.2)
            consumer.assign([TopicPartition(self.topic, p, 0)])
            records = []
            while len(records) < end:
                message = consumer.poll(1)
                if message is not None and not message.error():
                    records.append((message.offset(), *name_of(message.value())))
                    if message.offset() + 1 >= end:
                        break
                if time.monotonic() > deadline:
                    raise AssertionError(f"partition {p} can't be read to its end {end}: {len(records)} records so far")
            self.history.final[p] = records
        consumer.close()

    @property
    def acknowledged(self):
        return len(self.history.acknowledged)

    def problems(self, renumbered=()):
        wrong = self.history.check(renumbered)
        for (writer, partition), count in sorted(self.history.sent.items()):
            answered = sum(1 for w, p, _ in self.history.acknowledged if (w, p) == (writer, partition))
            answered += sum(1 for w, p, *_ in self.history.failed if (w, p) == (writer, partition))
            if answered != count:
                wrong.append(f"writer {writer} sent {count} records to partition {partition} and had {answered} answers")
        wrong += [f"a producer gave up: {text}" for text in self.fatal[:3]]
        wrong += [f"#{number} of writer {writer} to partition {partition} was given up: {error}"
                  for writer, partition, number, error in self.history.failed[:3]]
        if self.left:
            wrong.append(f"{self.left} records had no answer two minutes after the last fault")
        return wrong
