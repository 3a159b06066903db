// TestLoop: shards with a driver that only keeps a virtual time, for unit tests without I/O. Time
// jumps to the next timer. Operations fail with ENOSYS.
#pragma once

#include <cerrno>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/prng.h"
#include "runtime/scope.h"
#include "runtime/shard.h"

namespace weir::runtime {

class VirtualTimeDriver final : public Driver {
  public:
    std::string_view name() const override { return "virtual-time"; }
    Instant now() const override { return now_; }
    WallTime wall_now() const override { return {now_.ns / 1'000'000}; }
    void submit(Op& op) override { submitted_.push_back({&Shard::current(), &op}); }
    void cancel(Op&) override {}
    void abandon(Op&) override { CHECK(false); }
    void poll(Instant) override {}
    void ring_doorbell(ShardId) override {}
    void fill_entropy(MutableBytes bytes) override {
        for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(entropy_.next());
    }
    // Whether there was any.
    bool refuse_all() {
        const auto refused = std::exchange(submitted_, {});
        for (const auto& [shard, op] : refused) {
            op->result = -ENOSYS;
            shard->complete(*op);
        }
        return !refused.empty();
    }
    Instant now_;
    Prng entropy_{1};

  private:
    std::vector<std::pair<Shard*, Op*>> submitted_;
};

class TestLoop {
  public:
    explicit TestLoop(uint32_t shard_count = 1) {
        for (uint32_t i = 0; i < shard_count; ++i) {
            shards_.push_back(std::make_unique<Shard>(Shard::Options{
                .id = i, .driver = &driver_, .group = &group_, .log = {}, .seed = i + 1}));
        }
        for (auto& shard : shards_) shard->open_rings(shard_count);
        Shard::set_current(shards_[0].get());
    }
    ~TestLoop() { Shard::set_current(nullptr); }

    // Runs the task on shard 0 to its end. CHECKs that it does not wait for ever.
    template <class T>
    T run(Task<T> task) {
        std::optional<task_detail::Stored<T>> result;
        Scope scope;
        scope.spawn(keep(std::move(task), &result));
        while (!result) {
            bool more = false;
            for (auto& shard : shards_) {
                Shard::set_current(shard.get());
                more |= shard->turn();
            }
            for (auto& shard :
                 shards_) {  // after all turns: a turn may have sent to a shard before it
                more |= !shard->prepare_to_park();
                shard->unpark();
            }
            more |= driver_.refuse_all();
            if (more) continue;
            if (result) break;
            Instant next = Instant::never();
            for (auto& shard : shards_) next = std::min(next, shard->next_deadline());
            bool progressed = next != Instant::never();
            CHECK(progressed || pending());
            if (progressed) driver_.now_ = std::max(driver_.now_, next);
        }
        Shard::set_current(shards_[0].get());
        while (scope.size() > 0) shards_[0]->turn();
        if constexpr (!std::is_void_v<T>) return std::move(*result);
    }

    VirtualTimeDriver& driver() { return driver_; }

  private:
    template <class T>
    static Task<void> keep(Task<T> task, std::optional<task_detail::Stored<T>>* result) {
        if constexpr (std::is_void_v<T>) {
            co_await std::move(task);
            result->emplace();
        } else {
            result->emplace(co_await std::move(task));
        }
    }
    bool pending() const {
        for (auto& shard : shards_) {
            if (!shard->scheduler().empty()) return true;
        }
        return false;
    }

    VirtualTimeDriver driver_;
    ShardGroup group_;
    std::vector<std::unique_ptr<Shard>> shards_;
};

}  // namespace weir::runtime
