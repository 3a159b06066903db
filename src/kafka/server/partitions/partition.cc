#include "kafka/server/partitions/partition.h"

#include <algorithm>

#include "base/units.h"
#include "kafka/records/record_search.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::SharedBytes;
using runtime::Task;

// Of a compressed batch that is looked into for a timestamp.
constexpr size_t kRecordsBytesMax = 128_MiB;
constexpr uint64_t kScanBytes = 1_MiB;
// A follower that its leader has heard nothing of for so long is not in sync. A sleeping group
// hears nothing, and all of it is in sync but for nodes that are down.
constexpr Duration kSilenceMax = 3s;
// How long a question may wait for the followers' word that this is their leader.
constexpr Duration kConfirmMax = 1s;
constexpr Duration kTransferCheck = 20ms;
// How long who asks a leader that just ceased to be one waits to be told of the next.
constexpr Duration kSuccessorMax = 200ms;
// How long what a deposed leader took waits to be told that it is committed, or lost.
constexpr Duration kFateMax = 2s;

// The frame is shared among the partitions that it has batches of, but each batch's bytes belong to
// its partition alone until it is appended: this is the one place that writes into them.
MutableBytes own_bytes(const SharedBytes& batch) {
    return {const_cast<uint8_t*>(batch.data()), batch.size()};
}

// A batch may unpack to 128 MiB: it is unpacked as it is looked through. `payload` keeps `batch`.
Task<Result<std::optional<OffsetAndTimestamp>>> search(Unpacking& unpacking, SharedBytes payload,
                                                       Bytes batch, RecordSearch::Wanted wanted) {
    Result<Unpacking::Permit> room{};
    // What is no batch has no header to go by, and is refused below.
    const BatchHeader header =
        batch.size() < kBatchHeaderSize ? BatchHeader{} : load_batch_header(batch);
    if (header.is_compression_known() && header.compression() != Compression::kNone) {
        room = co_await unpacking.begin(
            Decompressor::memory_for(header.compression(), batch.subspan(kBatchHeaderSize),
                                     kRecordsBytesMax),
            {});
    }
    if (!room) co_return fail(ErrorCode::kTimedOut, "no memory to unpack a batch");
    RecordSearch search(batch, wanted, kRecordsBytesMax);
    while (search.step()) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return search.result();
}

