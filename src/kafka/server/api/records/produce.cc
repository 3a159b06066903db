// Produce: batches are checked here, on the connection's shard, where their bytes were received,
// and appended on the shards that own their partitions. With acks=all the answer goes out when all
// are committed, which is on stable storage of a majority of their replicas; with acks=1, when they
// are on this node's. With acks=0 there is no answer, and an error closes the connection.
#include "kafka/protocol/produce.h"

#include <algorithm>
#include <cstring>
#include <span>

#include "base/units.h"
#include "kafka/records/builder.h"
#include "kafka/records/legacy.h"
#include "kafka/records/validate.h"
#include "kafka/server/api/brokers.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/deadline_stop.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;

// What a compressed batch may unpack to.
constexpr size_t kRecordsBytesMax = 128_MiB;
// What a compressed message set of an old format may unpack to; its clients send no larger ones.
constexpr size_t kConvertedBytesMax = 16_MiB;
// Since then an answer can say who leads, and where that is (KIP-951).
constexpr int16_t kEndpointsVersion = 10;

// One partition's part of the request, and where its answer goes.
struct Item {
    ProduceResponse::Partition* answer;
    size_t place = 0;  // in the request
    storage::LogId log;
    runtime::ShardId owner = 0;
    CheckedBatch batch;
    uint64_t size = 0;
    AppendOptions options;
};

void refuse(ProduceResponse::Partition& answer, KafkaError error, std::string_view message = {}) {
    answer.error_code = code(error);
    answer.base_offset = -1;
    answer.log_append_time_ms = -1;
    if (!message.empty()) answer.error_message = message;
}

KafkaError to_kafka(BatchFault fault) {
    switch (fault) {
        case BatchFault::kNone:
            return KafkaError::kNone;
        case BatchFault::kCorruptMessage:
            return KafkaError::kCorruptMessage;
        case BatchFault::kInvalidRecord:
            return KafkaError::kInvalidRecord;
        case BatchFault::kInvalidTimestamp:
            return KafkaError::kInvalidTimestamp;
        case BatchFault::kUnsupportedCompressionType:
            return KafkaError::kUnsupportedCompressionType;
        case BatchFault::kMessageTooLarge:
            return KafkaError::kMessageTooLarge;
    }
    return KafkaError::kUnknownServerError;
}

void refuse(ProduceResponse::Partition& answer, const BatchVerdict& verdict) {
    refuse(answer, to_kafka(verdict.fault), verdict.reason);
    for (const RecordFault& fault : verdict.record_faults) {
        answer.record_errors.push_back({fault.index, std::string(to_string(fault.kind))});
    }
}

BatchLimits limits_of(const cluster::TopicSettings& settings, int16_t version) {
    BatchLimits limits;
    limits.batch_bytes_max = static_cast<size_t>(settings.batch_bytes_max);
    limits.records_bytes_max = kRecordsBytesMax;
    limits.key_required = settings.compacted;
    limits.zstd_allowed = version >= 7;
    limits.transactional_allowed = false;
    if (!settings.log_append_time) {
        const int64_t now = Shard::current().wall_now().ms;
        if (settings.timestamp_before_max_ms < now)
            limits.timestamp_first = {now - settings.timestamp_before_max_ms};
        if (settings.timestamp_after_max_ms < INT64_MAX - now)
            limits.timestamp_last = {now + settings.timestamp_after_max_ms};
    }
    return limits;
}

// The codec that the topic stores in, where that is not the producer's.
std::optional<Compression> stored_codec(const cluster::TopicSettings& settings) {
    if (settings.compression == "producer") return std::nullopt;
    return settings.compression == "uncompressed" ? Compression::kNone
                                                  : compression_from_name(settings.compression);
}

int level_of(const cluster::TopicSettings& settings, Compression codec) {
    const bool has_level =
        codec == Compression::kGzip || codec == Compression::kLz4 || codec == Compression::kZstd;
    return has_level && is_compression_level(codec, settings.compression_level)
               ? settings.compression_level
               : kCompressionLevelDefault;
}

// Leave to hold so much while the batch is unpacked or packed, or nothing and an error in the
// answer.
Task<std::optional<Unpacking::Permit>> permit(Request& request, uint64_t bytes,
                                              ProduceResponse::Partition& answer) {
    auto permit = co_await request.server.unpacking().begin(bytes, request.stop);
    if (permit) co_return std::move(*permit);
    refuse(answer, KafkaError::kRequestTimedOut, "There was no memory to unpack the batch.");
    co_return std::nullopt;
}

