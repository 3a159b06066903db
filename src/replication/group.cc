#include "replication/group.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "base/check.h"
#include "replication/replicator.h"
#include "runtime/shard.h"

namespace weir::replication {

using raft::Configuration;
using runtime::Shard;
using runtime::SharedBytes;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;
using storage::EntryInfo;
using storage::EntryKind;
using storage::Position;

namespace {

// Of an append, what a follower asks its log to admit at once.
constexpr size_t kEntriesAdmittedMax = 16;
constexpr uint64_t kBytesAdmittedMax = 32 << 10;
constexpr Duration kTransferWaitMax = std::chrono::seconds(10);
// While the disk has taken nothing of a relaxed log for so long, what is in memory alone counts no
// more: so nothing is acknowledged that waits for twice as long already.
constexpr Duration kMemoryAgeMax = std::chrono::milliseconds(500);
constexpr Duration kSaveRetry = std::chrono::seconds(1);
constexpr Duration kRoomRetry = std::chrono::milliseconds(200);
// What a checkpoint holds of a group begins with this; what is older than groups does not.
constexpr uint8_t kStateMagic = 0xc1;
constexpr uint8_t kStateVersion = 1;

std::unexpected<Error> not_leader() {
    return fail(ErrorCode::kUnavailable, "this replica does not lead its group");
}

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

uint32_t control_summary(size_t payload) {
    return static_cast<uint32_t>(std::min<size_t>(payload, storage::kSummaryBytesMax));
}

}  // namespace

struct Group::Read : ListHook {
    uint64_t id = 0;
    std::optional<bool> confirmed;
    runtime::WaitQueue changed;
};

// A request of another node that is inside. Its frame belongs to the endpoint, which outlives the
// group when the simulator kills the node: then nothing of the group may be touched.
struct Group::Visit {
    explicit Visit(Group& group) : group(group) { ++group.visits_; }
    ~Visit() {
        if (Shard::current().dying()) return;
        if (--group.visits_ == 0) group.visits_over_.notify_all();
    }
    Group& group;
};

Group::Group(Replicator& replicator, storage::Log& log, StateMachine& machine)
    : replicator_(replicator), log_(log), machine_(machine) {}

Group::~Group() = default;

// Runs one call of the core and carries out what it wants done.
template <class Call>
auto Group::call_core(Call call, std::vector<storage::Entry>* entries) {
    CHECK(!replicator_.calling_);
    replicator_.calling_ = true;
    raft::Effects& effects = replicator_.effects_;
    effects.clear();
    using R = std::invoke_result_t<Call&, raft::Core&, Instant, raft::Effects&>;
    const Instant now = Shard::current().now();
    if constexpr (std::is_void_v<R>) {
        call(*core_, now, effects);
        carry_out(effects, entries);
        replicator_.calling_ = false;
        replicator_.schedule(*this);
    } else {
        R result = call(*core_, now, effects);
        carry_out(effects, entries);
        replicator_.calling_ = false;
        replicator_.schedule(*this);
        return result;
    }
}

// ------------------------------------------------------------------- open

Task<Result<void>> Group::open(Beginning beginning) {
    storage::RecoveredState recovered = log_.take_recovered();
    Bytes state = recovered.state;
    if (!state.empty() && state[0] == kStateMagic) {
        ByteReader in(state);
        in.skip(1);
        if (in.read_u8() != kStateVersion)
            co_return fail(ErrorCode::kUnsupported, "a group's state of an unknown version");
        covered_ = read_position(in);
        const uint8_t count = in.read_u8();
        for (uint8_t i = 0; i < count; ++i) {
            const Position at = read_position(in);
            Configuration configuration = co_await try_(read_configuration(in));
            // What was cut off since does not count.
            if (at < recovered.state_end) note_configuration(at, std::move(configuration));
        }
        if (in.read_u8() != 0) {
            const Position start = read_position(in);
            Configuration configuration = co_await try_(read_configuration(in));
            const Position state_end = read_position(in);
            const Bytes pending = in.read_bytes(in.read_unsigned_varint());
            if (in.ok() && start.offset <= log_.start_offset()) {
                // The log began anew with this snapshot since, or came as far without it: what it
                // holds was committed, so it is right either way.
                configurations_ = {{start, std::move(configuration)}};
                first_stays_ = true;
                covered_ = state_end;
                in = ByteReader(pending);
            }
        }
        if (!in.ok()) co_return fail(ErrorCode::kCorrupt, "a group's state does not parse");
        state = in.read_bytes(in.remaining());
    }
    if (!log_.group_config().empty()) {
        auto kept = decode_kept(log_.group_config());
        if (!kept) co_return fail(ErrorCode::kCorrupt, "a group's configuration");
        memory_history_ = memory_history_durable_ = kept->memory_history;
        if (kept->configuration) {
            raft::ConfigurationAt& saved = *kept->configuration;
            saved_configuration_at_ = saved.at;
            first_stays_ = true;
            if (configurations_.empty() || configurations_.back().at < saved.at)
                configurations_ = {std::move(saved)};
        }
    }
    if (configurations_.empty() && !beginning.founders.members.empty()) {
        // Kept before it counts: no entry tells it, so that a replica which took part could forget
        // whom with.
        raft::ConfigurationAt founders{{0, 0}, std::move(beginning.founders)};
        co_await try_(co_await log_.save_group_config(encode_kept_with(founders)));
        saved_configuration_at_ = founders.at;
        configurations_.push_back(std::move(founders));
        first_stays_ = true;
    }
    std::vector<storage::RecoveredState::Replayed> data;
    for (auto& entry : recovered.entries) {
        if (entry.info.kind == EntryKind::kControl) {
            auto configuration = co_await try_(decode_control(entry.summary));
            if (configuration &&
                (configurations_.empty() || configurations_.back().at < entry.info.first))
                note_configuration(entry.info.first, std::move(*configuration));
        } else if (!(entry.info.end() <= covered_)) {
            data.push_back(std::move(entry));
        }
    }
    co_await try_(
        machine_.recover(state, std::max(recovered.state_end, covered_), std::move(data)));

    raft::CoreStart start;
    start.self = replicator_.options().self;
    start.hard_state = log_.hard_state();
    start.hard_state.term = std::max(start.hard_state.term, log_.last_term());
    if (start.hard_state.term != log_.hard_state().term) start.hard_state.voted_for = -1;
    start.start = {log_.start_offset(), 0};
    start.end = log_.end();
    start.commit = start.start;
    for (const storage::TermStart& row : log_.terms()) start.terms.push_back({row.term, row.first});
    start.configurations = configurations_;
    if (!first_stays_) start.configurations.emplace(start.configurations.begin());
    start.joins = beginning.joins;
    start.seed = Shard::current().prng().next();
    start.recovering = memory_history_ != 0 && memory_history_ != store_history();
    core_.emplace(replicator_.options().raft, std::move(start));
    log_.keep_from(core_->commit().offset);
    log_.set_state_provider([this] { return capture(); });
    log_.on_durable([this] { on_durable(); });
    co_return Result<void>{};
}

void Group::start() {
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.start(now, out); });
}

