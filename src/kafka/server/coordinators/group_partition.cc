#include "kafka/server/coordinators/group_partition.h"

#include <algorithm>

#include "base/units.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;

constexpr uint64_t kLoadBytes = 1_MiB;
constexpr size_t kRecordsBytesMax = 128_MiB;
constexpr size_t kBatchBytesMax = 1'000'000;
constexpr Duration kRetry = 1s;

}  // namespace

GroupPartition::GroupPartition(Partition& partition, runtime::Gate::Holder use, Mailbox& mailbox,
                               Options options)
    : partition_(partition),
      index_(partition.index()),
      term_(partition.leader_epoch()),
      use_(std::move(use)),
      mailbox_(mailbox),
      options_(std::move(options)),
      coordinator_(options_.config, Shard::current().prng()) {}

GroupPartition::~GroupPartition() = default;

Moment GroupPartition::now() const { return {Shard::current().now(), Shard::current().wall_now()}; }

void GroupPartition::start() {
    coordinator_.begin_load();
    scope_.spawn(load(), runtime::WorkClass::kProduce);
}

Task<void> GroupPartition::close() {
    scope_.request_stop();
    take(coordinator_.close());
    to_write_changed_.notify_all();
    written_changed_.notify_all();
    time_changed_.notify_all();
    rewrite_changed_.notify_all();
    co_await scope_.close();
    use_ = {};
}

Task<void> GroupPartition::load() {
    while (true) {
        const auto replayed = co_await replay();
        if (scope_.stop_requested()) co_return;
        if (replayed) break;
        Shard::current().log().error("groups", "offsets can't be loaded", "partition={} error={}",
                                     index(), replayed.error().to_string());
        if (!co_await runtime::sleep_for(kRetry, scope_.stop_token())) co_return;
        take(coordinator_.close());
        coordinator_.begin_load();
    }
    take(coordinator_.finish_load(now()));
    live_bytes_ = 0;
    coordinator_.for_each_live_record(
        [this](const LogRecord& record) { live_bytes_ += record.bytes(); });
    scope_.spawn(write(), runtime::WorkClass::kProduce);
    scope_.spawn(await_durable(), runtime::WorkClass::kProduce);
    scope_.spawn(keep_time(), runtime::WorkClass::kProduce);
    if (coordinator_.group_count() > 0) {
        Shard::current().log().info("groups", "groups loaded", "partition={} groups={} bytes={}",
                                    index(), coordinator_.group_count(), log_bytes_);
    }
    maybe_rewrite();
}

Task<Result<void>> GroupPartition::replay() {
    log_bytes_ = 0;
    int64_t offset = partition_.log_start_offset();
    size_t skipped = 0;
    while (offset < partition_.high_watermark()) {
        const auto read = co_await runtime::try_(partition_.log().read(
            offset, {.end_offset = partition_.high_watermark(), .bytes_max = kLoadBytes},
            scope_.stop_token()));
        // The coordinator is closed by then, and takes nothing.
        if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
        if (read.parts.empty()) break;
        for (const SharedBytes& part : read.parts) {
            log_bytes_ += part.size();
            BatchIterator batches(part.bytes());
            while (const auto batch = batches.next()) {
                if (batch->header.is_control()) continue;
                const OpenBatch open =
                    co_await runtime::try_(OpenBatch::open(batch->bytes, kRecordsBytesMax));
                RecordIterator records = open.records();
                while (const auto record = records.next()) {
                    // A cut may lie within a batch.
                    if (record->offset < partition_.log_start_offset() || !record->key) continue;
                    if (!coordinator_.replay(*record->key, record->value)) ++skipped;
                }
            }
            if (Shard::current().need_preempt()) co_await runtime::yield();
            if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
        }
        offset = read.next_offset;
    }
    if (skipped > 0) {
        Shard::current().log().warn("groups", "records of __consumer_offsets were skipped",
                                    "partition={} records={}", index(), skipped);
    }
    co_return Result<void>{};
}

Task<std::optional<GroupReply>> GroupPartition::call(MailAddress reply_to, Call call) {
    // A rewrite needs a moment without anything on its way to the log.
    while (wants_rewrite_ && !scope_.stop_requested())
        (void)co_await rewrite_changed_.wait({.stop = scope_.stop_token()});
    const RequestId id{next_request_++};
    in_call_ = id;
    GroupEffects effects = call(coordinator_, id, now());
    take(std::move(effects));
    in_call_.reset();
    if (call_reply_) co_return std::exchange(call_reply_, std::nullopt);
    waiting_.emplace(id, reply_to);
    co_return std::nullopt;
}

void GroupPartition::on_topics_deleted(const std::vector<std::string>& topics) {
    take(coordinator_.on_topics_deleted(topics, now()));
}

void GroupPartition::take(GroupEffects effects) {
    for (GroupReply& reply : effects.replies) {
        if (in_call_ == reply.request) {
            call_reply_ = std::move(reply);
            continue;
        }
        const auto found = waiting_.find(reply.request);
        if (found == waiting_.end()) continue;
        const MailAddress to = found->second;
        waiting_.erase(found);
        mailbox_.post(to, std::move(reply));
    }
    for (const std::string& note : effects.notes) Shard::current().log().info("groups", note);
    for (GroupAppend& append : effects.appends)
        to_write_.push_back({.token = append.token, .records = std::move(append.records)});
    if (!effects.appends.empty()) to_write_changed_.notify_all();
    time_changed_.notify_all();
}

