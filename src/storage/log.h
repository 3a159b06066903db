// A Log is one partition's sequence of entries, durable through its shard's journal and its own
// segment files. Owned by the shard's Store; used on that shard alone. Entries become readable at
// once (the caller bounds reads by its high watermark) and durable by group commit. After a crash a
// log holds all entries below the last durable_end() that it told, whole, and perhaps some after
// it; never a gap.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/time.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"
#include "storage/entry.h"
#include "storage/retention_hold.h"
#include "storage/segment_pin.h"

namespace weir::storage {

struct LogConfig {
    uint64_t segment_bytes = 1ull << 30;          // a segment rolls at this size ...
    int64_t segment_ms = 7ll * 24 * 3600 * 1000;  // ... or when its first entry is this old
    int64_t retention_bytes = -1;                 // of closed segments; -1: no bound
    int64_t retention_ms =
        7ll * 24 * 3600 * 1000;       // by a segment's largest timestamp; -1: no bound
    bool delete_by_retention = true;  // cleanup.policy has "delete"
};

// Entries [first, next_offset) as they are stored, in order. A part holds one or more whole
// payloads back to back.
struct ReadResult {
    std::vector<runtime::SharedBytes> parts;
    uint64_t size = 0;
    int64_t first_offset = 0;       // of the first entry given: <= the offset asked for
    int64_t next_offset = 0;        // where to read on
    bool memory_was_short = false;  // more was wanted and is there
};

struct ReadLimits {
    int64_t end_offset =
        INT64_MAX;  // give entries that lie wholly below this offset (the high watermark)
    uint64_t bytes_max = 1 << 20;  // give no more than this ...
    // ... but the first entry in any case, and for that the read waits for memory. Without it, and
    // for all that comes after the first, it gives less where memory is short.
    bool at_least_one = true;
};

struct FoundEntry {
    EntryInfo info;
    runtime::SharedBytes payload;
};

struct ReadEntriesLimits {
    Position end{INT64_MAX, UINT32_MAX};  // give entries that end here or before
    uint64_t bytes_max = 1 << 20;  // of payloads: give no more, but the first entry in any case
    size_t entries_max = 4096;
};

// What a state machine gives for a checkpoint: bytes that cover every entry appended so far.
struct CapturedState {
    CapturedState() = default;
    CapturedState(std::vector<uint8_t> state) : bytes(std::move(state)) {}
    CapturedState(std::vector<uint8_t> state, int64_t floor)
        : bytes(std::move(state)), floor_offset(floor) {}
    std::vector<uint8_t> bytes;
    // The owner can take back from the bytes what any entry at or after this offset did to them (it
    // lists those in them), so that they are kept when such entries are cut off. -1: it can't; the
    // bytes are dropped then, and recovery tells of all entries instead.
    int64_t floor_offset = -1;
};

// What recovery found, for the state machines above: their last saved state, and what came after
// it.
struct RecoveredState {
    std::vector<uint8_t> state;  // as its provider gave it at some checkpoint; empty if never
    // The state covers the entries below. It may cover some beyond, which were cut off since: those
    // the owner takes back (CapturedState::floor_offset).
    Position state_end;
    int64_t state_offset = 0;  // its offset, or the log's start if that is beyond
    struct Replayed {
        EntryInfo info;
        std::vector<uint8_t> summary;  // the first summary_bytes of its payload
    };
    std::vector<Replayed> entries;  // from state_offset on, in order
};

// What is wrong with a log's files on this node.
struct LogDamage {
    std::string reason;  // for the operator: which file, at which place, what is wrong
    // The log takes no more appends: the place where it would write is damaged. Otherwise what is
    // whole is read and written, and reads of the rest fail with kCorrupt, kNotFound or kIo.
    bool offline = false;
};

class Log {
  public:
    virtual ~Log() = default;

    virtual LogId id() const = 0;
    virtual const LogConfig& config() const = 0;
    // Takes effect for the active segment's next roll and the next retention pass. Not durable: the
    // metadata log holds it.
    virtual void configure(const LogConfig& config) = 0;

    virtual int64_t start_offset() const = 0;  // the first offset that can be read
    virtual Position end() const = 0;          // after the last entry appended
    virtual Position durable_end() const = 0;  // after the last entry on stable storage
    virtual HardState hard_state() const = 0;
    virtual int32_t last_term() const = 0;  // of the last entry; 0 if there never was one
    // The terms of the log's entries, ascending, and perhaps that of the last entry below its
    // start.
    virtual std::vector<TermStart> terms() const = 0;
    // Raft and OffsetForLeaderEpoch: the end offset of the largest term <= `term`: {that term,
    // where the next one begins or end()}; nothing if unknown.
    struct TermEnd {
        int32_t term;
        int64_t end_offset;
    };
    virtual std::optional<TermEnd> end_of_term(int32_t term) const = 0;
    virtual uint64_t size_bytes() const = 0;  // of what is held: segments and memory
    // Whether `offset` lies in a segment that takes no more entries: what can be read from there in
    // one go does not grow by appends.
    virtual bool is_in_older_segment(int64_t offset) const = 0;

