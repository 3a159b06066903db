// GroupShard: the group coordinators of one shard: one for each partition of __consumer_offsets
// that the shard owns. They come with the topic, and with the node's start.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cluster/metadata_shard.h"
#include "kafka/server/group_partition.h"
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
    void open_partitions();
    runtime::Task<void> close_one(std::shared_ptr<GroupPartition> partition);

    Server& server_;
    bool closed_ = false;
    std::map<int32_t, std::shared_ptr<GroupPartition>> partitions_;
    runtime::Scope scope_;
};

}  // namespace weir::kafka
