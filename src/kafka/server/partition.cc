#include "kafka/server/partition.h"

#include <algorithm>

#include "base/units.h"
#include "kafka/records/record.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::SharedBytes;
using runtime::Task;

// Of a compressed batch that is looked into for a timestamp.
constexpr size_t kRecordsBytesMax = 128_MiB;
constexpr uint64_t kScanBytes = 1_MiB;

// The frame is shared among the partitions that it has batches of, but each batch's bytes belong to
// its partition alone until it is appended: this is the one place that writes into them.
MutableBytes own_bytes(const SharedBytes& batch) {
    return {const_cast<uint8_t*>(batch.data()), batch.size()};
}

}  // namespace

KafkaError storage_error(const Error& error) {
    switch (error.code) {
        case ErrorCode::kTimedOut:
        case ErrorCode::kCancelled:
            return KafkaError::kRequestTimedOut;
        case ErrorCode::kOutOfRange:
            return KafkaError::kOffsetOutOfRange;
        case ErrorCode::kUnavailable:
            return KafkaError::kNotLeaderOrFollower;
        default:
            return KafkaError::kKafkaStorageError;
    }
}

Partition::Partition(storage::Log& log, Uuid topic_id, std::string topic, int32_t index,
                     size_t producers_max)
    : log_(log),
      topic_id_(topic_id),
      topic_(std::move(topic)),
      index_(index),
      producers_(producers_max) {}

Partition::~Partition() = default;

Result<void> Partition::recover() {
    storage::RecoveredState recovered = log_.take_recovered();
    TRY_ASSIGN(producers_, ProducerStates::decode(recovered.state, producers_.producers_max()));
    const WallTime now = runtime::Shard::current().wall_now();
    for (const auto& entry : recovered.entries) {
        if (entry.info.kind != storage::EntryKind::kData || entry.summary.size() < kBatchHeaderSize)
            continue;
        BatchHeader header = load_batch_header(entry.summary);
        if (header.has_producer_id() && !header.is_control()) producers_.append(header, now);
    }
    log_.set_state_provider([this] { return producers_.encode(); });
    log_.on_durable([this] { on_durable(); });
    return {};
}

KafkaError Partition::check_epoch(int32_t current_leader_epoch) const {
    if (current_leader_epoch < 0 || current_leader_epoch == leader_epoch())
        return KafkaError::kNone;
    return current_leader_epoch < leader_epoch() ? KafkaError::kFencedLeaderEpoch
                                                 : KafkaError::kUnknownLeaderEpoch;
}

Task<AppendOutcome> Partition::append(CheckedBatch batch, bool log_append_time,
                                      runtime::StopToken stop) {
    AppendOutcome outcome;
    const uint64_t size = batch.bytes.size();
    if (const auto admitted = co_await log_.admit(size, stop); !admitted) {
        outcome.error = storage_error(admitted.error());
        outcome.message = admitted.error().to_string();
        co_return outcome;
    }
    // From here to the append nothing waits: the sequence number, the offset and the log's end go
    // together.
    const MutableBytes bytes = own_bytes(batch.bytes);
    BatchHeader header = load_batch_header(bytes);
    const WallTime now = runtime::Shard::current().wall_now();
    outcome.log_start_offset = log_start_offset();
    if (header.has_producer_id()) {
        const ProducerStates::Answer answer = producers_.check(header);
        if (answer.verdict != ProducerStates::Verdict::kAppend) log_.withdraw(size);
        switch (answer.verdict) {
            case ProducerStates::Verdict::kAppend:
                break;
            case ProducerStates::Verdict::kDuplicate:
                outcome.base_offset = answer.base_offset;
                outcome.log_append_time_ms = answer.timestamp_ms;
                outcome.end = {answer.next_offset, 0};
                co_return outcome;
            case ProducerStates::Verdict::kDuplicateUnknown:
                outcome.error = KafkaError::kDuplicateSequenceNumber;
                co_return outcome;
            case ProducerStates::Verdict::kOutOfOrder:
                outcome.error = KafkaError::kOutOfOrderSequenceNumber;
                co_return outcome;
            case ProducerStates::Verdict::kOldEpoch:
                outcome.error = KafkaError::kInvalidProducerEpoch;
                co_return outcome;
        }
    }
    header.base_offset = log_.end().offset;
    set_base_offset(bytes, header.base_offset);
    set_partition_leader_epoch(bytes, leader_epoch());
    if (log_append_time) {
        set_max_timestamp(bytes, TimestampType::kLogAppendTime, now);
        header.max_timestamp = now;
        outcome.log_append_time_ms = now.ms;
    } else if (header.max_timestamp != batch.max_timestamp) {
        set_max_timestamp(bytes, TimestampType::kCreateTime, batch.max_timestamp);
        header.max_timestamp = batch.max_timestamp;
    }
    storage::Entry entry;
    entry.info.term = leader_epoch();
    entry.info.first = log_.end();
    entry.info.next_offset = header.next_offset();
    entry.info.max_timestamp_ms = header.max_timestamp.ms;
    entry.payload = std::move(batch.bytes);
    entry.summary_bytes = kBatchHeaderSize;
    outcome.end = entry.info.end();
    if (const auto appended = log_.append(std::move(entry)); !appended) {
        outcome.error = storage_error(appended.error());
        outcome.message = appended.error().to_string();
        co_return outcome;
    }
    if (header.has_producer_id()) producers_.append(header, now);
    appended_bytes_ += size;
    pending_.push_back({outcome.end.offset, appended_bytes_});
    outcome.base_offset = header.base_offset;
    co_return outcome;
}

