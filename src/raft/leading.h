// What a core has only while it leads, shared by its sources. Private to them.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "base/check.h"
#include "raft/core.h"

namespace weir::raft {

struct Core::Leading {
    struct Read {
        uint64_t id;
        int64_t context;  // confirmed by a heartbeat with this one or a later one
        Position position;
    };
    struct Transfer {
        NodeId target;
        Instant deadline;
    };
    struct Change {
        Configuration target;
        Instant deadline;  // for new voters to catch up
    };

    std::vector<Peer> peers;  // all other members, ascending
    std::vector<Read> reads;  // contexts ascend
    std::optional<Transfer> transfer;
    std::optional<Change> change;
    Instant idle_since{};
    // The time at which the last heartbeats left, made to ascend. So a quorum's answers also show
    // since when this leader's lease runs.
    int64_t context = 0;
    int64_t quiet_context = INT64_MAX;  // of the first heartbeat that asked for quiet
    Position recent_end;                // where the log ended a heartbeat ago
    bool lease_void = false;            // a TimeoutNow is out: followers may be disloyal
};

// One call from outside. Compares the core before and after the call, so that no path can forget to
// report a change or to save the vote.
class Core::Turn {
  public:
    Turn(Core& core, Instant now, Effects& out)
        : core_(core),
          hard_(core.hard_),
          role_(core.role_),
          leader_(core.leader_),
          commit_(core.commit_) {
        CHECK(core.started_);
        CHECK(core.out_ == nullptr);
        CHECK(now >= core.now_);
        DCHECK(out.empty());
        core.now_ = now;
        core.out_ = &out;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() {
        if (core_.role_ == Role::kLeader) core_.advance_change();
        if (core_.recovering_) core_.check_recovered();
        Effects& out = *core_.out_;
        const HardState hard = core_.hard_;
        if (hard != hard_) {
            CHECK(hard.term >= hard_.term);
            out.save = hard;
            if (core_.options_->bugs.forget_vote) out.save->voted_for = -1;
        }
        if (core_.role_ != role_ || core_.leader_ != leader_ || hard.term != hard_.term) {
            out.role = RoleChange{core_.role_, hard.term, core_.leader_};
        }
        if (core_.commit_ != commit_) out.commit = core_.commit_;
        CHECK(core_.commit_ >= commit_);
        CHECK(core_.commit_ <= core_.end_);
        CHECK(core_.durable_ <= core_.end_);
        CHECK(!out.truncate_to || out.append_begin == out.append_end);
        core_.out_ = nullptr;
    }

  private:
    Core& core_;
    HardState hard_;
    Role role_;
    NodeId leader_;
    Position commit_;
};

// The largest value that a majority of the voters has reached and, in a joint configuration, a
// majority of the old voters too. Calls `value_of(node)` for each voter.
template <class T, class F>
T Core::quorum_value(F value_of) const {
    const RaftBugs& bugs = options_->bugs;
    std::array<T, kMembersMax> values;
    const auto of = [&](auto counts) {
        size_t count = 0;
        for (const Member& member : configuration().members) {
            if (counts(member)) values[count++] = value_of(member.node);
        }
        if (count == 0) return T{};
        std::sort(values.begin(), values.begin() + count, std::greater<T>());
        return values[count / 2];
    };
    const T now = of([&](const Member& member) {
        return member.voter || (bugs.learner_counts_as_voter && member.learner);
    });
    if (!configuration().joint() || bugs.joint_needs_new_majority_only) return now;
    return std::min(now, of([](const Member& member) { return member.old_voter; }));
}

}  // namespace weir::raft
