// A Log is one partition's sequence of entries, durable through its shard's journal and its own
// segment files. Owned by the shard's Store; used on that shard alone. Entries are readable at once
// (the caller bounds reads by its high watermark) and become durable by group commit. After a crash
// a log holds all entries below the last durable_end() that it reported, whole, and perhaps some
// after it, without a gap.
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

// Entries [first_offset, next_offset) as they are stored, in order. A part holds one or more whole
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
    // ... except for the first entry, which is always given: the read waits for memory for it.
    // Without this flag, and for everything after the first entry, the read gives less if memory is
    // short.
    bool at_least_one = true;
};

struct FoundEntry {
    EntryInfo info;
    runtime::SharedBytes payload;
    uint32_t summary_bytes = 0;  // as it was appended
};

// What an entry of a segment becomes when the segment is rewritten. Its place, its kind and its
// term stay.
struct RewrittenEntry {
    runtime::SharedBytes payload;  // empty only if it was
    int64_t max_timestamp_ms = -1;
    uint32_t summary_bytes = 0;
};
// Nothing: the entry stays as it is. An error ends the rewriting, and nothing has changed. The
// entry lives until the task has ended. The task must not wait for memory of the node's budget: the
// entry holds some.
using SegmentRewriter =
    std::function<runtime::Task<Result<std::optional<RewrittenEntry>>>(const FoundEntry*)>;

struct ReadEntriesLimits {
    Position end{INT64_MAX, UINT32_MAX};  // give entries that end here or before
    uint64_t bytes_max = 1 << 20;  // of payloads: give no more, but the first entry in any case
    size_t entries_max = 4096;
};

// A state machine's bytes for a checkpoint; they cover every entry appended so far.
struct CapturedState {
    CapturedState() = default;
    CapturedState(std::vector<uint8_t> state) : bytes(std::move(state)) {}
    CapturedState(std::vector<uint8_t> state, int64_t floor)
        : bytes(std::move(state)), floor_offset(floor) {}
    std::vector<uint8_t> bytes;
    // The owner can revert the effects of any entry at or after this offset on the bytes (it lists
    // those in them), so the bytes are kept when such entries are cut off. -1: it can't; then the
    // bytes are dropped, and recovery passes it all entries instead.
    int64_t floor_offset = -1;
};

// What recovery found, for the state machines: their last saved state, and what came after it.
struct RecoveredState {
    std::vector<uint8_t> state;  // as its provider gave it at some checkpoint; empty if never
    // The state covers the entries below. It may also cover some beyond that were cut off since;
    // the owner reverts those (CapturedState::floor_offset).
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
    // The log accepts no more appends: the place where it would write is damaged. Otherwise the
    // whole part is read and written, and reads of the rest fail with kCorrupt, kNotFound or kIo.
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
    // For Raft and OffsetForLeaderEpoch: the largest term <= `term` and where it ends, i.e. where
    // the next term begins, or end(). Nothing if unknown.
    struct TermEnd {
        int32_t term;
        int64_t end_offset;
    };
    virtual std::optional<TermEnd> end_of_term(int32_t term) const = 0;
    virtual uint64_t size_bytes() const = 0;  // of what is held: segments and memory
    // Whether `offset` lies in a segment that gets no more entries: then appends do not add to what
    // one read from there can give.
    virtual bool is_in_older_segment(int64_t offset) const = 0;

    // Waits, in the order of the calls, until the store has room for that many entries of `bytes`
    // together (memory not yet handed over, journal space): this is back-pressure, not failure.
    // Each of them is then appended, or withdrawn. kDiskFull while the disk is full, kUnavailable
    // when the store is stopping or failed, kCancelled. kIo if the log is offline (damage());
    // append() too.
    virtual runtime::Task<Result<void>> admit(uint64_t bytes, runtime::StopToken stop,
                                              uint64_t entries = 1) = 0;
    // Admitted entries will not be appended: others need not wait for them.
    virtual void withdraw(uint64_t bytes, uint64_t entries = 1) = 0;
    // Appends the entry, at once and in the order of calls; entry.info.first == end(). It joins the
    // next group commit. After an error what was admitted for it is withdrawn.
    virtual Result<void> append(Entry entry) = 0;
    // Waits until durable_end() >= position. Fails with the error of a failed write or flush: then
    // nothing beyond durable_end() is guaranteed, and the store accepts no more entries.
    virtual runtime::Task<Result<void>> wait_durable(Position position) = 0;
    // The listener is called on this shard after each advance of durable_end(), outside any
    // coroutine step that appends. One listener; a new one replaces it.
    virtual void on_durable(std::function<void()> listener) = 0;

