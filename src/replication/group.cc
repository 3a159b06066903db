#include "replication/group.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "base/check.h"
#include "replication/group_parts.h"
#include "runtime/shard.h"

namespace weir::replication {

using raft::Configuration;
using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::try_;
using storage::EntryInfo;
using storage::EntryKind;
using storage::Position;

namespace {

// What a checkpoint holds of a group begins with this; what is older than groups does not.
constexpr uint8_t kStateMagic = 0xc1;
constexpr uint8_t kStateVersion = 1;
// Of messages that are refused, on one shard: they come as fast as a peer likes.
constexpr Duration kRefusalLogInterval = std::chrono::seconds(10);

uint32_t control_summary(size_t payload) {
    return static_cast<uint32_t>(std::min<size_t>(payload, storage::kSummaryBytesMax));
}

}  // namespace

Group::Group(Replicator& replicator, storage::Log& log, StateMachine& machine)
    : replicator_(replicator), log_(log), machine_(machine) {}

Group::~Group() = default;

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
        joined_by_ = kept->joined_by;
        if (kept->configuration) {
            raft::ConfigurationAt& saved = *kept->configuration;
            saved_configuration_at_ = saved.at;
            first_stays_ = true;
            if (configurations_.empty() || configurations_.back().at < saved.at)
                configurations_ = {std::move(saved)};
        }
    }
    bool leads_first = false;
    if (configurations_.empty() && !beginning.founders.members.empty()) {
        // Kept before it counts: no entry tells it, so that a replica which took part could forget
        // whom with.
        raft::ConfigurationAt founders{{0, 0}, std::move(beginning.founders)};
        co_await try_(co_await log_.save_group_config(encode_kept_with(founders)));
        saved_configuration_at_ = founders.at;
        configurations_.push_back(std::move(founders));
        first_stays_ = true;
        leads_first = beginning.leads_first;
    }
    const bool is_new = configurations_.empty() && log_.group_config().empty() &&
                        recovered.entries.empty() && log_.end() == Position{};
    if (is_new && beginning.joins && beginning.joined_by != 0) {
        joined_by_ = beginning.joined_by;
        co_await try_(co_await log_.save_group_config(encode_kept_with(std::nullopt)));
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
    if (start.hard_state.term < 0 || start.hard_state.term > raft::kTermMax)
        co_return fail(ErrorCode::kCorrupt,
                       fmt::format("a term of {} is saved, and none is larger than {}",
                                   start.hard_state.term, raft::kTermMax));
    if (start.hard_state.term != log_.hard_state().term) start.hard_state.voted_for = -1;
    start.start = {log_.start_offset(), 0};
    start.end = log_.end();
    start.commit = start.start;
    for (const storage::TermStart& row : log_.terms()) start.terms.push_back({row.term, row.first});
    start.configurations = configurations_;
    if (!first_stays_) start.configurations.emplace(start.configurations.begin());
    start.joins = beginning.joins;
    start.joined_by = joined_by_;
    start.leads_first = leads_first;
    start.seed = Shard::current().prng().next();
    start.terms_lost = log_.may_have_lost();
    start.recovering =
        start.terms_lost || (memory_history_ != 0 && memory_history_ != store_history());
    start.fitness = fitness();
    core_.emplace(replicator_.options().raft, std::move(start));
    uncommitted_ = log_.hold_from(core_->commit().offset);
    log_.set_state_provider([this] { return capture(); });
    log_.on_durable([this] { on_durable(); });
    log_.on_damage([this] { on_damage(); });
    co_return Result<void>{};
}

void Group::start() {
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.start(now, out); });
    if (log_.damage()) on_damage();
}

Task<void> Group::close() {
    closing_ = true;
    fail_waiters(Error{ErrorCode::kUnavailable, "the replica is closing", 0});
    log_.on_durable({});
    log_.on_damage({});
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
            CHECK(configuration.has_value());  // process() looked
            if (*configuration) note_configuration(info.first, std::move(**configuration));
        }
        const SharedBytes payload = entry.payload;
        if (auto appended = append_to_log(std::move(entry)); !appended) {
            append_failed("an entry can't be appended", appended.error());
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
        if (log_.may_have_lost()) scope_.spawn(confirm_whole());
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
    if (effects.change_done) settle(changes_, *effects.change_done);
    if (effects.transfer_done) settle(transfers_, *effects.transfer_done);
}

Result<void> Group::append_to_log(storage::Entry entry) {
    entry.summary_bytes = entry.info.kind == EntryKind::kControl
                              ? control_summary(entry.payload.size())
                              : static_cast<uint32_t>(std::min<size_t>(machine_.summary_bytes(),
                                                                       entry.payload.size()));
    if (acks_from_memory() && !std::exchange(relying_, true)) scope_.spawn(rely_on_memory());
    return log_.append(std::move(entry));
}

