// GroupShard: the group coordinators of one shard: one for each partition of __consumer_offsets
// that a replica on the shard leads. They come and go with the leadership; followers have none.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/coordinators/group_partition.h"
#include "kafka/server/partitions/lead_listeners.h"
#include "runtime/scope.h"

namespace weir::kafka {

class Server;

class GroupShard {
  public:
    explicit GroupShard(Server& server);
    ~GroupShard();

    void start();
    void follow(const cluster::MetadataChange& change);
    // Answers who waits; requests that come later are told that this is not their coordinator.
    runtime::Task<void> close();
    runtime::Task<void> stop();

    // nullptr: not the coordinator.
    std::shared_ptr<GroupPartition> find(int32_t partition);
    void for_each(const std::function<void(GroupPartition&)>& visit);
    size_t group_count() const;

  private:
    // A replica of some partition began to lead and is ready, or does so no more.
    void on_leads(Partition& partition);
    void open_partitions();
    bool can_load(const Partition& partition) const;
    runtime::Task<void> open_soon();
    void close_one(int32_t index);
    runtime::Task<void> close_and_open(std::shared_ptr<GroupPartition> partition);

    Server& server_;
    bool started_ = false;
    bool closed_ = false;
    bool opening_ = false;
    std::set<int32_t> closing_;  // those that still have work under way
    std::map<int32_t, std::shared_ptr<GroupPartition>> partitions_;
    LeadListeners::Registration leads_;
    runtime::Scope scope_;
};

}  // namespace weir::kafka
