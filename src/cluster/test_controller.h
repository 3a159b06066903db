// For tests: the controller of a node of several shards over stores in memory, which is a cluster
// of its own.
#pragma once

#include <memory>
#include <vector>

#include "cluster/controller.h"
#include "runtime/remote.h"
#include "runtime/test_loop.h"
#include "storage/memory/memory_store.h"

namespace weir::cluster {

class TestController {
  public:
    static constexpr uint32_t kShards = 3;

    explicit TestController(storage::MemoryStoreSet& stores) : stores(stores) {
        for (uint32_t i = 0; i < kShards; ++i) {
            shards.push_back(std::make_unique<MetadataShard>(0, ConfigMap{}));
            storage::MemoryStore* store = &stores.store(i);
            shards[i]->set_hooks(
                {.create_logs = [store](std::vector<NewLog> logs) -> runtime::Task<Result<void>> {
                     return make(store, std::move(logs));
                 },
                 .remove_logs = [store](std::vector<storage::LogId> ids) -> runtime::Task<void> {
                     return drop(store, std::move(ids));
                 },
                 .changed = {}});
        }
    }
    static runtime::Task<Result<void>> make(storage::MemoryStore* store, std::vector<NewLog> logs) {
        for (const NewLog& log : logs)
            co_await runtime::try_(store->create_log(log.id, log.config));
        co_return Result<void>{};
    }
    static runtime::Task<void> drop(storage::MemoryStore* store, std::vector<storage::LogId> ids) {
        for (const storage::LogId id : ids) (void)co_await store->remove_log(id);
    }
    runtime::Task<Result<void>> start() {
        storage::Log* log = stores.store(0).find(storage::kMetadataLog);
        if (log == nullptr)
            log = co_await runtime::try_(stores.store(0).create_log(storage::kMetadataLog, {}));
        std::vector<MetadataShard*> pointers;
        for (auto& shard : shards) pointers.push_back(shard.get());
        replication::ReplicatorOptions options;
        options.self = NodeId{0};
        options.store = &stores.store(0);
        replicator = std::make_unique<replication::Replicator>(std::move(options));
        replicator->start(nullptr);
        controller = std::make_unique<Controller>(Controller::Options{
            .shards = pointers, .log = log, .replicator = replicator.get(), .on_fatal = {}});
        co_await runtime::try_(controller->open(raft::voters({0})));
        co_await runtime::try_(controller->lead_alone({}));
        co_await runtime::try_(controller->serve_from(controller->applied(), {}));
        controller->follow();
        co_return Result<void>{};
    }
    runtime::Task<void> stop() {
        co_await controller->close();
        co_await replicator->close();
    }

    storage::MemoryStoreSet& stores;
    std::vector<std::unique_ptr<MetadataShard>> shards;
    std::unique_ptr<replication::Replicator> replicator;
    std::unique_ptr<Controller> controller;
};

}  // namespace weir::cluster
