// Plan: which faults a simulated run meets, and how often. Drawn from the seed, swarm fashion: each
// class of fault is on or off first, and only then gets its rates, so that runs differ in kind
// (Groce et al., "Swarm Testing", ISSTA 2012). A default-constructed Plan has no faults at all.
// to_string() prints it in full, for whoever reads a failing run.
#pragma once

#include <cstdint>
#include <string>

#include "base/time.h"

namespace weir::sim {

// Chances are of one operation, or of one page where it says so. Times are virtual.
struct DiskFaults {
    // Latencies are drawn from exponential distributions with these means.
    Duration read_mean = 60us;
    Duration write_mean = 30us;
    Duration sync_mean = 300us;
    Duration metadata_mean = 40us;
    double stall_chance = 0;  // an operation takes up to stall_max
    Duration stall_max = 3s;

    double short_read_chance = 0;
    double short_write_chance = 0;
    double read_error_chance = 0;   // -EIO once
    double write_error_chance = 0;  // -EIO; any part may be written
    // -EIO once; each page that the flush was to cover is kept or forgotten, and the next flush
    // says that all is well ("fsyncgate").
    double sync_error_chance = 0;
    double metadata_error_chance =
        0;  // -EIO of open, rename, unlink, fallocate, truncate, directory operations; no effect
    double metadata_full_chance =
        0;  // -ENOSPC of create, make directory and fallocate while the disk has room

    double no_descriptor_chance = 0;  // -EMFILE of open, and of listing and flushing a directory

    // What a power cut may do to a page with unsynced writes, beside keeping or dropping each.
    bool torn_sectors = true;      // 512-byte sectors of the old and of the new
    bool garbage_sectors = false;  // ... or of neither
    // Names and sizes reach the disk in any order; otherwise in the order in which they were made,
    // as with a metadata journal.
    bool unordered_metadata = true;

    uint64_t capacity_bytes = 1ull << 30;

    // Corruption of what was written and synced: a program can detect it, not prevent it. Off
    // unless the run is about detection.
    double bit_rot_chance = 0;  // before a read: one bit of one page of the file flips, for good
    double latent_error_chance =
        0;  // before a read: one page of the file gives -EIO until it is written again
    double misdirected_write_chance = 0;  // a write lands on other pages of the file
    double lost_write_chance = 0;         // a write says that it succeeded and changes nothing

    bool corrupts() const {
        return bit_rot_chance > 0 || latent_error_chance > 0 || misdirected_write_chance > 0 ||
               lost_write_chance > 0;
    }
};

struct NetFaults {
    Duration delay_min = 20us;
    Duration delay_mean = 100us;  // beyond delay_min, exponential
    double slow_chance = 0;       // of one segment: delayed up to slow_max
    Duration slow_max = 1s;
    uint64_t buffer_bytes_min = 1;
    uint64_t buffer_bytes_max = 256 << 10;  // a socket's receive window, drawn for each
    uint64_t chunk_bytes_min = 1;
    uint64_t chunk_bytes_max = 64 << 10;  // what one receive or send moves at most, drawn for each
    double connect_refused_chance = 0;
    double connect_timeout_chance = 0;
    Duration connect_timeout = 5s;
    double reset_chance = 0;  // of one connection: a reset at a drawn byte of its stream
    uint64_t reset_bytes_max = 64 << 10;
    double stall_chance = 0;  // of one segment: its direction stands still up to stall_max
    Duration stall_max = 10s;
    Duration unacknowledged_max =
        30s;  // a segment that cannot be delivered for so long ends the connection with -ETIMEDOUT
};

struct ClockFaults {
    double drift_max =
        0;  // of the monotonic clock, as a share: 0.001 gains or loses up to 1 ms a second
    Duration jump_mean = 0s;  // between jumps of the wall clock; 0: it does not jump
    Duration jump_max = 0s;   // either way
};

struct ScheduleFaults {
    bool shuffle = false;              // run queues in random order
    Duration clock_read_cost = 200ns;  // virtual time that each reading of the clock takes; large
                                       // values preempt coroutines early
    double stall_chance = 0;  // a shard that becomes runnable gets no processor for up to stall_max
    Duration stall_max = 100ms;
    double late_timer_chance =
        0;  // the shard wakes for a timer up to late_timer_max after it is due
    Duration late_timer_max = 200ms;
};

// For the workload that kills nodes: the world kills none by itself.
struct CrashFaults {
    Duration life_mean = 0s;  // virtual time between starts and kills; 0: none
    double power_share = 0;   // of the kills: power cuts; the others end the process and keep what
                              // the disk and the page cache hold
    double recovery_share = 0;  // of the kills: during the start that follows
};

struct Plan {
    uint64_t seed = 0;
    DiskFaults disk;
    NetFaults net;
    ClockFaults clock;
    ScheduleFaults schedule;
    CrashFaults crash;

    std::string to_string() const;
};

// Does not include the corruption of synced data (DiskFaults::corrupts); draw_corruption() adds it.
Plan draw_plan(uint64_t seed);
void draw_corruption(Plan& plan);

}  // namespace weir::sim
