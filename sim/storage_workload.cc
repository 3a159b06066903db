#include "storage_workload.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/sim/world.h"
#include "runtime/wait.h"
#include "storage/layout.h"
#include "storage/shard_store.h"
#include "storage/store.h"
#include "storage_model.h"

namespace weir::sim {

using namespace weir::storage;

namespace {

constexpr const char* kDirectory = "/data";
constexpr Duration kLifeMax = 2h;  // of virtual time: a life that is not over by then is stuck
constexpr size_t kLogsMax = 12;

// What is drawn for the whole run besides the plan of faults.
struct Knobs {
    int lives;
    uint32_t shards_max;
    uint32_t clients;     // of each shard
    uint32_t operations;  // of each client in one life
    uint64_t payload_max;
    double large_chance;  // of a payload of up to large_max
    uint64_t large_max;
    StoreOptions store;
    uint64_t segment_bytes_max;
    bool retention;
    bool brief;             // ... that strikes often
    uint64_t memory_bytes;  // the node's budget
    double graceful_share;  // of the lives that end by themselves: in good order
    uint64_t capacity_bytes;
    Duration pause_max;  // between a client's operations

    std::string to_string() const {
        return fmt::format(
            "knobs: lives={} shards<={} clients={} operations={} payload<={} large={:.3f}<={} "
            "segment<={} retention={} memory={} capacity={} pause<={}us\n"
            "  store: journal_file={}/{} journal={} unflushed={} commit={} bypass={} cache={} "
            "read_ahead={} open_segments={} retention_check={}ms sweep_delay={}ms\n",
            lives, shards_max, clients, operations, payload_max, large_chance, large_max,
            segment_bytes_max, retention, memory_bytes, capacity_bytes, pause_max.count() / 1000,
            store.journal_first_file_bytes, store.journal_file_bytes, store.journal_bytes_max,
            store.unflushed_bytes_max, store.commit_bytes_max, store.bypass_bytes_min,
            store.cache_bytes_max, store.read_ahead_bytes, store.open_segments_max,
            store.retention_check_ms, store.sweep_delay_ms);
    }
};

Knobs draw_knobs(uint64_t seed) {
    Prng prng(seed, "knobs");
    Knobs knobs{};
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
    // A budget that runs short: one run of a segment fits, and not much beside it.
    store.memory = nullptr;
    const uint64_t run_bytes =
        std::max(store.unflushed_bytes_max / 4, knobs.large_max) + (64 << 10);
    knobs.memory_bytes =
        prng.chance(0.3) ? run_bytes + prng.below(3 * run_bytes) : uint64_t{64} << 20;
    return knobs;
}

class StorageRun;

// What one life of the node has, besides what the node keeps to itself. Outlives the node's
// coroutines.
struct Life {
    Life(StorageRun& r, uint64_t n, bool h, uint32_t s, uint64_t memory_bytes)
        : run(r), number(n), healed(h), shards(s), memory(memory_bytes) {}

    StorageRun& run;
    const uint64_t number;
    const bool healed;
    const uint32_t shards;
    MemoryBudget memory;
    StoreSet* set = nullptr;  // lies in the main task's frame
    bool opened = false;
    std::optional<Error> open_error;
    uint32_t logs_checked = 0;
    bool checked = false;  // everything recovered was compared with its model
    bool stopping = false;
    std::optional<Error> fatal;
    // By log: who uses it now, and what is known of it in this life.
    struct Use {
        Log* log = nullptr;
        uint32_t appending = 0;  // and whatever else it must not be removed under
        bool cutting = false;
        Position durable_seen;
        int64_t start_seen = 0;
    };
    std::map<LogId, Use> uses;
    std::vector<const StoreMetrics*> metrics;  // of the open stores
    std::string_view phase = "opening";
    std::map<uint64_t, std::string> doing;  // by client; for whoever asks why nothing ends
    uint64_t waits = 0;                     // for durability, beside the clients

    std::string to_string() const {
        std::string text = fmt::format("{}, {} waits for durability", phase, waits);
        for (const auto& [client, what] : doing)
            text += fmt::format(", client {}: {}", client, what);
        return text;
    }
};

// Says what a client does for as long as it does it.
class Doing {
  public:
    Doing(Life& life, uint64_t client, std::string_view what, LogId log)
        : life_(life), client_(client) {
        life_.doing[client] = fmt::format("{} log {}", what, log.v);
    }
    ~Doing() { life_.doing.erase(client_); }

  private:
    Life& life_;
    uint64_t client_;
};

class StorageRun {
  public:
    explicit StorageRun(const StorageRunOptions& options);
    StorageRunResult run();

