// Damage to what a node has on its disk while it is down: what no crash leaves, and what a store
// must tell from one. One seed damages at most one file, once.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/prng.h"
#include "runtime/sim/disk.h"
#include "storage/layout.h"

namespace weir::sim {

enum class DamageKind : uint8_t {
    kDeleted,
    kEmptied,
    kShortened,     // at any byte
    kZeroedToEnd,   // from any page on, with what the file has at its end
    kZeroedInside,  // one page, settled: later damage looks like a torn write
    kAnothers,      // the content of another file of the same sort
    kOlder,         // the content that it had when an earlier life ended
};
inline constexpr int kDamageKinds = 7;

// Which rooms of the store a file concerns.
enum class DamagedFile : uint8_t { kJournal, kCheckpoint, kSegment, kNode };

struct FileDamage {
    DamageKind kind{};
    DamagedFile file{};
    std::string path;
    std::optional<storage::LogId> log;  // whose segment it is

    std::string to_string() const;
};

class FileDamager {
  public:
    // `directory`: of the node's data.
    FileDamager(Disk& disk, std::string directory)
        : disk_(disk), directory_(std::move(directory)) {}

    // At the end of a life: what the files hold now, for kOlder.
    void remember();
    // Of any file and any kind that can be told from a crash. Nothing where there is no such file.
    std::optional<FileDamage> damage(Prng& prng);

  private:
    struct File {
        std::string path;
        std::string name;
        DamagedFile sort{};
        std::optional<storage::LogId> log;
        uint64_t newest = 0;  // files of the same directory after this one: of a journal
    };
    std::vector<File> files() const;
    std::vector<uint8_t> bytes_of(const std::string& path) const;
    bool replace(const std::string& path, const std::vector<uint8_t>& bytes);
    bool apply(DamageKind kind, const File& file, const std::vector<File>& all, Prng& prng);

    Disk& disk_;
    std::string directory_;
    std::map<std::string, std::vector<uint8_t>> older_;
};

}  // namespace weir::sim
