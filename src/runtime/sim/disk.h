// Disk: what one simulated machine's file system holds, and what of it a power cut leaves. Pure
// state: no time, no operations in flight (sim/driver.cc adds both). Shared by all shards of the
// node; survives kills and restarts; dies with the World.
//
// Each page (4 KiB) has the content that reads see and the content that is on stable storage. A
// write that completed is an unsynced version of its pages until a flush that was submitted after
// its completion has completed. A power cut picks for each page with unsynced versions one of: the
// durable content, any of the versions, sectors of two of them, or garbage. Sizes are versioned in
// the same way. A name (create, rename, unlink, make and remove directory) is unsynced until its
// directory is synced.
//
// The model is harsher than ext4 on purpose: what fdatasync and a directory sync do not promise may
// vanish here.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/prng.h"
#include "runtime/sim/plan.h"

namespace weir::sim {

inline constexpr size_t kPageBytes = 4096;
inline constexpr size_t kSectorBytes = 512;
using Page = std::array<uint8_t, kPageBytes>;
using PageRef = std::shared_ptr<const Page>;  // nullptr: zeros

class Inode;
struct CutPoint;  // disk.cc
using InodeRef = std::shared_ptr<Inode>;

// A file or a directory. Only Disk changes it.
class Inode {
  public:
    Inode(uint64_t i, bool d) : id(i), directory(d) {}

    struct Slot {
        PageRef current;
        PageRef durable;
        bool allocated = false;
        bool unreadable = false;
        uint64_t write = 0;  // which write of the disk's wrote it last; 0: none
    };
    struct PageVersion {
        uint64_t sequence;
        size_t page;
        PageRef content;
    };
    struct SizeVersion {
        uint64_t sequence;
        uint64_t size;
    };

    const uint64_t id;
    const bool directory;
    uint32_t names_held = 0;  // links, as processes see them
    uint32_t opens = 0;
    uint64_t locked_by = 0;  // the open file that holds the lock; 0: none

    // A file.
    uint64_t size = 0;
    uint64_t durable_size = 0;
    std::vector<Slot> slots;
    std::vector<PageVersion> unsynced;  // in order of completion
    std::vector<SizeVersion> unsynced_sizes;
    // The newest write that each of the last flushes covered, the last flush first; flushes that
    // covered none do not count.
    std::array<uint64_t, 4> flushed_writes{};

    // A directory.
    std::map<std::string, InodeRef, std::less<>> names;
    std::map<std::string, InodeRef, std::less<>> durable_names;
};

class Disk {
  public:
    explicit Disk(uint64_t capacity_bytes);

    // Operations with the kernel's results: >= 0 or -errno. They take effect at once, and are
    // unsynced.
    int32_t open(std::string_view path, uint32_t flags, uint64_t preallocate, InodeRef* out);
    void close(Inode& inode);
    // Any alignment: what O_DIRECT asks for is the driver's to check.
    int32_t read(const Inode& inode, uint64_t offset, MutableBytes into) const;
    int32_t write(Inode& inode, uint64_t offset, Bytes from);
    int32_t fallocate(Inode& inode, uint64_t offset, uint64_t size);
    int32_t truncate(Inode& inode, uint64_t size);
    int32_t rename(std::string_view from, std::string_view to);
    int32_t unlink(std::string_view path);
    int32_t make_dir(std::string_view path);
    int32_t remove_dir(std::string_view path);
    int32_t stat(std::string_view path, uint64_t* size) const;
    int32_t list(std::string_view path, std::vector<std::string>* names) const;
    InodeRef find(std::string_view path) const;  // nullptr: not there

    // Identifies what has completed so far. A flush covers what completed before its submission: it
    // gets the barrier then, and is applied later.
    uint64_t barrier() const { return sequence_; }
    void sync(Inode& inode, uint64_t barrier);
    void sync_dir(Inode& directory, uint64_t barrier);
    // The flush failed: each covered page is either durable or forgotten. No later flush restores
    // it or reports it. `visible`: forgotten pages read as new until the power goes (the page
    // cache); otherwise they read as old at once (the device).
    void fail_sync(Inode& inode, uint64_t barrier, bool visible, Prng& prng);

    struct PowerCut {
        bool torn_sectors = true;
        bool garbage_sectors = true;
        bool unordered_metadata = true;
    };
    // Nothing is open any more. Afterwards everything on the disk is durable.
    void cut_power(Prng& prng, const PowerCut& how);
    // A new disk in the machine.
    void wipe();

    uint64_t capacity_bytes() const { return capacity_pages_ * kPageBytes; }
    uint64_t used_bytes() const { return used_pages_ * kPageBytes; }
    uint64_t free_bytes() const {
        return used_pages_ >= capacity_pages_ ? 0 : (capacity_pages_ - used_pages_) * kPageBytes;
    }
    void set_capacity(uint64_t bytes) { capacity_pages_ = bytes / kPageBytes; }

    // Corruption of what is stored, durable or not.
    void flip_bit(Inode& inode, Prng& prng);
    void lose_page(Inode& inode, Prng& prng);  // -EIO until it is written again
    // Flips a bit somewhere on the disk where `may` allows it. The page must be settled: what wrote
    // it was flushed before the last three flushes of its file. A recovery from the file's end
    // can't tell later damage from a torn write, even if that end was itself recovered. Returns the
    // place; empty if there is none.
    std::string rot(Prng& prng,
                    const std::function<bool(std::string_view path, bool settled)>& may);

    // A hash of all names and of all that reads would see: disks with the same content have the
    // same hash.
    uint64_t content_hash() const;

  private:
    struct Assignment {
        InodeRef directory;
        std::string name;
        InodeRef inode;  // nullptr: removed
    };
    // One atomic change of names.
    struct NameChange {
        uint64_t sequence;
        std::vector<Assignment> assignments;
    };
    struct Place {
        InodeRef directory;  // nullptr: a parent is missing
        std::string name;    // empty: the root
        InodeRef inode;      // nullptr: not there
    };

    Place look_up(std::string_view path) const;
    void assign(NameChange change);
    static void persist(const NameChange& change);
    static void flip_bit_at(Inode& inode, uint64_t at, uint32_t bit);
    void set_size(Inode& inode, uint64_t size);
    void set_page(Inode& inode, size_t page, PageRef content);
    void free_slot(Inode::Slot& slot);
    void free_if_dead(Inode& inode);
    void cut_names(Prng& prng, const PowerCut& how, const CutPoint& cut);
    void settle(Inode& inode, Prng& prng, const PowerCut& how, const CutPoint& cut);

    uint64_t capacity_pages_;
    uint64_t used_pages_ = 0;
    uint64_t sequence_ = 0;
    uint64_t inodes_made_ = 0;
    uint64_t writes_ = 0;
    InodeRef root_;
    std::vector<NameChange> unsynced_names_;
};

}  // namespace weir::sim