  private:
    // --- the world's side
    void live(bool healed);
    void end_life(Life& life);
    void count(Life& life);
    World::Main main_of(Life* life);
    void note(const std::string& text) {
        if (options_.note_sink)
            options_.note_sink(fmt::format("{:>12}us {}", world_.now().ns / 1000, text));
    }
    void fail(const std::string& text) {
        if (!failure_.empty()) return;
        failure_ = fmt::format("life {} at {}us: {}", node_.lives(), world_.now().ns / 1000, text);
        note("FAILURE " + text);
    }
    void complain(const Complaint& complaint) {
        if (!complaint.empty()) fail(complaint);
    }
    // What recovery shows is not what the model allows. After damage the store must have said so;
    // then the run ends, for nothing more can be known.
    void suspect(const Complaint& complaint) {
        if (complaint.empty()) return;
        if (!damaged())
            fail(complaint);
        else if (suspicion_.empty())
            suspicion_ = complaint;
    }
    bool damaged() const { return rotted_ || plan_.disk.corrupts(); }
    bool over() const { return !failure_.empty() || loss_is_told_; }
    bool may_fail() const;
    void judge(const Error& error, std::string_view what, const Life& life);
    int64_t wall_bound(WallTime now) const {
        return plan_.clock.jump_max > 0s ? INT64_MAX : now.ms;
    }

    // --- the node's side: tasks of one life
    static Task<void> node_main(StorageRun* run, Life* life, Shard* shard);
    static Task<void> open_and_serve(StorageRun* run, Life* life);
    static Task<std::optional<Error>> offline_log(Life* life);
    static Task<void> check_recovered(StorageRun* run, Life* life);
    static Task<void> check_log(StorageRun* run, Life* life, LogModel* model, Log* log);
    static Task<void> check_files(StorageRun* run, Life* life);
    std::string stray_file(ShardStore& store) const;
    static Task<void> read_all(StorageRun* run, Life* life, LogModel* model, Log* log);
    static Task<void> serve_shard(StorageRun* run, Life* life, ShardId shard);
    static Task<void> on_shard(StorageRun* run, Life* life, ShardId shard);
    static Task<void> client(StorageRun* run, Life* life, uint64_t number, Scope* waits);
    static Task<void> rare_operation(StorageRun* run, Life* life, uint64_t client, LogModel* model,
                                     Prng* prng, uint64_t which);
    static Task<void> append_some(StorageRun* run, Life* life, uint64_t client, LogModel* model,
                                  Prng* prng, Scope* waits);
    static Task<void> wait_for(StorageRun* run, Life* life, LogModel* model, Position position,
                               uint32_t truncations);
    static Task<void> read_some(StorageRun* run, Life* life, LogModel* model, Prng* prng);
    static Task<void> search(StorageRun* run, Life* life, LogModel* model, Prng* prng);
    static Task<void> cut_suffix(StorageRun* run, Life* life, LogModel* model, Prng* prng);
    static Task<void> cut_prefix(StorageRun* run, Life* life, LogModel* model, Prng* prng);
    static Task<void> vote(StorageRun* run, Life* life, LogModel* model, Prng* prng);
    static Task<void> create(StorageRun* run, Life* life, LogId id, Prng* prng);
    static Task<void> remove(StorageRun* run, Life* life, LogModel* model);
    void adopt(Life& life, LogModel& model, Log& log);
    void observe(Life& life, LogModel& model);
    LogConfig draw_config(Prng& prng) const;
    LogModel* pick(Life& life, Prng& prng);
    uint64_t draw_size(Prng& prng, bool control) const;
    ModelEntryRef make_entry(LogModel& model, Prng& prng, uint64_t size, bool control,
                             int32_t term);