    // Reads data entries from the one that holds `offset` on. Needs start_offset() <= offset <=
    // end().offset, else kOutOfRange; at the end the result is empty. kCorrupt if a checksum on
    // disk fails: reported, never skipped.
    virtual runtime::Task<Result<ReadResult>> read(int64_t offset, ReadLimits limits,
                                                   runtime::StopToken stop) = 0;
    // For Raft's replication: whole entries of both kinds with their EntryInfo, in order, from the
    // one that begins at `from` or holds it. kOutOfRange if `from` is not in [start, end()]; at the
    // end the result is empty; kCorrupt as for read().
    virtual runtime::Task<Result<std::vector<FoundEntry>>> read_entries(
        Position from, ReadEntriesLimits limits, runtime::StopToken stop) = 0;
    // The first data entry at or after start_offset() whose max_timestamp_ms >= timestamp_ms, below
    // end_offset.
    virtual runtime::Task<Result<std::optional<FoundEntry>>> find_timestamp(int64_t timestamp_ms,
                                                                            int64_t end_offset) = 0;
    // The first data entry that has the largest max_timestamp_ms, below end_offset.
    virtual runtime::Task<Result<std::optional<FoundEntry>>> find_max_timestamp(
        int64_t end_offset) = 0;

    // Forgets entries at and after `end`, durably, before it returns. Only Raft calls it.
    virtual runtime::Task<Result<void>> truncate_suffix(Position end) = 0;
    // Moves start_offset() up; durable before it returns. Whole segments below go back to the pool
    // in the background.
    virtual runtime::Task<Result<void>> truncate_prefix(int64_t start_offset) = 0;
    // While the hold lives, retention by time and size does not move the start beyond this offset.
    // Several may have one each (a replica up to its high watermark, an upload); the lowest counts.
    [[nodiscard]] virtual RetentionHold hold_from(int64_t offset) = 0;
    // The segments that have entries, in order of offsets; entries that are only in memory are in
    // none. All are closed but perhaps the last.
    virtual std::vector<SegmentInfo> segments() const = 0;
    // Opens a closed segment's file. kNotFound: there is none with that id (any more);
    // kInvalidArgument: it is not closed; or the disk's error.
    virtual runtime::Task<Result<SegmentPin>> pin(uint32_t segment) = 0;
    // Replaces a closed segment by a new file, in which `rewriter` chose the payload of each entry;
    // what lies below start_offset() is left out. Calls of a shard go one after the other. Reads go
    // on meanwhile and see the old payloads or the new ones; appends do not wait. Durable before it
    // returns: a crash leaves either the old segment or the new one, whole. The payloads must lead
    // every replica and every state machine to the same state as the old ones; do not rewrite what
    // may still be cut off (Raft's committed position). kNotFound and kInvalidArgument as for
    // pin(), or kInvalidArgument for a payload that an entry can't have; kUnavailable: the segment
    // changed meanwhile; kCorrupt as for read(); or the rewriter's, or the disk's, error.
    virtual runtime::Task<Result<void>> rewrite(uint32_t segment, SegmentRewriter rewriter,
                                                runtime::StopToken stop) = 0;
    virtual runtime::Task<Result<void>> save_hard_state(HardState state) = 0;
    // Forgets all entries: the log becomes empty and starts at `start_offset` >= start_offset(),
    // after an entry of the term `term_below` (0: unknown, or none) that it does not hold. Durable
    // as a whole before it returns. For a follower that receives a snapshot.
    virtual runtime::Task<Result<void>> start_anew(int64_t start_offset, int32_t term_below) = 0;
    // A few bytes of the owner (the configuration of a Raft group) that outlive every entry: at
    // most kGroupConfigBytesMax; durable before it returns. Empty if never saved.
    virtual runtime::Task<Result<void>> save_group_config(std::vector<uint8_t> config) = 0;
    virtual const std::vector<uint8_t>& group_config() const = 0;

    // Provides a state machine's bytes for checkpoints, so that replay starts there. Called on this
    // shard at a checkpoint; the bytes must reflect all entries appended so far. Without a provider
    // everything since the log's start is replayed. When the provider is removed (an empty one is
    // set), it is called a last time: checkpoints have those bytes from then on.
    virtual void set_state_provider(std::function<CapturedState()> provider) = 0;
    // What recovery found; only the first call returns it.
    virtual RecoveredState take_recovered() = 0;

    // The damage that was found first (an offline one replaces one that is not); nothing while none
    // is known. It is found when the log is opened, read or written, and by a check of its files'
    // names soon after the start. Not kept over a restart. start_anew() ends it, because nothing is
    // left of the damaged files.
    virtual const std::optional<LogDamage>& damage() const = 0;
    // The listener is called on this shard when damage() changes, from a task of its own. One
    // listener; a new one replaces it. It is not called for damage that was known before it was
    // set.
    virtual void on_damage(std::function<void()> listener) = 0;
    // The shard's journal was damaged: this log may lack acknowledged entries at its end, and
    // hard_state() and group_config() may be older than those that were saved last. Kept over
    // restarts until confirm_whole().
    virtual bool may_have_lost() const = 0;
    // An operator accepted that the log goes on without what it may lack, if no other replica has
    // it (`weir debug repair --apply`).
    virtual bool loss_accepted() const { return false; }
    // The owner has recovered from others what the log may have lost. Durable before it returns.
    virtual runtime::Task<Result<void>> confirm_whole() = 0;
};

}  // namespace weir::storage
