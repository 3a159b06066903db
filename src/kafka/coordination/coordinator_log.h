// CoordinatorLog: drives one coordinator, a pure state machine, over one partition while this node
// leads the partition, for one term. It loads the machine from the committed log, writes the
// machine's records, delivers its replies to the waiting requests, and passes it the time. The
// machine decides; this class moves bytes. Owned by the shard's CoordinatorShard, on the shard that
// owns the partition. What survives a crash: the partition's records. The log is not compacted:
// when it has grown well beyond the live records, these are written again at its end, and the log's
// front is cut off.
#pragma once

#include <algorithm>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/units.h"
#include "kafka/coordination/machine/machine.h"
#include "kafka/records/builder.h"
#include "kafka/records/record.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/partition.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {

template <CoordinatorMachine Machine>
class CoordinatorLog {
  public:
    using Effects = EffectsOf<Machine>;
    using Reply = ReplyOf<Machine>;
    struct Options {
        std::string name;                        // for the node's log
        uint64_t rewrite_bytes = 0;              // the log is rewritten when it is larger
        bool acknowledge_before_commit = false;  // ServerBugs::forget_commits
    };
    // The partition stays while this object is open. The machine is made with `machine_arguments`.
    template <class... Arguments>
    CoordinatorLog(Partition& partition, runtime::Gate::Holder use, Mailbox& mailbox,
                   Options options, Arguments&&... machine_arguments)
        : partition_(partition),
          index_(partition.index()),
          term_(partition.leader_epoch()),
          use_(std::move(use)),
          mailbox_(mailbox),
          options_(std::move(options)),
          machine_(std::forward<Arguments>(machine_arguments)...) {}

    // Begins to load, in the background.
    void start() {
        machine_.begin_load();
        scope_.spawn(load(), runtime::WorkClass::kProduce);
    }
    // Answers all waiting requests; nobody waits for the appends in flight. Call it once.
    runtime::Task<void> close();

    Machine& machine() { return machine_; }
    int32_t index() const { return index_; }
    // The term in which this node leads the partition.
    raft::Term term() const { return term_; }

    // Makes a request of the machine. Returns the reply if there is one at once; else the reply is
    // mailed to `reply_to` when there is one.
    using Call = std::function<Effects(Machine&, RequestId, Moment)>;
    runtime::Task<std::optional<Reply>> call(MailAddress reply_to, Call call);
    // An event without a reply.
    void post(const std::function<Effects(Machine&, Moment)>& event) {
        carry_out(event(machine_, now()));
    }

  private:
    struct Written {
        std::vector<AppendToken> tokens;
        storage::Position end;
        raft::Term term = 0;
        bool ok = true;
        int64_t cut_before = -1;  // when durable, the log's prefix up to here can go
    };
    struct ToWrite {
        std::optional<AppendToken> token;
        std::vector<LogRecord> records;
        bool begins_rewrite = false;
        bool ends_rewrite = false;
    };

    runtime::Task<void> load();
    runtime::Task<Result<void>> replay();
    runtime::Task<void> write();
    runtime::Task<void> await_durable();
    runtime::Task<void> keep_time();
    void carry_out(Effects effects);
    void maybe_rewrite();
    void rewrite();
    // Leaves out the time in which this shard did not run: a member whose heartbeats waited for it
    // meanwhile is not late.
    Moment now() const {
        return {runtime::Shard::current().awake_now(), runtime::Shard::current().wall_now()};
    }
    const Logger& log() const { return runtime::Shard::current().log(); }

    static constexpr uint64_t kLoadBytes = 1_MiB;
    static constexpr size_t kRecordsBytesMax = 128_MiB;
    static constexpr size_t kBatchBytesMax = 1'000'000;
    static constexpr Duration kLoadRetry = 1s;

    Partition& partition_;  // while use_ is held
    const int32_t index_;
    const raft::Term term_;
    runtime::Gate::Holder use_;
    Mailbox& mailbox_;
    const Options options_;
    Machine machine_;

    uint64_t next_request_ = 1;
    std::map<RequestId, MailAddress> waiting_;
    std::optional<RequestId> in_call_;  // whose reply goes into call_reply_
    std::optional<Reply> call_reply_;

    std::deque<ToWrite> to_write_;
    std::deque<Written> written_;
    runtime::WaitQueue to_write_changed_;
    runtime::WaitQueue written_changed_;
    runtime::WaitQueue time_changed_;

    uint64_t log_bytes_ = 0;   // of records in the log that are not cut off
    uint64_t live_bytes_ = 0;  // what the last rewrite wrote, or loading found
    bool wants_rewrite_ = false;
    bool rewriting_ = false;
    int64_t rewrite_begin_ = -1;
    runtime::WaitQueue rewrite_changed_;

    runtime::Scope scope_;
};

template <CoordinatorMachine Machine>
runtime::Task<void> CoordinatorLog<Machine>::close() {
    scope_.request_stop();
    carry_out(machine_.close());
    to_write_changed_.notify_all();
    written_changed_.notify_all();
    time_changed_.notify_all();
    rewrite_changed_.notify_all();
    co_await scope_.close();
    use_ = {};
}

