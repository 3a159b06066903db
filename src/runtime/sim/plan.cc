#include "runtime/sim/plan.h"

#include <fmt/format.h>

#include <cmath>

#include "base/prng.h"

namespace weir::sim {
namespace {

// Most runs have few classes of faults: one class alone is seen more clearly, and lets the run come
// further.
struct Draw {
    Prng prng;
    double density;

    bool on() { return prng.chance(density); }
    // Small more often than large: log-uniform.
    double rate(double low, double high) {
        const double value = low * std::pow(high / low, prng.unit());
        return value;
    }
    Duration time(Duration low, Duration high) {
        return Duration(static_cast<int64_t>(
            rate(static_cast<double>(low.count()), static_cast<double>(high.count()))));
    }
};

}  // namespace

Plan draw_plan(uint64_t seed) {
    Plan plan;
    plan.seed = seed;
    Prng prng(seed, "plan");
    const double density = prng.chance(0.1) ? 0 : prng.unit() * 0.6;
    Draw draw{prng, density};

    DiskFaults& disk = plan.disk;
    const double speed = draw.rate(0.05, 20);
    const auto scaled = [&](Duration mean) {
        return Duration(
            static_cast<int64_t>(static_cast<double>(mean.count()) * speed * draw.rate(0.3, 3)));
    };
    disk.read_mean = scaled(disk.read_mean);
    disk.write_mean = scaled(disk.write_mean);
    disk.sync_mean = scaled(disk.sync_mean);
    disk.metadata_mean = scaled(disk.metadata_mean);
    if (draw.on()) {
        disk.stall_chance = draw.rate(0.0002, 0.02);
        disk.stall_max = draw.time(5ms, 5s);
    }
    if (draw.on()) disk.short_read_chance = draw.rate(0.005, 0.5);
    if (draw.on()) disk.short_write_chance = draw.rate(0.005, 0.5);
    if (draw.on()) disk.read_error_chance = draw.rate(0.0001, 0.02);
    if (draw.on()) disk.write_error_chance = draw.rate(0.0001, 0.01);
    if (draw.on()) disk.sync_error_chance = draw.rate(0.0001, 0.01);
    if (draw.on()) disk.metadata_error_chance = draw.rate(0.0005, 0.02);
    if (draw.on()) disk.metadata_full_chance = draw.rate(0.001, 0.1);
    disk.torn_sectors = draw.prng.chance(0.7);
    disk.garbage_sectors = draw.prng.chance(0.2);
    disk.unordered_metadata = draw.prng.chance(0.5);

    NetFaults& net = plan.net;
    net.delay_min = draw.time(1us, 5ms);
    net.delay_mean = draw.time(1us, 20ms);
    if (draw.on()) {
        net.slow_chance = draw.rate(0.0005, 0.05);
        net.slow_max = draw.time(1ms, 3s);
    }
    if (draw.on()) net.buffer_bytes_max = static_cast<uint64_t>(draw.rate(16, 65536));
    if (draw.on()) net.chunk_bytes_max = static_cast<uint64_t>(draw.rate(1, 16384));
    if (draw.on()) net.connect_refused_chance = draw.rate(0.01, 0.3);
    if (draw.on()) net.connect_timeout_chance = draw.rate(0.005, 0.1);
    if (draw.on()) {
        net.reset_chance = draw.rate(0.01, 0.5);
        net.reset_bytes_max = static_cast<uint64_t>(draw.rate(16, 1 << 20));
    }
    if (draw.on()) {
        net.stall_chance = draw.rate(0.00005, 0.005);
        net.stall_max = draw.time(10ms, 30s);
    }

    ClockFaults& clock = plan.clock;
    if (draw.on()) clock.drift_max = draw.rate(0.00001, 0.05);
    if (draw.on()) {
        clock.jump_mean = draw.time(100ms, 60s);
        clock.jump_max = draw.time(1ms, 24h);
    }

    ScheduleFaults& schedule = plan.schedule;
    schedule.shuffle = draw.prng.chance(0.5);
    schedule.clock_read_cost = draw.on() ? draw.time(1us, 300us) : draw.time(20ns, 2us);
    if (draw.on()) {
        schedule.stall_chance = draw.rate(0.0001, 0.02);
        schedule.stall_max = draw.time(100us, 2s);
    }
    if (draw.on()) {
        schedule.late_timer_chance = draw.rate(0.001, 0.25);
        schedule.late_timer_max = draw.time(1ms, 2s);
    }

    CrashFaults& crash = plan.crash;
    if (draw.prng.chance(0.8)) {
        crash.life_mean = draw.time(2ms, 5s);
        crash.power_share = draw.prng.chance(0.3) ? 1 : draw.prng.unit();
        crash.recovery_share = draw.prng.chance(0.5) ? draw.prng.unit() * 0.7 : 0;
    }
    return plan;
}

void draw_corruption(Plan& plan) {
    Draw draw{Prng(plan.seed, "corruption"), 0.5};
    DiskFaults& disk = plan.disk;
    while (!disk.corrupts()) {
        if (draw.on()) disk.bit_rot_chance = draw.rate(0.0005, 0.05);
        if (draw.on()) disk.latent_error_chance = draw.rate(0.0005, 0.05);
        if (draw.on()) disk.misdirected_write_chance = draw.rate(0.0005, 0.02);
        if (draw.on()) disk.lost_write_chance = draw.rate(0.0005, 0.02);
    }
}

std::string Plan::to_string() const {
    const auto us = [](Duration d) {
        return fmt::format("{}us", static_cast<double>(d.count()) / 1000);
    };
    std::string text = fmt::format("plan seed={}\n", seed);
    text += fmt::format(
        "  disk: means read={} write={} sync={} metadata={} capacity={} torn={} garbage={} "
        "unordered={}\n",
        us(disk.read_mean), us(disk.write_mean), us(disk.sync_mean), us(disk.metadata_mean),
        disk.capacity_bytes, disk.torn_sectors, disk.garbage_sectors, disk.unordered_metadata);
    text += fmt::format(
        "  disk: stall={:.5f}*{} short_read={:.5f} short_write={:.5f} read_error={:.5f} "
        "write_error={:.5f} sync_error={:.5f} "
        "metadata_error={:.5f} metadata_full={:.5f}\n",
        disk.stall_chance, us(disk.stall_max), disk.short_read_chance, disk.short_write_chance,
        disk.read_error_chance, disk.write_error_chance, disk.sync_error_chance,
        disk.metadata_error_chance, disk.metadata_full_chance);
    text += fmt::format(
        "  disk: bit_rot={:.5f} latent_error={:.5f} misdirected={:.5f} lost_write={:.5f}\n",
        disk.bit_rot_chance, disk.latent_error_chance, disk.misdirected_write_chance,
        disk.lost_write_chance);
    text += fmt::format(
        "  net: delay={}+{} slow={:.5f}*{} buffer<={} chunk<={} refused={:.5f} timeout={:.5f} "
        "reset={:.5f}<={} stall={:.5f}*{}\n",
        us(net.delay_min), us(net.delay_mean), net.slow_chance, us(net.slow_max),
        net.buffer_bytes_max, net.chunk_bytes_max, net.connect_refused_chance,
        net.connect_timeout_chance, net.reset_chance, net.reset_bytes_max, net.stall_chance,
        us(net.stall_max));
    text += fmt::format("  clock: drift<={:.6f} jump every {} <={}\n", clock.drift_max,
                        us(clock.jump_mean), us(clock.jump_max));
    text += fmt::format(
        "  schedule: shuffle={} clock_read={} stall={:.5f}*{} late_timer={:.5f}*{}\n",
        schedule.shuffle, us(schedule.clock_read_cost), schedule.stall_chance,
        us(schedule.stall_max), schedule.late_timer_chance, us(schedule.late_timer_max));
    text += fmt::format("  crash: life={} power={:.2f} recovery={:.2f}\n", us(crash.life_mean),
                        crash.power_share, crash.recovery_share);
    return text;
}

}  // namespace weir::sim