Task<void> Group::close() {
    closing_ = true;
    fail_waiters(Error{ErrorCode::kUnavailable, "the replica is closing", 0});
    log_.on_durable({});
    log_.set_state_provider({});
    inbox_.clear();
    co_await scope_.close();
    co_await gate_.close();
    while (visits_ > 0) (void)co_await visits_over_.wait();
}

storage::CapturedState Group::capture() {
    storage::CapturedState state = machine_.capture();
    ByteWriter out;
    out.write_u8(kStateMagic);
    out.write_u8(kStateVersion);
    append_position(out, covered_);
    out.write_u8(static_cast<uint8_t>(configurations_.size()));
    for (const raft::ConfigurationAt& each : configurations_) {
        append_position(out, each.at);
        append_configuration(out, each.configuration);
    }
    out.write_u8(pending_ != nullptr ? 1 : 0);
    if (pending_ != nullptr) {
        append_position(out, pending_->install.head.start);
        append_configuration(out, pending_->install.head.configuration);
        append_position(out, pending_->state_end);
        out.write_unsigned_varint(static_cast<uint32_t>(pending_->state.size()));
        out.write_bytes(pending_->state);
    }
    out.write_bytes(state.bytes);
    // With a snapshot under way these bytes outlive even the cut of the whole log.
    if (pending_ != nullptr) return {out.flatten(), 0};
    const int64_t floor =
        state.floor_offset < 0 ? -1 : std::max(state.floor_offset, core_->commit().offset);
    return {out.flatten(), floor};
}

