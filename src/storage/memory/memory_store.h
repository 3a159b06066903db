// The storage contract kept in memory, for unit tests of the floors above. Appends become durable
// one step of the shard later. The data outlives the stores: close() and open_again() play a clean
// restart, and crash() a power cut that loses what was not durable.
#pragma once

#include <map>
#include <memory>
#include <vector>

#include "runtime/scope.h"
#include "storage/store.h"

namespace weir::storage {

class MemoryLog;

class MemoryStore final : public Store {
  public:
    MemoryStore();
    ~MemoryStore() override;
    runtime::Task<Result<Log*>> create_log(LogId id, LogConfig config) override;
    runtime::Task<Result<void>> remove_log(LogId id) override;
    runtime::Task<Result<void>> checkpoint() override;
    Log* find(LogId id) override;
    std::vector<LogId> logs() const override;
    const StoreMetrics& metrics() const override { return metrics_; }
    bool failed() const override { return failed_; }

    // From now on appends and creations fail with this code.
    void fail_with(ErrorCode code) { failure_ = code; }
    void heal() { failure_.reset(); }
    // The log is damaged from now on, until a restart or start_anew().
    void damage(LogId id, LogDamage damage);
    // As after damage of the journal, until confirm_whole().
    void mark_may_have_lost(LogId id);

    // A restart: listeners and providers are gone, their last states and what came after are
    // recovered.
    runtime::Task<void> restart(bool lose_unsynced);

  private:
    friend class MemoryLog;
    std::map<LogId, std::unique_ptr<MemoryLog>> logs_;
    StoreMetrics metrics_;
    bool failed_ = false;
    std::optional<ErrorCode> failure_;
    std::unique_ptr<runtime::Scope> scope_;
};

class MemoryStoreSet final : public StoreSet {
  public:
    explicit MemoryStoreSet(uint32_t shard_count);
    Store& local() override;
    runtime::Task<void> close() override;
    MemoryStore& store(runtime::ShardId shard) { return *stores_[shard]; }

  private:
    std::vector<std::unique_ptr<MemoryStore>> stores_;
};

}  // namespace weir::storage
