#include "kafka/groups/group.h"

#include <fmt/core.h>

#include <algorithm>
#include <utility>

#include "base/check.h"
#include "kafka/groups/subscription.h"

namespace weir::kafka {
namespace {

// What a member costs beside its strings and bytes: nodes of maps, fields.
constexpr size_t kMemberOverheadBytes = 512;
constexpr size_t kPendingOverheadBytes = 128;

void reply(GroupOutput& out, RequestId request_id, auto body) {
    out.replies.push_back({request_id, std::move(body)});
}

JoinReply join_error(KafkaError error, std::string_view member_id) {
    JoinReply body;
    body.error = error;
    body.member_id = member_id;
    return body;
}

SyncReply sync_error(KafkaError error) {
    SyncReply body;
    body.error = error;
    return body;
}

}  // namespace

std::string_view to_string(GroupState state) {
    switch (state) {
        case GroupState::kEmpty:
            return "Empty";
        case GroupState::kPreparingRebalance:
            return "PreparingRebalance";
        case GroupState::kCompletingRebalance:
            return "CompletingRebalance";
        case GroupState::kStable:
            return "Stable";
        case GroupState::kDead:
            return "Dead";
    }
    return "Unknown";
}

// ---- Join

void Group::join(RequestId request_id, JoinInput request, std::string fresh_member_id, Moment now,
                 GroupOutput& out) {
    if (state_ == GroupState::kDead) {
        return reply(out, request_id,
                     join_error(KafkaError::kCoordinatorNotAvailable, request.member_id));
    }
    if (!supports(request)) {
        return reply(out, request_id,
                     join_error(KafkaError::kInconsistentGroupProtocol, request.member_id));
    }
    if (!admits(request)) {
        reply(out, request_id, join_error(KafkaError::kGroupMaxSizeReached, ""));
        // A member that comes too late for its place in a group that shrank has lost it.
        drop_pending(request.member_id);
        if (members_.contains(request.member_id)) {
            return remove_member(request.member_id, now, out, "found no room on rejoining");
        }
        return try_complete_join(now, out);
    }
    if (request.member_id.empty()) {
        join_new(request_id, request, std::move(fresh_member_id), now, out);
    } else {
        join_known(request_id, request, now, out);
    }
}

void Group::join_new(RequestId request_id, JoinInput& request, std::string member_id, Moment now,
                     GroupOutput& out) {
    CHECK(!member_id.empty());
    if (request.instance_id) {
        const auto known = static_members_.find(*request.instance_id);
        if (known == static_members_.end()) {
            return add_member(request_id, request, std::move(member_id), now, out);
        }
        return replace_static_member(members_.find(known->second), request_id, request,
                                     std::move(member_id), now, out);
    }
    if (!request.two_step_join) {
        return add_member(request_id, request, std::move(member_id), now, out);
    }
    // KIP-394: a client whose first join is lost on the way back would else leave a member behind
    // with each retry.
    if (pending_.size() >= config_.group_size_max) {
        return reply(out, request_id, join_error(KafkaError::kGroupMaxSizeReached, ""));
    }
    const Instant given_up = now.instant + request.session_timeout;
    reply(out, request_id, join_error(KafkaError::kMemberIdRequired, member_id));
    bytes_ += kPendingOverheadBytes + member_id.size();
    pending_.emplace(std::move(member_id), given_up);
    wake_by(given_up);
}

void Group::join_known(RequestId request_id, JoinInput& request, Moment now, GroupOutput& out) {
    if (!request.instance_id && drop_pending(request.member_id)) {
        std::string member_id = request.member_id;
        return add_member(request_id, request, std::move(member_id), now, out);
    }
    if (const KafkaError error = validate_member(request.member_id, request.instance_id);
        error != KafkaError::kNone) {
        return reply(out, request_id, join_error(error, request.member_id));
    }
    Member& member = members_.find(request.member_id)->second;
    const bool unchanged = member.protocols == request.protocols;
    switch (state_) {
        case GroupState::kPreparingRebalance:
            return rejoin(member, request_id, request, now, out);
        case GroupState::kCompletingRebalance:
            // It has joined this generation already, and most likely the reply was lost: it gets it
            // again. Or it is a static member that was away when the generation began.
            if (!unchanged) break;
            member.must_sync = !member.sync;
            renew_session(member, now);
            return reply(out, request_id, join_reply(member));
        case GroupState::kStable:
            // A leader joins again because it wants a new assignment: partitions were added, or a
            // topic appeared.
            if (!unchanged || member.id == leader_ || member.join) break;
            renew_session(member, now);
            return reply(out, request_id, join_reply(member));
        case GroupState::kEmpty:
        case GroupState::kDead:
            CHECK(false && "a group without members knows no member");
    }
    const std::string why = fmt::format("member {} joins again{}{}", member.id,
                                        request.reason.empty() ? "" : ": ", request.reason);
    rejoin(member, request_id, request, now, out);
    if (state_ != GroupState::kPreparingRebalance) prepare_rebalance(now, out, why);
    try_complete_join(now, out);
}

void Group::add_member(RequestId request_id, JoinInput& request, std::string member_id, Moment now,
                       GroupOutput& out) {
    if (members_.empty()) protocol_type_ = request.protocol_type;
    if (leader_.empty()) leader_ = member_id;
    if (request.instance_id) static_members_[*request.instance_id] = member_id;

    const std::string why = fmt::format("member {} joins{}{}", member_id,
                                        request.reason.empty() ? "" : ": ", request.reason);
    Member& member = members_[member_id];
    member.id = std::move(member_id);
    member.instance_id = request.instance_id;
    member.serial = next_serial_++;
    // Those who come back under its id, or as its instance, do not change these, as in Kafka.
    member.client_id = std::move(request.client_id);
    member.client_host = std::move(request.client_host);
    bytes_ += member.bytes();
    update_member(member, request);
    await_join(member, {request_id, request.can_skip_assignment, leader_}, now, out);

    if (state_ == GroupState::kPreparingRebalance) {
        if (initial_delay_) initial_delay_->member_arrived = true;
    } else {
        prepare_rebalance(now, out, why);
    }
    try_complete_join(now, out);
}

// An existing member waits in join, with what it now asks for.
void Group::rejoin(Member& member, RequestId request_id, JoinInput& request, Moment now,
                   GroupOutput& out) {
    update_member(member, request);
    await_join(member, {request_id, request.can_skip_assignment, leader_}, now, out);
    if (state_ == GroupState::kPreparingRebalance) try_complete_join(now, out);
}

// KIP-345: the instance is known, its process is new. It takes over the slot under a new member id;
// the old id is fenced.
void Group::replace_static_member(Members::iterator old, RequestId request_id, JoinInput& request,
                                  std::string member_id, Moment now, GroupOutput& out) {
    CHECK(old != members_.end());
    const std::string leader_before = leader_;
    const bool subscription_kept = same_subscription(old->second, request);

    Members::node_type node = members_.extract(old);
    Member& member = node.mapped();
    if (member.join) {
        reply(out, member.join->request_id, join_error(KafkaError::kFencedInstanceId, member.id));
        member.join.reset();
        --joined_count_;
    }
    if (member.sync) {
        reply(out, *member.sync, sync_error(KafkaError::kFencedInstanceId));
        member.sync.reset();
    }
    note(out, fmt::format("static member {} is now {}, was {}", *member.instance_id, member_id,
                          member.id));
    if (leader_ == member.id) leader_ = member_id;
    static_members_[*member.instance_id] = member_id;
    bytes_ -= member.bytes();
    node.key() = member_id;
    member.id = std::move(member_id);
    bytes_ += member.bytes();
    members_.insert(std::move(node));
    update_member(member, request);
    await_join(member, {request_id, request.can_skip_assignment, leader_before}, now, out);

    const bool generation_holds =
        state_ == GroupState::kStable && subscription_kept && select_protocol() == protocol_name_;
    if (generation_holds) {
        // The others need not notice. The new id becomes durable before its owner hears of it.
        GroupWrite write{GroupWrite::Purpose::kStaticMember, generation_, member.id,
                         encode_group(id_, metadata(*state_since_))};
        if (out.can_write) {
            out.writes.push_back(std::move(write));
        } else {
            on_written(write, false, now, out);
        }
        return;
    }
    if (state_ != GroupState::kPreparingRebalance) {
        prepare_rebalance(now, out, fmt::format("static member {} came back", *member.instance_id));
    }
    try_complete_join(now, out);
}

void Group::update_member(Member& member, JoinInput& request) {
    bytes_ -= member.bytes();
    for (const JoinProtocol& protocol : member.protocols) {
        const auto support = protocol_support_.find(protocol.name);
        if (--support->second == 0) protocol_support_.erase(support);
    }
    member.session_timeout = request.session_timeout;
    member.rebalance_timeout = request.rebalance_timeout.value_or(Duration::zero());
    if (member.rebalance_timeout <= Duration::zero())
        member.rebalance_timeout = member.session_timeout;
    member.protocols = std::move(request.protocols);
    for (const JoinProtocol& protocol : member.protocols) ++protocol_support_[protocol.name];
    bytes_ += member.bytes();
}

bool Group::drop_pending(std::string_view member_id) {
    const auto found = pending_.find(member_id);
    if (found == pending_.end()) return false;
    bytes_ -= kPendingOverheadBytes + found->first.size();
    pending_.erase(found);
    return true;
}

void Group::await_join(Member& member, Member::WaitingJoin waiting, Moment now, GroupOutput& out) {
    if (member.join) {
        // The client asked again over another connection; only the newer request can still be
        // answered with a generation.
        reply(out, member.join->request_id,
              join_error(KafkaError::kRebalanceInProgress, member.id));
        --joined_count_;
    }
    member.join = std::move(waiting);
    ++joined_count_;
    // A member that waits is known to live, except one whose connection may have died before it
    // ever learned its id.
    member.expires = member.is_new ? now.instant + kNewMemberJoinTimeout : Instant::never();
    wake_by(member.expires);
}

// ---- Rebalance

void Group::prepare_rebalance(Moment now, GroupOutput& out, std::string_view why) {
    CHECK(state_ != GroupState::kPreparingRebalance);
    CHECK(state_ != GroupState::kDead);
    note(out, fmt::format("rebalance of generation {} begins: {}", generation_, why));
    proposed_.reset();
    sync_deadline_ = Instant::never();
    for (auto& [id, member] : members_) {
        member.must_sync = false;
        if (member.sync) answer_sync(member, KafkaError::kRebalanceInProgress, now, out);
    }
    if (state_ == GroupState::kEmpty && config_.initial_rebalance_delay > Duration::zero()) {
        const Duration longest = std::max(rebalance_timeout(), config_.initial_rebalance_delay);
        initial_delay_ = {.until_max = now.instant + longest, .member_arrived = false};
        join_deadline_ = now.instant + config_.initial_rebalance_delay;
    } else {
        join_deadline_ = now.instant + rebalance_timeout();
    }
    wake_by(join_deadline_);
    set_state(GroupState::kPreparingRebalance, now);
}

void Group::try_complete_join(Moment now, GroupOutput& out) {
    if (state_ != GroupState::kPreparingRebalance || initial_delay_) return;
    if (joined_count_ == members_.size() && pending_.empty()) complete_join(now, out);
}

void Group::on_join_deadline(Moment now, GroupOutput& out) {
    CHECK(state_ == GroupState::kPreparingRebalance);
    if (initial_delay_ && initial_delay_->member_arrived &&
        now.instant < initial_delay_->until_max) {
        initial_delay_->member_arrived = false;
        join_deadline_ =
            std::min(now.instant + config_.initial_rebalance_delay, initial_delay_->until_max);
        return wake_by(join_deadline_);
    }
    initial_delay_.reset();
    complete_join(now, out);
}

void Group::complete_join(Moment now, GroupOutput& out) {
    std::vector<std::string> absent;
    for (const auto& [id, member] : members_) {
        if (!member.join && !member.instance_id) absent.push_back(id);
    }
    for (const std::string& id : absent) drop_member(id, out, "did not rejoin in time");

    if (members_.empty()) return become_empty(now, out);
    if (joined_count_ == 0) {
        // Static members alone, all away: they keep their places until their sessions end.
        join_deadline_ = now.instant + rebalance_timeout();
        return wake_by(join_deadline_);
    }

    join_deadline_ = Instant::never();
    initial_delay_.reset();
    if (const auto leader = members_.find(leader_);
        leader == members_.end() || !leader->second.join)
        elect_leader();
    begin_generation();
    protocol_name_ = select_protocol();
    set_state(GroupState::kCompletingRebalance, now);
    sync_deadline_ = now.instant + rebalance_timeout();
    wake_by(sync_deadline_);
    note(out, fmt::format("generation {} of {} members, protocol {}, leader {}", generation_,
                          members_.size(), *protocol_name_, leader_));
    for (auto& [id, member] : members_) {
        if (!member.join) continue;
        member.must_sync = true;
        answer_join(member, now, out);
    }
}

void Group::become_empty(Moment now, GroupOutput& out) {
    fitting_max_ = SIZE_MAX;
    begin_generation();
    protocol_name_.reset();
    leader_.clear();
    join_deadline_ = Instant::never();
    initial_delay_.reset();
    set_state(GroupState::kEmpty, now);
    note(out, fmt::format("generation {} is empty", generation_));
    // Where this does not become durable, members that are gone come back with a move of the group,
    // and expire.
    if (!out.can_write) return;
    out.writes.push_back({GroupWrite::Purpose::kEmptied, generation_, "",
                          encode_group(id_, metadata(*state_since_))});
}

void Group::begin_generation() { generation_ = generation_ == INT32_MAX ? 1 : generation_ + 1; }

void Group::on_sync_deadline(Moment now, GroupOutput& out) {
    sync_deadline_ = Instant::never();
    std::vector<std::string> silent;
    for (const auto& [id, member] : members_) {
        if (member.must_sync) silent.push_back(id);
    }
    if (silent.empty()) return;
    for (const std::string& id : silent) drop_member(id, out, "did not sync in time");
    prepare_rebalance(now, out, "members did not sync in time");
    try_complete_join(now, out);
}

// Each member votes for the first protocol on its list that all members know; the most votes win,
// then the leader's order.
std::string Group::select_protocol() const {
    std::map<std::string_view, size_t> votes;
    for (const auto& [id, member] : members_) {
        for (const JoinProtocol& protocol : member.protocols) {
            if (protocol_support_.find(protocol.name)->second != members_.size()) continue;
            ++votes[protocol.name];
            break;
        }
    }
    CHECK(!votes.empty());
    size_t most = 0;
    for (const auto& [name, count] : votes) most = std::max(most, count);
    const auto leader = members_.find(leader_);
    if (leader != members_.end()) {
        for (const JoinProtocol& protocol : leader->second.protocols) {
            const auto vote = votes.find(protocol.name);
            if (vote != votes.end() && vote->second == most) return protocol.name;
        }
    }
    for (const auto& [name, count] : votes) {
        if (count == most) return std::string(name);
    }
    CHECK(false && "some protocol has the most votes");
    return {};
}

// The longest-standing of those who wait in join; where nobody does, of all.
void Group::elect_leader() {
    const Member* elected = nullptr;
    for (const auto& [id, member] : members_) {
        if (elected == nullptr ||
            std::pair(!member.join, member.serial) < std::pair(!elected->join, elected->serial)) {
            elected = &member;
        }
    }
    leader_ = elected == nullptr ? "" : elected->id;
}

Duration Group::rebalance_timeout() const {
    Duration longest = Duration::zero();
    for (const auto& [id, member] : members_) longest = std::max(longest, member.rebalance_timeout);
    return longest;
}

// ---- Sync

void Group::sync(RequestId request_id, SyncInput request, Moment now, GroupOutput& out) {
    auto refuse = [&](KafkaError error) { reply(out, request_id, sync_error(error)); };
    if (state_ == GroupState::kDead) return refuse(KafkaError::kCoordinatorNotAvailable);
    if (const KafkaError error = validate_member(request.member_id, request.instance_id);
        error != KafkaError::kNone) {
        return refuse(error);
    }
    if (request.generation != generation_) return refuse(KafkaError::kIllegalGeneration);
    if (request.protocol_type && *request.protocol_type != protocol_type_)
        return refuse(KafkaError::kInconsistentGroupProtocol);
    if (request.protocol_name && protocol_name_ && *request.protocol_name != *protocol_name_)
        return refuse(KafkaError::kInconsistentGroupProtocol);

    Member& member = members_.find(request.member_id)->second;
    if (state_ == GroupState::kPreparingRebalance) return refuse(KafkaError::kRebalanceInProgress);
    member.must_sync = false;
    if (member.sync) {
        reply(out, *member.sync, sync_error(KafkaError::kRebalanceInProgress));
    }
    member.sync = request_id;
    member.expires = Instant::never();
    if (state_ == GroupState::kStable) return answer_sync(member, KafkaError::kNone, now, out);
    CHECK(state_ == GroupState::kCompletingRebalance);
    if (member.id == leader_ && !proposed_)
        propose_assignment(std::move(request.assignments), now, out);
}

void Group::propose_assignment(std::vector<SyncAssignment> assignments, Moment now,
                               GroupOutput& out) {
    proposed_.emplace();
    for (SyncAssignment& item : assignments) {
        if (members_.contains(item.member_id))
            (*proposed_)[std::move(item.member_id)] = std::move(item.assignment);
    }
    GroupMetadata stored = metadata(now.wall);
    for (MemberMetadata& member : stored.members) {
        const auto assigned = proposed_->find(member.member_id);
        if (assigned == proposed_->end())
            member.assignment.clear();
        else
            member.assignment = assigned->second;
    }
    GroupWrite write{GroupWrite::Purpose::kAssignment, generation_, "", encode_group(id_, stored)};
    if (write.record.bytes() > config_.append_bytes_max) {
        if (members_.size() == 1) {
            note(out, fmt::format("the record of generation {} is too large: {} bytes", generation_,
                                  write.record.bytes()));
            return fail_assignment(KafkaError::kUnknownServerError, now, out);
        }
        // All join again, and those who come late are told that there is no room; else the group
        // would rebalance for ever. A tenth is left for assignments that grow.
        const size_t fit = members_.size() * config_.append_bytes_max / write.record.bytes();
        fitting_max_ = std::max<size_t>(1, fit * 9 / 10);
        note(out, fmt::format("the record of generation {} is too large: {} bytes of {} members; "
                              "{} may join again",
                              generation_, write.record.bytes(), members_.size(), fitting_max_));
        return fail_assignment(KafkaError::kRebalanceInProgress, now, out);
    }
    if (!out.can_write) return fail_assignment(KafkaError::kCoordinatorNotAvailable, now, out);
    out.writes.push_back(std::move(write));
}

void Group::fail_assignment(KafkaError error, Moment now, GroupOutput& out) {
    proposed_.reset();
    for (auto& [id, member] : members_) {
        if (member.sync) answer_sync(member, error, now, out);
    }
    prepare_rebalance(now, out, "the assignment could not be stored");
    try_complete_join(now, out);
}

void Group::on_written(const GroupWrite& write, bool ok, Moment now, GroupOutput& out) {
    if (write.generation != generation_) return;  // the group has moved on
    switch (write.purpose) {
        case GroupWrite::Purpose::kEmptied:
            return;
        case GroupWrite::Purpose::kAssignment: {
            if (state_ != GroupState::kCompletingRebalance || !proposed_) return;
            if (!ok) return fail_assignment(KafkaError::kCoordinatorNotAvailable, now, out);
            for (auto& [id, member] : members_) {
                const auto assigned = proposed_->find(id);
                bytes_ -= member.bytes();
                if (assigned == proposed_->end())
                    member.assignment.clear();
                else
                    member.assignment = std::move(assigned->second);
                bytes_ += member.bytes();
            }
            proposed_.reset();
            set_state(GroupState::kStable, now);
            note(out, fmt::format("generation {} is stable", generation_));
            for (auto& [id, member] : members_) {
                if (member.sync) answer_sync(member, KafkaError::kNone, now, out);
            }
            return;
        }
        case GroupWrite::Purpose::kStaticMember: {
            if (state_ != GroupState::kStable) return;  // the rebalance answers its join
            const auto found = members_.find(write.member_id);
            if (found == members_.end() || !found->second.join) return;
            Member& member = found->second;
            const Member::WaitingJoin waiting = *member.join;
            member.join.reset();
            --joined_count_;
            member.is_new = false;
            renew_session(member, now);
            JoinReply body =
                ok ? join_reply(member) : join_error(KafkaError::kCoordinatorNotAvailable, "");
            if (ok && waiting.can_skip_assignment) {
                body.skip_assignment = member.id == leader_;
            } else if (ok) {
                // An older client that hears that it leads would compute an assignment that nobody
                // asked for.
                body.leader = waiting.leader_before;
                body.members.clear();
            }
            return reply(out, waiting.request_id, std::move(body));
        }
    }
}

// ---- Heartbeat, leave, commit

KafkaError Group::heartbeat(const HeartbeatInput& request, Moment now) {
    if (state_ == GroupState::kDead) return KafkaError::kCoordinatorNotAvailable;
    if (const KafkaError error = validate_member(request.member_id, request.instance_id);
        error != KafkaError::kNone) {
        return error;
    }
    if (request.generation != generation_) return KafkaError::kIllegalGeneration;
    renew_session(members_.find(request.member_id)->second, now);
    return state_ == GroupState::kPreparingRebalance ? KafkaError::kRebalanceInProgress
                                                     : KafkaError::kNone;
}

KafkaError Group::leave(const LeavingMember& leaving, Moment now, GroupOutput& out) {
    if (state_ == GroupState::kDead) return KafkaError::kCoordinatorNotAvailable;
    std::string member_id = leaving.member_id;
    if (member_id.empty() && leaving.instance_id) {
        // An administrator removes a static member by its instance alone.
        const auto known = static_members_.find(*leaving.instance_id);
        if (known == static_members_.end()) return KafkaError::kUnknownMemberId;
        member_id = known->second;
    }
    if (!leaving.instance_id && drop_pending(member_id)) {
        try_complete_join(now, out);
        return KafkaError::kNone;
    }
    if (const KafkaError error = validate_member(member_id, leaving.instance_id);
        error != KafkaError::kNone) {
        return error;
    }
    remove_member(member_id, now, out,
                  leaving.reason.empty() ? "left" : fmt::format("left: {}", leaving.reason));
    return KafkaError::kNone;
}

KafkaError Group::validate_commit(const CommitInput& request, Moment now) {
    if (state_ == GroupState::kDead) return KafkaError::kCoordinatorNotAvailable;
    // A consumer that manages its partitions itself, or an administrator: welcome while nobody else
    // is responsible.
    if (request.generation < 0 && state_ == GroupState::kEmpty) return KafkaError::kNone;
    if (request.generation < 0 && request.member_id.empty() && !request.instance_id)
        return KafkaError::kUnknownMemberId;
    if (const KafkaError error = validate_member(request.member_id, request.instance_id);
        error != KafkaError::kNone) {
        return error;
    }
    if (request.generation != generation_) return KafkaError::kIllegalGeneration;
    // Its owner knows the generation, but not yet what it owns in it.
    if (state_ == GroupState::kCompletingRebalance) return KafkaError::kRebalanceInProgress;
    renew_session(members_.find(request.member_id)->second, now);
    return KafkaError::kNone;
}

KafkaError Group::validate_member(std::string_view member_id,
                                  const std::optional<std::string>& instance_id) const {
    if (instance_id) {
        const auto known = static_members_.find(*instance_id);
        if (known == static_members_.end()) return KafkaError::kUnknownMemberId;
        return known->second == member_id ? KafkaError::kNone : KafkaError::kFencedInstanceId;
    }
    return members_.contains(member_id) ? KafkaError::kNone : KafkaError::kUnknownMemberId;
}

// group.max.size. While a rebalance collects joins, the places go to those who come first.
bool Group::admits(const JoinInput& request) const {
    const auto known = members_.find(request.member_id);
    switch (state_) {
        case GroupState::kEmpty:
        case GroupState::kDead:
            return size_max() > 0;
        case GroupState::kPreparingRebalance:
            return (known != members_.end() && known->second.join) || joined_count_ < size_max();
        case GroupState::kCompletingRebalance:
        case GroupState::kStable:
            return known != members_.end() || members_.size() < size_max() ||
                   (request.instance_id && static_members_.contains(*request.instance_id));
    }
    return false;
}

bool Group::supports(const JoinInput& request) const {
    if (request.protocol_type.empty() || request.protocols.empty()) return false;
    if (members_.empty()) return true;
    if (request.protocol_type != protocol_type_) return false;
    return std::ranges::any_of(request.protocols, [this](const JoinProtocol& protocol) {
        const auto support = protocol_support_.find(protocol.name);
        return support != protocol_support_.end() && support->second == members_.size();
    });
}

// Compares the topics, not the bytes: owned partitions and an assignor's own data differ after each
// restart of a client.
bool Group::same_subscription(const Member& member, const JoinInput& request) const {
    if (protocol_type_ != kConsumerProtocolType || !protocol_name_) return true;
    const std::vector<uint8_t>* before = member.metadata(*protocol_name_);
    const auto after = std::ranges::find(request.protocols, *protocol_name_, &JoinProtocol::name);
    if (before == nullptr || after == request.protocols.end()) return false;
    const auto topics_before = topics_of_subscription(*before);
    const auto topics_after = topics_of_subscription(after->metadata);
    if (!topics_before || !topics_after) return true;
    return *topics_before == *topics_after;
}

// ---- Members

void Group::remove_member(std::string_view member_id, Moment now, GroupOutput& out,
                          std::string_view why) {
    const std::string id(member_id);
    drop_member(id, out, why);
    if (state_ == GroupState::kStable || state_ == GroupState::kCompletingRebalance)
        prepare_rebalance(now, out, fmt::format("member {} is out", id));
    try_complete_join(now, out);
}

// Takes a member out; what that means for the rebalance is the caller's to see to.
void Group::drop_member(std::string_view member_id, GroupOutput& out, std::string_view why) {
    const auto found = members_.find(member_id);
    CHECK(found != members_.end());
    Member& member = found->second;
    note(out, fmt::format("member {} is out: {}", member.id, why));
    // If it is alive after all, it shall join anew.
    if (member.join) {
        reply(out, member.join->request_id, join_error(KafkaError::kUnknownMemberId, member.id));
        --joined_count_;
    }
    if (member.sync) reply(out, *member.sync, sync_error(KafkaError::kUnknownMemberId));
    for (const JoinProtocol& protocol : member.protocols) {
        const auto support = protocol_support_.find(protocol.name);
        if (--support->second == 0) protocol_support_.erase(support);
    }
    if (member.instance_id) static_members_.erase(*member.instance_id);
    bytes_ -= member.bytes();
    const bool led = member.id == leader_;
    members_.erase(found);
    if (led) elect_leader();
}

void Group::answer_join(Member& member, Moment now, GroupOutput& out) {
    reply(out, member.join->request_id, join_reply(member));
    member.join.reset();
    --joined_count_;
    member.is_new = false;
    renew_session(member, now);
}

void Group::answer_sync(Member& member, KafkaError error, Moment now, GroupOutput& out) {
    SyncReply body = sync_error(error);
    if (error == KafkaError::kNone) {
        body.protocol_type = protocol_type_;
        body.protocol_name = protocol_name_;
        body.assignment = member.assignment;
    }
    reply(out, *member.sync, std::move(body));
    member.sync.reset();
    renew_session(member, now);
}

JoinReply Group::join_reply(const Member& member) const {
    JoinReply body;
    body.generation = generation_;
    body.protocol_type = protocol_type_;
    body.protocol_name = protocol_name_;
    body.leader = leader_;
    body.member_id = member.id;
    if (member.id != leader_) return body;
    body.members.reserve(members_.size());
    for (const auto& [id, other] : members_) {
        const std::vector<uint8_t>* metadata = other.metadata(*protocol_name_);
        CHECK(metadata != nullptr);
        body.members.push_back({id, other.instance_id, *metadata});
    }
    return body;
}

void Group::renew_session(Member& member, Moment now) {
    if (member.join || member.sync) return;
    member.expires = now.instant + member.session_timeout;
    wake_by(member.expires);
}

const std::vector<uint8_t>* Group::Member::metadata(std::string_view protocol) const {
    const auto found = std::ranges::find(protocols, protocol, &JoinProtocol::name);
    return found == protocols.end() ? nullptr : &found->metadata;
}

size_t Group::Member::bytes() const {
    size_t total = kMemberOverheadBytes + 2 * id.size() + client_id.size() + client_host.size() +
                   assignment.size();
    if (instance_id) total += 2 * instance_id->size();
    for (const JoinProtocol& protocol : protocols)
        total += sizeof protocol + protocol.name.size() + protocol.metadata.size();
    return total;
}

// ---- Time, restoring, looking in

void Group::tick(Moment now, GroupOutput& out) {
    std::vector<std::string> expired;
    for (const auto& [id, given_up] : pending_) {
        if (given_up <= now.instant) expired.push_back(id);
    }
    for (const std::string& id : expired) drop_pending(id);
    if (!expired.empty()) try_complete_join(now, out);

    expired.clear();
    for (const auto& [id, member] : members_) {
        if (member.expires <= now.instant) expired.push_back(id);
    }
    for (const std::string& id : expired) {
        if (members_.contains(id)) remove_member(id, now, out, "its session ended");
    }
    if (join_deadline_ <= now.instant) on_join_deadline(now, out);
    if (sync_deadline_ <= now.instant) on_sync_deadline(now, out);

    wake_ = std::min(join_deadline_, sync_deadline_);
    for (const auto& [id, given_up] : pending_) wake_by(given_up);
    for (const auto& [id, member] : members_) wake_by(member.expires);
}

void Group::restore(GroupMetadata metadata, Moment now, GroupOutput& out) {
    CHECK(members_.empty());
    generation_ = std::max(metadata.generation, 0);
    protocol_type_ = std::move(metadata.protocol_type);
    protocol_name_ = std::move(metadata.protocol);
    state_since_ = metadata.state_since;
    for (MemberMetadata& stored : metadata.members) {
        // Records of ours name everybody, and nobody twice; another's may not.
        if (stored.member_id.empty() || members_.contains(stored.member_id)) continue;
        if (stored.instance_id && static_members_.contains(*stored.instance_id)) continue;
        if (!protocol_name_) protocol_name_ = "";
        Member& member = members_[stored.member_id];
        member.id = stored.member_id;
        member.instance_id = std::move(stored.instance_id);
        if (member.instance_id) static_members_[*member.instance_id] = member.id;
        member.client_id = std::move(stored.client_id);
        member.client_host = std::move(stored.client_host);
        member.session_timeout = std::max(stored.session_timeout, config_.session_timeout_min);
        member.rebalance_timeout = stored.rebalance_timeout > Duration::zero()
                                       ? stored.rebalance_timeout
                                       : member.session_timeout;
        member.protocols.push_back({*protocol_name_, std::move(stored.subscription)});
        ++protocol_support_[*protocol_name_];
        member.assignment = std::move(stored.assignment);
        member.serial = next_serial_++;
        member.is_new = false;
        renew_session(member, now);
        bytes_ += member.bytes();
    }
    if (members_.empty()) {
        protocol_name_.reset();
        return;
    }
    state_ = GroupState::kStable;
    if (!state_since_) state_since_ = now.wall;
    leader_ = metadata.leader.value_or("");
    if (!members_.contains(leader_)) elect_leader();
    if (members_.size() > config_.group_size_max)
        prepare_rebalance(now, out, "it is larger than it may now be");
}

GroupMetadata Group::metadata(WallTime state_since) const {
    GroupMetadata stored;
    stored.protocol_type = protocol_type_;
    stored.generation = generation_;
    stored.protocol = protocol_name_;
    if (!leader_.empty()) stored.leader = leader_;
    stored.state_since = state_since;
    stored.members.reserve(members_.size());
    for (const auto& [id, member] : members_) {
        const std::vector<uint8_t>* subscription = member.metadata(*protocol_name_);
        CHECK(subscription != nullptr);
        stored.members.push_back({id, member.instance_id, member.client_id, member.client_host,
                                  member.rebalance_timeout, member.session_timeout, *subscription,
                                  member.assignment});
    }
    return stored;
}

void Group::fail_waiting(KafkaError error, GroupOutput& out) {
    for (auto& [id, member] : members_) {
        if (member.join) {
            reply(out, member.join->request_id, join_error(error, id));
            member.join.reset();
            --joined_count_;
        }
        if (member.sync) {
            reply(out, *member.sync, sync_error(error));
            member.sync.reset();
        }
    }
}

void Group::set_dead() {
    CHECK(state_ == GroupState::kEmpty);
    while (!pending_.empty()) drop_pending(pending_.begin()->first);
    state_ = GroupState::kDead;
}

void Group::revive() {
    CHECK(state_ == GroupState::kDead);
    state_ = GroupState::kEmpty;
}

void Group::set_state(GroupState state, Moment now) {
    state_ = state;
    state_since_ = now.wall;
}

std::optional<std::set<std::string>> Group::subscribed_topics() const {
    if (protocol_type_ != kConsumerProtocolType) return std::nullopt;
    std::set<std::string> all;
    for (const auto& [id, member] : members_) {
        // Until the first generation has chosen a protocol, all of a member's protocols carry the
        // same topics.
        const std::vector<uint8_t>* metadata =
            protocol_name_ ? member.metadata(*protocol_name_) : nullptr;
        if (metadata == nullptr) metadata = &member.protocols.front().metadata;
        auto topics = topics_of_subscription(*metadata);
        if (!topics) return std::nullopt;
        all.merge(*topics);
    }
    return all;
}

DescribeGroupReply Group::describe() const {
    DescribeGroupReply body;
    body.state = to_string(state_);
    body.protocol_type = protocol_type_;
    if (state_ == GroupState::kDead) return body;
    const bool stable = state_ == GroupState::kStable;
    if (stable) body.protocol = protocol_name_.value_or("");
    for (const auto& [id, member] : members_) {
        DescribedMember described{.member_id = id,
                                  .instance_id = member.instance_id,
                                  .client_id = member.client_id,
                                  .client_host = member.client_host,
                                  .metadata = {},
                                  .assignment = {}};
        if (stable) {
            if (const auto* metadata = member.metadata(body.protocol))
                described.metadata = *metadata;
            described.assignment = member.assignment;
        }
        body.members.push_back(std::move(described));
    }
    return body;
}

void Group::note(GroupOutput& out, std::string_view text) const {
    std::string line = fmt::format("group {}: {}", id_, text);
    // Names and reasons come from clients.
    std::ranges::replace_if(line, [](char c) { return static_cast<unsigned char>(c) < 0x20; }, '?');
    out.notes.push_back(std::move(line));
}

void Group::check_invariants() const {
    size_t joined = 0;
    size_t bytes = 0;
    for (const auto& [id, member] : members_) {
        CHECK(id == member.id);
        CHECK(!member.protocols.empty());
        CHECK(!pending_.contains(id));
        if (member.instance_id) CHECK(static_members_.find(*member.instance_id)->second == id);
        if (member.sync) CHECK(state_ == GroupState::kCompletingRebalance);
        if (member.join) CHECK(!member.sync);
        if (member.must_sync) CHECK(sync_deadline_ < Instant::never());
        // Nobody waits for ever: a join for its deadline or a write, everyone else for a session's
        // end.
        if (!member.join && !member.sync) CHECK(member.expires < Instant::never());
        CHECK(wake_ <= member.expires);
        if (member.join) ++joined;
        bytes += member.bytes();
    }
    for (const auto& [id, given_up] : pending_) {
        CHECK(wake_ <= given_up);
        bytes += kPendingOverheadBytes + id.size();
    }
    CHECK(joined == joined_count_);
    CHECK(bytes == bytes_);
    CHECK(wake_ <= join_deadline_);
    CHECK(wake_ <= sync_deadline_);
    const bool has_leader = members_.contains(leader_);
    CHECK(has_leader == !members_.empty());
    switch (state_) {
        case GroupState::kEmpty:
        case GroupState::kDead:
            CHECK(members_.empty());
            CHECK(join_deadline_ == Instant::never());
            break;
        case GroupState::kPreparingRebalance:
            CHECK(join_deadline_ < Instant::never());
            break;
        case GroupState::kCompletingRebalance:
        case GroupState::kStable:
            CHECK(!members_.empty());
            CHECK(protocol_name_.has_value());
            CHECK(join_deadline_ == Instant::never());
            CHECK(!initial_delay_);
            break;
    }
    if (proposed_) CHECK(state_ == GroupState::kCompletingRebalance);
}

}  // namespace weir::kafka