    StorageRunOptions options_;
    Plan plan_;
    Knobs knobs_;
    World world_;
    Node& node_;
    Prng prng_;
    std::string failure_;
    StorageRunResult result_;
    std::map<LogId, std::unique_ptr<LogModel>> models_;
    uint64_t next_log_ = kMetadataLog.v;
    uint64_t payloads_ = 0;
    bool healed_ = false;
    bool rotted_ = false;        // a bit was flipped where it can't look like a torn write
    bool loss_is_told_ = false;  // the store said that something is damaged
    std::string suspicion_;
};

Plan plan_of(const StorageRunOptions& options) {
    Plan plan = draw_plan(options.seed);
    plan.disk.capacity_bytes = draw_knobs(options.seed).capacity_bytes;
    if (options.corruption) draw_corruption(plan);
    // Descriptors that are short now and then.
    Prng prng(options.seed, "descriptors");
    if (prng.chance(0.15)) plan.disk.no_descriptor_chance = prng.unit() * 0.3;
    return plan;
}

StorageRun::StorageRun(const StorageRunOptions& options)
    : options_(options),
      plan_(plan_of(options)),
      knobs_(draw_knobs(options.seed)),
      world_({.plan = plan_,
              .log_sink = options.log_sink,
              .log_level = LogLevel::kDebug,
              .trace_sink = options.trace_sink}),
      node_(world_.add_node({.name = "n1"})),
      prng_(world_.prng("storage")) {
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
void StorageRun::judge(const Error& error, std::string_view what, const Life& life) {
    const bool over = life.fatal.has_value() || life.stopping;
    const bool full_possible =
        !healed_ && (plan_.disk.metadata_full_chance > 0 || knobs_.capacity_bytes < (64u << 20));
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
    for (int i = 0; i < knobs_.lives && !over(); ++i) {
        live(false);
        if (i != rot_after || over()) continue;
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
        for (int i = 0; i < 2 && !over(); ++i) live(true);
    }
    result_.failure = failure_;
    result_.trace_hash = world_.trace_hash() ^ node_.disk().content_hash();
    result_.virtual_time = world_.now() - Instant{};
    result_.steps = world_.steps();
    result_.seen.corruptions_made = node_.corruptions() + (rotted_ ? 1 : 0);
    return result_;
}

World::Main StorageRun::main_of(Life* life) {
    return [this, life](Shard& shard) { return node_main(this, life, &shard); };
}

void StorageRun::live(bool healed) {
    ++result_.seen.lives;
    if (knobs_.memory_bytes < (64 << 20)) ++result_.seen.memory_short;
    const auto shards = static_cast<uint32_t>(prng_.between(1, knobs_.shards_max));
    Life life(*this, node_.lives() + 1, healed, shards, knobs_.memory_bytes);
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
    note(fmt::format("life {} on {} shards{}", life.number, shards,
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

void StorageRun::count(Life& life) {
    for (const StoreMetrics* metrics : std::exchange(life.metrics, {})) {
        if (metrics == nullptr) continue;
        result_.seen.bypass_bytes += metrics->bypass_bytes;
        result_.seen.handed_over_bytes += metrics->handed_over_bytes;
        result_.seen.checkpoints += metrics->checkpoints;
        result_.seen.swept += metrics->swept_files;
    }
}

void StorageRun::end_life(Life& life) {
    if (!life.open_error) return;
    ++result_.seen.failed_opens;
    const Error& error = *life.open_error;
    note(fmt::format("  open failed: {}", error.to_string()));
    judge(error, "open", life);
    if (!over() && life.healed) fail("a healthy disk did not open: " + error.to_string());
}

// ---------------------------------------------------------------- tasks of the node

Task<void> StorageRun::node_main(StorageRun* run, Life* life, Shard* shard) {
    if (shard->id() == 0) co_await open_and_serve(run, life);
}

Task<void> StorageRun::open_and_serve(StorageRun* run, Life* life) {
    StoreOptions options = run->knobs_.store;
    options.memory = &life->memory;
    options.on_fatal = [run, life](const Error& error) {
        ++run->result_.seen.fatal_errors;
        run->note("  fatal: " + error.to_string());
        if (!life->fatal) run->judge(error, "the store", *life);
        life->fatal = error;
    };
    Result<std::unique_ptr<StoreSet>> opened = co_await StoreSet::open(std::move(options));
    if (!opened) {
        life->open_error = std::move(opened).error();
        co_return;
    }
    const std::unique_ptr<StoreSet> set = std::move(*opened);
    life->set = set.get();
    life->opened = true;
    life->phase = "checking what was recovered";
    life->metrics.resize(life->shards);
    if (const std::optional<Error> offline = co_await offline_log(life)) {
        // Its segments could not be read, so that not all of it is told: as if nothing had opened.
        life->open_error = *offline;
        co_await set->close();
        life->set = nullptr;
        co_return;
    }
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [run, life]() { return check_recovered(run, life); });
    }
    // What was confirmed to be there and was not found on any shard.
    for (const auto& [id, model] : run->models_) {
        if (life->uses.contains(id)) continue;
        if (model->presence == LogModel::Presence::kPresent)
            run->suspect(fmt::format("log {} is gone", id.v));
        model->presence = LogModel::Presence::kGone;
    }
    if (!run->suspicion_.empty()) {
        bool told = run->plan_.disk.corrupts();
        for (const StoreMetrics* metrics : life->metrics) told |= metrics->corruptions > 0;
        run->loss_is_told_ |= told;
        if (!run->loss_is_told_) run->fail("damage was not told: " + run->suspicion_);
    }
    life->checked = true;
    life->phase = "serving";
    if (!run->over()) {
        Scope scope;
        for (ShardId shard = 0; shard < life->shards; ++shard)
            scope.spawn(on_shard(run, life, shard));
        co_await scope.join();
    }
    if (life->healed && !run->over()) {
        life->phase = "looking for stray files";
        for (ShardId shard = 0; shard < life->shards && !run->over(); ++shard)
            co_await on(shard, [run, life]() { return check_files(run, life); });
    }
    life->stopping = true;
    life->phase = "closing";
    run->count(*life);
    // As the node does it: the state machines go before the store.
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [life]() -> Task<void> {
            Store& store = life->set->local();
            for (const LogId id : store.logs()) {
                if (Log* log = store.find(id)) log->set_state_provider({});
            }
            co_return;
        });
    }
    co_await set->close();
    life->set = nullptr;
}

// Of a log that went offline while it was opened.
Task<std::optional<Error>> StorageRun::offline_log(Life* life) {
    std::optional<Error> found;
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [life, &found]() -> Task<void> {
            Store& store = life->set->local();
            for (const LogId id : store.logs()) {
                const Log* log = store.find(id);
                if (log != nullptr && log->damage() && log->damage()->offline)
                    found = Error{ErrorCode::kIo, log->damage()->reason, 0};
            }
            co_return;
        });
    }
    co_return found;
}

Task<void> StorageRun::on_shard(StorageRun* run, Life* life, ShardId shard) {
    co_await on(shard, [run, life, shard]() { return serve_shard(run, life, shard); });
}

