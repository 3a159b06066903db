#include "storage/read_ahead.h"

#include <algorithm>

#include "storage/log_reader.h"
#include "storage/run_index.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Shard;
using runtime::Task;

namespace {

// A stream that nobody read from for so long may have lost its reader: when others need the room,
// it goes.
constexpr Duration kStreamIdle = 1s;

}  // namespace

RunsOnTheWay::Claim::Claim(RunsOnTheWay& owner, RunKey key) : owner_(&owner), key_(key) {
    owner_->arrivals_.emplace(key, std::make_unique<Arrival>());
}

RunsOnTheWay::Claim::~Claim() {
    if (owner_ == nullptr) return;
    const auto found = owner_->arrivals_.find(key_);
    found->second->over.notify_all();
    owner_->arrivals_.erase(found);
}

std::vector<RunsOnTheWay::Claim> RunsOnTheWay::claim(LogId log, uint32_t segment,
                                                     const std::vector<RunPlace>& runs) {
    std::vector<Claim> claims;
    for (const RunPlace& run : runs) {
        const RunKey key{log, segment, run.position};
        if (!contains(key)) claims.emplace_back(*this, key);
    }
    return claims;
}

Task<Result<void>> RunsOnTheWay::wait(RunKey key, runtime::StopToken stop) {
    const auto found = arrivals_.find(key);
    if (found == arrivals_.end()) co_return Result<void>{};
    co_return co_await found->second->over.wait({.stop = stop});
}

struct ReadAhead::Stream : ListHook {
    uint64_t serial = 0;
    LogId log;
    int64_t position = 0;  // where its next read begins
    int64_t ahead = 0;     // runs below are in the cache, on their way, or were passed over
    Instant read_at;
    uint32_t reads = 0;
    bool wants_index = false;
    // What lies between position and ahead, run by run.
    struct Covered {
        int64_t end;
        uint64_t bytes;
    };
    std::deque<Covered> covered;
    uint64_t bytes = 0;
};

class ReadAhead::Flight {
  public:
    Flight(ReadAhead& owner, Stream& stream) : owner_(&owner), serial_(stream.serial) {
        ++owner_->reads_;
        ++stream.reads;
    }
    Flight(Flight&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), serial_(other.serial_) {}
    Flight& operator=(Flight&&) = delete;
    ~Flight() { land(); }
    void land() {
        if (owner_ == nullptr) return;
        ReadAhead& owner = *std::exchange(owner_, nullptr);
        --owner.reads_;
        const auto found = owner.streams_.find(serial_);
        if (found == owner.streams_.end()) return;
        --found->second->reads;
        found->second->wants_index = false;
    }

  private:
    ReadAhead* owner_;
    uint64_t serial_;
};

ReadAhead::ReadAhead(ShardStore& store) : store_(store) {}
ReadAhead::~ReadAhead() = default;

ReadAhead::Stream* ReadAhead::find(LogId log, int64_t position) const {
    for (const auto& [serial, stream] : streams_) {
        if (stream->log == log && stream->position == position) return stream.get();
    }
    return nullptr;
}

bool ReadAhead::is_sequential(LogId log, int64_t offset) const {
    return find(log, offset) != nullptr;
}

ReadAhead::Stream& ReadAhead::begin(LogId log, int64_t position) {
    if (streams_.size() == kStreamsMax) end(recent_.front());
    auto made = std::make_unique<Stream>();
    Stream& stream = *made;
    stream.serial = next_serial_++;
    stream.log = log;
    stream.position = stream.ahead = position;
    stream.read_at = Shard::current().now();
    recent_.push_back(stream);
    streams_.emplace(stream.serial, std::move(made));
    return stream;
}

void ReadAhead::end(Stream& stream) {
    bytes_ahead_ -= stream.bytes;
    stream.unlink();
    streams_.erase(stream.serial);
}

void ReadAhead::forget(LogId log) {
    for (auto next = streams_.begin(); next != streams_.end();) {
        Stream& stream = *(next++)->second;
        if (stream.log == log) end(stream);
    }
}

void ReadAhead::note_read(PartitionLog& log, int64_t from, int64_t next) {
    if (next <= from || store_.options().read_ahead_bytes == 0) return;
    Stream* stream = find(log.id(), from);
    if (next >= log.state().flushed_end.offset) {
        // What comes now is in memory.
        if (stream != nullptr) end(*stream);
        return;
    }
    if (stream == nullptr) {
        begin(log.id(), next);
        return;
    }
    stream->position = next;
    stream->ahead = std::max(stream->ahead, next);
    stream->read_at = Shard::current().now();
    stream->unlink();
    recent_.push_back(*stream);
    while (!stream->covered.empty() && stream->covered.front().end <= next) {
        stream->bytes -= stream->covered.front().bytes;
        bytes_ahead_ -= stream->covered.front().bytes;
        stream->covered.pop_front();
    }
    advance(log, *stream);
}