void Group::append_control(const raft::ControlEntry& control) {
    storage::Entry entry;
    entry.info = control.info;
    entry.payload = SharedBytes::copy_of(encode_control(control));
    entry.admitted = false;
    if (control.kind == raft::ControlKind::kConfiguration)
        note_configuration(control.info.first, control.configuration);
    if (auto appended = append_to_log(std::move(entry)); !appended)
        append_failed("a control entry can't be appended", appended.error());
}

void Group::on_durable() {
    if (out_of_service()) return;
    call_core([end = relied_on()](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_durable(end, now, out);
    });
}

void Group::on_commit_moved() {
    const Position commit = core_->commit();
    uncommitted_.move_to(commit.offset);
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

// ------------------------------------------------------------- what comes from outside

void Group::tick(Instant) {
    if (out_of_service()) return;
    follow_start();
    call_core([](raft::Core& core, Instant now, raft::Effects& out) { core.tick(now, out); });
}

raft::Vouched Group::vouched(raft::NodeId from) const {
    if (core_->knows(from)) return raft::Vouched::kYes;
    return machine_.vouches_for(from) ? raft::Vouched::kYes : raft::Vouched::kNo;
}

void Group::count(raft::Verdict verdict, raft::NodeId from) {
    const bool is_stranger = verdict == raft::Verdict::kStranger;
    const bool contradicts = verdict == raft::Verdict::kContradiction;
    if (contradicts && contradicted(from)) return;
    if (!is_stranger && !contradicts && verdict != raft::Verdict::kInvalid) return;
    ReplicatorMetrics& metrics = replicator_.metrics_;
    ++(is_stranger ? metrics.messages_of_strangers : metrics.messages_malformed);
    const Instant now = Shard::current().now();
    if (now < replicator_.refusal_logged_ + kRefusalLogInterval) return;
    replicator_.refusal_logged_ = now;
    Shard::current().log().warn(
        "replication", "messages that no member of the group can have sent are ignored",
        "log={} node={} term={} reason=\"{}\" ignored={}", id().v, from.v, core_->term(),
        is_stranger ? "the node does not belong to the group"
                    : "a term, a position or an order that can't be",
        metrics.messages_of_strangers + metrics.messages_malformed);
}

void Group::on_message(raft::NodeId from, const GroupMessage& message) {
    if (out_of_service() || held_) return;
    const raft::Verdict verdict = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.step(from, message.message, now, out, vouched(from));
    });
    count(verdict, from);
    if (core_->leader() == from && verdict == raft::Verdict::kTaken) {
        start_wanted_ = std::max(start_wanted_, message.start_offset);
        follow_leaders_start();
    }
}

void Group::peer_up(raft::NodeId node) {
    if (out_of_service() || core_->configuration().find(node) == nullptr) return;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_peer_up(node, now, out);
    });
}

void Group::peer_down(raft::NodeId node) {
    if (out_of_service() || core_->configuration().find(node) == nullptr) return;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_peer_down(node, now, out);
    });
}

void Group::connection_lost(raft::NodeId node) {
    if (out_of_service() || core_->configuration().find(node) == nullptr) return;
    call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        core.on_connection_lost(node, now, out);
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
    for (const raft::NodeId node : down) {
        connection_lost(node);
        peer_down(node);
    }
}

Task<void> Group::truncate(Position end) {
    ++truncations_;
    const auto truncated =
        co_await when_there_is_room([this, end] { return log_.truncate_suffix(end); });
    --truncations_;
    if (closing_ || failed_) co_return;
    if (!truncated) {
        give_up("the log can't be cut", truncated.error());
        co_return;
    }
    // Not before: until then the log still has what the state tells of.
    drop_configurations_from(end);
    forget_from(end);
    call_core(
        [](raft::Core& core, Instant now, raft::Effects& out) { core.on_truncated(now, out); });
    on_durable();
}

// A snapshot's state may cover entries that this log does not have yet. They are committed and come
// again, so the state is right about them; but those of a relaxed log may be lost everywhere.
void Group::forget_from(Position end) {
    if (relaxed_ || memory_history_ != 0) covered_ = std::min(covered_, end);
    machine_.on_truncate(std::max(end, covered_));
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

Task<void> Group::truncate_start(int64_t start_offset) {
    (void)co_await log_.truncate_prefix(start_offset);
    start_moving_ = false;
    if (!closing_ && !failed_) follow_start();
}

}  // namespace weir::replication
