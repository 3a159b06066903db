// What the owner of a log asks of its group, and the waits until that is done.
#include <algorithm>

#include "replication/group_parts.h"
#include "runtime/deadline_stop.h"
#include "runtime/shard.h"

namespace weir::replication {

using raft::Configuration;
using runtime::Shard;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;
using storage::EntryInfo;
using storage::EntryKind;
using storage::Position;

namespace {

constexpr Duration kTransferWaitMax = std::chrono::seconds(10);

Result<void> to_result(raft::RequestStatus status) {
    switch (status) {
        case raft::RequestStatus::kStarted:
            return {};
        case raft::RequestStatus::kNotLeader:
            return not_leader();
        case raft::RequestStatus::kNotReady:
            return fail(ErrorCode::kUnavailable, "the leader is not ready yet");
        case raft::RequestStatus::kBusy:
            return fail(ErrorCode::kResourceExhausted, "another one is under way");
        case raft::RequestStatus::kInvalid:
            return fail(ErrorCode::kInvalidArgument, "not a member, or not a configuration");
    }
    return fail(ErrorCode::kInvalidArgument);
}

}  // namespace

Task<Result<void>> Group::admit(uint64_t bytes, StopToken stop) {
    const auto& damage = log_.damage();
    const bool is_elsewhere = core_->leader() != raft::kNoNode && core_->leader() != core_->self();
    if (damage && damage->offline && !is_elsewhere)
        co_return fail(ErrorCode::kCorrupt, damage->reason);
    if (out_of_service() || core_->may_propose() != raft::ProposeStatus::kOk)
        co_return not_leader();
    co_return co_await log_.admit(bytes, stop);
}

Result<EntryInfo> Group::append(storage::Entry entry) {
    if (out_of_service() || core_->may_propose() != raft::ProposeStatus::kOk) {
        log_.withdraw(entry.payload.size());
        return not_leader();
    }
    follow_start();
    const int64_t width = entry.info.next_offset - entry.info.first.offset;
    entry.info.kind = EntryKind::kData;
    entry.info.term = core_->term();
    entry.info.first = log_.end();
    entry.info.next_offset = entry.info.first.offset + width;
    const EntryInfo info = entry.info;
    TRY(append_to_log(std::move(entry)));
    waiting_term_ = info.term;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_proposed(info, now, out);
    });
    return info;
}

Task<Result<void>> Group::wait_committed(Position end, raft::Term term,
                                         runtime::WaitOptions options) {
    if (core_->role() == raft::Role::kLeader && core_->term() == term && !closing_ && !failed_) {
        if (end <= core_->commit()) co_return Result<void>{};
        co_return co_await committed_.wait(end, options);
    }
    co_return not_leader();
}

// Entries of a term come from one leader, so that of this term that ends here is the one.
Group::Fate Group::fate(Position end, raft::Term term) const {
    if (core_->end() < end) return Fate::kLost;
    if (!core_->terms().knows(end)) return Fate::kUnknown;
    if (core_->terms().term_before(end) != term) return Fate::kLost;
    return end <= core_->commit() ? Fate::kCommitted : Fate::kUnknown;
}

Task<Result<void>> Group::read_barrier(runtime::WaitOptions options) {
    const auto inside = gate_.try_enter();
    if (!inside || out_of_service()) co_return not_leader();
    Read read;
    read.id = next_read_++;
    reads_.push_back(read);
    const raft::RequestStatus status =
        call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
            return core.read_index(read.id, now, out);
        });
    Result<void> result = to_result(status);
    while (result && !read.confirmed) result = co_await read.changed.wait(options);
    read.unlink();
    co_await try_(std::move(result));
    if (!*read.confirmed) co_return not_leader();
    co_return Result<void>{};
}

Task<Result<void>> Group::truncate_prefix(int64_t start_offset) {
    const auto inside = gate_.try_enter();
    if (!inside || out_of_service()) co_return not_leader();
    if (start_offset > core_->commit().offset)
        co_return fail(ErrorCode::kOutOfRange, "beyond the high watermark");
    co_await try_(log_.truncate_prefix(start_offset));
    if (closing_ || failed_) co_return not_leader();
    follow_start();
    // The followers hear of it with the next heartbeat.
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.wake(now, out); });
    co_return Result<void>{};
}

// Starts a request of the core's, and waits for its outcome.
template <class Request>
Task<Result<void>> Group::request(IntrusiveList<Outcome>& outcomes, runtime::WaitOptions options,
                                  std::string_view failed, Request request) {
    const auto inside = gate_.try_enter();
    if (!inside || out_of_service()) co_return not_leader();
    Outcome outcome;
    outcomes.push_back(outcome);
    Result<void> result = to_result(call_core(std::move(request)));
    while (result && !outcome.done) result = co_await outcome.changed.wait(options);
    outcome.unlink();
    co_await try_(std::move(result));
    if (!*outcome.done) co_return fail(ErrorCode::kTimedOut, std::string(failed));
    co_return Result<void>{};
}

Task<Result<void>> Group::transfer(raft::NodeId target, runtime::WaitOptions options) {
    // From before the question on: close() waits for who is inside.
    const auto inside = gate_.try_enter();
    if (!inside || out_of_service()) co_return not_leader();
    options.deadline = std::min(options.deadline, Shard::current().now() + kTransferWaitMax);
    runtime::DeadlineStop stop(Instant::never(), options.stop, scope_.stop_token());
    options.stop = stop.token();
    // A replica with a damaged log would not campaign: proposals would wait for nothing.
    const auto able = co_await replicator_.ask_repair(
        target, {.question = RepairQuestion::kMayLead, .log = id()}, options);
    if (!able && able.error().code == ErrorCode::kCorrupt) co_return fail(able.error());
    co_return co_await request(transfers_, options, "leadership was not handed over",
                               [target](raft::Core& core, Instant now, raft::Effects& out) {
                                   return core.transfer(target, now, out);
                               });
}

Task<Result<void>> Group::change_configuration(Configuration target, runtime::WaitOptions options) {
    return request(
        changes_, options, "the members were not changed: ask again",
        [target = std::move(target)](raft::Core& core, Instant now, raft::Effects& out) mutable {
            return core.change_configuration(std::move(target), now, out);
        });
}

void Group::settle(IntrusiveList<Outcome>& outcomes, bool done) {
    outcomes.for_each([done](Outcome& outcome) {
        outcome.done = outcome.done.value_or(done);
        outcome.changed.notify_all();
    });
}

void Group::fail_waiters(const Error& error) {
    committed_.fail_beyond({-1, 0}, error);
    reads_.for_each([](Read& read) {
        read.confirmed = false;
        read.changed.notify_all();
    });
    settle(transfers_, false);
    settle(changes_, false);
}

}  // namespace weir::replication