// What was packed anew, as the permit counted it.
SharedBytes keep(Request& request, Bytes batch) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(
        batch.size(), request.server.unpacking().charge(batch.size()), 16);
    std::memcpy(buffer.data(), batch.data(), batch.size());
    buffer.set_size(batch.size());
    return std::move(buffer).share();
}

// What checking the batch may hold.
uint64_t unpack_bytes(Bytes records) {
    if (records.size() < kBatchHeaderSize) return 0;
    const BatchHeader header = load_batch_header(records);
    if (!header.is_compression_known()) return 0;
    return Decompressor::memory_for(header.compression(), records.subspan(kBatchHeaderSize),
                                    kRecordsBytesMax);
}

// The batch as it will be stored, or nothing and an error in the answer. `settings` by value: the
// topic may change or go while this yields.
Task<std::optional<CheckedBatch>> check(Request& request, Bytes records,
                                        cluster::TopicSettings settings,
                                        ProduceResponse::Partition& answer) {
    const int16_t version = request.version();
    const BatchLimits limits = limits_of(settings, version);
    const std::optional<Compression> codec = stored_codec(settings);
    CheckedBatch batch;
    if (version < 3 && peek_magic(records).value_or(kBatchMagic) < kBatchMagic) {
        const Compression packed = codec.value_or(message_set_compression(records));
        // The conversion holds its messages twice.
        BatchLimits bounded = limits;
        bounded.records_bytes_max =
            std::min<uint64_t>(limits.records_bytes_max, kConvertedBytesMax);
        const uint64_t plain = message_set_compression(records) == Compression::kNone
                                   ? records.size()
                                   : bounded.records_bytes_max;
        const auto room = co_await permit(request, 2 * plain, answer);
        if (!room) co_return std::nullopt;
        UpConversion converted = up_convert(records, bounded, packed, level_of(settings, packed));
        if (!converted.verdict.ok()) {
            refuse(answer, converted.verdict);
            co_return std::nullopt;
        }
        batch.bytes = keep(request, converted.batch);
        batch.max_timestamp = converted.verdict.max_timestamp;
    } else {
        BatchVerdict verdict;
        {
            const uint64_t needed = unpack_bytes(records);
            std::optional<Unpacking::Permit> room;
            if (needed > 0) {
                room = co_await permit(request, needed, answer);
                if (!room) co_return std::nullopt;
            }
            BatchValidation validation(records, limits);
            while (validation.step()) {
                if (Shard::current().need_preempt()) co_await runtime::yield();
            }
            verdict = std::move(validation.verdict());
        }
        if (!verdict.ok()) {
            refuse(answer, verdict);
            co_return std::nullopt;
        }
        batch.max_timestamp = verdict.max_timestamp;
        if (codec && *codec != verdict.header.compression()) {
            const int level = level_of(settings, *codec);
            const size_t plain = verdict.plain_records_size;
            // What comes out grows by doubling, and is copied once.
            const uint64_t out_max = std::min<uint64_t>(plain + plain / 8, limits.batch_bytes_max);
            const auto room = co_await permit(
                request,
                unpack_bytes(records) + Compressor::memory_for(*codec, level, plain) + 3 * out_max,
                answer);
            if (!room) co_return std::nullopt;
            Recompression recompression(
                records, *codec, level,
                {.records_bytes_max = plain, .batch_bytes_max = limits.batch_bytes_max});
            while (recompression.step()) {
                if (Shard::current().need_preempt()) co_await runtime::yield();
            }
            const auto packed = std::move(recompression).result();
            if (!packed && packed.error().code == ErrorCode::kResourceExhausted) {
                refuse(answer, KafkaError::kMessageTooLarge,
                       "The batch is larger than max.message.bytes as it would be stored.");
                co_return std::nullopt;
            }
            if (!packed) {
                refuse(answer, KafkaError::kCorruptMessage, packed.error().message);
                co_return std::nullopt;
            }
            batch.bytes = keep(request, *packed);
        } else {
            batch.bytes = request.frame.slice(records);
        }
    }
    if (batch.bytes.size() > limits.batch_bytes_max) {
        refuse(answer, KafkaError::kMessageTooLarge,
               "The batch is larger than max.message.bytes as it would be stored.");
        co_return std::nullopt;
    }
    if (batch.bytes.size() > settings.log.segment_bytes) {
        refuse(answer, KafkaError::kRecordListTooLarge, "The batch is larger than segment.bytes.");
        co_return std::nullopt;
    }
    co_return batch;
}