// ---------------------------------------------------------------- the core

void Group::carry_out(raft::Effects& effects, std::vector<storage::Entry>* entries) {
    if (effects.truncate_to) scope_.spawn(truncate(*effects.truncate_to));
    if (effects.install) install_ = std::move(effects.install);
    for (size_t i = effects.append_begin; i < effects.append_end; ++i) {
        storage::Entry& entry = (*entries)[i];
        const EntryInfo info = entry.info;
        if (info.kind == EntryKind::kControl) {
            auto configuration = decode_control(entry.payload.bytes());
            CHECK(configuration.has_value());  // take_one() looked
            if (*configuration) note_configuration(info.first, std::move(**configuration));
        }
        const SharedBytes payload = entry.payload;
        if (auto appended = append_to_log(std::move(entry)); !appended) {
            give_up("an entry can't be appended", appended.error());
            return;
        }
        if (info.kind == EntryKind::kData && !(info.end() <= covered_)) {
            const size_t summary = std::min<size_t>(machine_.summary_bytes(), payload.size());
            machine_.on_append(info, payload.bytes().first(summary));
        }
    }
    for (const raft::ControlEntry& control : effects.control) append_control(control);
    if (effects.save) {
        to_save_ = *effects.save;
        if (!std::exchange(saving_, true)) scope_.spawn(save_hard_state());
    }
    for (raft::Outgoing& outgoing : effects.messages) {
        if (held_) break;
        replicator_.send(outgoing.to, {.log = id(),
                                       .start_offset = log_.start_offset(),
                                       .message = std::move(outgoing.message)});
    }
    for (const raft::SendEntries& work : effects.entries) scope_.spawn(send_entries(work));
    for (const raft::NodeId to : effects.snapshots) scope_.spawn(send_snapshot(to));
    if (effects.commit) on_commit_moved();
    if (effects.elected_by_all) {
        ++replicator_.metrics_.elections_by_all;
        Shard::current().log().warn(
            "replication",
            "a majority of replicas stopped without flushing what they had acknowledged from "
            "memory: the longest log that is left counts, and what came after it is lost",
            "log={} term={} end={}", id().v, core_->term(), log_.end().offset);
    }
    if (effects.recovered) {
        ++replicator_.metrics_.recoveries;
        tend_memory_history();
    }
    if (effects.role) {
        if (effects.role->role != raft::Role::kLeader || effects.role->term != waiting_term_) {
            committed_.fail_beyond(core_->commit(),
                                   Error{ErrorCode::kUnavailable, "the leader changed", 0});
        }
        waiting_term_ = effects.role->term;
        if (effects.role->role == raft::Role::kLeader) {
            ++replicator_.metrics_.elections_won;
            if (core_->configuration().members.size() > 1) scope_.spawn(note_down_peers());
        }
        machine_.on_role();
    }
    for (const raft::ReadReady& ready : effects.reads) {
        reads_.for_each([&](Read& read) {
            if (read.id != ready.id) return;
            read.confirmed = ready.confirmed;
            read.changed.notify_all();
        });
    }
    if (effects.change_done) {
        change_.done = effects.change_done;
        change_.changed.notify_all();
    }
    if (effects.transfer_done) {
        transfer_.done = effects.transfer_done;
        transfer_.changed.notify_all();
    }
}

Result<void> Group::append_to_log(storage::Entry entry) {
    entry.summary_bytes = entry.info.kind == EntryKind::kControl
                              ? control_summary(entry.payload.size())
                              : static_cast<uint32_t>(std::min<size_t>(machine_.summary_bytes(),
                                                                       entry.payload.size()));
    if (relies_on_memory() && !std::exchange(relying_, true)) scope_.spawn(rely_on_memory());
    return log_.append(std::move(entry));
}

