// The simulated producers: idempotent ones, and those that send each record once.
#include <fmt/format.h>

#include "cluster_session.h"
#include "kafka/protocol/init_producer_id.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/protocol/produce.h"
#include "kafka/records/builder.h"

namespace weir::sim {

using kafka::KafkaError;

struct ClusterClients::Batch {
    std::vector<uint8_t> bytes;
    std::vector<RecordName> records;
};

namespace {

constexpr size_t kInFlightMax = 5;  // of an idempotent producer; what brokers remember

struct Produced {
    std::optional<Error> lost;  // no answer
    KafkaError error = KafkaError::kNone;
    int64_t base_offset = -1;
};

std::vector<uint8_t> make_batch(const std::vector<RecordName>& records,
                                const std::vector<uint32_t>& pads, int64_t producer_id,
                                int16_t epoch, WallTime now) {
    kafka::BatchBuilder::Options options;
    options.producer_id = producer_id;
    options.producer_epoch = epoch;
    options.base_sequence = producer_id < 0 ? -1 : static_cast<int32_t>(records[0].number);
    kafka::BatchBuilder builder(options);
    for (size_t i = 0; i < records.size(); ++i) {
        const std::vector<uint8_t> value = ClusterHistory::value_of(records[i], pads[i]);
        builder.append({now, std::nullopt, Bytes(value), {}});
    }
    auto batch = builder.build();
    CHECK(batch);
    return std::move(*batch);
}

kafka::ProduceRequest produce_request(const ClusterClients::Topic& topic, int32_t partition,
                                      int16_t acks, Bytes batch) {
    kafka::ProduceRequest request;
    request.acks = acks;
    request.timeout_ms = 2000;
    auto& to_topic = request.topic_data.emplace_back();
    to_topic.name = topic.name;
    to_topic.topic_id = topic.id;
    auto& data = to_topic.partition_data.emplace_back();
    data.index = partition;
    data.records.parts = {batch};
    return request;
}

// Requests leave in the order of the batches, whichever of their tasks runs first: a producer that
// sends its second batch before its first is broken.
struct SendOrder {
    size_t next = 0;
    runtime::WaitQueue moved;
};

// The request refers to the caller's bytes, which stay until this ends.
Task<Produced> send_batch(ClientConnection* connection, kafka::ProduceRequest request,
                          SendOrder* order = nullptr, size_t place = 0) {
    while (order != nullptr && order->next != place) (void)co_await order->moved.wait();
    if (order != nullptr) {
        // The call is in the connection's queue before anybody else runs.
        ++order->next;
        order->moved.notify_all();
    }
    auto answer = co_await connection->call<kafka::ProduceResponse>(std::move(request));
    Produced produced;
    if (!answer) {
        produced.lost = std::move(answer).error();
        co_return produced;
    }
    for (const auto& topic : answer->message.responses) {
        for (const auto& p : topic.partition_responses) {
            produced.error = kafka::kafka_error(p.error_code);
            produced.base_offset = p.base_offset;
            co_return produced;
        }
    }
    produced.lost = Error{ErrorCode::kMalformed, "an answer without the partition", 0};
    co_return produced;
}

Task<Result<std::pair<int64_t, int16_t>>> init_producer(Client* client) {
    kafka::InitProducerIdRequest request;
    request.transactional_id.reset();
    request.transaction_timeout_ms = 60'000;
    const auto answer =
        co_await try_(client->any().call<kafka::InitProducerIdResponse>(std::move(request)));
    if (answer.message.error_code != 0)
        co_return weir::fail(kafka::error_of(answer.message.error_code, "InitProducerId"));
    co_return std::pair{answer.message.producer_id, answer.message.producer_epoch};
}

}  // namespace

Task<void> ClusterClients::idempotent(ClusterClients* self, uint32_t number) {
    Prng prng = self->prng("idempotent", number);
    Session session(*self, fmt::format("idempotent {}", number));
    while (!self->winding_down_ && self->records_ < self->options_.records_max) {
        self->say(session.who(), "InitProducerId");
        auto client = co_await session.client();
        Result<std::pair<int64_t, int16_t>> id = weir::fail(ErrorCode::kUnavailable);
        if (client)
            id = co_await init_producer(*client);
        else
            id = weir::fail(client.error());
        if (!id) {
            co_await session.recover("InitProducerId: " + id.error().to_string());
            continue;
        }
        const uint32_t writer = self->history_.new_writer(WriterKind::kIdempotent);
        std::map<PartitionKey, uint32_t> next;
        const uint64_t bursts = 3 + prng.below(60);
        for (uint64_t burst = 0;
             burst < bursts && !self->winding_down_ && self->records_ < self->options_.records_max;
             ++burst) {
            const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
            const auto partition =
                static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
            const PartitionKey key{topic->id, partition};
            // Of a producer that a partition does not know, brokers take any batch as the first: so
            // nothing follows the first before it is acknowledged.
            std::vector<Batch> open(next[key] == 0 ? 1 : 1 + prng.below(kInFlightMax));
            for (Batch& batch : open) {
                std::vector<uint32_t> pads;
                for (uint64_t i = 1 + prng.below(self->options_.batch_records_max); i > 0; --i) {
                    batch.records.push_back({writer, next[key]++});
                    pads.push_back(static_cast<uint32_t>(prng.below(self->options_.pad_max + 1)));
                    self->history_.sent(key, batch.records.back());
                    ++self->records_;
                }
                batch.bytes = make_batch(batch.records, pads, id->first, id->second,
                                         Shard::current().wall_now());
            }
            const Delivery delivery =
                co_await deliver(self, &session, session.who(), topic, partition, std::move(open));
            if (delivery == Delivery::kBroken) co_return;
            // What it was told is lost, and with it the order: an application begins anew.
            if (delivery == Delivery::kLost) break;
            co_await self->pause(&prng);
        }
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

// Sends the batches, as many at a time as there are, until each is acknowledged.
Task<ClusterClients::Delivery> ClusterClients::deliver(ClusterClients* self, Session* session,
                                                       std::string who, const Topic* topic,
                                                       int32_t partition, std::vector<Batch> open) {
    const PartitionKey key{topic->id, partition};
    while (!open.empty()) {
        self->say(who, fmt::format("producing to {}-{}", topic->name, partition));
        auto route = co_await session->leader_of(topic, partition);
        if (!route) {
            co_await session->recover(fmt::format("looking for the leader of {}-{}: {}",
                                                  topic->name, partition,
                                                  route.error().to_string()));
            continue;
        }
        const ClusterHistory::Asked asked = self->history_.asked(key);
        SendOrder order;
        std::vector<Task<Produced>> sends;
        for (const Batch& batch : open) {
            ++self->counts_.requests;
            sends.push_back(send_batch(route->connection,
                                       produce_request(*topic, partition, -1, batch.bytes), &order,
                                       sends.size()));
        }
        const std::vector<Produced> answers = co_await runtime::all(std::move(sends));
        std::vector<Batch> left;
        std::string trouble;
        for (size_t i = 0; i < open.size(); ++i) {
            const Produced& answer = answers[i];
            const RecordName first = open[i].records[0];
            if (answer.lost) {
                trouble = answer.lost->to_string();
            } else if (answer.error == KafkaError::kNone ||
                       answer.error == KafkaError::kDuplicateSequenceNumber) {
                const bool known = answer.error == KafkaError::kNone && answer.base_offset >= 0;
                for (size_t r = 0; r < open[i].records.size(); ++r)
                    self->history_.acknowledged(
                        key, open[i].records[r],
                        known ? answer.base_offset + static_cast<int64_t>(r) : -1, route->epoch,
                        asked);
                continue;
            } else if (answer.error == KafkaError::kOutOfOrderSequenceNumber && i > 0) {
                trouble = text(answer.error);  // the one before it came later, or not at all
            } else if (kafka::is_retriable(answer.error) &&
                       answer.error != KafkaError::kOutOfOrderSequenceNumber) {
                trouble = text(answer.error);
            } else if (answer.error == KafkaError::kOutOfOrderSequenceNumber &&
                       self->history_.may_have_lost(key)) {
                co_return Delivery::kLost;
            } else {
                // All before it was acknowledged: whoever leads must know it.
                self->fail(fmt::format(
                    "{} sends w{}#{} to {}-{}, of which all before was acknowledged, to node {} "
                    "in epoch {}, and is told {}",
                    who, first.writer, first.number, topic->name, partition, route->node,
                    route->epoch, text(answer.error)));
                co_return Delivery::kBroken;
            }
            left.push_back(std::move(open[i]));
        }
        open = std::move(left);
        if (!open.empty())
            co_await session->recover(
                fmt::format("producing to {}-{}: {}", topic->name, partition, trouble));
    }
    co_return Delivery::kDone;
}

// A producer that sends each record once, and goes on whatever comes of it.
Task<void> ClusterClients::once(ClusterClients* self, uint32_t number, WriterKind kind) {
    const char* name = kind == WriterKind::kPlain ? "plain" : "weak";
    Prng prng = self->prng(name, number);
    Session session(*self, fmt::format("{} {}", name, number));
    const uint32_t writer = self->history_.new_writer(kind);
    std::map<PartitionKey, uint32_t> next;
    while (!self->winding_down_ && self->records_ < self->options_.records_max) {
        const Topic* topic = &self->topics_[prng.below(self->topics_.size())];
        const auto partition =
            static_cast<int32_t>(prng.below(static_cast<uint64_t>(topic->partitions)));
        const PartitionKey key{topic->id, partition};
        auto route = co_await session.leader_of(topic, partition);
        if (!route) {
            co_await session.recover("looking for a leader: " + route.error().to_string());
            continue;
        }
        self->say(session.who(), fmt::format("producing to {}-{}", topic->name, partition));
        Batch batch;
        std::vector<uint32_t> pads;
        for (uint64_t i = 1 + prng.below(self->options_.batch_records_max); i > 0; --i) {
            batch.records.push_back({writer, next[key]++});
            pads.push_back(static_cast<uint32_t>(prng.below(self->options_.pad_max + 1)));
            self->history_.sent(key, batch.records.back());
            ++self->records_;
        }
        batch.bytes = make_batch(batch.records, pads, -1, -1, Shard::current().wall_now());
        const ClusterHistory::Asked asked = self->history_.asked(key);
        ++self->counts_.requests;
        if (kind == WriterKind::kWeak && prng.chance(0.5)) {
            const Result<void> sent = co_await route->connection->send_only(
                produce_request(*topic, partition, 0, batch.bytes));
            if (!sent) co_await session.recover("acks=0: " + sent.error().to_string());
        } else {
            const int16_t acks = kind == WriterKind::kWeak ? 1 : -1;
            const Produced answer = co_await send_batch(
                route->connection, produce_request(*topic, partition, acks, batch.bytes));
            if (answer.lost) {
                co_await session.recover("producing: " + answer.lost->to_string());
            } else if (answer.error != KafkaError::kNone) {
                co_await session.recover("producing: " + text(answer.error));
            } else {
                for (size_t r = 0; r < batch.records.size(); ++r)
                    self->history_.acknowledged(key, batch.records[r],
                                                answer.base_offset + static_cast<int64_t>(r),
                                                route->epoch, asked);
            }
        }
        co_await self->pause(&prng);
    }
    co_await session.drop();
    self->doing_.erase(session.who());
}

}  // namespace weir::sim
