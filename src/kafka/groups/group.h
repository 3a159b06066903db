// A Group is the membership of one classic consumer group: its members, their generation, and each
// member's assignment. A pure state machine. Its offsets are kept beside it (offsets_table.h); its
// GroupCoordinator owns both.
//
//   Empty                no members; perhaps offsets
//   PreparingRebalance   collects joins until all known members have joined or the time is up
//   CompletingRebalance  every member knows the new generation; waits for the leader's assignment,
//                        and for its record to be durable
//   Stable               every member can have its assignment
//   Dead                 its tombstone is on the way to the log
//
// The last generation whose assignment was stored is durable; a join in progress is not.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/time.h"
#include "kafka/groups/config.h"
#include "kafka/groups/messages.h"
#include "kafka/groups/offsets_records.h"

namespace weir::kafka {

enum class GroupState : uint8_t {
    kEmpty,
    kPreparingRebalance,
    kCompletingRebalance,
    kStable,
    kDead,
};

// Kafka's name for it, as in DescribeGroups.
std::string_view to_string(GroupState state);

// A record of the group that should become durable. on_written() reports the result.
struct GroupWrite {
    enum class Purpose : uint8_t {
        kAssignment,    // the leader's; the members that wait in sync get it afterwards
        kEmptied,       // the last member left; nobody waits
        kStaticMember,  // a static member came back under a new id; its join waits
    };
    Purpose purpose;
    int32_t generation;
    std::string member_id;  // of kStaticMember
    LogRecord record;
};

// The outputs of a step of the group.
struct GroupOutput {
    bool can_write =
        true;  // false: too many appends are outstanding, so a write counts as failed at once
    std::vector<GroupReply> replies;
    std::vector<GroupWrite> writes;
    std::vector<std::string> notes;
};

class Group {
  public:
    // `config` must outlive the group.
    Group(std::string id, const GroupConfig& config) : id_(std::move(id)), config_(config) {}

    // Sets the members of a stored generation; their sessions start now.
    void restore(GroupMetadata metadata, Moment now, GroupOutput& out);

    // `fresh_member_id` is used if the request has no member id.
    void join(RequestId request_id, JoinInput request, std::string fresh_member_id, Moment now,
              GroupOutput& out);
    void sync(RequestId request_id, SyncInput request, Moment now, GroupOutput& out);
    KafkaError heartbeat(const HeartbeatInput& request, Moment now);
    KafkaError leave(const LeavingMember& leaving, Moment now, GroupOutput& out);
    // Whether this client may commit now. Counts as a sign of life of the member.
    KafkaError validate_commit(const CommitInput& request, Moment now);

    void on_written(const GroupWrite& write, bool ok, Moment now, GroupOutput& out);
    void tick(Moment now, GroupOutput& out);
    // At or before the next thing that tick() has to do.
    Instant next_deadline() const { return wake_; }
    // Answers all waiting requests with this error.
    void fail_waiting(KafkaError error, GroupOutput& out);

    void set_dead();
    void revive();  // the tombstone failed

    const std::string& id() const { return id_; }
    GroupState state() const { return state_; }
    int32_t generation() const { return generation_; }
    const std::string& protocol_type() const { return protocol_type_; }
    // Empty, and no member that was told its id may still join.
    bool deserted() const { return state_ == GroupState::kEmpty && pending_.empty(); }
    // When the group entered its state; nullopt if the log did not say.
    std::optional<WallTime> state_since() const { return state_since_; }
    // The topics that members subscribe to, if the group's members are consumers and all their
    // subscriptions can be read.
    std::optional<std::set<std::string>> subscribed_topics() const;
    DescribeGroupReply describe() const;
    // An estimate of the memory that members, assignments and promised places take.
    size_t bytes() const { return bytes_; }
    // Aborts where an invariant does not hold; O(members).
    void check_invariants() const;

  private:
    struct Member {
        std::string id;
        std::optional<std::string> instance_id;
        std::string client_id;
        std::string client_host;
        Duration session_timeout{};
        Duration rebalance_timeout{};
        std::vector<JoinProtocol> protocols;
        std::vector<uint8_t> assignment;
        uint64_t serial = 0;     // the order of arrival
        bool is_new = true;      // has not yet ended its first join
        bool must_sync = false;  // was told this generation, and has not asked for its assignment
        Instant expires = Instant::never();
        struct WaitingJoin {
            RequestId request_id;
            bool can_skip_assignment = false;
            std::string
                leader_before;  // the leader's id, before this join replaced a static member's
        };
        std::optional<WaitingJoin> join;
        std::optional<RequestId> sync;

