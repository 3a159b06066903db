// GroupCoordinator: the classic consumer groups of ONE partition of __consumer_offsets: who is in
// which group, and which offsets were committed. A pure state machine: no I/O, no clock, no
// runtime. Inputs are requests, replayed records, results of appends and the passing of time;
// outputs are GroupEffects. Owned by a driver, and used only on the shard that owns the partition.
//
// What survives a crash is what its records say: the durable state is the fold of the partition's
// records, in log order. Offsets are changed in memory only when their record is durable, so
// nothing is fetched that a crash could take back. Joins in progress survive nothing: after a move
// the members get kUnknownMemberId or kIllegalGeneration and join again, as with Kafka.
//
// The protocol: "Kafka Client-side Assignment Proposal", KIP-62, KIP-134 (initial delay), KIP-211
// (offset expiry), KIP-345 (static members), KIP-394 (two-step join), KIP-496 (offset delete),
// KIP-518, KIP-814 (skip assignment), KIP-1043.
//
// THE CONTRACT WITH THE DRIVER
//
// Life. A coordinator is made closed. begin_load(), then replay() of each record of the partition
// from its log start in order, then finish_load(): it serves. close(): it answers all that waits
// with kNotCoordinator, forgets everything, and may be loaded again. Closed, it answers every
// request with kNotCoordinator; loading, with kCoordinatorLoadInProgress (heartbeats with kNone, so
// that members do not leave over a short load). Requests may come at any time, in any state, also
// while appends are outstanding.
//
// GroupEffects. The driver carries out what each call returns, in any order among the three lists:
//   - `appends`: each is one record batch (all or nothing). Batches are written to the partition in
//     the order in which they were returned, also across calls. For each, on_append_done(token, ok)
//     is called once: ok when the batch is durable (and committed), not ok when it is certain that
//     the driver no longer waits for it (error, or too long). Results may come in any order; they
//     take effect in the order of the appends. A failed append may still turn up in the log later:
//     its clients were told to try again. A driver whose log can no longer be written (leadership
//     lost) calls close() instead; later results are ignored.
//   - `replies`: each answers one RequestId, and each RequestId gets one reply: at once, when an
//     append is durable, when a rebalance ends, or at close(). The driver drops a reply whose
//     connection is gone.
//   - `notes`: lines for the log, about members and generations. Correctness does not need them.
//
// Time. tick() is called when next_deadline() has come; later is harmless (timeouts fire late),
// sooner too. next_deadline() may change with every call. Every call takes the present Moment;
// instants never go back.
//
// What is checked before: authorization, that the group belongs to this partition (partition_for),
// and that topics exist; a partition that is refused is handed over with its verdict, so that one
// reply carries all (CommitPartition::refused). A topic's deletion may pass a commit on its way
// here: a driver that asks for the topic on the coordinator's own shard closes that gap.
//
// Rewriting. The log is not compacted yet: to shorten it, the driver holds back calls until
// appends_outstanding() is 0, takes for_each_live_record(), appends these records, goes on at once,
// and cuts the log's prefix when the last of them is durable.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/groups/config.h"
#include "kafka/groups/messages.h"
#include "kafka/groups/offsets_records.h"

namespace weir {
class Prng;
}

namespace weir::kafka {

struct GroupOutput;

struct GroupAppend {
    AppendToken token;
    std::vector<LogRecord> records;
};

struct GroupEffects {
    std::vector<GroupReply> replies;
    std::vector<GroupAppend> appends;
    std::vector<std::string> notes;
};

class GroupCoordinator {
  public:
    // `entropy` makes member ids; it must outlive the coordinator.
    GroupCoordinator(GroupConfig config, Prng& entropy);
    ~GroupCoordinator();
    GroupCoordinator(const GroupCoordinator&) = delete;
    GroupCoordinator& operator=(const GroupCoordinator&) = delete;

    // ---- Life
    void begin_load();
    // An error says that this record was skipped and why (it does not parse); the load may
    // continue.
    Result<> replay(Bytes key, std::optional<Bytes> value);
    [[nodiscard]] GroupEffects finish_load(Moment now);
    [[nodiscard]] GroupEffects close();
    bool serving() const { return life_ == Life::kServing; }

