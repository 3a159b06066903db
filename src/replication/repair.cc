// A replica whose log is damaged, and how it gets what it lost back from the others:
// docs/decisions/0008-damaged-replicas.md.
//
//   1. It stands for election after all others, and takes over leadership from nobody. If it leads,
//      it hands over to a replica that is in sync and whole.
//   2. It asks the leader whether there are copies enough without its own. The leader reads its own
//   log
//      through first: its damage may be yet to be found, and this copy whole where that one is not.
//   3. It says durably that it lacks what it acknowledged, discards its log, and begins anew as a
//      recovering replica (docs/decisions/0006-relaxed-durability.md): it elects nobody until the
//      leader has sent it all again.
#include <algorithm>

#include "base/check.h"
#include "replication/group_parts.h"
#include "runtime/shard.h"

namespace weir::replication {

using raft::NodeId;
using runtime::Shard;
using runtime::Task;
using runtime::try_;
using storage::Position;

namespace {

constexpr Duration kRetryMin = std::chrono::milliseconds(200);
constexpr Duration kRetryMax = std::chrono::seconds(10);
// Whoever may discard its log has begun to by then, or asks again.
constexpr Duration kDiscardMax = std::chrono::seconds(30);
// How long a log that could be read is taken for whole.
constexpr Duration kWholeMax = std::chrono::seconds(30);
constexpr uint64_t kReadThroughBytes = 1 << 20;
constexpr Duration kQuietWait = std::chrono::milliseconds(5);
constexpr int kQuietTries = 2'000;

std::unexpected<Error> not_yet(std::string why) {
    return fail(ErrorCode::kUnavailable, std::move(why));
}

}  // namespace

std::string Group::ailment() const {
    const auto& damage = log_.damage();
    if (damage) {
        std::string text = damage->offline ? "offline: " : "damaged: ";
        text += damage->reason;
        if (!repair_blocked_.empty()) text += "; not repaired yet: " + repair_blocked_;
        return text;
    }
    if (failed_) return "stopped: it can't go on until the node starts again";
    if (core_ && core_->recovering() && memory_history_ == kHistoryLost)
        return "repair: its log was damaged, and is being fetched from the other replicas";
    if (loss_stops_it())
        return "offline: its journal was damaged, records that were acknowledged may be gone, and "
               "no other replica has them; `weir debug repair --apply` on the stopped node lets it "
               "go on without them";
    if (core_ && core_->recovering() && log_.may_have_lost())
        return "recovery: its journal was damaged, and what it may lack is being fetched from the "
               "other replicas";
    return {};
}

bool Group::loss_stops_it() const {
    if (!log_.may_have_lost() || log_.loss_accepted() || configurations_.empty()) return false;
    const raft::NodeId self = replicator_.options().self;
    const auto& members = configurations_.back().configuration.members;
    return std::ranges::all_of(members, [self](const raft::Member& member) {
        return member.node == self || !(member.voter || member.old_voter);
    });
}

raft::Fitness Group::fitness() const {
    if (loss_stops_it()) return raft::Fitness::kUnable;
    const auto& damage = log_.damage();
    if (!damage) return raft::Fitness::kWhole;
    return damage->offline ? raft::Fitness::kUnable : raft::Fitness::kImpaired;
}

void Group::on_damage() {
    if (out_of_service()) return;
    call_core([this](raft::Core& core, Instant now, raft::Effects& out) {
        core.set_fitness(fitness(), now, out);
    });
    if (log_.damage() && !std::exchange(repairing_, true))
        scope_.spawn(repair(), runtime::WorkClass::kReplication);
}

Task<void> Group::repair() {
    Duration pause = kRetryMin;
    while (log_.damage() && !closing_ && !failed_) {
        const auto step = co_await repair_step();
        if (step) {
            pause = kRetryMin;
            continue;
        }
        std::string why =
            step.error().message.empty() ? step.error().to_string() : step.error().message;
        if (std::exchange(repair_blocked_, why) != why && !closing_)
            Shard::current().log().warn("replication", "a damaged log is not repaired yet",
                                        "log={} reason=\"{}\"", id().v, why);
        if (!co_await runtime::sleep_for(pause, scope_.stop_token())) break;
        pause = std::min(2 * pause, kRetryMax);
    }
    repair_blocked_.clear();
    repairing_ = false;
}

Task<Result<void>> Group::repair_step() {
    const raft::Configuration& members = core_->configuration();
    const auto voters = std::ranges::count_if(
        members.members, [](const raft::Member& member) { return member.voter; });
    if (voters - (members.is_voter(core_->self()) ? 1 : 0) <= 0)
        co_return not_yet("there is no other replica");
    if (core_->role() == raft::Role::kLeader) co_return co_await hand_over();
    const NodeId leader = core_->leader();
    if (leader == raft::kNoNode) co_return not_yet("no leader is known");
    if (!core_->configuration_settled()) co_return not_yet("the group's members are changing");
    co_await try_(co_await replicator_.ask_repair(
        leader, {.question = RepairQuestion::kMayDiscard, .log = id()},
        {.stop = scope_.stop_token()}));
    if (closing_ || failed_ || core_->role() != raft::Role::kFollower || core_->leader() != leader)
        co_return not_yet("the leader changed");
    co_return co_await discard(log_.damage() ? log_.damage()->reason : "");
}

// To a voter that has all, and says that its log is whole.
Task<Result<void>> Group::hand_over() {
    Error last{ErrorCode::kUnavailable, "no other replica is in sync", 0};
    for (const raft::PeerStatus& peer : core_->peers()) {
        if (peer.down || !peer.caught_up || !core_->configuration().is_voter(peer.node)) continue;
        auto done = co_await transfer(peer.node, {.stop = scope_.stop_token()});
        if (done) co_return done;
        last = std::move(done).error();
        if (closing_ || failed_ || core_->role() != raft::Role::kLeader) break;
    }
    co_return fail(std::move(last));
}

// What is under way and tells this core its end.
bool Group::is_busy() const {
    return saving_ || inbox_running_ || installing_ || saving_configuration_ ||
           saving_memory_history_ || start_moving_ || truncations_ > 0 || visits_ > 0;
}

Task<bool> Group::wait_idle() {
    for (int i = 0; is_busy() && i < kQuietTries && !closing_ && !failed_; ++i)
        (void)co_await runtime::sleep_for(kQuietWait, scope_.stop_token());
    co_return !is_busy() && !closing_ && !failed_;
}

// A log that takes no appends goes on without what came last: the core begins anew from it, as
// after a restart. Any other failure ends the replica's part.
void Group::append_failed(std::string_view what, const Error& error) {
    const auto& damage = log_.damage();
    if (!damage || !damage->offline) return give_up(what, error);
    if (!std::exchange(rebuilding_, true)) scope_.spawn(reopen());
}

Task<void> Group::reopen() {
    const bool is_idle = co_await wait_idle();
    rebuilding_ = false;
    if (closing_ || failed_) co_return;
    if (!is_idle) {
        give_up("a replica with a damaged log does not come to rest",
                Error{ErrorCode::kCorrupt, ailment(), 0});
        co_return;
    }
    drop_configurations_from(log_.end());
    fail_waiters(Error{ErrorCode::kUnavailable, "the log takes no appends", 0});
    restart_core();
    on_damage();
}

Task<Result<void>> Group::discard(std::string reason) {
    if (rebuilding_) co_return not_yet("the replica begins anew");
    rebuilding_ = true;
    const bool is_idle = co_await wait_idle();
    auto done = is_idle ? co_await begin_anew(std::move(reason))
                        : Result<void>(not_yet("the replica is busy"));
    rebuilding_ = false;
    if (closing_ || failed_) co_return not_yet("the replica is closing");
    if (done) {
        restart_core();
    } else {
        // Its timers ran out unheard.
        call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.tick(now, out); });
    }
    co_return done;
}

