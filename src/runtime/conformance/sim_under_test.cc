// The simulator's driver under the conformance suite: once without faults, and with those faults of
// a plan that a correct program never sees through runtime/file.h and runtime/socket.h (short
// transfers, odd chunks, shuffled run queues, late timers, stalls).
#include "runtime/conformance/conformance.h"
#include "runtime/sim/world.h"

namespace weir::runtime {
namespace {

class SimUnderTest final : public DriverUnderTest {
  public:
    explicit SimUnderTest(const sim::Plan& plan)
        : world_({.plan = plan}), node_(world_.add_node({.name = "n1"})) {
        CHECK(node_.disk().make_dir("scratch") == 0);
    }

    void run(uint32_t shards, Main main) override {
        node_.set_shard_count(shards);
        world_.start(node_, [&main](Shard& shard) { return main_of(&main, &shard); });
        const auto outcome = world_.run_until([&] { return node_.finished(); }, 24h);
        EXPECT_EQ(outcome, sim::World::Outcome::kDone);
        if (outcome == sim::World::Outcome::kDone) world_.reap(node_);
    }
    std::string scratch() override { return "/scratch"; }
    std::optional<std::string> any_address_v6() override { return "[::1]:0"; }
    std::optional<std::string> small_disk(uint64_t bytes) override {
        node_.disk().set_capacity(node_.disk().used_bytes() + bytes);
        CHECK(node_.disk().make_dir("small") == 0);
        return "/small";
    }
    bool real_time() const override { return false; }

  private:
    static Task<void> main_of(Main* main, Shard* shard) {
        if (shard->id() == 0) co_await (*main)(*shard);
    }

    sim::World world_;
    sim::Node& node_;
};

DriverParam param(std::string name, const sim::Plan& plan) {
    return {.name = std::move(name),
            .make = [plan](std::string*) { return std::make_unique<SimUnderTest>(plan); }};
}

sim::Plan rough(uint64_t seed) {
    sim::Plan plan;
    plan.seed = seed;
    plan.disk.short_read_chance = 0.3;
    plan.disk.short_write_chance = 0.3;
    plan.disk.stall_chance = 0.001;
    plan.disk.stall_max = 100ms;
    plan.net.buffer_bytes_max = 32 << 10;
    plan.net.chunk_bytes_max = 16 << 10;
    plan.schedule = {.shuffle = true,
                     .clock_read_cost = 5us,
                     .stall_chance = 0.001,
                     .stall_max = 5ms,
                     .late_timer_chance = 0.1,
                     .late_timer_max = 2ms};
    return plan;
}

INSTANTIATE_TEST_SUITE_P(Sim, Conformance,
                         testing::Values(param("plain", sim::Plan{}), param("rough", rough(1)),
                                         param("rough_again", rough(2))),
                         param_name);

}  // namespace
}  // namespace weir::runtime