        const std::vector<uint8_t>* metadata(std::string_view protocol) const;
        size_t bytes() const;
    };
    using Members = std::map<std::string, Member, std::less<>>;

    // A rebalance of a group that was empty waits for more members to arrive, for a while.
    struct InitialDelay {
        Instant until_max;  // not extended beyond
        bool member_arrived = false;
    };

    void join_new(RequestId request_id, JoinInput& request, std::string member_id, Moment now,
                  GroupOutput& out);
    void join_known(RequestId request_id, JoinInput& request, Moment now, GroupOutput& out);
    void add_member(RequestId request_id, JoinInput& request, std::string member_id, Moment now,
                    GroupOutput& out);
    void rejoin(Member& member, RequestId request_id, JoinInput& request, Moment now,
                GroupOutput& out);
    void replace_static_member(Members::iterator old, RequestId request_id, JoinInput& request,
                               std::string member_id, Moment now, GroupOutput& out);
    void update_member(Member& member, JoinInput& request);
    bool drop_pending(std::string_view member_id);
    void remove_member(std::string_view member_id, Moment now, GroupOutput& out,
                       std::string_view why);

    void drop_member(std::string_view member_id, GroupOutput& out, std::string_view why);

    void prepare_rebalance(Moment now, GroupOutput& out, std::string_view why);
    void try_complete_join(Moment now, GroupOutput& out);
    void on_join_deadline(Moment now, GroupOutput& out);
    void complete_join(Moment now, GroupOutput& out);
    void begin_generation();
    void become_empty(Moment now, GroupOutput& out);
    void on_sync_deadline(Moment now, GroupOutput& out);
    void propose_assignment(std::vector<SyncAssignment> assignments, Moment now, GroupOutput& out);
    void fail_assignment(KafkaError error, Moment now, GroupOutput& out);

    // group.max.size, or how many members fit one record, as far as that is known.
    size_t size_max() const { return std::min(config_.group_size_max, fitting_max_); }
    KafkaError validate_member(std::string_view member_id,
                               const std::optional<std::string>& instance_id) const;
    bool admits(const JoinInput& request) const;
    bool supports(const JoinInput& request) const;
    bool same_subscription(const Member& member, const JoinInput& request) const;
    std::string select_protocol() const;
    void elect_leader();
    Duration rebalance_timeout() const;
    GroupMetadata metadata(WallTime state_since) const;

    void answer_join(Member& member, Moment now, GroupOutput& out);
    void answer_sync(Member& member, KafkaError error, Moment now, GroupOutput& out);
    void await_join(Member& member, Member::WaitingJoin waiting, Moment now, GroupOutput& out);
    JoinReply join_reply(const Member& member) const;
    void renew_session(Member& member, Moment now);
    void set_state(GroupState state, Moment now);
    void wake_by(Instant deadline) { wake_ = std::min(wake_, deadline); }
    void note(GroupOutput& out, std::string_view text) const;

    const std::string id_;
    const GroupConfig& config_;
    GroupState state_ = GroupState::kEmpty;
    std::optional<WallTime> state_since_;
    int32_t generation_ = 0;
    std::string protocol_type_;  // stays when the last member leaves
    std::optional<std::string> protocol_name_;
    std::string leader_;  // empty: none
    Members members_;
    std::map<std::string, std::string, std::less<>> static_members_;  // instance id -> member id
    std::map<std::string, Instant, std::less<>>
        pending_;  // told their id, not yet joined -> when given up
    std::map<std::string, size_t, std::less<>>
        protocol_support_;  // protocol name -> members that know it
    uint64_t next_serial_ = 0;
    size_t joined_count_ = 0;  // members that wait in join
    // How many members the group may have, so that its record fits an append: known when one did
    // not. Until the group is empty.
    size_t fitting_max_ = SIZE_MAX;
    std::optional<InitialDelay> initial_delay_;
    Instant join_deadline_ = Instant::never();
    Instant sync_deadline_ = Instant::never();
    // The leader's assignment of generation_, on its way to the log.
    std::optional<std::map<std::string, std::vector<uint8_t>, std::less<>>> proposed_;
    Instant wake_ = Instant::never();
    size_t bytes_ = 0;
};

}  // namespace weir::kafka