struct AppendOrder {
    storage::LogId log;
    CheckedBatch batch;
    AppendOptions options;
};

// What one connection wants appended at one owner.
struct AppendOrders {
    uint64_t connection = 0;
    uint64_t ticket = 0;
    std::vector<AppendOrder> orders;
    Duration timeout;  // for room to append, and for the commit
    int16_t acks = -1;
};

// On the owner's shard: appends in the turn of the ticket, then waits as acks says.
Task<std::vector<AppendOutcome>> append_here(Server& server, AppendOrders wanted) {
    struct Appended {
        Partition* partition;
        runtime::Gate::Holder use;
    };
    std::vector<AppendOutcome> outcomes(wanted.orders.size());
    std::vector<Appended> appended(wanted.orders.size());
    runtime::DeadlineStop stop(Shard::current().now() + wanted.timeout, server.waits());
    {
        const Turn turn = server.append_turns().turn(wanted.connection, wanted.ticket);
        const auto mine = co_await turn.wait(stop.token());
        for (size_t i = 0; i < outcomes.size(); ++i) {
            AppendOrder& order = wanted.orders[i];
            Partition* partition = server.partitions().find(order.log);
            auto use = partition != nullptr ? partition->enter() : std::nullopt;
            if (!use || !mine) {
                outcomes[i].error =
                    use ? KafkaError::kRequestTimedOut : KafkaError::kUnknownTopicOrPartition;
                continue;
            }
            outcomes[i] =
                co_await partition->append(std::move(order.batch), order.options, stop.token());
            if (outcomes[i].error == KafkaError::kNone) appended[i] = {partition, std::move(*use)};
        }
    }
    for (size_t i = 0; wanted.acks != 0 && i < outcomes.size(); ++i) {
        Partition* partition = appended[i].partition;
        if (partition == nullptr) continue;
        AppendOutcome& outcome = outcomes[i];
        const bool alone = wanted.acks == 1 || server.bugs().acknowledge_before_commit;
        outcome.error = alone ? co_await partition->wait_durable(outcome.end)
                              : co_await partition->wait_committed(outcome.end, outcome.term,
                                                                   {.stop = stop.token()});
        if (outcome.error != KafkaError::kNone) outcome.hint = partition->hint();
    }
    co_return outcomes;
}

// The items of one owner.
Task<bool> append_at(Server& server, std::span<Item> items, AppendOrders wanted) {
    const runtime::ShardId owner = items.front().owner;
    wanted.orders.reserve(items.size());
    for (Item& item : items)
        wanted.orders.push_back({item.log, std::move(item.batch), item.options});
    const auto outcomes = co_await runtime::on(
        owner, [peer = &server.peer(owner), wanted = std::move(wanted)]() mutable {
            return append_here(*peer, std::move(wanted));
        });
    for (size_t i = 0; i < items.size(); ++i) {
        ProduceResponse::Partition& answer = *items[i].answer;
        const AppendOutcome& outcome = outcomes[i];
        answer.log_start_offset = outcome.log_start_offset;
        if (outcome.error != KafkaError::kNone) {
            refuse(answer, outcome.error, outcome.message);
            if (names_leader(outcome.error))
                answer.current_leader = {outcome.hint.leader, outcome.hint.epoch};
            continue;
        }
        answer.base_offset = outcome.base_offset;
        answer.log_append_time_ms = outcome.log_append_time_ms;
        server.metrics().produced_bytes += items[i].size;
        ++server.metrics().produced_batches;
    }
    co_return true;
}

void set_error_everywhere(ProduceResponse& response, KafkaError error, std::string_view message) {
    for (ProduceResponse::Topic& topic : response.responses) {
        for (ProduceResponse::Partition& partition : topic.partition_responses)
            refuse(partition, error, message);
    }
}

