#include "storage/run_plan.h"

#include "base/check.h"
#include "runtime/shard.h"

namespace weir::storage {
namespace {

// Adds entries to runs one by one and knows the length so far.
class Cutter {
  public:
    explicit Cutter(uint64_t run_bytes) : run_bytes_(run_bytes) {}
    // True when the entry begins a new run.
    bool add(size_t payload_bytes) {
        const bool next = entries_ > 0 && payload_bytes_ + payload_bytes > run_bytes_;
        if (next) {
            closed_ += run_length(entries_, payload_bytes_);
            entries_ = payload_bytes_ = 0;
        }
        ++entries_;
        payload_bytes_ += payload_bytes;
        return next;
    }
    uint64_t length() const {
        return closed_ + (entries_ > 0 ? run_length(entries_, payload_bytes_) : 0);
    }

  private:
    uint64_t run_bytes_;
    uint64_t closed_ = 0;
    size_t entries_ = 0;
    size_t payload_bytes_ = 0;
};

}  // namespace

RunPlan plan_runs(const EntryQueue& memory, size_t entries, uint64_t run_bytes) {
    RunPlan plan;
    Cutter cutter(run_bytes);
    for (size_t i = 0; i < entries; ++i) {
        if (cutter.add(memory[i].payload.size())) plan.run_ends.push_back(i);
    }
    plan.run_ends.push_back(entries);
    plan.length = cutter.length();
    return plan;
}

size_t entries_that_fit(const EntryQueue& memory, Position end, uint64_t length_max,
                        uint64_t run_bytes) {
    Cutter cutter(run_bytes);
    size_t entries = 0;
    for (; entries < memory.size() && memory[entries].info.end() <= end; ++entries) {
        cutter.add(memory[entries].payload.size());
        if (entries > 0 && cutter.length() > length_max) break;
    }
    return entries;
}

WrittenRuns write_runs(runtime::MemoryBudget& budget, const LogState& log, const RunPlan& plan,
                       const Segment& segment, bool bypass) {
    WrittenRuns written;
    std::optional<runtime::Reservation> reservation = budget.try_reserve(plan.length);
    written.keep = reservation.has_value();
    written.buffer = runtime::IoBuffer::allocate(
        plan.length, reservation ? std::move(*reservation) : runtime::Reservation());
    written.buffer.set_size(plan.length);
    written.position = segment.data_end;
    const int64_t now_ms = runtime::Shard::current().wall_now().ms;
    std::vector<RunEntry> run;
    size_t at = 0, index = 0;
    for (const size_t run_end : plan.run_ends) {
        run.clear();
        for (; index < run_end; ++index) {
            const MemoryEntry& entry = log.memory[index];
            run.push_back({entry.info, entry.payload.bytes(), entry.summary_bytes});
        }
        RunHeader header{.log = log.id,
                         .segment = segment.id,
                         .position = segment.data_end + at,
                         .written_ms = now_ms};
        build_run(written.buffer.all().subspan(at), run, &header);
        written.notes.push_back({.segment = segment.id,
                                 .position = header.position,
                                 .length = header.length,
                                 .crc = header.crc,
                                 .entries = header.entries,
                                 .first = header.first,
                                 .end = header.end,
                                 .max_timestamp_ms = header.max_timestamp_ms,
                                 .bypass = bypass});
        at += header.length;
    }
    CHECK(at == plan.length);
    return written;
}

std::vector<std::pair<RunNote, runtime::SharedBytes>> WrittenRuns::share() && {
    std::vector<std::pair<RunNote, runtime::SharedBytes>> shared;
    const runtime::SharedBytes all = std::move(buffer).share();
    size_t at = 0;
    for (const RunNote& note : notes) {
        shared.emplace_back(note, keep ? all.slice(at, note.length) : runtime::SharedBytes());
        at += note.length;
    }
    return shared;
}

}  // namespace weir::storage
