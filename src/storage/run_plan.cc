#include "storage/run_plan.h"

#include "base/check.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::storage {
namespace {

// Adds entries to runs one by one and knows the length so far.
class Cutter {
  public:
    explicit Cutter(uint64_t run_bytes) : run_bytes_(run_bytes) {}
    // True when the entry begins a new run; the last one's length is in closed().
    bool add(size_t payload_bytes) {
        const bool next = entries_ > 0 && payload_bytes_ + payload_bytes > run_bytes_;
        if (next) {
            closed_ = run_length(entries_, payload_bytes_);
            length_ += closed_;
            entries_ = payload_bytes_ = 0;
        }
        ++entries_;
        payload_bytes_ += payload_bytes;
        return next;
    }
    uint64_t closed() const { return closed_; }
    uint64_t open() const { return entries_ > 0 ? run_length(entries_, payload_bytes_) : 0; }
    uint64_t length() const { return length_ + open(); }

  private:
    uint64_t run_bytes_;
    uint64_t closed_ = 0;
    uint64_t length_ = 0;
    size_t entries_ = 0;
    size_t payload_bytes_ = 0;
};

}  // namespace

RunPlan plan_runs(const EntryQueue& memory, size_t begin, size_t end, uint64_t run_bytes,
                  uint64_t position) {
    CHECK(begin < end);
    RunPlan plan;
    Cutter cutter(run_bytes);
    const auto close = [&](size_t next, uint64_t length) {
        plan.runs.push_back({begin, next, position + plan.length, length});
        plan.length += length;
        begin = next;
    };
    for (size_t i = begin; i < end; ++i) {
        if (cutter.add(memory[i].payload.size())) close(i, cutter.closed());
    }
    close(end, cutter.open());
    CHECK(plan.length == cutter.length());
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

bool StagedRuns::fit(const LogState& log, size_t entries_max) const {
    if (runs.empty() || entries > entries_max || log.segments.empty()) return false;
    const Segment& last = log.segments.back();
    return !last.full && last.id == segment && last.data_end == runs.front().note.position &&
           log.memory.front().info.first == runs.front().note.first &&
           log.memory[entries - 1].info.end() == runs.back().note.end;
}

namespace {

struct RunAtWork {
    BuiltRun built;
    std::optional<RunBuild> build;
};

RunAtWork begin_run(runtime::MemoryBudget& budget, const LogState& log, uint32_t segment,
                    const PlannedRun& planned, bool bypass) {
    RunAtWork run;
    std::optional<runtime::Reservation> reservation = budget.try_reserve(planned.length);
    run.built.keep = reservation.has_value();
    run.built.buffer = runtime::IoBuffer::allocate(
        planned.length, reservation ? std::move(*reservation) : runtime::Reservation());
    run.built.buffer.set_size(planned.length);
    run.built.note.bypass = bypass;
    std::vector<RunEntry> entries;
    entries.reserve(planned.end - planned.begin);
    for (size_t i = planned.begin; i < planned.end; ++i) {
        const MemoryEntry& entry = log.memory[i];
        entries.push_back({entry.info, entry.payload.bytes(), entry.summary_bytes});
    }
    const RunHeader header{.log = log.id,
                           .segment = segment,
                           .position = planned.position,
                           .written_ms = runtime::Shard::current().wall_now().ms};
    run.build.emplace(run.built.buffer.all(), std::move(entries), header);
    CHECK(run.build->header().length == planned.length);
    return run;
}

BuiltRun end_run(RunAtWork run) {
    const RunHeader& header = run.build->header();
    run.built.note = {.segment = header.segment,
                      .position = header.position,
                      .length = header.length,
                      .crc = header.crc,
                      .entries = header.entries,
                      .first = header.first,
                      .end = header.end,
                      .max_timestamp_ms = header.max_timestamp_ms,
                      .payload_bytes = header.payload_bytes,
                      .bypass = run.built.note.bypass};
    return std::move(run.built);
}

// An ordinary run, which the disk should not wait for.
bool is_small(const PlannedRun& planned) { return planned.length <= 2 * kRunStepBytes; }

}  // namespace

runtime::Task<BuiltRun> build_planned_run(runtime::MemoryBudget& budget, const LogState& log,
                                          uint32_t segment, PlannedRun planned, bool bypass) {
    RunAtWork run = begin_run(budget, log, segment, planned, bypass);
    const bool small = is_small(planned);
    while (run.build->step()) {
        if (!small) co_await runtime::yield();
    }
    co_return end_run(std::move(run));
}

std::optional<BuiltRun> build_small_run(runtime::MemoryBudget& budget, const LogState& log,
                                        uint32_t segment, const PlannedRun& planned, bool bypass) {
    if (!is_small(planned)) return std::nullopt;
    RunAtWork run = begin_run(budget, log, segment, planned, bypass);
    while (run.build->step()) {
    }
    return end_run(std::move(run));
}

}  // namespace weir::storage
