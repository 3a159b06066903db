// ReadAhead: reads the next runs of a sequential reader into the cache. A client has one fetch in
// flight to a broker, so the disk would rest while an answer is on its way, and the client while
// the disk works. Owned by the ShardStore, used on its shard.
//
// A read that continues where an earlier one ended is a stream. Up to options.read_ahead_bytes of
// runs are read ahead of each stream, two runs at a time and four in all, so that a produce never
// waits behind more than a few megabytes at the device. Ahead of all streams together, at most half
// of the cache is used. Reading ahead does not wait for memory, and the cache gives way to the
// budget as always. An error in a run that was read ahead is reported to the reader of that run.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <vector>

#include "base/intrusive_list.h"
#include "base/time.h"
#include "runtime/scope.h"
#include "runtime/task.h"
#include "runtime/wait.h"
#include "storage/read_cache.h"
#include "storage/segment_format.h"

namespace weir::storage {

class PartitionLog;
class ShardStore;

// Runs that are being read. A reader that needs one waits for it instead of reading it again.
class RunsOnTheWay {
    struct Arrival {
        runtime::WaitQueue over;
    };
    using Arrivals = std::map<RunKey, std::unique_ptr<Arrival>>;

  public:
    // Ends when it is destroyed, with the run in the cache or not.
    class Claim {
      public:
        Claim(RunsOnTheWay& owner, RunKey key);
        Claim(Claim&& other) noexcept
            : owner_(std::exchange(other.owner_, nullptr)), key_(other.key_) {}
        Claim& operator=(Claim&&) = delete;
        ~Claim();

      private:
        RunsOnTheWay* owner_;
        RunKey key_;
    };

    bool contains(RunKey key) const { return arrivals_.contains(key); }
    // Claims those runs that are not claimed yet.
    std::vector<Claim> claim(LogId log, uint32_t segment, const std::vector<RunPlace>& runs);
    // Waits until the read of the run has ended, whether it succeeded or not. kCancelled by the
    // token.
    runtime::Task<Result<void>> wait(RunKey key, runtime::StopToken stop);

  private:
    Arrivals arrivals_;
};

class ReadAhead {
  public:
    static constexpr size_t kStreamsMax = 64;
    static constexpr uint32_t kReadsMax = 4;
    static constexpr uint32_t kReadsOfStreamMax = 2;

    explicit ReadAhead(ShardStore& store);
    ~ReadAhead();

    RunsOnTheWay& on_the_way() { return on_the_way_; }
    // A read of segments returned [from, next).
    void note_read(PartitionLog& log, int64_t from, int64_t next);
    // Whether some reader's last read ended here.
    bool is_sequential(LogId log, int64_t offset) const;
    // The log's suffix was cut, or the log is gone.
    void forget(LogId log);
    uint32_t reads() const { return reads_; }
    uint64_t bytes_ahead() const { return bytes_ahead_; }

  private:
    struct Stream;
    // One read in progress; counted from its decision until it ends or is dropped.
    class Flight;

    Stream* find(LogId log, int64_t position) const;
    Stream& begin(LogId log, int64_t position);
    void end(Stream& stream);
    void advance_all();
    void advance(PartitionLog& log, Stream& stream);
    // Decides on the next read of a stream; false when there is none to make now.
    bool advance_by_one(PartitionLog& log, Stream& stream);
    void cover(Stream& stream, const RunPlace& run);
    // Whether `bytes` more fit ahead of all streams; drops streams that nobody reads any more.
    bool has_room(uint64_t bytes);
    runtime::Task<void> load(PartitionLog* log, runtime::Gate::Holder inside, Flight flight,
                             uint32_t segment, std::vector<RunPlace> runs,
                             std::vector<RunsOnTheWay::Claim> claims,
                             runtime::Reservation reservation);
    runtime::Task<void> load_index_ahead(PartitionLog* log, runtime::Gate::Holder inside,
                                         Flight flight, uint32_t segment);

    ShardStore& store_;
    RunsOnTheWay on_the_way_;
    std::map<uint64_t, std::unique_ptr<Stream>> streams_;
    IntrusiveList<Stream> recent_;  // least recently used first
    uint64_t next_serial_ = 1;
    uint32_t reads_ = 0;
    uint64_t bytes_ahead_ = 0;
};

}  // namespace weir::storage