template <CoordinatorMachine Machine>
runtime::Task<void> CoordinatorLog<Machine>::load() {
    while (true) {
        const auto replayed = co_await replay();
        if (scope_.stop_requested()) co_return;
        if (replayed) break;
        log().error(options_.name, "a coordinator can't be loaded",
                    "topic={} partition={} error={}", partition_.topic(), index(),
                    replayed.error().to_string());
        if (!co_await runtime::sleep_for(kLoadRetry, scope_.stop_token())) co_return;
        carry_out(machine_.close());
        machine_.begin_load();
    }
    carry_out(machine_.finish_load(now()));
    live_bytes_ = 0;
    machine_.for_each_live_record(
        [this](const LogRecord& record) { live_bytes_ += record.bytes(); });
    scope_.spawn(write(), runtime::WorkClass::kProduce);
    scope_.spawn(await_durable(), runtime::WorkClass::kProduce);
    scope_.spawn(keep_time(), runtime::WorkClass::kProduce);
    if (live_bytes_ > 0) {
        log().info(options_.name, "a coordinator is loaded",
                   "topic={} partition={} log_bytes={} live_bytes={}", partition_.topic(), index(),
                   log_bytes_, live_bytes_);
    }
    maybe_rewrite();
}

template <CoordinatorMachine Machine>
runtime::Task<Result<void>> CoordinatorLog<Machine>::replay() {
    log_bytes_ = 0;
    int64_t offset = partition_.log_start_offset();
    size_t skipped = 0;
    while (offset < partition_.high_watermark()) {
        const auto read = co_await runtime::try_(partition_.log().read(
            offset, {.end_offset = partition_.high_watermark(), .bytes_max = kLoadBytes},
            scope_.stop_token()));
        // The machine is closed already.
        if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
        if (read.parts.empty()) break;
        for (const runtime::SharedBytes& part : read.parts) {
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
                    if (!machine_.replay(*record->key, record->value)) ++skipped;
                    if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
                    if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
                }
            }
            if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
            if (scope_.stop_requested()) co_return fail(ErrorCode::kCancelled);
        }
        offset = read.next_offset;
    }
    if (skipped > 0) {
        log().warn(options_.name, "records of a coordinator were skipped",
                   "topic={} partition={} records={}", partition_.topic(), index(), skipped);
    }
    co_return Result<void>{};
}

template <CoordinatorMachine Machine>
runtime::Task<std::optional<ReplyOf<Machine>>> CoordinatorLog<Machine>::call(MailAddress reply_to,
                                                                             Call call) {
    // A rewrite needs a moment without anything on its way to the log.
    while (wants_rewrite_ && !scope_.stop_requested())
        (void)co_await rewrite_changed_.wait({.stop = scope_.stop_token()});
    const RequestId id{next_request_++};
    in_call_ = id;
    Effects effects = call(machine_, id, now());
    carry_out(std::move(effects));
    in_call_.reset();
    if (call_reply_) co_return std::exchange(call_reply_, std::nullopt);
    waiting_.emplace(id, reply_to);
    co_return std::nullopt;
}

template <CoordinatorMachine Machine>
void CoordinatorLog<Machine>::carry_out(Effects effects) {
    for (Reply& reply : effects.replies) {
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
    for (const std::string& note : effects.notes) log().info(options_.name, note);
    for (auto& append : effects.appends)
        to_write_.push_back({.token = append.token, .records = std::move(append.records)});
    if (!effects.appends.empty()) to_write_changed_.notify_all();
    time_changed_.notify_all();
}

template <CoordinatorMachine Machine>
runtime::Task<void> CoordinatorLog<Machine>::write() {
    while (!scope_.stop_requested()) {
        if (to_write_.empty()) {
            (void)co_await to_write_changed_.wait({.stop = scope_.stop_token()});
            continue;
        }
        ToWrite next = std::move(to_write_.front());
        to_write_.pop_front();
        BatchBuilder builder;
        const WallTime timestamp = runtime::Shard::current().wall_now();
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
                {.bytes = runtime::SharedBytes::copy_of(*batch), .max_timestamp = timestamp},
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

template <CoordinatorMachine Machine>
runtime::Task<void> CoordinatorLog<Machine>::await_durable() {
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
            carry_out(machine_.on_append_done(token, ok, now()));
        if (next.cut_before >= 0) {
            if (ok && co_await partition_.delete_records(next.cut_before)) log_bytes_ = live_bytes_;
            rewriting_ = false;
        }
        maybe_rewrite();
    }
}

template <CoordinatorMachine Machine>
runtime::Task<void> CoordinatorLog<Machine>::keep_time() {
    while (!scope_.stop_requested()) {
        const Instant deadline = machine_.next_deadline();
        if (deadline <= runtime::Shard::current().awake_now()) {
            carry_out(machine_.tick(now()));
            if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
            continue;
        }
        (void)co_await time_changed_.wait(
            {.deadline = runtime::Shard::current().when_awake(deadline),
             .stop = scope_.stop_token()});
    }
}

template <CoordinatorMachine Machine>
void CoordinatorLog<Machine>::maybe_rewrite() {
    const auto threshold = std::max<uint64_t>(options_.rewrite_bytes, 2 * live_bytes_);
    if (!rewriting_ && !wants_rewrite_ && log_bytes_ > threshold) wants_rewrite_ = true;
    if (wants_rewrite_ && machine_.appends_outstanding() == 0 && to_write_.empty() &&
        written_.empty())
        rewrite();
}

template <CoordinatorMachine Machine>
void CoordinatorLog<Machine>::rewrite() {
    wants_rewrite_ = false;
    rewriting_ = true;
    live_bytes_ = 0;
    std::vector<ToWrite> parts(1);
    size_t bytes = 0;
    machine_.for_each_live_record([&](LogRecord record) {
        if (bytes + record.bytes() > kBatchBytesMax && !parts.back().records.empty()) {
            parts.emplace_back();
            bytes = 0;
        }
        bytes += record.bytes();
        live_bytes_ += record.bytes();
        parts.back().records.push_back(std::move(record));
    });
    log().info(options_.name, "what is alive is written again",
               "partition={} log_bytes={} live_bytes={}", index(), log_bytes_, live_bytes_);
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
