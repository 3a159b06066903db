// The simulated readers: some anywhere in the logs while all work, one through all of them at the
// end.
#include <fmt/format.h>

#include "cluster_session.h"
#include "kafka/protocol/fetch.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/protocol/list_offsets.h"
#include "kafka/records/record.h"

namespace weir::sim {

namespace {

constexpr size_t kRecordsBytesMax = 1 << 20;
constexpr int64_t kLatest = -1;  // of ListOffsets, where a timestamp would be

}  // namespace

// Reads from `position` on; gives the next position.
Task<Result<int64_t>> ClusterClients::fetch(ClusterClients* self, Session* session,
                                            const Topic* topic, int32_t partition, int64_t position,
                                            int32_t* last_epoch, int64_t* high_watermark) {
    const Session::Route route = co_await try_(session->leader_of(topic, partition));
    const PartitionKey key{topic->id, partition};
    constexpr int32_t kWaitMs = 200;
    kafka::FetchRequest request;
    request.max_wait_ms = kWaitMs;
    request.min_bytes = 1;
    request.max_bytes = 1 << 20;
    request.session_epoch = -1;
    auto& to_topic = request.topics.emplace_back();
    to_topic.topic = topic->name;
    to_topic.topic_id = topic->id;
    auto& asked = to_topic.partitions.emplace_back();
    asked.partition = partition;
    asked.current_leader_epoch = route.epoch;
    asked.fetch_offset = position;
    asked.last_fetched_epoch = *last_epoch;
    asked.partition_max_bytes = 64 << 10;
    const ClusterHistory::Teller teller{route.epoch, route.node,
                                        self->options_.life_of(route.node)};
    const int64_t told_before = self->history_.high_watermark_told(key, teller);
    const ClusterHistory::Asked at = self->history_.asked(key);
    ++self->counts_.requests;
    const auto answer = co_await try_(route.connection->call<kafka::FetchResponse>(
        std::move(request), INT16_MAX, std::chrono::milliseconds(kWaitMs)));
    if (answer.message.error_code != 0)
        co_return weir::fail(kafka::error_of(answer.message.error_code, "fetch"));
    for (const auto& by_topic : answer.message.responses) {
        for (const auto& p : by_topic.partitions) {
            if (p.error_code != 0) co_return weir::fail(kafka::error_of(p.error_code, "fetch"));
            if (p.diverging_epoch.end_offset >= 0) {
                if (self->history_.may_have_lost(key))
                    co_return weir::fail(ErrorCode::kCorrupt, "what was read is lost");
                self->fail(fmt::format(
                    "a reader of {}-{} at {} after epoch {} is told that it diverges: epoch {} "
                    "ends at {}",
                    topic->name, partition, position, *last_epoch, p.diverging_epoch.epoch,
                    p.diverging_epoch.end_offset));
                co_return weir::fail(ErrorCode::kCorrupt);
            }
            self->history_.told_high_watermark(key, teller, p.high_watermark, told_before, at);
            *high_watermark = p.high_watermark;
            if (p.records.null) continue;
            for (const Bytes part : p.records.parts) {
                kafka::BatchIterator batches(part);
                while (const auto batch = batches.next()) {
                    if (batch->header.next_offset() <= position) continue;
                    const auto open = kafka::OpenBatch::open(batch->bytes, kRecordsBytesMax);
                    if (!open) {
                        self->fail(fmt::format("{}-{}: the batch at {} can't be read: {}",
                                               topic->name, partition, batch->header.base_offset,
                                               open.error().to_string()));
                        co_return weir::fail(open.error());
                    }
                    kafka::RecordIterator records = open->records();
                    while (const auto record = records.next()) {
                        if (record->offset < position) continue;
                        if (record->offset != position)
                            self->fail(fmt::format("{}-{}: a reader at {} is given offset {}",
                                                   topic->name, partition, position,
                                                   record->offset));
                        if (record->offset >= p.high_watermark)
                            self->fail(fmt::format(
                                "{}-{}: offset {} is read, and the high watermark is {}",
                                topic->name, partition, record->offset, p.high_watermark));
                        self->history_.read(key, record->offset,
                                            batch->header.partition_leader_epoch,
                                            record->value.value_or(Bytes{}), at);
                        position = record->offset + 1;
                        *last_epoch = batch->header.partition_leader_epoch;
                    }
                    if (!records.ok())
                        self->fail(fmt::format("{}-{}: a malformed batch at {}", topic->name,
                                               partition, batch->header.base_offset));
                }
            }
        }
    }
    co_return position;
}

Task<Result<void>> ClusterClients::ask_latest(ClusterClients* self, Session* session,
                                              const Topic* topic, int32_t partition) {
    const Session::Route route = co_await try_(session->leader_of(topic, partition));
    const PartitionKey key{topic->id, partition};
    kafka::ListOffsetsRequest request;
    auto& to_topic = request.topics.emplace_back();
    to_topic.name = topic->name;
    auto& asked = to_topic.partitions.emplace_back();
    asked.partition_index = partition;
    asked.current_leader_epoch = route.epoch;
    asked.timestamp = kLatest;
    const int64_t at_least = self->history_.latest_at_least(key);
    const ClusterHistory::Asked at = self->history_.asked(key);
    const uint64_t isolation = self->options_.isolation_of(route.node);
    ++self->counts_.requests;
    const auto answer =
        co_await try_(route.connection->call<kafka::ListOffsetsResponse>(std::move(request)));
    for (const auto& by_topic : answer.message.topics) {
        for (const auto& p : by_topic.partitions) {
            if (p.error_code != 0)
                co_return weir::fail(kafka::error_of(p.error_code, "the newest offset"));
            // Its followers may have another leader by then, whether or not it said anything.
            if (isolation != 0 && isolation == self->options_.isolation_of(route.node) &&
                !self->options_.operations.replication_factors)
                self->fail(fmt::format(
                    "{}-{}: node {} says what is the newest offset, and could ask no other node",
                    topic->name, partition, route.node));
            self->history_.told_latest(key, route.node, p.offset, at_least, at);
        }
    }
    co_return Result<void>{};
}

Task<void> ClusterClients::reader(ClusterClients* self, uint32_t number) {
    Prng prng = self->prng("reader", number);
    Session session(*self, fmt::format("reader {}", number));
    while (!self->all_read_) {
        const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
        const auto partition =
            static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
        int64_t position = 0;
        int32_t last_epoch = -1;
        int64_t high_watermark = -1;
        for (uint64_t fetches = 5 + prng.below(100); fetches > 0 && !self->all_read_; --fetches) {
            self->say(session.who(),
                      fmt::format("reading {}-{} at {}", topic->name, partition, position));
            const auto next = co_await fetch(self, &session, topic, partition, position,
                                             &last_epoch, &high_watermark);
            if (next) {
                position = *next;
            } else {
                co_await session.recover(fmt::format("reading {}-{} at {}: {}", topic->name,
                                                     partition, position,
                                                     next.error().to_string()));
                if (self->history_.may_have_lost({topic->id, partition})) {
                    position = 0;
                    last_epoch = -1;
                }
            }
            if (prng.chance(0.2)) {
                const auto told = co_await ask_latest(self, &session, topic, partition);
                if (!told) co_await session.recover(told.error().to_string());
            }
            if (prng.chance(0.3)) co_await self->pause(&prng);
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// Nobody writes any more: reads every partition from its start to its end. The end is known when
// the high watermark stands still over a fetch that found nothing.
Task<void> ClusterClients::read_all(ClusterClients* self) {
    Session session(*self, "last reader");
    for (const Topic& topic : self->topics_) {
        for (int32_t partition = 0; partition < topic.partitions; ++partition) {
            int64_t position = 0;
            int64_t high_watermark = -1;
            int32_t last_epoch = -1;
            int idle = 0;
            // Requests of weak and plain producers may still lie in a node's queue.
            while (idle < 5) {
                self->say(session.who(), fmt::format("reading {}-{} at {} of {}", topic.name,
                                                     partition, position, high_watermark));
                const auto next = co_await fetch(self, &session, &topic, partition, position,
                                                 &last_epoch, &high_watermark);
                if (!next) {
                    co_await session.recover(fmt::format("reading {}-{} at {}: {}", topic.name,
                                                         partition, position,
                                                         next.error().to_string()));
                    if (self->history_.may_have_lost({topic.id, partition})) {
                        position = 0;
                        last_epoch = -1;
                        idle = 0;
                    }
                    continue;
                }
                idle = *next == position && position == high_watermark ? idle + 1 : 0;
                position = *next;
            }
            const PartitionKey key{topic.id, partition};
            self->history_.check_all_read(key, 0, position);
            self->ends_[key] = position;
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

}  // namespace weir::sim
