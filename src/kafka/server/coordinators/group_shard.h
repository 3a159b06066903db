// GroupShard: the group coordinators of one shard: one for each partition of __consumer_offsets
// that a replica on the shard leads, driven by kafka/coordination. Used on that shard alone.
#pragma once

#include <functional>
#include <memory>

#include "cluster/metadata_shard.h"
#include "kafka/coordination/coordinator_log.h"
#include "kafka/coordination/coordinator_shard.h"
#include "kafka/groups/coordinator.h"

namespace weir::kafka {

class Server;

using GroupPartition = CoordinatorLog<GroupCoordinator>;

class GroupShard {
  public:
    explicit GroupShard(Server& server);
    ~GroupShard();

    void start() { shard_.start(); }
    void follow(const cluster::MetadataChange& change);
    // See CoordinatorShard.
    runtime::Task<void> close() { return shard_.close(); }
    runtime::Task<void> stop() { return shard_.stop(); }

    // nullptr: not the coordinator.
    std::shared_ptr<GroupPartition> find(int32_t partition) { return shard_.find(partition); }
    void for_each(const std::function<void(GroupPartition&)>& visit) { shard_.for_each(visit); }
    size_t group_count() const;

  private:
    std::shared_ptr<GroupPartition> make(Partition& partition, runtime::Gate::Holder use);

    Server& server_;
    CoordinatorShard<GroupPartition> shard_;
};

}  // namespace weir::kafka
