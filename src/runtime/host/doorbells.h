// One eventfd for each shard of a real node. A write to it wakes that shard's poll. Writers are
// other shards, the shard's helper thread, and signal handlers (write(2) is async-signal-safe).
// Made before the shards' threads start and closed after they ended.
#pragma once

#include <cstdint>
#include <vector>

#include "base/result.h"

namespace weir::runtime {

class Doorbells {
  public:
    static Result<Doorbells> create(uint32_t count);
    Doorbells(Doorbells&& other) noexcept = default;
    Doorbells& operator=(Doorbells&&) = delete;
    ~Doorbells();

    int fd(uint32_t shard) const { return fds_[shard]; }
    void ring(uint32_t shard) const;

  private:
    explicit Doorbells(std::vector<int> fds) : fds_(std::move(fds)) {}
    std::vector<int> fds_;
};

}  // namespace weir::runtime