    // Waits until the store has room for so many entries of `bytes` together (memory not yet handed
    // over, journal space), in the order of the calls; back-pressure, not failure. Each of them is
    // then appended, or withdrawn. kDiskFull while the disk is full, kUnavailable when the store is
    // stopping or failed, kCancelled. kIo if the log is offline (damage()); append() too.
    virtual runtime::Task<Result<void>> admit(uint64_t bytes, runtime::StopToken stop,
                                              uint64_t entries = 1) = 0;
    // What was admitted will not be appended after all: others need not wait for it.
    virtual void withdraw(uint64_t bytes, uint64_t entries = 1) = 0;
    // Appends the entry, at once and in the order of calls; entry.info.first == end(). It joins the
    // next group commit. After an error what was admitted for it is withdrawn.
    virtual Result<void> append(Entry entry) = 0;
    // Until durable_end() >= position. Fails with the error of the write or flush that failed: then
    // nothing more is promised of entries beyond durable_end(), and the store takes no more.
    virtual runtime::Task<Result<void>> wait_durable(Position position) = 0;
    // Called after each advance of durable_end(), on this shard, outside of any coroutine step that
    // appends. One listener; replaces the last.
    virtual void on_durable(std::function<void()> listener) = 0;

    // Data entries from the one that holds `offset` on. start_offset() <= offset <= end().offset,
    // else kOutOfRange; nothing there yet gives an empty result. kCorrupt when a checksum on disk
    // fails: reported, never skipped.
    virtual runtime::Task<Result<ReadResult>> read(int64_t offset, ReadLimits limits,
                                                   runtime::StopToken stop) = 0;
    // Raft's replication: entries of both kinds with what is known of them, from the one that
    // begins at `from` on (or holds it), in order, each whole. kOutOfRange when `from` is not in
    // [start, end()]; nothing there yet gives an empty result; kCorrupt as for read().
    virtual runtime::Task<Result<std::vector<FoundEntry>>> read_entries(
        Position from, ReadEntriesLimits limits, runtime::StopToken stop) = 0;
    // The first data entry at or after start_offset() whose max_timestamp_ms >= timestamp_ms, below
    // end_offset.
    virtual runtime::Task<Result<std::optional<FoundEntry>>> find_timestamp(int64_t timestamp_ms,
                                                                            int64_t end_offset) = 0;
    // The first data entry that has the largest max_timestamp_ms, below end_offset.
    virtual runtime::Task<Result<std::optional<FoundEntry>>> find_max_timestamp(
        int64_t end_offset) = 0;

    // Forgets entries at and after `end`, durably, before it returns. Raft alone asks for it.
    virtual runtime::Task<Result<void>> truncate_suffix(Position end) = 0;
    // Moves start_offset() up; durable before it returns. Whole segments below go back to the pool
    // in the background.
    virtual runtime::Task<Result<void>> truncate_prefix(int64_t start_offset) = 0;
    // While the hold lives, retention by time and size does not move the start beyond this offset.
    // Several may have one each (a replica up to its high watermark, an upload); the lowest counts.
    [[nodiscard]] virtual RetentionHold hold_from(int64_t offset) = 0;
    // The segments that have entries, in order of offsets; what is in memory alone is in none. At
    // most one is not closed, the last.
    virtual std::vector<SegmentInfo> segments() const = 0;
    // Opens a closed segment's file. kNotFound: there is none with that id (any more);
    // kInvalidArgument: it is not closed; or the disk's error.
    virtual runtime::Task<Result<SegmentPin>> pin(uint32_t segment) = 0;
    virtual runtime::Task<Result<void>> save_hard_state(HardState state) = 0;
    // Forgets all entries: the log is empty and starts at `start_offset` >= start_offset(), after
    // an entry of the term `term_below` (0: unknown, or none) that it does not hold. Durable, as a
    // whole, before it returns. A follower that is given a snapshot asks for it.
    virtual runtime::Task<Result<void>> start_anew(int64_t start_offset, int32_t term_below) = 0;
    // A few bytes of the owner's that outlive every entry (the configuration of a Raft group):
    // kept whole, at most kGroupConfigBytesMax; durable before it returns. Empty if never saved.
    virtual runtime::Task<Result<void>> save_group_config(std::vector<uint8_t> config) = 0;
    virtual const std::vector<uint8_t>& group_config() const = 0;

    // A state machine's bytes that go into checkpoints, so that replay starts there. Called on this
    // shard at a checkpoint; must reflect all entries appended so far. Without a provider
    // everything since the log's start is replayed. When it is taken away again (an empty one), it
    // is asked a last time: what it says is in the checkpoints from then on.
    virtual void set_state_provider(std::function<CapturedState()> provider) = 0;
    // What recovery found; once, then it is forgotten.
    virtual RecoveredState take_recovered() = 0;

    // The damage that was found first (an offline one replaces one that is not); nothing as long as
    // none is known. Found when the log is opened, read or written, and by a look at the names of
    // its files soon after the start. Not kept over a restart. start_anew() ends it: nothing is
    // left of the damaged files then.
    virtual const std::optional<LogDamage>& damage() const = 0;
    // Called on this shard when damage() becomes another, from a task of its own. One listener;
    // replaces the last. It is not called for damage that was known before it was set.
    virtual void on_damage(std::function<void()> listener) = 0;
    // The shard's journal was damaged: this log may lack entries at its end that were acknowledged,
    // and hard_state() and group_config() may be older ones than those that were saved last. Kept
    // over restarts until confirm_whole().
    virtual bool may_have_lost() const = 0;
    // An operator said that the log is to go on without what it may lack where no other replica has
    // it (`weir debug repair --apply`).
    virtual bool loss_accepted() const { return false; }
    // The owner has recovered from others what the log may have lost. Durable before it returns.
    virtual runtime::Task<Result<void>> confirm_whole() = 0;
};

}  // namespace weir::storage