bool ReadAhead::has_room(uint64_t bytes) {
    const uint64_t most = store_.options().cache_bytes_max / 2;
    while (bytes_ahead_ + bytes > most) {
        if (recent_.empty()) return false;
        Stream& oldest = recent_.front();
        if (Shard::current().now() - oldest.read_at < kStreamIdle) return false;
        end(oldest);
    }
    return true;
}

void ReadAhead::cover(Stream& stream, const RunPlace& run) {
    stream.ahead = run.end.offset;
    stream.covered.push_back({run.end.offset, run.length});
    stream.bytes += run.length;
    bytes_ahead_ += run.length;
}

void ReadAhead::advance_all() {
    std::vector<uint64_t> serials;
    recent_.for_each([&](Stream& stream) { serials.push_back(stream.serial); });
    for (const uint64_t serial : serials) {
        if (reads_ == kReadsMax) return;
        const auto found = streams_.find(serial);
        if (found == streams_.end()) continue;
        Stream& stream = *found->second;
        PartitionLog* log = store_.find_log(stream.log);
        if (log == nullptr || log->removing()) {
            end(stream);
        } else {
            advance(*log, stream);
        }
    }
}

void ReadAhead::advance(PartitionLog& log, Stream& stream) {
    if (store_.stopping() || store_.failed()) return;
    while (advance_by_one(log, stream)) {
    }
}

bool ReadAhead::advance_by_one(PartitionLog& log, Stream& stream) {
    const LogState& state = log.state();
    if (reads_ >= kReadsMax || stream.reads >= kReadsOfStreamMax || stream.wants_index ||
        stream.bytes >= store_.options().read_ahead_bytes ||
        stream.ahead >= state.flushed_end.offset)
        return false;
    const Segment* segment = state.segment_beyond({stream.ahead, UINT32_MAX});
    if (segment == nullptr) return false;
    auto inside = log.gate().try_enter();
    if (!inside) return false;
    if (segment->index == nullptr) {
        Flight flight(*this, stream);
        stream.wants_index = true;
        store_.spawn_read(
            load_index_ahead(&log, std::move(*inside), std::move(flight), segment->id));
        return false;
    }
    const std::vector<RunPlace>& index = *segment->index;
    const auto first = std::partition_point(index.begin(), index.end(), [&](const RunPlace& run) {
        return run.end.offset <= stream.ahead;
    });
    if (first == index.end()) return false;
    const auto is_there = [&](const RunPlace& run) {
        const RunKey key{log.id(), segment->id, run.position};
        return store_.cache().contains(key) || on_the_way_.contains(key);
    };
    const uint64_t serial = stream.serial;
    // Making room may end any stream, this one among them.
    const auto has_room_for = [&](uint64_t bytes) {
        return has_room(bytes) && streams_.contains(serial);
    };
    if (is_there(*first)) {
        if (!has_room_for(first->length)) return false;
        cover(stream, *first);
        return true;
    }
    std::vector<RunPlace> runs = runs_in_one_read(index, first, kReadBytes);
    // No run twice: the read ends before one that is there.
    runs.erase(std::find_if(runs.begin(), runs.end(), is_there), runs.end());
    const uint64_t length = runs.back().next() - runs.front().position;
    if (!has_room_for(length)) return false;
    auto reservation = store_.options().memory->try_reserve(length);
    if (!reservation) return false;
    for (const RunPlace& run : runs) cover(stream, run);
    Flight flight(*this, stream);
    auto claims = on_the_way_.claim(log.id(), segment->id, runs);
    store_.spawn_read(load(&log, std::move(*inside), std::move(flight), segment->id,
                           std::move(runs), std::move(claims), std::move(*reservation)));
    return true;
}

Task<void> ReadAhead::load(PartitionLog* log, runtime::Gate::Holder, Flight flight,
                           uint32_t segment, std::vector<RunPlace> runs,
                           std::vector<RunsOnTheWay::Claim> claims,
                           runtime::Reservation reservation) {
    LogReader reader(store_, *log);
    (void)co_await reader.load(segment, std::move(runs), std::move(reservation),
                               LogReader::Errors::kLeft);
    claims.clear();
    flight.land();
    advance_all();
}

Task<void> ReadAhead::load_index_ahead(PartitionLog* log, runtime::Gate::Holder, Flight flight,
                                       uint32_t segment) {
    const Result<void> loaded = co_await load_index(&store_, log, segment);
    flight.land();
    // Else it would be asked for again at once, and fail again.
    if (loaded) advance_all();
}

}  // namespace weir::storage