// ---------------------------------------------------------------- recovery against the models

void StorageRun::adopt(Life& life, LogModel& model, Log& log) {
    Life::Use& use = life.uses[model.id];
    use.log = &log;
    use.durable_seen = log.durable_end();
    use.start_seen = log.start_offset();
    // While the log is being cut its end is the one that counts.
    log.set_state_provider([&model, &log] { return model.state_at(log.end().offset); });
    log.on_durable([this, &life, &model] { observe(life, model); });
    log.configure(model.config);
}

// What the log says of itself, at any moment between steps.
void StorageRun::observe(Life& life, LogModel& model) {
    Life::Use& use = life.uses[model.id];
    const Position durable = use.log->durable_end();
    // A cut is told by its return; what it took away is gone before.
    if (use.cutting && model.cut_attempted)
        use.durable_seen = std::min(use.durable_seen, *model.cut_attempted);
    if (durable < use.durable_seen) {
        fail(fmt::format("log {}: the durable end went back from {} to {}", model.id.v,
                         to_string(use.durable_seen), to_string(durable)));
    }
    if (durable > use.log->end())
        fail(fmt::format("log {}: the durable end is beyond the end", model.id.v));
    use.durable_seen = durable;
    model.acknowledge(durable);
    const int64_t start = use.log->start_offset();
    if (start < use.start_seen)
        fail(fmt::format("log {}: the start went back from {} to {}", model.id.v, use.start_seen,
                         start));
    if (start > use.start_seen && start > model.start_attempted) ++result_.seen.retentions;
    use.start_seen = start;
    complain(model.started_at(start, wall_bound(Shard::current().wall_now())));
}

Task<void> StorageRun::check_recovered(StorageRun* run, Life* life) {
    const ShardId shard = Shard::current().id();
    Store& store = life->set->local();
    life->metrics[shard] = &store.metrics();
    const std::vector<LogId> ids = store.logs();
    for (const LogId id : ids) {
        const auto found = run->models_.find(id);
        if (found == run->models_.end() || found->second->presence == LogModel::Presence::kGone) {
            run->suspect(fmt::format("log {} is there, and should not be", id.v));
            continue;
        }
        if (owner_of(id, life->shards) != shard)
            run->fail(fmt::format("log {} is on shard {}, which does not own it", id.v, shard));
        Log* log = store.find(id);
        if (log == nullptr || life->uses.contains(id)) {
            run->fail(fmt::format("log {} is listed and not found, or found twice", id.v));
            co_return;
        }
        co_await check_log(run, life, found->second.get(), log);
        if (run->over()) co_return;
    }
}

Task<void> StorageRun::check_log(StorageRun* run, Life* life, LogModel* model, Log* log) {
    const RecoveredState state = log->take_recovered();
    const LogModel::Seen seen{.start_offset = log->start_offset(),
                              .end = log->end(),
                              .durable_end = log->durable_end(),
                              .hard_state = log->hard_state(),
                              .last_term = log->last_term()};
    const Complaint complaint =
        model->recovered(seen, state, run->wall_bound(Shard::current().wall_now()));
    run->suspect(complaint);
    if (!complaint.empty()) co_return;
    run->adopt(*life, *model, *log);
    co_await read_all(run, life, model, log);
}

Task<void> StorageRun::read_all(StorageRun* run, Life* life, LogModel* model, Log* log) {
    int64_t offset = log->start_offset();
    int failures = 0;
    while (offset < log->end().offset && !run->over()) {
        const std::vector<ModelEntryRef> entries = model->data_from(0);
        const ReadLimits limits{.end_offset = log->end().offset, .bytes_max = 64 << 10};
        const Result<ReadResult> result = co_await log->read(offset, limits, {});
        if (!result) {
            // Retention may have passed by.
            if (result.error().code == ErrorCode::kOutOfRange && log->start_offset() > offset) {
                offset = log->start_offset();
                continue;
            }
            run->judge(result.error(), fmt::format("reading log {} at {}", model->id.v, offset),
                       *life);
            if (++failures > 20 || life->fatal) co_return;
            continue;
        }
        run->complain(LogModel::check_read(entries, offset, limits, *result));
        if (result->next_offset <= offset) {
            run->fail(fmt::format("log {}: reading at {} does not get on", model->id.v, offset));
        }
        offset = result->next_offset;
    }
}

// Under logs/ lies what a log knows and nothing else: crashes cut deletions short, and the next
// life has to end them.
Task<void> StorageRun::check_files(StorageRun* run, Life* life) {
    constexpr Duration kPatience = 30s;
    auto& store = static_cast<ShardStore&>(life->set->local());
    const Instant deadline = Shard::current().now() + kPatience;
    while (!run->over() && !life->fatal) {
        const std::string stray = run->stray_file(store);
        if (store.sweeper().done() && stray.empty()) co_return;
        if (Shard::current().now() >= deadline) {
            run->fail(stray.empty() ? "the sweep does not end"
                                    : fmt::format("nobody deletes {}", stray));
        }
        (void)co_await sleep_for(20ms);
    }
}