void Group::append_control(const raft::ControlEntry& control) {
    storage::Entry entry;
    entry.info = control.info;
    entry.payload = SharedBytes::copy_of(encode_control(control));
    if (control.kind == raft::ControlKind::kConfiguration)
        note_configuration(control.info.first, control.configuration);
    if (auto appended = append_to_log(std::move(entry)); !appended)
        give_up("a control entry can't be appended", appended.error());
}

void Group::on_durable() {
    if (closing_ || failed_) return;
    call_core([end = relied_on()](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_durable(end, now, out);
    });
}

// ------------------------------------------------------------ what is in memory

// How far this replica's log counts.
Position Group::relied_on() {
    const Position durable = log_.durable_end();
    if (!relies_on_memory()) return durable;
    const Instant now = Shard::current().now();
    if (durable >= backlog_end_) {
        backlog_end_ = log_.end();
        backlog_since_ = now;
    }
    if (now - backlog_since_ > kMemoryAgeMax) return durable;
    // Who votes with whom is never forgotten.
    for (const raft::ConfigurationAt& each : configurations_) {
        if (each.at >= durable) return std::max(durable, each.at);
    }
    return log_.end();
}

// After the step that appended: what is committed by it may be told to those who did.
Task<void> Group::rely_on_memory() {
    relying_ = false;
    on_durable();
    co_return;
}

void Group::set_relaxed(bool relaxed) {
    relaxed_ = relaxed;
    if (!closing_ && !failed_) tend_memory_history();
}

uint64_t Group::store_history() const {
    const storage::Store* store = replicator_.options().store;
    return store == nullptr ? 0 : store->history();
}

std::vector<uint8_t> Group::encode_kept_with(
    std::optional<raft::ConfigurationAt> configuration) const {
    return encode_kept(
        {.configuration = std::move(configuration), .memory_history = memory_history_});
}

// What must be kept beside the log: this history, before anything is acknowledged from memory, and
// again when what an unclean stop lost has come back; none once all that was acknowledged so is
// flushed. While this replica recovers, the old one says so.
void Group::tend_memory_history() {
    const bool due =
        relaxed_ ? memory_history_durable_ != store_history() : memory_history_durable_ != 0;
    if (due && !core_->recovering() && !std::exchange(saving_memory_history_, true))
        scope_.spawn(save_memory_history());
}

Task<void> Group::save_memory_history() {
    while (!closing_ && !failed_ && !core_->recovering()) {
        if (!relaxed_ && memory_history_durable_ != 0 && log_.durable_end() < log_.end()) {
            const auto durable = co_await log_.wait_durable(log_.end());
            // The end was cut off, or the store failed.
            if (!durable && !co_await runtime::sleep_for(kSaveRetry, scope_.stop_token())) break;
            continue;
        }
        const uint64_t wanted = relaxed_ ? store_history() : 0;
        if (wanted == memory_history_durable_) break;
        const uint64_t before = memory_history_durable_;
        if (wanted == 0) memory_history_durable_ = 0;
        memory_history_ = wanted;
        KeptConfig kept;
        if (!log_.group_config().empty()) {
            auto decoded = decode_kept(log_.group_config());
            CHECK(decoded.has_value());  // it was written here, or open() looked
            kept = std::move(*decoded);
        }
        if (co_await log_.save_group_config(encode_kept_with(std::move(kept.configuration)))) {
            memory_history_durable_ = wanted;
            continue;
        }
        // A full disk, for example.
        memory_history_ = memory_history_durable_ = before;
        if (!co_await runtime::sleep_for(kSaveRetry, scope_.stop_token())) break;
    }
    saving_memory_history_ = false;
    if (!closing_ && !failed_) on_durable();
}

void Group::on_commit_moved() {
    const Position commit = core_->commit();
    log_.keep_from(commit.offset);
    // The last committed configuration stays, and those that may still go.
    size_t committed = 0;
    while (committed + 1 < configurations_.size() && configurations_[committed + 1].at < commit)
        ++committed;
    configurations_.erase(configurations_.begin(),
                          configurations_.begin() + static_cast<ptrdiff_t>(committed));
    if (!configurations_.empty() && configurations_.front().at < commit) {
        first_stays_ = true;
        if (configurations_.front().at > saved_configuration_at_ &&
            !std::exchange(saving_configuration_, true))
            scope_.spawn(save_configuration());
    }
    committed_.reach(commit);
    follow_leaders_start();
    machine_.on_commit();
}

