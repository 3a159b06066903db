// SimDriver: the Driver of one simulated shard. Turns operations into events of its World; the Disk
// and the Network say what they do.
#pragma once

#include <memory>

#include "runtime/driver.h"
#include "runtime/sim/world.h"

namespace weir::sim {

class SimDriver final : public Driver {
  public:
    SimDriver(World& world, Node& node, ShardId shard)
        : world_(world), node_(node), shard_(shard) {}

    std::string_view name() const override { return "sim"; }
    Instant now() const override;
    WallTime wall_now() const override;
    void submit(Op& op) override;
    void cancel(Op& op) override;
    void abandon(Op& op) override;
    // The world is the loop: it delivers completions between turns.
    void poll(Instant) override {}
    void ring_doorbell(ShardId to) override;
    void fill_entropy(MutableBytes bytes) override;

    World& world() { return world_; }
    Node& node() { return node_; }
    ShardId shard() const { return shard_; }

  private:
    friend class World;
    friend class Network;

    Duration draw_latency(Duration mean);
    void submit_later(const std::shared_ptr<Pending>& pending, Duration latency);
    // Disk operations take effect at their completion.
    int32_t apply(Pending& pending);
    int32_t apply_metadata(Pending& pending);
    int32_t apply_read(Pending& pending);
    int32_t apply_write(Pending& pending);
    int32_t apply_sync(Pending& pending);
    // The process is dying: whether and how much of the operation takes effect is drawn.
    void apply_partly(Pending& pending);
    void check_no_overlap(const Pending& write) const;

    World& world_;
    Node& node_;
    ShardId shard_;
};

// Descriptors of the node's process: the lowest free one, as in the kernel.
Fd add_file(Node& node, std::shared_ptr<OpenFile> file);
std::shared_ptr<OpenFile> find_file(Node& node, Fd fd);  // nullptr: not open

}  // namespace weir::sim