Task<KafkaError> Partition::wait_committed(storage::Position end) {
    const auto durable = co_await log_.wait_durable(end);
    co_return durable ? KafkaError::kNone : storage_error(durable.error());
}

void Partition::on_durable() {
    const int64_t high = high_watermark();
    const uint64_t before = durable_bytes_;
    while (!pending_.empty() && pending_.front().next_offset <= high) {
        durable_bytes_ = pending_.front().bytes;
        pending_.pop_front();
    }
    if (watches_.empty() || durable_bytes_ == before) return;
    const auto news = static_cast<int64_t>(durable_bytes_ - before);
    // Firing a watch unlinks its hooks, this partition's among them, so they are taken out one by
    // one.
    std::vector<FetchWatch*> due;
    watches_.for_each([&](WatchHook& hook) {
        hook.watch->bytes_needed -= news;
        if (hook.watch->bytes_needed <= 0) due.push_back(hook.watch);
    });
    for (FetchWatch* watch : due) fire_(*watch);
}

void Partition::fire_all() {
    while (!watches_.empty()) {
        WatchHook& hook = watches_.pop_front();
        fire_(*hook.watch);
    }
}

Task<FetchOutcome> Partition::fetch(FetchRange range, runtime::StopToken stop) {
    FetchOutcome outcome;
    outcome.error = check_epoch(range.current_leader_epoch);
    if (outcome.error != KafkaError::kNone) co_return outcome;
    outcome.high_watermark = high_watermark();
    outcome.log_start_offset = log_start_offset();
    if (range.last_fetched_epoch >= 0) {
        const storage::Log::TermEnd end = end_of_epoch(range.last_fetched_epoch);
        if (end.term < 0) {
            // This log knows no epoch as old as that one, so there is no end that the reader could
            // go back to.
            outcome.error = KafkaError::kOffsetOutOfRange;
            co_return outcome;
        }
        if (end.term < range.last_fetched_epoch || end.end_offset < range.offset) {
            outcome.diverging = end;
            co_return outcome;
        }
    }
    if (range.offset < outcome.log_start_offset || range.offset > log_.end().offset) {
        outcome.error = KafkaError::kOffsetOutOfRange;
        co_return outcome;
    }
    // Between the high watermark and the log's end there is nothing to be seen yet.
    if (range.offset >= outcome.high_watermark || (range.bytes_max == 0 && !range.at_least_one))
        co_return outcome;
    auto read = co_await log_.read(range.offset,
                                   {.end_offset = outcome.high_watermark,
                                    .bytes_max = range.bytes_max,
                                    .at_least_one = range.at_least_one},
                                   stop);
    if (!read) {
        outcome.error = storage_error(read.error());
        if (outcome.error == KafkaError::kKafkaStorageError) {
            runtime::Shard::current().log().error(
                "kafka", "a partition can't be read", "topic={} partition={} offset={} error={}",
                topic_, index_, range.offset, read.error().to_string());
        }
        co_return outcome;
    }
    outcome.parts = std::move(read->parts);
    outcome.size = read->size;
    co_return outcome;
}

storage::Log::TermEnd Partition::end_of_epoch(int32_t epoch) const {
    const storage::Log::TermEnd unknown{-1, -1};
    if (epoch < 0 || epoch > leader_epoch()) return unknown;
    if (epoch == leader_epoch()) return {epoch, log_.end().offset};
    return log_.end_of_term(epoch).value_or(unknown);
}