void Group::note_configuration(Position at, Configuration configuration) {
    configurations_.push_back({at, std::move(configuration)});
}

void Group::drop_configurations_from(Position end) {
    const size_t staying = first_stays_ ? 1 : 0;
    while (configurations_.size() > staying && configurations_.back().at >= end)
        configurations_.pop_back();
}

void Group::give_up(std::string_view what, const Error& error) {
    if (std::exchange(failed_, true)) return;
    Shard::current().log().error("replication", what, "log={} error=\"{}\"", id().v,
                                 error.to_string());
    fail_waiters(error);
}

void Group::fail_waiters(const Error& error) {
    committed_.fail_beyond({-1, 0}, error);
    reads_.for_each([](Read& read) {
        read.confirmed = false;
        read.changed.notify_all();
    });
    for (Outcome* outcome : {&transfer_, &change_}) {
        if (!outcome->done) outcome->done = false;
        outcome->changed.notify_all();
    }
}

void Group::follow_leaders_start() {
    if (start_wanted_ > core_->commit().offset) return;
    const int64_t start = std::min(start_wanted_, machine_.start_max());
    if (start > log_.start_offset() && !std::exchange(start_moving_, true))
        scope_.spawn(truncate_start(start));
}

// A retention pass moved the start.
void Group::follow_start() {
    if (installing_ || log_.start_offset() <= core_->log_start().offset) return;
    call_core([start = Position{log_.start_offset(), 0}](raft::Core& core, Instant now,
                                                         raft::Effects& out) {
        core.on_prefix_truncated(start, now, out);
    });
}

// ------------------------------------------------------------- what its owner asks

Task<Result<void>> Group::admit(uint64_t bytes, StopToken stop) {
    if (closing_ || failed_ || core_->may_propose() != raft::ProposeStatus::kOk)
        co_return not_leader();
    co_return co_await log_.admit(bytes, stop);
}

Result<EntryInfo> Group::append(storage::Entry entry) {
    if (closing_ || failed_ || core_->may_propose() != raft::ProposeStatus::kOk)
        return not_leader();
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
    if (!inside || closing_ || failed_) co_return not_leader();
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
    if (!inside || closing_ || failed_) co_return not_leader();
    if (start_offset > core_->commit().offset)
        co_return fail(ErrorCode::kOutOfRange, "beyond the high watermark");
    co_await try_(log_.truncate_prefix(start_offset));
    if (closing_ || failed_) co_return not_leader();
    follow_start();
    // The followers hear of it with the next heartbeat.
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.wake(now, out); });
    co_return Result<void>{};
}

Task<Result<void>> Group::transfer(raft::NodeId target) {
    const auto inside = gate_.try_enter();
    if (!inside || closing_ || failed_) co_return not_leader();
    transfer_.done.reset();
    const raft::RequestStatus status =
        call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
            return core.transfer(target, now, out);
        });
    co_await try_(to_result(status));
    const Instant deadline = Shard::current().now() + kTransferWaitMax;
    while (!transfer_.done) co_await try_(co_await transfer_.changed.wait({.deadline = deadline}));
    if (!*transfer_.done) co_return fail(ErrorCode::kTimedOut, "leadership was not handed over");
    co_return Result<void>{};
}

Task<Result<void>> Group::change_configuration(Configuration target) {
    const auto inside = gate_.try_enter();
    if (!inside || closing_ || failed_) co_return not_leader();
    change_.done.reset();
    const raft::RequestStatus status =
        call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
            return core.change_configuration(std::move(target), now, out);
        });
    co_await try_(to_result(status));
    while (!change_.done) co_await try_(co_await change_.changed.wait({}));
    if (!*change_.done)
        co_return fail(ErrorCode::kTimedOut, "the members were not changed: ask again");
    co_return Result<void>{};
}

// ------------------------------------------------------------- what comes from outside

void Group::tick(Instant) {
    if (closing_ || failed_) return;
    follow_start();
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.tick(now, out); });
}

