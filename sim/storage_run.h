// StorageRun: one run of the storage simulation. Used by run_storage() alone. Its parts:
//
//   storage_workload.cc  what a run draws, its lives, and whether an error has a reason
//   storage_node.cc      a node's tasks: what it recovered against the models, and its end
//   storage_clients.cc   what clients do to the logs of a shard
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "runtime/scope.h"
#include "runtime/sim/world.h"
#include "storage/layout.h"
#include "storage/shard_store.h"
#include "storage/store.h"
#include "storage_damage.h"
#include "storage_model.h"
#include "storage_workload.h"

namespace weir::sim {

using namespace weir::storage;

inline constexpr const char* kDirectory = "/data";
inline constexpr size_t kLogsMax = 12;

// What follows when a journal is found damaged.
enum class Repair : uint8_t {
    kNone,  // the run ends
    kGoOn,  // StoreOptions::go_on
    kMend,  // find_damage() and mend(), as `weir debug repair --apply` does
};

// What is drawn for the whole run besides the plan of faults.
struct StorageKnobs {
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
    bool rewrites;          // closed segments are rewritten
    double graceful_share;  // of the lives that end by themselves: in good order
    uint64_t capacity_bytes;
    Duration pause_max;  // between a client's operations
    // One file is damaged after so many lives; -1: none is. And what is done if the store refuses
    // it.
    int damage_after;
    Repair repair;

    std::string to_string() const {
        return fmt::format(
            "knobs: lives={} shards<={} clients={} operations={} payload<={} large={:.3f}<={} "
            "segment<={} retention={} rewrites={} memory={} capacity={} pause<={}us\n"
            "  store: journal_file={}/{} journal={} unflushed={} commit={} bypass={} cache={} "
            "read_ahead={} open_segments={} retention_check={}ms sweep_delay={}ms\n",
            lives, shards_max, clients, operations, payload_max, large_chance, large_max,
            segment_bytes_max, retention, rewrites, memory_bytes, capacity_bytes,
            pause_max.count() / 1000, store.journal_first_file_bytes, store.journal_file_bytes,
            store.journal_bytes_max, store.unflushed_bytes_max, store.commit_bytes_max,
            store.bypass_bytes_min, store.cache_bytes_max, store.read_ahead_bytes,
            store.open_segments_max, store.retention_check_ms, store.sweep_delay_ms);
    }
};

class StorageRun;

// What one life of the node has, besides what the node keeps to itself. Outlives the node's
// coroutines.
struct StorageLife {
    StorageLife(StorageRun& r, uint64_t n, bool h, uint32_t s, uint64_t memory_bytes)
        : run(r), number(n), healed(h), shards(s), memory(memory_bytes) {}

    StorageRun& run;
    const uint64_t number;
    const bool healed;
    bool offline = false;  // no store: find_damage(), and mend() if something is damaged
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
    Doing(StorageLife& life, uint64_t client, std::string_view what, LogId log)
        : life_(life), client_(client) {
        life_.doing[client] = fmt::format("{} log {}", what, log.v);
    }
    ~Doing() { life_.doing.erase(client_); }

  private:
    StorageLife& life_;
    uint64_t client_;
};

class StorageRun {
  public:
    explicit StorageRun(const StorageRunOptions& options);
    StorageRunResult run();

  private:
    // --- the world's side
    void live(bool healed, bool offline = false);
    void damage_a_file();
    void recover_from_damage();
    void end_life(StorageLife& life);
    void count(StorageLife& life);
    World::Main main_of(StorageLife* life);
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
        if (!damaged() && !torn_)
            fail(complaint);
        else if (suspicion_.empty())
            suspicion_ = complaint;
    }
    // Something may be lost that the store has to tell of. What a damaged segment loses is its own
    // log's alone (exempt_), but for the metadata log, without which a store does not open.
    bool damaged() const {
        const bool of_all =
            damage_ && !mended_ &&
            (damage_->file != DamagedFile::kSegment || damage_->log == kMetadataLog);
        return rotted_ || of_all || plan_.disk.corrupts();
    }
    bool over() const { return !failure_.empty() || loss_is_told_; }
    bool may_fail() const;
    // `log`: whose operation it was, if it was one's.
    void judge(const Error& error, std::string_view what, const StorageLife& life,
               std::optional<LogId> log = {});
    int64_t wall_bound(WallTime now) const {
        return plan_.clock.jump_max > 0s ? INT64_MAX : now.ms;
    }

    // --- the node's side: tasks of one life
    static Task<void> node_main(StorageRun* run, StorageLife* life, Shard* shard);
    static Task<void> open_and_serve(StorageRun* run, StorageLife* life);
    static Task<std::optional<Error>> offline_log(StorageRun* run, StorageLife* life);
    static Task<void> repair_offline(StorageRun* run, StorageLife* life);
    Complaint recovered(LogModel& model, const Log& log, const RecoveredState& state);
    static Task<void> check_recovered(StorageRun* run, StorageLife* life);
    static Task<void> check_log(StorageRun* run, StorageLife* life, LogModel* model, Log* log);
    static Task<void> check_files(StorageRun* run, StorageLife* life);
    std::string stray_file(ShardStore& store) const;
    static Task<void> read_all(StorageRun* run, StorageLife* life, LogModel* model, Log* log);
    static Task<void> serve_shard(StorageRun* run, StorageLife* life, ShardId shard);
    static Task<void> on_shard(StorageRun* run, StorageLife* life, ShardId shard);
    static Task<void> client(StorageRun* run, StorageLife* life, uint64_t number, Scope* waits);
    static Task<void> rare_operation(StorageRun* run, StorageLife* life, uint64_t client,
                                     LogModel* model, Prng* prng, uint64_t which);
    static Task<void> append_some(StorageRun* run, StorageLife* life, uint64_t client,
                                  LogModel* model, Prng* prng, Scope* waits);
    static Task<void> wait_for(StorageRun* run, StorageLife* life, LogModel* model,
                               Position position, uint32_t truncations);
    static Task<void> read_some(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> search(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> cut_suffix(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> cut_prefix(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> rewrite(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> vote(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng);
    static Task<void> create(StorageRun* run, StorageLife* life, LogId id, Prng* prng);
    static Task<void> remove(StorageRun* run, StorageLife* life, LogModel* model);
    void adopt(StorageLife& life, LogModel& model, Log& log);
    void observe(StorageLife& life, LogModel& model);
    LogConfig draw_config(Prng& prng) const;
    LogModel* pick(StorageLife& life, Prng& prng);
    uint64_t draw_size(Prng& prng, bool control) const;
    ModelEntryRef make_entry(LogModel& model, Prng& prng, uint64_t size, bool control,
                             int32_t term);

    StorageRunOptions options_;
    Plan plan_;
    StorageKnobs knobs_;
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
    FileDamager damager_;
    std::optional<FileDamage> damage_;
    bool recovering_ = false;  // lives go on with what is whole, until one has checked all
    bool torn_ = false;    // after damage to a segment: a last block was not whole, and reported
    bool mended_ = false;  // ... as one did: what is there then must stay
    bool looked_ = false;  // the last offline life came to its end
    // Logs whose own files are damaged or missing: they are right, or say that they are not.
    std::set<LogId> exempt_;
    std::set<LogId> rewritten_;                      // a segment of it was, or may have been
    std::set<std::pair<LogId, uint32_t>> replaced_;  // segments that are gone for good
};

}  // namespace weir::sim