KafkaError search_error(const Error& error) {
    return error.code == ErrorCode::kTimedOut ? KafkaError::kRequestTimedOut
                                              : KafkaError::kCorruptMessage;
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

Partition::Partition(PartitionEvents& events, storage::Log& log, Uuid topic_id, std::string topic,
                     int32_t index, size_t producers_max)
    : events_(events),
      log_(log),
      topic_id_(topic_id),
      topic_(std::move(topic)),
      index_(index),
      producers_(producers_max, &events.producer_share()) {
    folds_.add(producers_);
}

Partition::~Partition() = default;

void Partition::set_group(replication::Group& group) {
    group_ = &group;
    high_watermark_ = group.high_watermark();
    epoch_ = group.term();
}

// ---------------------------------------------------------------- the group's word

Result<void> Partition::recover(Bytes state, storage::Position state_end,
                                std::vector<storage::RecoveredState::Replayed> entries) {
    if (events_.bugs().lose_producer_state) state = {};
    TRY(folds_.restore(state, state_end.offset));
    const WallTime now = runtime::Shard::current().wall_now();
    for (const auto& entry : entries) {
        if (entry.info.kind != storage::EntryKind::kData || entry.summary.size() < kBatchHeaderSize)
            continue;
        folds_.append(load_batch_header(entry.summary), now);
    }
    pending_.clear();
    committed_bytes_ = appended_bytes_;
    return {};
}

storage::CapturedState Partition::capture() { return folds_.capture(); }

void Partition::on_append(const storage::EntryInfo&, Bytes summary) {
    if (summary.size() < kBatchHeaderSize) return;
    note_appended(load_batch_header(summary), runtime::Shard::current().wall_now());
}

void Partition::note_appended(const BatchHeader& header, WallTime now) {
    folds_.append(header, now);
    appended_bytes_ += header.size();
    pending_.push_back({header.next_offset(), appended_bytes_});
}

void Partition::on_truncate(storage::Position end) {
    if (!events_.bugs().keep_truncated_producers) folds_.truncate(end.offset);
    while (!pending_.empty() && pending_.back().next_offset > end.offset) pending_.pop_back();
    appended_bytes_ = pending_.empty() ? committed_bytes_ : pending_.back().bytes;
    fate_changed_.notify_all();
}

void Partition::on_commit() {
    if (group_ == nullptr) return;
    if (!is_leader()) fate_changed_.notify_all();
    note_ready();
    const int64_t high = group_->high_watermark();
    if (high == high_watermark_) return;
    high_watermark_ = high;
    folds_.commit(high);
    const uint64_t before = committed_bytes_;
    while (!pending_.empty() && pending_.front().next_offset <= high) {
        committed_bytes_ = pending_.front().bytes;
        pending_.pop_front();
    }
    if (watches_.empty()) return;
    // What was there at the start has no size here; whoever waits for it looks again.
    if (committed_bytes_ == before) return fire_all();
    const auto news = static_cast<int64_t>(committed_bytes_ - before);
    // Firing a watch unlinks its hooks, this partition's among them, so they are taken out one by
    // one.
    std::vector<FetchWatch*> due;
    watches_.for_each([&](WatchHook& hook) {
        hook.watch->bytes_needed -= news;
        if (hook.watch->bytes_needed <= 0) due.push_back(hook.watch);
    });
    for (FetchWatch* watch : due) events_.fire(*watch);
}

void Partition::on_role() {
    if (group_ == nullptr) return;
    const bool led = is_leader();
    role_ = group_->role();
    epoch_ = group_->term();
    leader_ = group_->leader().v;
    if (is_leader() != led) (led ? leader_until_ : leader_since_) = runtime::Shard::current().now();
    is_ready_ = group_->leads();
    role_changed_.notify_all();
    fire_all();  // who waits here may have to ask another
    events_.on_role(*this);
}

void Partition::note_ready() {
    if (is_ready_ || !group_->leads()) return;
    is_ready_ = true;
    role_changed_.notify_all();
    events_.on_role(*this);
}

std::vector<int32_t> Partition::in_sync() const {
    std::vector<int32_t> nodes;
    if (group_ == nullptr || !is_leader()) return nodes;
    const raft::Core& core = group_->core();
    const Instant now = runtime::Shard::current().now();
    const Instant awake = runtime::Shard::current().awake_now();
    const bool is_new = now < leader_since_ + kSilenceMax;
    if (core.configuration().is_voter(core.self())) nodes.push_back(core.self().v);
    for (const raft::PeerStatus& peer : core.peers()) {
        if (!core.configuration().is_voter(peer.node) || peer.down) continue;
        const bool inflight_covers_lag =
            peer.inflight_covers_lag && awake < peer.heard + kSilenceMax;
        if (core.quiet() || inflight_covers_lag || is_new) nodes.push_back(peer.node.v);
    }
    std::ranges::sort(nodes);
    return nodes;
}

bool Partition::is_successor_awaited() const {
    return !is_leader() && leader_ < 0 &&
           runtime::Shard::current().now() < leader_until_ + kSuccessorMax;
}

KafkaError Partition::check_epoch(int32_t current_leader_epoch) const {
    if (current_leader_epoch < 0 || current_leader_epoch == leader_epoch())
        return KafkaError::kNone;
    return current_leader_epoch < leader_epoch() ? KafkaError::kFencedLeaderEpoch
                                                 : KafkaError::kUnknownLeaderEpoch;
}

// ---------------------------------------------------------------- appending

Task<AppendOutcome> Partition::append(CheckedBatch batch, AppendOptions options,
                                      runtime::StopToken stop) {
    AppendOutcome outcome;
    const uint64_t size = batch.bytes.size();
    // While leadership is handed over nothing is taken; who waits for the end of that is told who
    // leads then.
    while (group_ != nullptr &&
           (group_->core().may_propose() == raft::ProposeStatus::kTransferring ||
            is_successor_awaited())) {
        const Instant deadline = runtime::Shard::current().now() + kTransferCheck;
        const auto waited = co_await role_changed_.wait({.deadline = deadline, .stop = stop});
        if (!waited && waited.error().code == ErrorCode::kCancelled) break;
    }
    const auto refuse = [&](KafkaError error, std::string message = {}) {
        outcome.error = error;
        outcome.message = std::move(message);
        outcome.hint = hint();
    };
    if (group_ == nullptr) {
        refuse(KafkaError::kNotLeaderOrFollower);
        co_return outcome;
    }
    const auto admitted = co_await group_->admit(size, stop);
    if (!admitted) {
        refuse(storage_error(admitted.error()), admitted.error().to_string());
        co_return outcome;
    }
    // From here to the append nothing waits: the role, the sequence number, the offset and the
    // log's end go together.
    if (group_ == nullptr || group_->core().may_propose() != raft::ProposeStatus::kOk ||
        (options.term != 0 && options.term != group_->term())) {
        log_.withdraw(size);
        refuse(KafkaError::kNotLeaderOrFollower);
        co_return outcome;
    }
    if (options.in_sync_min > 1 &&
        static_cast<int64_t>(in_sync().size()) < int64_t{options.in_sync_min}) {
        log_.withdraw(size);
        refuse(KafkaError::kNotEnoughReplicas);
        co_return outcome;
    }
    const MutableBytes bytes = own_bytes(batch.bytes);
    BatchHeader header = load_batch_header(bytes);
    const WallTime now = runtime::Shard::current().wall_now();
    outcome.log_start_offset = log_start_offset();
    outcome.term = group_->term();
    if (header.has_producer_id()) {
        // The states cover this log to its end, and a leader's log has all that is committed. A
        // batch that is known but not committed is answered when it is.
        const ProducerStates::Answer answer = producers_.states().check(header);
        if (answer.verdict != ProducerStates::Verdict::kAppend) log_.withdraw(size);
        switch (answer.verdict) {
            case ProducerStates::Verdict::kAppend:
                break;
            case ProducerStates::Verdict::kDuplicate:
                outcome.base_offset = answer.base_offset;
                outcome.log_append_time_ms = answer.timestamp_ms;
                if (!events_.bugs().answer_duplicate_before_commit)
                    outcome.end = {answer.next_offset, 0};
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
    set_partition_leader_epoch(bytes, outcome.term);
    if (options.log_append_time) {
        set_max_timestamp(bytes, TimestampType::kLogAppendTime, now);
        header.max_timestamp = now;
        outcome.log_append_time_ms = now.ms;
    } else if (header.max_timestamp != batch.max_timestamp) {
        set_max_timestamp(bytes, TimestampType::kCreateTime, batch.max_timestamp);
        header.max_timestamp = batch.max_timestamp;
    }
    storage::Entry entry;
    entry.info.first = log_.end();
    entry.info.next_offset = header.next_offset();
    entry.info.max_timestamp_ms = header.max_timestamp.ms;
    entry.payload = std::move(batch.bytes);
    const auto appended = group_->append(std::move(entry));
    if (!appended) {
        refuse(storage_error(appended.error()), appended.error().to_string());
        co_return outcome;
    }
    CHECK(appended->first.offset == header.base_offset);
    CHECK(appended->term == outcome.term);
    outcome.end = appended->end();
    note_appended(header, now);
    outcome.base_offset = header.base_offset;
    co_return outcome;
}

Task<KafkaError> Partition::wait_committed(storage::Position end, raft::Term term,
                                           runtime::WaitOptions options) {
    if (group_ == nullptr) co_return KafkaError::kNotLeaderOrFollower;
    const auto committed = co_await group_->wait_committed(end, term, options);
    if (committed) co_return KafkaError::kNone;
    if (committed.error().code != ErrorCode::kUnavailable)
        co_return storage_error(committed.error());
    options.deadline = std::min(options.deadline, runtime::Shard::current().now() + kFateMax);
    while (group_ != nullptr) {
        switch (group_->fate(end, term)) {
            case replication::Group::Fate::kCommitted:
                co_return KafkaError::kNone;
            case replication::Group::Fate::kLost:
                co_return KafkaError::kNotLeaderOrFollower;
            case replication::Group::Fate::kUnknown:
                break;
        }
        if (!co_await fate_changed_.wait(options)) break;
    }
    co_return KafkaError::kNotLeaderOrFollower;
}

Task<KafkaError> Partition::wait_durable(storage::Position end) {
    if (group_ != nullptr && group_->acks_from_memory()) co_return KafkaError::kNone;
    const auto durable = co_await log_.wait_durable(end);
    co_return durable ? KafkaError::kNone : storage_error(durable.error());
}

Task<Result<void>> Partition::wait_ready(runtime::WaitOptions options) {
    while (!is_ready_ && !is_closing_) co_await runtime::try_(co_await role_changed_.wait(options));
    if (is_closing_) co_return fail(ErrorCode::kUnavailable, "the partition is closing");
    co_return Result<void>{};
}

Task<KafkaError> Partition::confirm_leader() {
    if (group_ == nullptr || !is_leader()) co_return KafkaError::kNotLeaderOrFollower;
    if (!is_ready_) co_return KafkaError::kOffsetNotAvailable;
    if (events_.bugs().answer_unconfirmed) co_return KafkaError::kNone;
    const Instant deadline = runtime::Shard::current().now() + kConfirmMax;
    const auto confirmed = co_await group_->read_barrier({.deadline = deadline});
    if (confirmed) co_return KafkaError::kNone;
    // Too many ask at once: another try finds room.
    co_return confirmed.error().code == ErrorCode::kResourceExhausted
        ? KafkaError::kOffsetNotAvailable
        : KafkaError::kNotLeaderOrFollower;
}

// ---------------------------------------------------------------- reading

void Partition::fire_all() {
    while (!watches_.empty()) {
        WatchHook& hook = watches_.pop_front();
        events_.fire(*hook.watch);
    }
}

Task<FetchOutcome> Partition::fetch(FetchRange range, runtime::StopToken stop) {
    FetchOutcome outcome;
    outcome.epoch = leader_epoch();
    outcome.error = check_epoch(range.current_leader_epoch);
    if (outcome.error == KafkaError::kNone && range.leader_only && !is_leader()) {
        // A log that takes no appends can't lead: if nobody else does, there is nobody to ask.
        const bool is_stuck = leader_ < 0 && log_.damage() && log_.damage()->offline;
        outcome.error =
            is_stuck ? KafkaError::kKafkaStorageError : KafkaError::kNotLeaderOrFollower;
    }
    if (outcome.error != KafkaError::kNone) {
        outcome.hint = hint();
        co_return outcome;
    }
    outcome.high_watermark = high_watermark();
    if (events_.bugs().read_uncommitted && is_leader()) outcome.high_watermark = log_.end().offset;
    outcome.log_start_offset = log_start_offset();
    if (range.last_fetched_epoch >= 0) {
        // Where its log ends is not where the epoch ends for who is behind.
        const bool is_later = range.last_fetched_epoch > leader_epoch();
        if (!is_leader() && (is_later || range.offset > outcome.high_watermark))
            outcome.error = KafkaError::kOffsetNotAvailable;
        else if (is_later)
            outcome.error = co_await confirm_leader();
        if (outcome.error != KafkaError::kNone) {
            outcome.hint = hint();
            co_return outcome;
        }
        const storage::Log::TermEnd end = end_of_epoch(range.last_fetched_epoch);
        // What the reader has read last is gone, so it can't be compared with this log: it may go
        // on where the log starts.
        if (end.term < 0 || range.offset < outcome.log_start_offset) {
            outcome.error = KafkaError::kOffsetOutOfRange;
            co_return outcome;
        }
        if (end.term < range.last_fetched_epoch || end.end_offset < range.offset) {
            outcome.diverging = end;
            co_return outcome;
        }
    }
    if (range.offset < outcome.log_start_offset) {
        outcome.error = KafkaError::kOffsetOutOfRange;
        co_return outcome;
    }
    if (range.offset > outcome.high_watermark && !is_leader()) {
        // The leader may have it. A client that were told that there is no such offset would begin
        // somewhere else.
        outcome.error = KafkaError::kOffsetNotAvailable;
        outcome.hint = hint();
        co_return outcome;
    }
    if (range.offset > log_.end().offset) {
        // A leader has all that is committed, so there is no such offset; one that was deposed and
        // does not know it yet can't tell.
        outcome.error = co_await confirm_leader();
        if (outcome.error == KafkaError::kNone && range.offset > log_.end().offset)
            outcome.error = KafkaError::kOffsetOutOfRange;
        if (outcome.error != KafkaError::kNone) {
            outcome.hint = hint();
            co_return outcome;
        }
    }
    if (range.redirect_to_nearest && is_leader()) {
        outcome.redirect_to_nearest = true;
        co_return outcome;
    }
    // Between the high watermark and the log's end there is nothing to be seen yet.
    if (range.offset >= outcome.high_watermark) co_return outcome;
    if (range.bytes_max == 0 && !range.at_least_one) {
        outcome.has_more = true;
        co_return outcome;
    }
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
    outcome.has_more = read->next_offset < outcome.high_watermark;
    outcome.memory_was_short = read->memory_was_short;
    outcome.is_in_older_segment = log_.is_in_older_segment(range.offset);
    outcome.parts = std::move(read->parts);
    outcome.size = read->size;
    co_return outcome;
}

storage::Log::TermEnd Partition::end_of_epoch(int32_t epoch) const {
    const storage::Log::TermEnd unknown{-1, -1};
    if (epoch < 0 || epoch > leader_epoch()) return unknown;
    if (epoch == leader_epoch()) return {epoch, log_.end().offset};
    // As Kafka's LeaderEpochFileCache.endOffsetFor, whose first entry begins at the log's start: an
    // epoch older than that one ended there.
    const std::vector<storage::TermStart> terms = log_.terms();
    const int64_t start = log_start_offset();
    const auto first = std::ranges::find_if(terms, [&](const storage::TermStart& term) {
        const auto* const next = &term + 1;
        return next == terms.data() + terms.size() || next->first.offset > start;
    });
    if (first == terms.end()) return {epoch, start};
    if (epoch < first->term) return {epoch, std::max(start, first->first.offset)};
    return log_.end_of_term(epoch).value_or(unknown);
}

int32_t Partition::epoch_of(int64_t offset) const {
    int32_t epoch = -1;
    for (const storage::TermStart& term : log_.terms()) {
        if (term.first.offset <= offset) epoch = term.term;
    }
    return epoch < 0 ? leader_epoch() : epoch;
}

Task<OffsetOutcome> Partition::find_offset(int64_t timestamp_ms, int32_t current_leader_epoch) {
    OffsetOutcome outcome;
    outcome.error = check_epoch(current_leader_epoch);
    if (outcome.error == KafkaError::kNone) outcome.error = co_await confirm_leader();
    if (outcome.error != KafkaError::kNone) co_return outcome;
    switch (timestamp_ms) {
        case -1:  // latest
            outcome.offset = high_watermark();
            outcome.leader_epoch = leader_epoch();
            co_return outcome;
        case -2:  // earliest
        case -4:  // earliest that is local
            outcome.offset = log_start_offset();
            outcome.leader_epoch = epoch_of(outcome.offset);
            co_return outcome;
        case -3: {  // of the largest timestamp
            auto found = co_await log_.find_max_timestamp(high_watermark());
            if (!found) {
                outcome.error = storage_error(found.error());
                co_return outcome;
            }
            if (!*found) co_return outcome;
            const auto record = co_await search(events_.unpacking(), (*found)->payload,
                                                (*found)->payload.bytes(), {});
            if (!record) {
                outcome.error = search_error(record.error());
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
            const auto record =
                co_await search(events_.unpacking(), payload, batch->bytes,
                                {.from = WallTime{timestamp_ms}, .offset_min = log_start_offset()});
            if (!record) {
                outcome.error = search_error(record.error());
                co_return outcome;
            }
            // The log's start may have passed it meanwhile: then it is looked for again behind
            // that.
            if (!*record || (*record)->offset < log_start_offset()) continue;
            outcome.offset = (*record)->offset;
            outcome.timestamp_ms = (*record)->timestamp.ms;
            outcome.leader_epoch = batch->header.partition_leader_epoch;
            co_return outcome;
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
    if (group_ == nullptr || !is_leader())
        co_return std::unexpected(KafkaError::kNotLeaderOrFollower);
    if (!is_ready_) co_return std::unexpected(KafkaError::kOffsetNotAvailable);
    const int64_t to = before_offset == -1 ? high_watermark() : before_offset;
    if (to < 0 || to > high_watermark()) co_return std::unexpected(KafkaError::kOffsetOutOfRange);
    if (to > log_start_offset()) {
        if (const auto done = co_await group_->truncate_prefix(to); !done)
            co_return std::unexpected(storage_error(done.error()));
        fire_all();
    }
    co_return log_start_offset();
}

void Partition::begin_close() {
    is_closing_ = true;
    is_ready_ = false;
    role_ = raft::Role::kFollower;
    group_ = nullptr;
    fire_all();
    role_changed_.notify_all();
    fate_changed_.notify_all();
}

Task<void> Partition::close() {
    CHECK(is_closing_);
    fire_all();
    co_await gate_.close();
}

}  // namespace weir::kafka