    // ---- Requests that may wait or change something
    [[nodiscard]] GroupEffects join(RequestId id, JoinInput request, Moment now);
    [[nodiscard]] GroupEffects sync(RequestId id, SyncInput request, Moment now);
    [[nodiscard]] GroupEffects heartbeat(RequestId id, const HeartbeatInput& request, Moment now);
    [[nodiscard]] GroupEffects leave(RequestId id, const LeaveInput& request, Moment now);
    [[nodiscard]] GroupEffects commit_offsets(RequestId id, CommitInput request, Moment now);
    [[nodiscard]] GroupEffects delete_offsets(RequestId id, const OffsetDeleteInput& request,
                                              Moment now);
    // One of the groups of a DeleteGroups request; each has a RequestId of its own.
    [[nodiscard]] GroupEffects delete_group(RequestId id, std::string_view group, Moment now);

    // ---- Requests that only read: answered in place
    // `topics` nullopt: everything that the group committed. A partition without a committed offset
    // is answered with offset -1, not with an error.
    OffsetFetchReply fetch_offsets(std::string_view group,
                                   const std::optional<std::vector<TopicPartitions>>& topics) const;
    // Filters ignore case; an empty filter accepts everything.
    ListGroupsReply list_groups(const std::vector<std::string>& states,
                                const std::vector<std::string>& types) const;
    DescribeGroupReply describe_group(std::string_view group) const;

    // ---- Events
    [[nodiscard]] GroupEffects on_append_done(AppendToken token, bool ok, Moment now);
    [[nodiscard]] GroupEffects on_topics_deleted(const std::vector<std::string>& topics,
                                                 Moment now);
    // Instant::never() when there is nothing to wait for.
    Instant next_deadline() const;
    [[nodiscard]] GroupEffects tick(Moment now);

    // ---- Rewriting and looking in
    size_t appends_outstanding() const { return appends_.size(); }
    // The records that produce the present durable state when replayed from nothing. Only while no
    // append is outstanding.
    void for_each_live_record(const std::function<void(LogRecord)>& visit) const;
    size_t group_count() const { return groups_.size(); }
    size_t state_bytes() const { return state_bytes_; }

    // Aborts where an invariant does not hold; O(state). For tests.
    void check_invariants() const;

  private:
    enum class Life : uint8_t { kClosed, kLoading, kServing };
    struct Entry;       // a group, its offsets, and what the coordinator keeps about them
    struct OpenAppend;  // an append whose result is awaited, and what is to be done then
    struct OffsetDeletion;
    using TopicPartition = std::pair<std::string, int32_t>;

    Entry* find(std::string_view group) const;
    // Null where there are too many groups.
    Entry* find_or_make(std::string_view group);
    // Why requests for this group can't be served; nothing if they can.
    std::optional<KafkaError> refusal(std::string_view group, bool may_be_nameless) const;
    KafkaError validate_join(JoinInput& request) const;
    std::string make_member_id(const JoinInput& request);
    bool overloaded() const;
    GroupOutput group_output() const;

    // Turns a group's outputs into effects and updates the bookkeeping about the group; may forget
    // it.
    void settle(Entry& entry, GroupOutput output, GroupEffects& effects);
    void settle(Entry& entry);
    void append(Entry& entry, std::vector<LogRecord> records, std::unique_ptr<OpenAppend> open,
                GroupEffects& effects);
    void append_tombstones(Entry& entry, const std::vector<TopicPartition>& offsets,
                           std::shared_ptr<OffsetDeletion> deletion, GroupEffects& effects);
    void append_group_deletion(Entry& entry, std::optional<RequestId> request,
                               GroupEffects& effects);
    void apply(OpenAppend& open, Moment now, GroupEffects& effects);
    void expire_offsets(Entry& entry, WallTime now, GroupEffects& effects);
    void step_expiry(Moment now, GroupEffects& effects);

    const GroupConfig config_;
    Prng& entropy_;
    Life life_ = Life::kClosed;
    std::map<std::string, std::unique_ptr<Entry>, std::less<>> groups_;
    std::set<std::pair<Instant, std::string_view>>
        deadlines_;                                    // of groups; the names lie in groups_
    std::deque<std::unique_ptr<OpenAppend>> appends_;  // in log order
    uint64_t next_append_ = 1;
    size_t append_bytes_outstanding_ = 0;
    size_t state_bytes_ = 0;
    Instant expiry_at_ = Instant::never();
    std::string expiry_cursor_;  // where an unfinished pass over the groups goes on
};

}  // namespace weir::kafka