// A file or a directory of this shard's that no log knows at this moment; empty: none.
std::string StorageRun::stray_file(ShardStore& store) const {
    const std::string root = logs_directory(kDirectory);
    std::vector<std::string> fans;
    (void)node_.disk().list(root, &fans);
    for (const std::string& fan : fans) {
        std::vector<std::string> directories;
        (void)node_.disk().list(root + "/" + fan, &directories);
        for (const std::string& name : directories) {
            LogId id;
            if (!parse_log_directory_name(name, &id)) return root + "/" + fan + "/" + name;
            if (owner_of(id, store.layout().shards) != store.shard()) continue;
            PartitionLog* log = store.find_log(id);
            if (log == nullptr) return log_directory(kDirectory, id);
            std::set<std::string> known;
            for (const Segment& segment : log->state().segments)
                known.insert(segment_path(kDirectory, id, segment.base.offset, segment.id));
            std::vector<std::string> files;
            (void)node_.disk().list(log_directory(kDirectory, id), &files);
            for (const std::string& file : files) {
                std::string path = log_directory(kDirectory, id) + "/" + file;
                if (!known.contains(path)) return path;
            }
        }
    }
    return {};
}

// ---------------------------------------------------------------- clients

LogConfig StorageRun::draw_config(Prng& prng) const {
    LogConfig config;
    config.segment_bytes = prng.between(16 << 10, knobs_.segment_bytes_max);
    config.segment_ms = prng.chance(0.7) ? int64_t{7} * 24 * 3600 * 1000
                                         : static_cast<int64_t>(prng.between(1, 2000));
    config.retention_ms = -1;
    if (knobs_.retention) {
        if (knobs_.brief) config.segment_ms = static_cast<int64_t>(prng.between(1, 100));
        if (prng.chance(0.4))
            config.retention_bytes =
                static_cast<int64_t>(prng.below((knobs_.brief ? 1 : 4) * knobs_.segment_bytes_max));
        if (prng.chance(0.4))
            config.retention_ms = static_cast<int64_t>(prng.between(1, knobs_.brief ? 2500 : 5000));
        config.delete_by_retention = prng.chance(0.9);
    }
    return config;
}

Task<void> StorageRun::serve_shard(StorageRun* run, Life* life, ShardId shard) {
    Scope waits;
    Scope clients;
    for (uint32_t i = 0; i < run->knobs_.clients; ++i)
        clients.spawn(client(run, life, shard * 1000 + i, &waits));
    co_await clients.join();
    co_await waits.join();
    for (auto& [id, use] : life->uses) {
        if (owner_of(id, life->shards) == shard && use.log != nullptr) use.log->on_durable({});
    }
}

LogModel* StorageRun::pick(Life& life, Prng& prng) {
    std::vector<LogModel*> here;
    for (auto& [id, use] : life.uses) {
        if (use.log != nullptr && owner_of(id, life.shards) == Shard::current().id())
            here.push_back(models_.at(id).get());
    }
    return here.empty() ? nullptr : here[prng.below(here.size())];
}

Task<void> StorageRun::client(StorageRun* run, Life* life, uint64_t number, Scope* waits) {
    Prng prng(mix64(mix64(run->options_.seed) + life->number) + number, "client");
    const uint32_t operations =
        life->healed ? std::min<uint32_t>(run->knobs_.operations, 30) : run->knobs_.operations;
    // Each life and client has a taste of its own.
    const uint64_t appends = prng.between(2, 20);
    const uint64_t reads = prng.below(10);
    const uint64_t rare = prng.between(1, 4);
    for (uint32_t i = 0; i < operations; ++i) {
        if (run->over() || life->fatal) co_return;
        if (run->knobs_.pause_max > 0s && prng.chance(0.5)) {
            (void)co_await sleep_for(Duration(static_cast<int64_t>(
                prng.below(static_cast<uint64_t>(run->knobs_.pause_max.count()) + 1))));
        }
        LogModel* model = run->pick(*life, prng);
        const bool room = life->uses.size() < kLogsMax;
        if (model == nullptr || (room && prng.chance(0.04))) {
            const LogId id{run->next_log_++};
            if (owner_of(id, life->shards) != Shard::current().id()) continue;
            const Doing doing(*life, number, "creating", id);
            co_await create(run, life, id, &prng);
            continue;
        }
        const uint64_t drawn = prng.below(appends + reads + 6 * rare);
        if (drawn < appends) {
            const Doing doing(*life, number, "appending to", model->id);
            co_await append_some(run, life, number, model, &prng, waits);
        } else if (drawn < appends + reads) {
            const Doing doing(*life, number, "reading", model->id);
            co_await read_some(run, life, model, &prng);
        } else {
            co_await rare_operation(run, life, number, model, &prng,
                                    (drawn - appends - reads) / rare);
        }
    }
}

