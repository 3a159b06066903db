// A replica that is too far behind for entries alone: how its leader sends it a snapshot, and how
// it installs one.
#include <utility>

#include "replication/group_parts.h"

namespace weir::replication {

using runtime::Task;
using storage::Position;

Task<Result<void>> Group::on_snapshot_message(raft::NodeId from, Snapshot snapshot) {
    if (out_of_service()) co_return fail(ErrorCode::kUnavailable);
    const Visit visit(*this);
    if (snapshot.install.head.start.ordinal != 0)
        co_return fail(ErrorCode::kUnsupported, "a snapshot that starts between control entries");
    const raft::Verdict verdict = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.step(from, std::move(snapshot.install), now, out, vouched(from));
    });
    count(verdict, from);
    if (verdict == raft::Verdict::kStranger)
        co_return fail(ErrorCode::kUnavailable, "the sender does not belong to the group");
    if (verdict == raft::Verdict::kInvalid) co_return fail(ErrorCode::kMalformed);
    if (!install_) co_return Result<void>{};  // stale, or what it holds is here
    const raft::SnapshotHead head = *std::exchange(install_, std::nullopt);
    snapshot.install.head = head;
    const raft::Term term = head.terms.empty() ? 0 : head.terms.back().term;
    // Until it is installed the core has the old log before it.
    installing_ = true;
    // 1. Checkpoints hold the snapshot's state beside the old one.  2. The log begins anew: a crash
    // finds both steps done, or the old log.  3. The snapshot's state is the group's.
    pending_ = &snapshot;
    auto done =
        co_await when_there_is_room([this] { return replicator_.options().store->checkpoint(); });
    if (done && (closing_ || failed_)) done = fail(ErrorCode::kUnavailable);
    if (done) {
        done =
            co_await when_there_is_room([&] { return log_.start_anew(head.start.offset, term); });
    }
    if (done) {
        configurations_ = {{head.start, head.configuration}};
        first_stays_ = true;
        covered_ = snapshot.state_end;
        done = machine_.recover(snapshot.state, snapshot.state_end, {});
    }
    pending_ = nullptr;
    if (done) {
        done = co_await when_there_is_room(
            [this] { return log_.save_group_config(encode_kept_with(configurations_.front())); });
    }
    if (!done) {
        if (!closing_) give_up("a snapshot can't be installed", done.error());
        co_return done;
    }
    saved_configuration_at_ = head.start;
    if (closing_ || failed_) co_return fail(ErrorCode::kUnavailable);
    ++replicator_.metrics_.snapshots_installed;
    installing_ = false;
    call_core(
        [](raft::Core& core, Instant now, raft::Effects& out) { core.on_installed(now, out); });
    uncommitted_.move_to(core_->commit().offset);
    co_return Result<void>{};
}

Task<void> Group::send_snapshot(raft::NodeId to) {
    follow_start();
    Position start = core_->snapshot_start_min();
    // The log may begin within an entry.
    auto first = co_await log_.read_entries({log_.start_offset(), 0}, {.entries_max = 1},
                                            scope_.stop_token());
    if (closing_ || failed_) co_return;
    bool ready = first.has_value();
    if (ready && !first->empty() && first->front().info.first < start &&
        start < first->front().info.end())
        start = first->front().info.end();
    Snapshot snapshot;
    const raft::Term term = core_->term();
    if (ready) {
        // What the state covers must be committed before another replica takes it for such. The
        // commit may need that very replica, so a state that can be taken back goes at once.
        storage::CapturedState captured = machine_.capture();
        snapshot.state = std::move(captured.bytes);
        const Position commit = core_->commit();
        if (captured.floor_offset >= 0 && captured.floor_offset <= commit.offset) {
            snapshot.state_end = commit;
        } else {
            snapshot.state_end = log_.end();
            ready = (co_await wait_committed(snapshot.state_end, term)).has_value();
        }
        if (closing_ || failed_) co_return;
    }
    ready = ready && core_->role() == raft::Role::kLeader && start <= core_->commit() &&
            core_->snapshot_start_min() <= start && start.ordinal == 0;
    bool delivered = false;
    if (ready) {
        snapshot.log = id();
        snapshot.install.term = term;
        snapshot.install.head = core_->snapshot_head(start);
        if (held_) co_return;
        ++replicator_.metrics_.snapshots_sent;
        const auto sent = co_await replicator_.call_snapshot(to, encode_snapshot(snapshot), id());
        if (closing_ || failed_) co_return;
        delivered = sent.has_value();
    }
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_snapshot_sent(to, delivered, now, out);
    });
}

}  // namespace weir::replication