void Group::take(raft::NodeId from, const GroupMessage& message) {
    if (closing_ || failed_ || held_) return;
    const raft::Verdict verdict = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.step(from, message.message, now, out);
    });
    if (verdict == raft::Verdict::kInvalid) ++replicator_.metrics_.messages_malformed;
    if (core_->leader() == from && verdict == raft::Verdict::kTaken) {
        start_wanted_ = std::max(start_wanted_, message.start_offset);
        follow_leaders_start();
    }
}

void Group::take_append(raft::NodeId from, SharedBytes body) {
    if (closing_ || failed_ || held_) return;
    if (!inbox_.empty() && inbox_bytes_ + body.size() > replicator_.options().inbox_bytes_max) {
        ++replicator_.metrics_.appends_dropped;  // its leader sends it again
        return;
    }
    inbox_bytes_ += body.size();
    inbox_.push_back({from, std::move(body)});
    if (!std::exchange(inbox_running_, true))
        scope_.spawn(run_inbox(), runtime::WorkClass::kReplication);
}

Task<void> Group::run_inbox() {
    while (!inbox_.empty() && !closing_ && !failed_) {
        InboxItem item = std::move(inbox_.front());
        inbox_.pop_front();
        inbox_bytes_ -= item.body.size();
        co_await take_one(std::move(item));
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    inbox_running_ = false;
}

Task<void> Group::take_one(InboxItem item) {
    auto append = decode_append(item.body);
    if (!append) {
        ++replicator_.metrics_.messages_malformed;
        co_return;
    }
    std::vector<raft::EntryView> views;
    std::vector<std::optional<Configuration>> configurations(append->entries.size());
    views.reserve(append->entries.size());
    for (size_t i = 0; i < append->entries.size(); ++i) {
        const storage::Entry& entry = append->entries[i];
        if (entry.info.kind == EntryKind::kControl) {
            auto control = decode_control(entry.payload.bytes());
            if (!control) {
                ++replicator_.metrics_.messages_malformed;
                co_return;
            }
            configurations[i] = std::move(*control);
        }
        views.push_back({entry.info, configurations[i] ? &*configurations[i] : nullptr});
    }
    // In parts: what is admitted has to be appended before more is, or it waits for itself.
    size_t begin = 0;
    do {
        size_t end = begin;
        uint64_t bytes = 0;
        while (end < views.size() && end - begin < kEntriesAdmittedMax &&
               (end == begin || bytes + append->entries[end].payload.size() <= kBytesAdmittedMax)) {
            bytes += append->entries[end].payload.size();
            ++end;
        }
        // Back-pressure: what the leader sends beyond its window waits there.
        const auto admitted = co_await log_.admit(bytes, scope_.stop_token());
        if (closing_ || failed_) co_return;
        if (!admitted) {
            ++replicator_.metrics_.appends_dropped;
            co_return;
        }
        raft::AppendRequest part = append->request;
        if (begin > 0) {
            part.prev = append->entries[begin].info.first;
            part.prev_term = views[begin - 1].info.term;
        }
        part.entries = std::span(views).subspan(begin, end - begin);
        std::vector<storage::Entry> entries;
        for (size_t i = begin; i < end; ++i) entries.push_back(std::move(append->entries[i]));
        size_t taken = 0;
        const raft::Verdict verdict = call_core(
            [&](raft::Core& core, Instant now, raft::Effects& out) {
                const raft::Verdict stepped = core.step(item.from, raft::Message(part), now, out);
                taken = out.append_end - out.append_begin;
                return stepped;
            },
            &entries);
        if (taken < end - begin) log_.withdraw(bytes);
        if (verdict != raft::Verdict::kTaken) {
            if (verdict == raft::Verdict::kInvalid) ++replicator_.metrics_.messages_malformed;
            co_return;
        }
        begin = end;
    } while (begin < views.size());
    start_wanted_ = std::max(start_wanted_, append->start_offset);
}

Task<Result<void>> Group::take_snapshot(raft::NodeId from, Snapshot snapshot) {
    if (closing_ || failed_) co_return fail(ErrorCode::kUnavailable);
    const Visit visit(*this);
    if (snapshot.install.head.start.ordinal != 0)
        co_return fail(ErrorCode::kUnsupported, "a snapshot that starts between control entries");
    const raft::Verdict verdict = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.step(from, std::move(snapshot.install), now, out);
    });
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
    log_.keep_from(core_->commit().offset);
    co_return Result<void>{};
}