Task<void> StorageRun::rare_operation(StorageRun* run, Life* life, uint64_t client, LogModel* model,
                                      Prng* prng, uint64_t which) {
    constexpr std::string_view kNames[] = {
        "searching", "cutting the suffix of", "cutting the prefix of",
        "voting in", "configuring",           "removing"};
    const Doing doing(*life, client, kNames[which], model->id);
    switch (which) {
        case 0:
            co_await search(run, life, model, prng);
            break;
        case 1:
            co_await cut_suffix(run, life, model, prng);
            break;
        case 2:
            co_await cut_prefix(run, life, model, prng);
            break;
        case 3:
            co_await vote(run, life, model, prng);
            break;
        case 4:
            // Retention may act on the old configuration once more: where it does, there is one for
            // all time.
            if (!run->knobs_.retention) model->config = run->draw_config(*prng);
            life->uses[model->id].log->configure(model->config);
            break;
        default:
            if (prng->chance(0.2)) co_await remove(run, life, model);
    }
}

Task<void> StorageRun::create(StorageRun* run, Life* life, LogId id, Prng* prng) {
    auto made = std::make_unique<LogModel>(id, run->draw_config(*prng));
    LogModel* model = made.get();
    run->models_.emplace(id, std::move(made));
    Store& store = life->set->local();
    Result<Log*> created = co_await store.create_log(id, model->config);
    if (!created) {
        run->judge(created.error(), fmt::format("creating log {}", id.v), *life);
        co_return;
    }
    model->presence = LogModel::Presence::kPresent;
    if (store.find(id) != *created)
        run->fail(fmt::format("log {} was created and is not found", id.v));
    run->adopt(*life, *model, **created);
}

Task<void> StorageRun::remove(StorageRun* run, Life* life, LogModel* model) {
    Life::Use& use = life->uses[model->id];
    if (use.appending > 0 || use.cutting || model->id == kMetadataLog) co_return;
    // Nobody else uses it from here on: the Log dies.
    use.log->on_durable({});
    use.log = nullptr;
    model->presence = LogModel::Presence::kMaybe;
    Result<void> removed = co_await life->set->local().remove_log(model->id);
    if (!removed) {
        run->judge(removed.error(), fmt::format("removing log {}", model->id.v), *life);
        co_return;
    }
    model->presence = LogModel::Presence::kGone;
    if (life->set->local().find(model->id) != nullptr)
        run->fail(fmt::format("log {} was removed and is found", model->id.v));
}

uint64_t StorageRun::draw_size(Prng& prng, bool control) const {
    if (control) return prng.below(64);
    if (knobs_.large_chance > 0 && prng.chance(knobs_.large_chance))
        return prng.between(1, knobs_.large_max);
    return prng.between(1, knobs_.payload_max);
}

ModelEntryRef StorageRun::make_entry(LogModel& model, Prng& prng, uint64_t size, bool control,
                                     int32_t term) {
    auto entry = std::make_shared<ModelEntry>();
    entry->info.kind = control ? EntryKind::kControl : EntryKind::kData;
    entry->info.term = term;
    entry->info.first = model.end();
    entry->info.next_offset =
        model.end().offset + (control ? 0 : static_cast<int64_t>(prng.between(1, 20)));
    // Unique, so that bytes in the wrong place are never the right ones.
    Prng content(++payloads_, "payload");
    entry->payload.resize(size);
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t word = content.next();
        std::memcpy(entry->payload.data() + i, &word, std::min<size_t>(8, size - i));
    }
    if (!control) {
        entry->info.max_timestamp_ms =
            Shard::current().wall_now().ms - static_cast<int64_t>(prng.below(2000));
        entry->summary_bytes = static_cast<uint32_t>(
            std::min<uint64_t>(size, prng.chance(0.9) ? 61 : prng.below(kSummaryBytesMax + 1)));
    }
    return entry;
}

Task<void> StorageRun::append_some(StorageRun* run, Life* life, uint64_t client, LogModel* model,
                                   Prng* prng, Scope* waits) {
    Life::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    ++use.appending;
    const uint64_t count = prng->chance(0.7) ? 1 : prng->between(2, 12);
    for (uint64_t i = 0; i < count; ++i) {
        const bool new_term = use.log->last_term() == 0 || prng->chance(0.03);
        const uint64_t size = run->draw_size(*prng, new_term);
        // Admission comes first: the place of the entry is known only after it.
        life->doing[client] =
            fmt::format("waiting for admission of {} bytes to log {}", size, model->id.v);
        Result<void> admitted = co_await use.log->admit(size, {});
        if (!admitted) {
            run->judge(admitted.error(), "admission", *life);
            break;
        }
        run->observe(*life, *model);
        if (use.log->end() != model->end()) {
            run->fail(fmt::format("log {} ends at {}, expected {}", model->id.v,
                                  to_string(use.log->end()), to_string(model->end())));
            break;
        }
        const ModelEntryRef entry = run->make_entry(*model, *prng, size, new_term,
                                                    use.log->last_term() + (new_term ? 1 : 0));
        model->history.push_back(entry);
        Result<void> appended =
            use.log->append({.info = entry->info,
                             .payload = SharedBytes::copy_of(as_bytes(entry->payload)),
                             .summary_bytes = entry->summary_bytes});
        if (!appended) {
            model->history.pop_back();
            run->judge(appended.error(), "append", *life);
            break;
        }
        ++run->result_.seen.appended;
    }
    const Position position = model->end();
    if (run->failure_.empty()) {
        // Some wait one after the other, some have many in flight.
        if (prng->chance(0.5)) {
            life->doing[client] = fmt::format("waiting until {} of log {} is durable",
                                              to_string(position), model->id.v);
            co_await wait_for(run, life, model, position, model->truncations);
        } else {
            waits->spawn(wait_for(run, life, model, position, model->truncations));
        }
    } else {
        --use.appending;
    }
}