// The last configuration known to be committed.
std::optional<raft::Configuration> Group::committed_members() const {
    if (!first_stays_) return std::nullopt;
    return configurations_.front().configuration;
}

// Where all voters together had lost what was committed, one of them was elected by all
// (docs/decisions/0006-relaxed-durability.md, 4). No voter that lives knows more to be committed
// than the new leader has: its log was one of those that the longest was chosen from. A learner's
// was not. Nobody counts on its log, so it discards it, and gets the leader's.
bool Group::contradicted(raft::NodeId leader) {
    const bool may_lose = relaxed_ || memory_history_ != 0;
    const auto members = committed_members();
    if (!may_lose || core_->leader() != leader || (members && members->is_voter(core_->self())))
        return false;
    if (!std::exchange(repairing_, true))
        scope_.spawn(discard_contradicted(), runtime::WorkClass::kReplication);
    return true;
}

Task<void> Group::discard_contradicted() {
    (void)co_await discard("what it holds as committed was lost by all voters");
    repairing_ = false;
}

// The members are committed, and no entry of this log tells of them any more.
Task<Result<void>> Group::begin_anew(std::string reason) {
    const Position start{log_.start_offset(), 0};
    std::optional<raft::ConfigurationAt> kept;
    if (auto members = committed_members()) kept = {start, std::move(*members)};
    const uint64_t before = memory_history_;
    memory_history_ = kHistoryLost;
    // 1. It says that it may lack what it acknowledged.  2. The log begins anew.  A crash in
    // between finds a replica that asks its leader what it lacks, and lacks nothing but what is
    // damaged.
    auto done = co_await log_.save_group_config(encode_kept_with(kept));
    if (!done) {
        memory_history_ = before;
        co_return done;
    }
    memory_history_durable_ = kHistoryLost;
    const raft::TermTable& terms = core_->terms();
    const raft::Term below = terms.knows(start) ? terms.term_before(start) : 0;
    done = co_await when_there_is_room([&] { return log_.start_anew(start.offset, below); });
    if (closing_ || failed_) co_return not_yet("the replica is closing");
    if (done) done = machine_.recover({}, start, {});
    if (!done) {
        give_up("a damaged log can't be replaced", done.error());
        co_return done;
    }
    configurations_.clear();
    if (kept) configurations_.push_back(*kept);
    first_stays_ = kept.has_value();
    saved_configuration_at_ = kept ? start : Position{-1, 0};
    covered_ = {};
    start_wanted_ = start.offset;
    backlog_end_ = {};
    ++replicator_.metrics_.logs_discarded;
    Shard::current().log().warn(
        "replication", "a log is discarded, and fetched again from the other replicas",
        "log={} leader={} reason=\"{}\"", id().v, core_->leader().v, reason);
    co_return done;
}