Task<OffsetOutcome> Partition::find_offset(int64_t timestamp_ms, int32_t current_leader_epoch) {
    OffsetOutcome outcome;
    outcome.error = check_epoch(current_leader_epoch);
    if (outcome.error != KafkaError::kNone) co_return outcome;
    switch (timestamp_ms) {
        case -1:  // latest
            outcome.offset = high_watermark();
            outcome.leader_epoch = leader_epoch();
            co_return outcome;
        case -2:  // earliest
        case -4:  // earliest that is local
            outcome.offset = log_start_offset();
            outcome.leader_epoch = leader_epoch();
            co_return outcome;
        case -3: {  // of the largest timestamp
            auto found = co_await log_.find_max_timestamp(high_watermark());
            if (!found) {
                outcome.error = storage_error(found.error());
                co_return outcome;
            }
            if (!*found) co_return outcome;
            const auto record = find_max_timestamp((*found)->payload.bytes(), kRecordsBytesMax);
            if (!record) {
                outcome.error = KafkaError::kCorruptMessage;
                co_return outcome;
            }
            if (*record) {
                outcome.offset = (*record)->offset;
                outcome.timestamp_ms = (*record)->timestamp.ms;
                outcome.leader_epoch = (*found)->info.term;
            }
            co_return outcome;
        }
        case -5:  // latest that is tiered
        case -6:  // earliest that waits for its upload
            co_return outcome;
        default:
            break;
    }
    if (timestamp_ms < 0) {
        outcome.error = KafkaError::kInvalidRequest;
        co_return outcome;
    }
    co_return co_await find_by_time(timestamp_ms, high_watermark());
}

Task<OffsetOutcome> Partition::find_by_time(int64_t timestamp_ms, int64_t end_offset) {
    OffsetOutcome outcome;
    auto found = co_await log_.find_timestamp(timestamp_ms, end_offset);
    if (!found) {
        outcome.error = storage_error(found.error());
        co_return outcome;
    }
    if (!*found) co_return outcome;
    // Nearly always the record is in this batch. Not where the log's start cuts the batch and the
    // record lies before it.
    SharedBytes payload = (*found)->payload;
    int64_t next_offset = (*found)->info.next_offset;
    while (true) {
        BatchIterator batches(payload.bytes());
        while (const auto batch = batches.next()) {
            if (batch->header.max_timestamp.ms < timestamp_ms ||
                batch->header.next_offset() <= log_start_offset())
                continue;
            const auto open = OpenBatch::open(batch->bytes, kRecordsBytesMax);
            if (!open) {
                outcome.error = KafkaError::kCorruptMessage;
                co_return outcome;
            }
            RecordIterator records = open->records();
            while (const auto record = records.next()) {
                const WallTime timestamp =
                    batch->header.timestamp_type() == TimestampType::kLogAppendTime
                        ? batch->header.max_timestamp
                        : record->timestamp;
                if (record->offset < log_start_offset() || timestamp.ms < timestamp_ms) continue;
                outcome.offset = record->offset;
                outcome.timestamp_ms = timestamp.ms;
                outcome.leader_epoch = batch->header.partition_leader_epoch;
                co_return outcome;
            }
        }
        if (next_offset >= end_offset) co_return outcome;
        auto read = co_await log_.read(next_offset,
                                       {.end_offset = end_offset, .bytes_max = kScanBytes}, {});
        if (!read || read->parts.empty()) {
            if (!read) outcome.error = storage_error(read.error());
            co_return outcome;
        }
        next_offset = read->next_offset;
        // One part at a time; those that the range read besides are read again, which is rare
        // enough.
        payload = read->parts.front();
        BatchIterator last(payload.bytes());
        while (const auto batch = last.next()) next_offset = batch->header.next_offset();
    }
}

Task<std::expected<int64_t, KafkaError>> Partition::delete_records(int64_t before_offset) {
    const int64_t to = before_offset == -1 ? high_watermark() : before_offset;
    if (to < 0 || to > high_watermark()) co_return std::unexpected(KafkaError::kOffsetOutOfRange);
    if (to > log_start_offset()) {
        if (const auto done = co_await log_.truncate_prefix(to); !done)
            co_return std::unexpected(storage_error(done.error()));
        fire_all();
    }
    co_return log_start_offset();
}

Task<void> Partition::close() {
    fire_all();
    co_await gate_.close();
    log_.on_durable({});
    log_.set_state_provider({});
}

}  // namespace weir::kafka