Task<void> StorageRun::wait_for(StorageRun* run, Life* life, LogModel* model, Position position,
                                uint32_t truncations) {
    // Its caller counted it as one that appends, so that nobody cuts the log meanwhile.
    Life::Use& use = life->uses[model->id];
    ++life->waits;
    Result<void> durable = co_await use.log->wait_durable(position);
    --life->waits;
    --use.appending;
    if (!durable) {
        run->judge(durable.error(), "waiting until it is durable", *life);
        co_return;
    }
    CHECK(model->truncations == truncations);
    if (use.log->durable_end() < position) {
        run->fail(fmt::format("log {}: {} is said to be durable, but the durable end is {}",
                              model->id.v, to_string(position), to_string(use.log->durable_end())));
    }
    model->acknowledge(position);
    run->observe(*life, *model);
}

Task<void> StorageRun::read_some(StorageRun* run, Life* life, LogModel* model, Prng* prng) {
    Life::Use& use = life->uses[model->id];
    Log* log = use.log;
    const int64_t start = log->start_offset();
    const int64_t end = log->end().offset;
    int64_t offset =
        prng->chance(0.3)
            ? end - static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start) / 8 + 1))
            : start + static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start) + 1));
    const bool outside = prng->chance(0.02);
    if (outside)
        offset = prng->chance(0.5) ? end + 1 + static_cast<int64_t>(prng->below(5))
                                   : start - 1 - static_cast<int64_t>(prng->below(5));
    ReadLimits limits;
    if (prng->chance(0.5)) limits.end_offset = std::min(end, use.durable_seen.offset);
    limits.bytes_max = prng->chance(0.3) ? prng->below(200) : prng->below(100'000);
    limits.at_least_one = prng->chance(0.8);

    const std::vector<ModelEntryRef> before = model->data_from(0);
    const uint32_t truncations = model->truncations;
    const bool was_cutting = use.cutting;
    ++run->result_.seen.reads;
    const Result<ReadResult> result = co_await log->read(offset, limits, {});
    // It may have been removed meanwhile: then the log is gone, and what was read was right.
    const bool removed = use.log == nullptr;
    if (removed) ++run->result_.seen.reads_of_removed;
    // What it looked for was cut off meanwhile, or is being cut off perhaps since before it began.
    const bool cut = was_cutting || use.cutting || truncations != model->truncations;
    if (!result) {
        if (removed && (result.error().code == ErrorCode::kUnavailable ||
                        result.error().code == ErrorCode::kOutOfRange))
            co_return;
        if (result.error().code == ErrorCode::kOutOfRange &&
            (outside || log->start_offset() > offset || cut))
            co_return;
        run->judge(result.error(), fmt::format("reading log {} at {}", model->id.v, offset), *life);
        co_return;
    }
    if (outside && offset < start) {
        run->fail(fmt::format("log {}: a read at {} outside of [{}, {}] was answered", model->id.v,
                              offset, start, end));
        co_return;
    }
    // It may give what was there when it began, or what came since.
    const bool memory_short = run->knobs_.memory_bytes < (64u << 20);
    if (memory_short && result->size == 0 && !limits.at_least_one) co_return;
    const Complaint early = LogModel::check_read(before, offset, limits, *result);
    if (early.empty()) co_return;
    if (cut && result->size == 0) co_return;
    const Complaint late = LogModel::check_read(model->data_from(0), offset, limits, *result);
    if (!late.empty()) run->fail(fmt::format("log {}: {}", model->id.v, late));
}

Task<void> StorageRun::search(StorageRun* run, Life* life, LogModel* model, Prng* prng) {
    Life::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    Log* log = use.log;
    const std::vector<ModelEntryRef> before = model->data_from(0);
    const int64_t start_before = log->start_offset();
    const int64_t end_offset = prng->chance(0.5) ? log->end().offset : log->durable_end().offset;
    std::optional<int64_t> timestamp;
    if (prng->chance(0.7))
        timestamp = Shard::current().wall_now().ms - static_cast<int64_t>(prng->below(4000));
    if (!before.empty() && timestamp && prng->chance(0.5))
        timestamp = before[prng->below(before.size())]->info.max_timestamp_ms;
    ++use.appending;
    Result<std::optional<FoundEntry>> found = weir::fail(ErrorCode::kUnavailable);
    if (timestamp)
        found = co_await log->find_timestamp(*timestamp, end_offset);
    else
        found = co_await log->find_max_timestamp(end_offset);
    --use.appending;
    if (!found) {
        run->judge(found.error(), fmt::format("searching log {}", model->id.v), *life);
        co_return;
    }
    // The start may have moved on meanwhile: what was found is right if it was for some start in
    // between, best for the last that left it in.
    int64_t start = log->start_offset();
    if (*found) start = std::clamp((*found)->info.next_offset - 1, start_before, start);
    const Complaint complaint = LogModel::check_found(before, start, end_offset, timestamp, *found);
    if (!complaint.empty()) run->fail(fmt::format("log {}: {}", model->id.v, complaint));
}

