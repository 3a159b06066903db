"""Real clients that write numbered records to a cluster and read them, into a History: librdkafka's idempotent producer and its consumer."""

import json
import random
import threading
import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition

from .history import ELSEWHERE, History, name_of, value_of

# A writer whose producer gave up goes on with a fresh one under its name plus this.
NEXT_NAME = 1000


class Workload:
    """`answer_max`: how long a producer waits for one answer before it sends again (librdkafka's default is 60 s)."""

    def __init__(self, brokers, topic, partitions, writers=2, readers=1, pause=0.002, seed=1, answer_max=5):
        self.brokers, self.topic, self.partitions = brokers, topic, partitions
        self.answer_max = answer_max
        self.history = History()
        self.stopped = threading.Event()
        self.readers_stopped = threading.Event()
        self.fatal = []  # what ended a thread
        self.lock = threading.Lock()
        self.waiting = {}  # (writer, partition, number): since when it has had no answer
        self.longest_wait = (0.0, None)  # of those that were acknowledged, and which that was
        self.statistics = {}  # writer: what its librdkafka last said of itself
        self.abandoned = {}  # writer: why
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

    def producer(self, writer):
        return Producer({
            "bootstrap.servers": self.brokers, "enable.idempotence": True, "acks": "all", "linger.ms": 2, "batch.num.messages": 100,
            "queue.buffering.max.messages": 2_000, "message.timeout.ms": 300_000, "reconnect.backoff.ms": 20,
            "reconnect.backoff.max.ms": 200, "retry.backoff.ms": 20, "socket.timeout.ms": self.answer_max * 1_000,
            "socket.connection.setup.timeout.ms": 2_000, "topic.metadata.refresh.interval.ms": 5_000,
            "statistics.interval.ms": 2_000, "stats_cb": lambda text: self.statistics.update({writer: text}),
            "logger": None, "log_level": 0})

    def write(self, writer, draw):
        try:
            while not self.write_all(writer, draw):
                writer += NEXT_NAME
        except Exception as e:  # noqa: BLE001: a thread that ends in silence would look like one that had nothing to do
            self.fatal.append(f"writer {writer}: {type(e).__name__}: {e}")

    def write_all(self, writer, draw):
        """False if its producer gave up before it was told to stop."""
        gave_up = []  # the error that no retry mends, which any call may raise, once
        producer = self.producer(writer)

        def call(method, *arguments):
            try:
                return method(*arguments)
            except KafkaException as e:
                if not e.args[0].fatal():
                    raise
                gave_up.append(e.args[0])
                return None

        def delivered(partition, number):
            def done(error, message):
                now = time.monotonic()
                with self.lock:
                    waited = now - self.waiting.pop((writer, partition, number))
                    if error is None:
                        self.longest_wait = max(self.longest_wait, (waited, f"#{number} of writer {writer} to partition {partition}"))
                        self.longest_gap = max(self.longest_gap, now - self.last_acknowledged)
                        self.last_acknowledged = now
                if error is not None:
                    return self.history.fail(writer, partition, number, error.name())
                self.history.acknowledge(writer, partition, number, message.offset())
            return done

        pad = draw.randbytes(1000)
        while not self.stopped.is_set() and not gave_up and writer not in self.abandoned:
            partition = draw.randrange(self.partitions)
            number = self.history.next_number(writer, partition)
            with self.lock:
                self.waiting[writer, partition, number] = time.monotonic()
            try:
                producer.produce(self.topic, value_of(writer, number, pad[:draw.randrange(1000)]), partition=partition,
                                 on_delivery=delivered(partition, number))
            except (BufferError, KafkaException):  # no room; or it has given up, and poll() says why
                self.history.take_back(writer, partition)
                with self.lock:
                    del self.waiting[writer, partition, number]
                call(producer.poll, 0.01)
            call(producer.poll, 0)
            time.sleep(self.pause)
        deadline = time.monotonic() + 120
        while len(producer) > 0 and time.monotonic() < deadline:
            if writer in self.abandoned:
                producer.purge()
            call(producer.poll, 0.1)
        self.left += len(producer)
        if gave_up:
            self.history.give_up(writer, gave_up[0].name(), gave_up[0].str())
        elif writer in self.abandoned:
            self.history.give_up(writer, ELSEWHERE, self.abandoned[writer])
        else:
            return True
        return self.stopped.is_set()

    def abandon(self, writer, why):
        """Its producer is of no use any more; another goes on."""
        self.abandoned[writer] = why

    def oldest(self):
        """(seconds, writer, partition, number) of the record that has waited longest for its answer, or nothing."""
        with self.lock:
            waiting = min(((since, name) for name, since in self.waiting.items()), default=None)
        return waiting and (time.monotonic() - waiting[0], *waiting[1])

    def client_says(self, writer, partition):
        """(the leader that the writer's librdkafka knows, the node that it sends to, all that it says of the partition)"""
        all_of_it = json.loads(self.statistics.get(writer, "{}"))
        row = all_of_it.get("topics", {}).get(self.topic, {}).get("partitions", {}).get(str(partition), {})
        said = [f"{key} {row.get(key)}" for key in ("leader", "broker", "msgq_cnt", "xmit_msgq_cnt", "msgs_inflight", "next_ack_seq", "next_err_seq",
                                                    "acked_msgid")]
        eos = all_of_it.get("eos", {})
        said.append(f"state {eos.get('idemp_state')} for {eos.get('idemp_stateage')} ms, producer {eos.get('producer_id')} epoch {eos.get('producer_epoch')}")
        said += [f"broker {b['nodeid']}: {b['state']}, {b['outbuf_cnt']} to send, {b['waitresp_cnt']} without an answer, {b['req_timeouts']} timed out"
                 for b in all_of_it.get("brokers", {}).values() if b["nodeid"] >= 0]
        return row.get("leader", -1), row.get("broker", -1), "; ".join(said)

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
        """Each partition to its end; `seconds_max` without a record is too long."""
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
                    deadline = time.monotonic() + seconds_max
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
            answered += sum(1 for w, p, _ in self.history.failed if (w, p) == (writer, partition))
            if answered != count:
                wrong.append(f"writer {writer} sent {count} records to partition {partition} and had {answered} answers")
        wrong += [f"a client ended: {text}" for text in self.fatal[:3]]
        if self.left:
            wrong.append(f"{self.left} records had no answer two minutes after the last fault")
        return wrong
