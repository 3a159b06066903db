// What the sources of Group share: how it calls its core, and its private parts.
#pragma once

#include <type_traits>
#include <utility>

#include "base/check.h"
#include "replication/group.h"
#include "replication/replicator.h"
#include "runtime/shard.h"

namespace weir::replication {

inline std::unexpected<Error> not_leader() {
    return fail(ErrorCode::kUnavailable, "this replica does not lead its group");
}

struct Group::Read : ListHook {
    uint64_t id = 0;
    std::optional<bool> confirmed;
    runtime::WaitQueue changed;
};

// What one caller of transfer() or change_configuration() waits for.
struct Group::Outcome : ListHook {
    std::optional<bool> done;
    runtime::WaitQueue changed;
};

// A request of another node that is being handled. Its frame belongs to the endpoint, which
// outlives the group when the simulator kills the node: then nothing of the group may be touched.
struct Group::Visit {
    explicit Visit(Group& group) : group(group) { ++group.visits_; }
    ~Visit() {
        if (runtime::Shard::current().dying()) return;
        if (--group.visits_ == 0) group.visits_over_.notify_all();
    }
    Group& group;
};

// Runs one call of the core and carries out what it wants done.
template <class Call>
auto Group::call_core(Call call, std::vector<storage::Entry>* entries) {
    CHECK(!replicator_.calling_);
    replicator_.calling_ = true;
    raft::Effects& effects = replicator_.effects_;
    effects.clear();
    using R = std::invoke_result_t<Call&, raft::Core&, Instant, raft::Effects&>;
    const Instant now = replicator_.core_now();
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

inline constexpr Duration kRoomRetry = std::chrono::milliseconds(200);

// Repeats an attempt that the log refuses because the disk is full, until it succeeds. A refused
// attempt changed nothing. Until then this replica does not take part in what waits for it.
template <class Attempt>
runtime::Task<Result<void>> Group::when_there_is_room(Attempt attempt) {
    while (true) {
        Result<void> done = co_await attempt();
        if (done || done.error().code != ErrorCode::kDiskFull || closing_ || failed_)
            co_return done;
        if (!co_await runtime::sleep_for(kRoomRetry, scope_.stop_token())) co_return done;
    }
}

}  // namespace weir::replication