Task<void> StorageRun::cut_suffix(StorageRun* run, Life* life, LogModel* model, Prng* prng) {
    Life::Use& use = life->uses[model->id];
    Log* log = use.log;
    if (use.appending > 0 || use.cutting || model->history.empty()) co_return;
    const size_t first = model->index_of({log->start_offset(), 0});
    if (first >= model->history.size()) co_return;
    // Near the end mostly, as Raft does it; sometimes anywhere.
    const size_t reach = prng->chance(0.8) ? std::min<size_t>(model->history.size() - first, 6)
                                           : model->history.size() - first;
    const size_t index = model->history.size() - 1 - prng->below(reach);
    const Position at = model->history[index]->info.first;
    if (at.offset < log->start_offset()) co_return;
    run->observe(*life, *model);  // what retention did so far is held against the log as it was
    use.cutting = true;
    model->cut_attempted = at;
    Result<void> cut = co_await log->truncate_suffix(at);
    if (!cut) {
        // Whether it was cut, the next recovery tells: until then nothing is appended, and either
        // may be seen.
        run->judge(cut.error(), fmt::format("truncating log {}", model->id.v), *life);
        co_return;
    }
    use.cutting = false;
    ++run->result_.seen.suffix_truncations;
    run->complain(
        model->started_at(log->start_offset(), run->wall_bound(Shard::current().wall_now())));
    model->cut(at);
    model->cut_attempted.reset();
    use.durable_seen = std::min(use.durable_seen, at);
    if (log->end() != at)
        run->fail(fmt::format("log {} was cut at {} and ends at {}", model->id.v, to_string(at),
                              to_string(log->end())));
    run->observe(*life, *model);
}

Task<void> StorageRun::cut_prefix(StorageRun* run, Life* life, LogModel* model, Prng* prng) {
    Life::Use& use = life->uses[model->id];
    Log* log = use.log;
    if (use.cutting) co_return;
    const int64_t start = log->start_offset();
    const int64_t end = log->durable_end().offset;
    if (end <= start) co_return;
    const int64_t to =
        start + 1 + static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start)));
    model->start_attempted = std::max(model->start_attempted, to);
    ++use.appending;
    Result<void> cut = co_await log->truncate_prefix(to);
    --use.appending;
    if (!cut) {
        run->judge(cut.error(), fmt::format("truncating log {} from its start", model->id.v),
                   *life);
        co_return;
    }
    ++run->result_.seen.prefix_truncations;
    model->start_acknowledged = std::max(model->start_acknowledged, to);
    run->observe(*life, *model);
}

Task<void> StorageRun::vote(StorageRun* run, Life* life, LogModel* model, Prng* prng) {
    Life::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    HardState next = model->hard_states.back();
    next.term += static_cast<int32_t>(prng->below(3));
    next.voted_for = static_cast<int32_t>(prng->below(5));
    if (model->hard_states.size() > 1) co_return;  // one at a time, as a Raft group does it
    model->hard_states.push_back(next);
    ++use.appending;
    Result<void> saved = co_await use.log->save_hard_state(next);
    --use.appending;
    if (!saved) {
        run->judge(saved.error(), fmt::format("saving the vote of log {}", model->id.v), *life);
        co_return;
    }
    model->hard_states = {next};
    if (!(use.log->hard_state() == next))
        run->fail(fmt::format("log {}: the vote saved is not the vote told", model->id.v));
    // A good moment to ask for the terms.
    const auto term =
        static_cast<int32_t>(prng->below(static_cast<uint64_t>(use.log->last_term()) + 2));
    run->complain(model->check_term(term, use.log->end_of_term(term), use.log->start_offset()));
}

}  // namespace

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
    bypass_bytes += other.bypass_bytes;
    handed_over_bytes += other.handed_over_bytes;
    checkpoints += other.checkpoints;
    corruptions_made += other.corruptions_made;
    corruptions_told += other.corruptions_told;
}

std::string StorageRunResult::Seen::to_string() const {
    return fmt::format(
        "lives={} power_cuts={} kills_in_recovery={} failed_opens={} fatal={} disk_full={} "
        "waits_for_room={} "
        "memory_short={} appended={} reads={} of_removed={} suffix_cuts={} "
        "prefix_cuts={} retentions={} bypassed={} handed_over={} checkpoints={} corruptions={} "
        "told={} swept={}",
        lives, power_cuts, kills_in_recovery, failed_opens, fatal_errors, disk_full, waits_for_room,
        memory_short, appended, reads, reads_of_removed, suffix_truncations, prefix_truncations,
        retentions, bypass_bytes, handed_over_bytes, checkpoints, corruptions_made,
        corruptions_told, swept);
}

StorageRunResult run_storage(const StorageRunOptions& options) {
    StorageRun run(options);
    return run.run();
}

}  // namespace weir::sim