void Group::restart_core() {
    raft::CoreStart at;
    at.self = core_->self();
    at.hard_state = log_.hard_state();
    CHECK(at.hard_state.term == core_->term());
    at.start = {log_.start_offset(), 0};
    at.end = log_.end();
    at.commit = std::max(at.start, std::min(core_->commit(), at.end));
    for (const storage::TermStart& row : log_.terms()) at.terms.push_back({row.term, row.first});
    at.configurations = configurations_;
    if (!first_stays_) at.configurations.emplace(at.configurations.begin());
    at.joins = configurations_.empty();
    at.joined_by = joined_by_;
    at.seed = Shard::current().prng().next();
    at.recovering = memory_history_ == kHistoryLost || core_->recovering();
    at.terms_lost = core_->asking_terms();
    at.fitness = fitness();
    core_.emplace(replicator_.options().raft, std::move(at));
    uncommitted_.move_to(core_->commit().offset);
    start();
    machine_.on_role();
    machine_.on_commit();
}

Task<void> Group::confirm_whole() {
    while (!closing_ && !failed_ && log_.may_have_lost()) {
        if (const auto done = co_await log_.confirm_whole(); done) break;
        // A full disk, for example: asked again at the next start if it stays so.
        if (!co_await runtime::sleep_for(kRetryMax, scope_.stop_token())) break;
    }
}

// What can't be read is damage, which the log finds by that (Log::damage()).
Task<void> Group::read_through() {
    Position at{log_.start_offset(), 0};
    Result<void> whole;
    while (whole && !closing_ && !failed_ && at < core_->commit()) {
        at = std::max(at, Position{log_.start_offset(), 0});
        const auto read = co_await log_.read_entries(
            at, {.end = core_->commit(), .bytes_max = kReadThroughBytes}, scope_.stop_token());
        if (!read)
            whole = fail(read.error());
        else if (read->empty())
            break;
        else
            at = read->back().info.end();
        co_await runtime::yield();
    }
    reading_through_ = false;
    if (whole && !closing_ && !failed_) whole_until_ = runtime::Shard::current().now() + kWholeMax;
}

// ---------------------------------------------------------- what other replicas ask

Result<void> Group::may_lead() const {
    if (const auto& damage = log_.damage()) return fail(ErrorCode::kCorrupt, damage->reason);
    if (out_of_service()) return fail(ErrorCode::kCorrupt, "the replica is out of service");
    if (core_->recovering())
        return fail(ErrorCode::kCorrupt, "the replica may lack what it acknowledged");
    return {};
}

// Without that replica, what is committed must be durable on a majority, or on all others where
// those are fewer; and one replica discards its log at a time.
Result<void> Group::may_discard(NodeId asking) {
    if (out_of_service() || !core_->leader_ready()) return not_leader();
    TRY(may_lead());
    const raft::Configuration& members = core_->configuration();
    if (!core_->configuration_settled() || members.find(asking) == nullptr)
        return not_yet("the group's members are changing");
    const Instant now = Shard::current().now();
    if (discarding_ != asking && now < discarding_until_)
        return not_yet("another replica of the group is being repaired");
    size_t voters = 0;
    size_t copies = 0;
    const std::vector<raft::PeerStatus> peers = core_->peers();
    for (const raft::Member& member : members.members) {
        if (!member.voter) continue;
        ++voters;
        if (member.node == asking) continue;
        const auto peer = std::ranges::find(peers, member.node, &raft::PeerStatus::node);
        const bool self = member.node == core_->self();
        if (self || (peer != peers.end() && !peer->down && peer->match >= core_->commit()))
            ++copies;
    }
    const size_t others = voters - (members.is_voter(asking) ? 1 : 0);
    if (copies < std::min(voters / 2 + 1, others))
        return not_yet("too few other replicas have what is committed");
    if (now >= whole_until_) {
        if (!std::exchange(reading_through_, true))
            scope_.spawn(read_through(), runtime::WorkClass::kBackground);
        return not_yet("the leader reads its own log through first");
    }
    discarding_ = asking;
    discarding_until_ = now + kDiscardMax;
    return {};
}

Result<void> Group::answer_repair(NodeId from, RepairQuestion question) {
    return question == RepairQuestion::kMayLead ? may_lead() : may_discard(from);
}

}  // namespace weir::replication