void Group::peer_up(raft::NodeId node) {
    if (closing_ || failed_ || core_->configuration().find(node) == nullptr) return;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_peer_up(node, now, out);
    });
}

void Group::peer_down(raft::NodeId node) {
    if (closing_ || failed_ || core_->configuration().find(node) == nullptr) return;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_connection_lost(node, now, out);
    });
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_peer_down(node, now, out);
    });
}

// ---------------------------------------------------------------- what takes time

// A core knows of a peer that went down only while it leads, and that is often why it does.
Task<void> Group::note_down_peers() {
    if (closing_ || failed_) co_return;
    std::vector<raft::NodeId> down;
    for (const raft::Member& member : core_->configuration().members) {
        if (replicator_.is_down(member.node, id())) down.push_back(member.node);
    }
    for (const raft::NodeId node : down) peer_down(node);
}

// What the log refuses while the disk is full changed nothing: tried until it is done. Until then
// this replica has no part in what waits for it.
template <class Attempt>
Task<Result<void>> Group::when_there_is_room(Attempt attempt) {
    while (true) {
        Result<void> done = co_await attempt();
        if (done || done.error().code != ErrorCode::kDiskFull || closing_ || failed_)
            co_return done;
        if (!co_await runtime::sleep_for(kRoomRetry, scope_.stop_token())) co_return done;
    }
}

Task<void> Group::truncate(Position end) {
    const auto truncated =
        co_await when_there_is_room([this, end] { return log_.truncate_suffix(end); });
    if (closing_ || failed_) co_return;
    if (!truncated) {
        give_up("the log can't be cut", truncated.error());
        co_return;
    }
    // Not before: until then the log still has what the state tells of.
    drop_configurations_from(end);
    machine_.on_truncate(end);
    call_core(
        [](raft::Core& core, Instant now, raft::Effects& out) { core.on_truncated(now, out); });
    on_durable();
}

Task<void> Group::save_hard_state() {
    while (to_save_ && !closing_ && !failed_) {
        const storage::HardState state = *std::exchange(to_save_, std::nullopt);
        const auto saved =
            co_await when_there_is_room([this, state] { return log_.save_hard_state(state); });
        if (closing_ || failed_) break;
        if (!saved) {
            give_up("the vote can't be saved", saved.error());
            break;
        }
        call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
            core.on_saved(state, now, out);
        });
    }
    saving_ = false;
}

Task<void> Group::save_configuration() {
    while (!closing_ && !failed_ && configurations_.front().at > saved_configuration_at_ &&
           configurations_.front().at < core_->commit()) {
        const raft::ConfigurationAt saving = configurations_.front();
        // A full disk: it is in the log and in checkpoints too; the next commit tries again.
        if (!co_await log_.save_group_config(encode_kept_with(saving))) break;
        saved_configuration_at_ = saving.at;
    }
    saving_configuration_ = false;
}

Task<void> Group::send_entries(raft::SendEntries work) {
    follow_start();
    auto read = co_await log_.read_entries(
        work.prev,
        {.end = work.until, .bytes_max = work.bytes_max, .entries_max = raft::kEntriesPerAppendMax},
        scope_.stop_token());
    if (closing_ || failed_) co_return;
    Position end = work.prev;
    uint64_t bytes = 0;
    if (read && !read->empty() && read->front().info.first == work.prev) {
        end = read->back().info.end();
        for (const storage::FoundEntry& entry : *read) bytes += entry.payload.size();
    } else if (!read && read.error().code == ErrorCode::kCorrupt) {
        Shard::current().log().error("replication", "entries can't be read for a follower",
                                     "log={} offset={} error=\"{}\"", id().v, work.prev.offset,
                                     read.error().to_string());
    }
    const auto request = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.on_sent(work, end, bytes, now, out);
    });
    if (!request || held_) co_return;
    replicator_.send_append(work.to, id(),
                            encode_append(id(), log_.start_offset(), *request, *read));
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

Task<void> Group::truncate_start(int64_t start_offset) {
    (void)co_await log_.truncate_prefix(start_offset);
    start_moving_ = false;
    if (!closing_ && !failed_) follow_start();
}

}  // namespace weir::replication