Task<void> GroupPartition::write() {
    while (!scope_.stop_requested()) {
        if (to_write_.empty()) {
            (void)co_await to_write_changed_.wait({.stop = scope_.stop_token()});
            continue;
        }
        ToWrite next = std::move(to_write_.front());
        to_write_.pop_front();
        BatchBuilder builder;
        const WallTime timestamp = Shard::current().wall_now();
        for (const LogRecord& record : next.records) {
            builder.append(
                {.timestamp = timestamp,
                 .key = Bytes(record.key),
                 .value = record.value ? NullableBytes(Bytes(*record.value)) : std::nullopt,
                 .headers = {}});
        }
        Written written;
        if (next.token) written.tokens.push_back(*next.token);
        const auto batch = builder.build();
        if (next.records.empty()) {
            written.end = partition_.log().end();
            written.term = term_;
        } else if (!batch) {
            written.ok = false;
        } else {
            const AppendOutcome outcome = co_await partition_.append(
                {.bytes = SharedBytes::copy_of(*batch), .max_timestamp = timestamp},
                {.term = term_}, scope_.stop_token());
            written.ok = outcome.error == KafkaError::kNone;
            written.end = outcome.end;
            written.term = outcome.term;
            if (written.ok) log_bytes_ += batch->size();
            if (written.ok && next.begins_rewrite) rewrite_begin_ = outcome.base_offset;
        }
        if (!written.ok && (next.begins_rewrite || next.ends_rewrite || !next.token))
            rewrite_begin_ = -1;  // a part is missing
        if (next.ends_rewrite) written.cut_before = rewrite_begin_;
        if (next.ends_rewrite && rewrite_begin_ < 0) rewriting_ = false;
        written_.push_back(std::move(written));
        written_changed_.notify_all();
    }
}

Task<void> GroupPartition::await_durable() {
    while (!scope_.stop_requested()) {
        if (written_.empty()) {
            (void)co_await written_changed_.wait({.stop = scope_.stop_token()});
            continue;
        }
        const Written next = std::move(written_.front());
        written_.pop_front();
        const bool ok = next.ok && (options_.acknowledge_before_commit ||
                                    co_await partition_.wait_committed(
                                        next.end, next.term, {.stop = scope_.stop_token()}) ==
                                        KafkaError::kNone);
        if (scope_.stop_requested()) co_return;
        for (const AppendToken token : next.tokens)
            take(coordinator_.on_append_done(token, ok, now()));
        if (next.cut_before >= 0) {
            if (ok && co_await partition_.delete_records(next.cut_before)) log_bytes_ = live_bytes_;
            rewriting_ = false;
        }
        maybe_rewrite();
    }
}

Task<void> GroupPartition::keep_time() {
    while (!scope_.stop_requested()) {
        const Instant deadline = coordinator_.next_deadline();
        if (deadline <= Shard::current().now()) {
            take(coordinator_.tick(now()));
            if (Shard::current().need_preempt()) co_await runtime::yield();
            continue;
        }
        (void)co_await time_changed_.wait({.deadline = deadline, .stop = scope_.stop_token()});
    }
}

void GroupPartition::maybe_rewrite() {
    const auto threshold = std::max(static_cast<uint64_t>(options_.rewrite_bytes), 2 * live_bytes_);
    if (!rewriting_ && !wants_rewrite_ && log_bytes_ > threshold) wants_rewrite_ = true;
    if (wants_rewrite_ && coordinator_.appends_outstanding() == 0 && to_write_.empty() &&
        written_.empty())
        rewrite();
}

void GroupPartition::rewrite() {
    wants_rewrite_ = false;
    rewriting_ = true;
    live_bytes_ = 0;
    std::vector<ToWrite> parts(1);
    size_t bytes = 0;
    coordinator_.for_each_live_record([&](LogRecord record) {
        if (bytes + record.bytes() > kBatchBytesMax && !parts.back().records.empty()) {
            parts.emplace_back();
            bytes = 0;
        }
        bytes += record.bytes();
        live_bytes_ += record.bytes();
        parts.back().records.push_back(std::move(record));
    });
    Shard::current().log().info("groups", "what is alive is written again",
                                "partition={} log_bytes={} live_bytes={}", index(), log_bytes_,
                                live_bytes_);
    if (parts.front().records.empty()) {
        const storage::Position end = partition_.log().end();
        written_.push_back({.tokens = {}, .end = end, .term = term_, .cut_before = end.offset});
        written_changed_.notify_all();
        rewrite_changed_.notify_all();
        return;
    }
    parts.front().begins_rewrite = true;
    parts.back().ends_rewrite = true;
    for (ToWrite& part : parts) to_write_.push_back(std::move(part));
    to_write_changed_.notify_all();
    rewrite_changed_.notify_all();
}

}  // namespace weir::kafka