Task<ProduceResponse> answer(Request& request, ProduceRequest body) {
    Server& server = request.server;
    const bool by_id = request.version() >= 13;
    ProduceResponse response;
    response.responses.resize(body.topic_data.size());
    for (size_t t = 0; t < body.topic_data.size(); ++t) {
        response.responses[t].name = body.topic_data[t].name;
        response.responses[t].topic_id = body.topic_data[t].topic_id;
        response.responses[t].partition_responses.resize(body.topic_data[t].partition_data.size());
        for (size_t p = 0; p < body.topic_data[t].partition_data.size(); ++p) {
            response.responses[t].partition_responses[p].index =
                body.topic_data[t].partition_data[p].index;
        }
    }
    request.no_response = body.acks == 0;
    if (body.acks < -1 || body.acks > 1) {
        set_error_everywhere(response, KafkaError::kInvalidRequiredAcks,
                             "acks must be -1, 0 or 1.");
        co_return response;
    }
    if (body.transactional_id) {
        set_error_everywhere(response, KafkaError::kInvalidTxnState,
                             "This server does not serve transactions yet.");
        request.close_after = request.no_response;
        co_return response;
    }
    std::vector<Item> items;
    for (size_t t = 0; t < body.topic_data.size(); ++t) {
        for (size_t p = 0; p < body.topic_data[t].partition_data.size(); ++p) {
            const ProduceRequest::Partition& data = body.topic_data[t].partition_data[p];
            ProduceResponse::Partition& partition = response.responses[t].partition_responses[p];
            // Looked up for each, since checking a batch lets others run.
            const cluster::TopicImage* topic =
                by_id ? server.image().find(body.topic_data[t].topic_id)
                      : server.image().find(body.topic_data[t].name);
            const FoundPartition found = find_partition(server, topic, data.index, by_id);
            if (found.error != KafkaError::kNone) {
                refuse(partition, found.error);
                continue;
            }
            // What the node keeps in there is its own to write: a record of a stranger's would be
            // replayed as a group's offset.
            if (cluster::is_internal_topic(topic->name)) {
                refuse(partition, KafkaError::kInvalidTopicException,
                       "Clients may not write to an internal topic.");
                continue;
            }
            const Bytes records = data.records.parts.empty() ? Bytes() : data.records.parts.front();
            const cluster::TopicSettings settings = server.metadata().settings(*topic);
            auto batch = co_await check(request, records, settings, partition);
            if (!batch) continue;
            items.push_back(
                {.answer = &partition,
                 .place = items.size(),
                 .log = found.log,
                 .owner = found.owner,
                 .batch = std::move(*batch),
                 .size = 0,
                 .options = {.log_append_time = settings.log_append_time,
                             .in_sync_min = body.acks == -1 ? settings.in_sync_min : 1}});
            items.back().size = items.back().batch.bytes.size();
        }
    }
    const Duration timeout = std::chrono::milliseconds(std::clamp(body.timeout_ms, 1'000, 300'000));
    const int16_t acks = body.acks;
    // Nothing that follows reads the frame: its batches belong to their partitions now.
    body = {};
    request.body = {};
    request.frame = {};
    if (co_await request.turn.wait(request.stop)) {
        std::ranges::sort(items, {},
                          [](const Item& item) { return std::pair(item.owner, item.place); });
        std::vector<Task<bool>> appends;
        for (std::span<Item> rest(items); !rest.empty();) {
            const runtime::ShardId owner = rest.front().owner;
            const auto other = std::ranges::find_if(
                rest, [owner](const Item& item) { return item.owner != owner; });
            const auto mine = rest.first(static_cast<size_t>(other - rest.begin()));
            rest = rest.subspan(mine.size());
            appends.push_back(append_at(server, mine,
                                        {.connection = request.tickets->connection,
                                         .ticket = request.tickets->take(owner),
                                         .orders = {},
                                         .timeout = timeout,
                                         .acks = acks}));
        }
        // The tickets keep the order from here on.
        request.turn.done();
        (void)co_await runtime::all(std::move(appends));
    } else {
        for (Item& item : items) refuse(*item.answer, KafkaError::kRequestTimedOut);
    }
    for (const ProduceResponse::Topic& topic : response.responses) {
        for (const ProduceResponse::Partition& partition : topic.partition_responses) {
            if (partition.error_code == 0) continue;
            if (request.version() >= kEndpointsVersion)
                add_endpoint(server, partition.current_leader.leader_id, response.node_endpoints);
            ++server.metrics().produce_errors;
            if (request.no_response) request.close_after = true;
        }
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_produce(Request& request) {
    return run_handler<ProduceRequest, ProduceResponse, answer>(request);
}

}  // namespace weir::kafka
