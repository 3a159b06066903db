#include "storage_workload.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/wait.h"
#include "storage_run.h"

namespace weir::sim {

namespace {

constexpr Duration kLifeMax = 2h;  // of virtual time: a life that is not over by then is stuck

StorageKnobs draw_storage_knobs(uint64_t seed) {
    Prng prng(seed, "knobs");
    StorageKnobs knobs{};
    knobs.lives = static_cast<int>(prng.between(2, 8));
    knobs.shards_max = static_cast<uint32_t>(prng.between(1, 4));
    knobs.clients = static_cast<uint32_t>(prng.between(1, 5));
    knobs.operations = static_cast<uint32_t>(prng.between(10, 120));
    knobs.payload_max = uint64_t{64} << prng.below(7);
    knobs.large_chance = prng.chance(0.5) ? prng.unit() * 0.1 : 0;
    knobs.large_max = uint64_t{8192} << prng.below(4);
    StoreOptions& store = knobs.store;
    store.directory = kDirectory;
    store.journal_file_bytes = uint64_t{64 << 10} << prng.below(3);
    store.journal_first_file_bytes = store.journal_file_bytes >> prng.below(3);
    store.journal_bytes_max = store.journal_file_bytes * prng.between(3, 8);
    store.unflushed_bytes_max = uint64_t{64 << 10} << prng.below(4);
    store.commit_bytes_max = uint64_t{16 << 10} << prng.below(3);
    store.bypass_bytes_min = uint64_t{4 << 10} << prng.below(6);
    store.cache_bytes_max = uint64_t{64 << 10} << prng.below(3);
    store.read_ahead_bytes = uint64_t{4 << 10} << prng.below(5);
    store.open_segments_max = static_cast<uint32_t>(uint64_t{1} << prng.below(7));
    store.retention_check_ms = static_cast<int64_t>(prng.between(5, 500));
    knobs.segment_bytes_max = uint64_t{64 << 10} << prng.below(4);
    knobs.retention = prng.chance(0.5);
    store.sweep_delay_ms = static_cast<int64_t>(prng.chance(0.5) ? 0 : prng.below(100));
    Prng marks(seed, "marks");
    store.journal_mark_ms = static_cast<int64_t>(marks.below(40));
    knobs.graceful_share = prng.unit();
    knobs.capacity_bytes = prng.chance(0.25) ? prng.between(1 << 20, 6 << 20) : uint64_t{256} << 20;
    knobs.pause_max = Duration(static_cast<int64_t>(prng.chance(0.3) ? 0 : prng.below(5'000'000)));
    // Segments that end soon and are kept for a moment: else few lives see retention.
    knobs.brief = knobs.retention && prng.chance(0.6);
    if (knobs.brief) {
        store.retention_check_ms = static_cast<int64_t>(prng.between(1, 30));
        knobs.segment_bytes_max = uint64_t{16 << 10} << prng.below(3);
        knobs.operations += 60;
        knobs.pause_max = std::max<Duration>(knobs.pause_max, 2ms);
    }
    knobs.rewrites = Prng(seed, "rewrites").chance(0.5);
    Prng damage(seed, "damage");
    knobs.damage_after = damage.chance(0.3) ? static_cast<int>(damage.below(8)) % knobs.lives : -1;
    knobs.repair = static_cast<Repair>(damage.below(3));
    // A budget that runs short: one run of a segment fits, and not much beside it.
    store.memory = nullptr;
    const uint64_t run_bytes =
        std::max(store.unflushed_bytes_max / 4, knobs.large_max) + (64 << 10);
    knobs.memory_bytes =
        prng.chance(0.3) ? run_bytes + prng.below(3 * run_bytes) : uint64_t{64} << 20;
    return knobs;
}

Plan plan_of(const StorageRunOptions& options) {
    Plan plan = draw_plan(options.seed);
    plan.disk.capacity_bytes = draw_storage_knobs(options.seed).capacity_bytes;
    if (options.corruption) draw_corruption(plan);
    // Descriptors that are short now and then.
    Prng prng(options.seed, "descriptors");
    if (prng.chance(0.15)) plan.disk.no_descriptor_chance = prng.unit() * 0.3;
    return plan;
}

}  // namespace

StorageRun::StorageRun(const StorageRunOptions& options)
    : options_(options),
      plan_(plan_of(options)),
      knobs_(draw_storage_knobs(options.seed)),
      world_({.plan = plan_,
              .log_sink = options.log_sink,
              .log_level = LogLevel::kDebug,
              .trace_sink = options.trace_sink}),
      node_(world_.add_node({.name = "n1"})),
      prng_(world_.prng("storage")),
      damager_(node_.disk(), kDirectory) {
    if (plan_.disk.corrupts()) knobs_.damage_after = -1;
    knobs_.store.bugs = options.bugs;
    note(plan_.to_string());
    note(knobs_.to_string());
}

// ---------------------------------------------------------------- what may go wrong

// Whether the plan has faults that a store answers with errors.
bool StorageRun::may_fail() const {
    if (healed_) return false;
    const DiskFaults& disk = plan_.disk;
    return disk.read_error_chance > 0 || disk.write_error_chance > 0 ||
           disk.sync_error_chance > 0 || disk.metadata_error_chance > 0 || disk.corrupts();
}

// An operation failed: is there a reason?
void StorageRun::judge(const Error& error, std::string_view what, const StorageLife& life,
                       std::optional<LogId> log) {
    if (log && exempt_.contains(*log) &&
        (error.code == ErrorCode::kIo || error.code == ErrorCode::kCorrupt ||
         error.code == ErrorCode::kNotFound)) {
        ++result_.seen.corruptions_told;
        return;
    }
    const bool over = life.fatal.has_value() || life.stopping;
    const bool full_possible =
        !healed_ && (plan_.disk.metadata_full_chance > 0 || knobs_.capacity_bytes < (64u << 20));
    // Mending makes it whole, or is kept from it by other faults.
    if (recovering_ && error.code == ErrorCode::kCorrupt) {
        fail(fmt::format("{} failed, although the damage can be mended: {}", what,
                         error.to_string()));
        return;
    }
    switch (error.code) {
        case ErrorCode::kDiskFull:
            ++result_.seen.disk_full;
            if (full_possible) return;
            break;
        case ErrorCode::kResourceExhausted:
            if (!healed_ && plan_.disk.no_descriptor_chance > 0) return;
            break;
        case ErrorCode::kIo:
            if (damaged()) loss_is_told_ = true;
            if (may_fail() || over || loss_is_told_) return;
            // A page that cannot be read stays so on a disk that is healed otherwise: it was told.
            loss_is_told_ |= plan_.disk.latent_error_chance > 0;
            if (loss_is_told_) return;
            break;
        case ErrorCode::kNotFound:
        case ErrorCode::kCorrupt:
            ++result_.seen.corruptions_told;
            if (damaged()) {
                loss_is_told_ = true;
                return;
            }
            break;
        case ErrorCode::kUnavailable:
        case ErrorCode::kCancelled:
            if (over) return;
            break;
        default:
            break;
    }
    if (over && may_fail()) return;
    fail(fmt::format("{} failed without a reason: {}", what, error.to_string()));
}

// ---------------------------------------------------------------- lives

namespace {

// Where a flipped bit must be noticed. What is replaced as a whole has its checksum; of what is
// written on and on, the end looks torn.
bool may_rot(std::string_view path, bool settled) {
    return settled || path.ends_with("/checkpoint") || path.ends_with("/layout");
}

}  // namespace

StorageRunResult StorageRun::run() {
    const int rot_after = prng_.chance(0.15)
                              ? static_cast<int>(prng_.below(static_cast<uint64_t>(knobs_.lives)))
                              : -1;
    const int damage_after = rot_after < 0 ? knobs_.damage_after : -1;
    for (int i = 0; i < knobs_.lives && !over(); ++i) {
        live(false);
        recover_from_damage();
        if (over()) break;
        if (i == damage_after) damage_a_file();
        if (damage_after >= 0 && i + 1 == damage_after) damager_.remember();
        if (i != rot_after) continue;
        const std::string where = node_.disk().rot(prng_, may_rot);
        rotted_ = !where.empty();
        if (rotted_) note("a bit flips in " + where);
    }
    // The last lives: a healthy machine. What was confirmed is there, and everything works again.
    if (!over()) {
        note("healing");
        healed_ = true;
        world_.heal();
        node_.disk().set_capacity(uint64_t{1} << 30);
        node_.disk_faults().capacity_bytes = uint64_t{1} << 30;
        // Whoever looks for damage where there is none finds none.
        if (!damaged() && options_.seed % 4 == 0) live(true, true);
        for (int i = 0; i < 2 && !over(); ++i) {
            live(true);
            recover_from_damage();
        }
    }
    result_.failure = failure_;
    result_.trace_hash = world_.trace_hash() ^ node_.disk().content_hash();
    result_.virtual_time = world_.now() - Instant{};
    result_.steps = world_.steps();
    result_.seen.corruptions_made = node_.corruptions() + (rotted_ || damage_ ? 1 : 0);
    return result_;
}

void StorageRun::damage_a_file() {
    Prng prng(options_.seed, "damage a file");
    damage_ = damager_.damage(prng);
    if (!damage_) return;
    note("damage: " + damage_->to_string());
    if (damage_->log) exempt_.insert(*damage_->log);
    ++result_.seen.files_damaged;
}

// The store refused a journal: what is whole of it is used again, as an operator would have it, or
// a node that has replicas elsewhere. That may be killed and run again, too.
void StorageRun::recover_from_damage() {
    if (!failure_.empty() || !loss_is_told_ || !damage_ || mended_) return;
    if (damage_->file != DamagedFile::kJournal || knobs_.repair == Repair::kNone) return;
    constexpr int kAttempts = 6;
    recovering_ = true;
    looked_ = knobs_.repair != Repair::kMend;
    for (int i = 0; i < kAttempts && failure_.empty() && !mended_; ++i) {
        loss_is_told_ = false;
        suspicion_.clear();
        live(healed_, !looked_);
    }
    recovering_ = false;
    if (mended_) ++result_.seen.mended;
    // Other faults were in the way of it, or a log's own files are gone.
    loss_is_told_ = !mended_;
}

World::Main StorageRun::main_of(StorageLife* life) {
    return [this, life](Shard& shard) { return node_main(this, life, &shard); };
}

void StorageRun::live(bool healed, bool offline) {
    ++result_.seen.lives;
    if (knobs_.memory_bytes < (64 << 20)) ++result_.seen.memory_short;
    const auto shards = static_cast<uint32_t>(prng_.between(1, knobs_.shards_max));
    StorageLife life(*this, node_.lives() + 1, healed, shards, knobs_.memory_bytes);
    life.offline = offline;
    const CrashFaults& crash = plan_.crash;
    const bool killed = !healed && crash.life_mean > 0s && prng_.chance(0.9);
    const bool in_recovery = killed && prng_.chance(crash.recovery_share);
    const uint64_t first_step = world_.steps();
    // A kill strikes after a time or after a number of steps: the latter reach the dense places.
    uint64_t kill_step = UINT64_MAX;
    Instant kill_time = Instant::never();
    if (in_recovery) {
        kill_step = first_step + prng_.below(prng_.chance(0.5) ? 60 : 1500);
    } else if (killed && prng_.chance(0.5)) {
        kill_step = first_step + 50 + prng_.below(uint64_t{200} << prng_.below(8));
    } else if (killed) {
        kill_time = world_.now() + Duration(static_cast<int64_t>(prng_.exponential(
                                       static_cast<double>(crash.life_mean.count()))));
    }
    const Kill how = prng_.chance(crash.power_share) ? Kill::kPower : Kill::kProcess;
    note(fmt::format("life {} on {} shards{}{}", life.number, shards, offline ? ", offline" : "",
                     healed   ? ", healthy"
                     : killed ? ", to be killed"
                              : ""));

    node_.set_shard_count(shards);
    world_.start(node_, main_of(&life));
    // A life that failed lingers for a while: what still runs then must do no harm.
    uint64_t fatal_step = UINT64_MAX;
    const uint64_t linger = prng_.below(200);
    const auto over = [&] {
        if (life.fatal && fatal_step == UINT64_MAX) fatal_step = world_.steps() + linger;
        return this->over() || node_.finished() || world_.steps() >= kill_step ||
               world_.now() >= kill_time || (!healed && world_.steps() >= fatal_step);
    };
    const World::Outcome outcome = world_.run_until(over, kLifeMax);
    // Entries that came before the disk was full may wait for room for ever: there, somebody ends
    // it.
    const bool waits_for_room =
        !healed &&
        node_.disk().free_bytes() < 2 * knobs_.segment_bytes_max + knobs_.store.journal_file_bytes;
    if (outcome != World::Outcome::kDone && waits_for_room) {
        ++result_.seen.waits_for_room;
        note("  waits for room on the disk: " + life.to_string());
    } else if (!this->over() && outcome != World::Outcome::kDone) {
        fail(fmt::format("stuck: {} after {} steps: {}",
                         outcome == World::Outcome::kIdle ? "nothing will ever happen"
                                                          : "two hours are not enough",
                         world_.steps() - first_step, life.to_string()));
    }
    if (node_.finished()) {
        note("  ended by itself");
        world_.reap(node_);
    } else {
        note(fmt::format("  killed: {}, after {} steps, opened={} checked={}{}",
                         how == Kill::kPower ? "power" : "process", world_.steps() - first_step,
                         life.opened, life.checked, life.fatal ? ", after a fatal error" : ""));
        if (how == Kill::kPower) ++result_.seen.power_cuts;
        if (!life.checked) ++result_.seen.kills_in_recovery;
        count(life);
        world_.kill(node_, how);
    }
    end_life(life);
}

void StorageRun::count(StorageLife& life) {
    for (const StoreMetrics* metrics : std::exchange(life.metrics, {})) {
        if (metrics == nullptr) continue;
        result_.seen.bypass_bytes += metrics->bypass_bytes;
        result_.seen.handed_over_bytes += metrics->handed_over_bytes;
        result_.seen.checkpoints += metrics->checkpoints;
        result_.seen.swept += metrics->swept_files;
    }
}

void StorageRun::end_life(StorageLife& life) {
    if (!life.open_error) return;
    ++result_.seen.failed_opens;
    const Error& error = *life.open_error;
    note(fmt::format("  open failed: {}", error.to_string()));
    judge(error, "open", life);
    if (!over() && life.healed) fail("a healthy disk did not open: " + error.to_string());
}

// ---------------------------------------------------------------- results

void StorageRunResult::Seen::add(const Seen& other) {
    lives += other.lives;
    power_cuts += other.power_cuts;
    kills_in_recovery += other.kills_in_recovery;
    failed_opens += other.failed_opens;
    fatal_errors += other.fatal_errors;
    disk_full += other.disk_full;
    waits_for_room += other.waits_for_room;
    appended += other.appended;
    reads += other.reads;
    reads_of_removed += other.reads_of_removed;
    memory_short += other.memory_short;
    swept += other.swept;
    suffix_truncations += other.suffix_truncations;
    prefix_truncations += other.prefix_truncations;
    retentions += other.retentions;
    rewrites += other.rewrites;
    bypass_bytes += other.bypass_bytes;
    handed_over_bytes += other.handed_over_bytes;
    checkpoints += other.checkpoints;
    corruptions_made += other.corruptions_made;
    corruptions_told += other.corruptions_told;
    files_damaged += other.files_damaged;
    mended += other.mended;
}

std::string StorageRunResult::Seen::to_string() const {
    return fmt::format(
        "lives={} power_cuts={} kills_in_recovery={} failed_opens={} fatal={} disk_full={} "
        "waits_for_room={} "
        "memory_short={} appended={} reads={} of_removed={} suffix_cuts={} "
        "prefix_cuts={} retentions={} rewrites={} bypassed={} handed_over={} checkpoints={} "
        "corruptions={} "
        "told={} files_damaged={} mended={} swept={}",
        lives, power_cuts, kills_in_recovery, failed_opens, fatal_errors, disk_full, waits_for_room,
        memory_short, appended, reads, reads_of_removed, suffix_truncations, prefix_truncations,
        retentions, rewrites, bypass_bytes, handed_over_bytes, checkpoints, corruptions_made,
        corruptions_told, files_damaged, mended, swept);
}

StorageRunResult run_storage(const StorageRunOptions& options) {
    StorageRun run(options);
    return run.run();
}

}  // namespace weir::sim
