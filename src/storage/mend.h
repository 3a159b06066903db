// Mending a shard whose journal is damaged: what is whole stays, what comes after the damage is
// given up, and every log of the shard says from then on that it may lack entries (losses.h). Used
// by the start of a node that has replicas elsewhere (StoreOptions::go_on), and by
// `weir debug repair` on a node that does not run.
//
// The order makes it safe to break off and to run again: 1. the losses, durably; 2. copies of all
// files that change, in DATA/damaged/; 3. the checkpoint; 4. sizes; 5. blocks after the damage,
// erased from the last to the first; 6. the marks of files. Until then the damage is seen again, or
// nothing is left that the damage took.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/result.h"
#include "runtime/file.h"
#include "runtime/task.h"
#include "storage/recovery.h"

namespace weir::storage {

struct DamagedPlace {
    std::string file;
    uint64_t offset = 0;
    std::string what;
};

// How far a log is whole, and how far it is known to have come.
struct LogLoss {
    Position end;            // entries below are whole ...
    int64_t last_known = 0;  // ... and it had offsets below this one at least
};

struct ShardDamage {
    uint32_t shard = 0;
    std::vector<DamagedPlace> places;  // none: the shard is whole
    // Beside the journal: then nothing is known of the logs, and mend() can't help.
    bool checkpoint_is_damaged = false;
    // Of all logs that are known, also of those that lack nothing as far as is known.
    std::map<LogId, LogLoss> logs;
    uint64_t first_lost_block = 0;
    uint64_t whole_blocks_lost = 0;  // they follow the damage

    bool can_be_mended() const { return !places.empty() && !checkpoint_is_damaged; }

    // For mend().
    struct Page {
        std::string file;
        uint64_t offset = 0;
    };
    std::vector<Page> to_erase;
    std::vector<Page> marks;  // all of them: erased too
    std::map<std::string, uint64_t> to_resize;
    std::map<LogId, Position> cuts;  // logs of the checkpoint that the journal does not fill again
};

// Changes nothing. kIo, kNotFound, ... for what can't be read at all.
runtime::Task<Result<ShardDamage>> find_damage(RecoveryOptions options);

struct MendOptions {
    bool accepted = false;  // Log::loss_accepted()
};
// After find_damage(), with nothing else at work on the directory. kCorrupt if the shard is not
// whole afterwards.
runtime::Task<Result<void>> mend(RecoveryOptions options, ShardDamage damage, MendOptions how);

// A node's data directory that nobody uses, locked while this lives.
class OfflineData {
  public:
    // kUnavailable: a node runs on it. kNotFound: there is none.
    static runtime::Task<Result<OfflineData>> open(std::string data);
    runtime::Task<void> close();
    const Layout& layout() const { return layout_; }
    RecoveryOptions shard(uint32_t shard) const;
    // Says of all logs that are listed as lacking entries that this is accepted; gives how many
    // were not before.
    runtime::Task<Result<uint64_t>> accept_losses(uint32_t shard);
    runtime::Task<Result<uint64_t>> count_unaccepted(uint32_t shard);

  private:
    runtime::Task<Result<void>> lock();

    std::string data_;
    Layout layout_;
    runtime::File lock_;
    runtime::File directory_lock_;
};

}  // namespace weir::storage
