#include "storage/sweeper.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "runtime/file.h"
#include "runtime/shard.h"
#include "storage/layout.h"
#include "storage/shard_store.h"
#include "storage/trouble.h"

namespace weir::storage {

using runtime::Task;

namespace {

constexpr Duration kAgain = 1s;  // a log that was busy is looked at again after

struct SegmentName {
    std::string name;
    int64_t base_offset = 0;
    uint32_t segment = 0;
};

bool knows(const PartitionLog& log, const SegmentName& file) {
    if (log.draft && log.draft->segment == file.segment) return true;
    return std::ranges::any_of(log.state().segments, [&](const Segment& segment) {
        return segment.id == file.segment && segment.base.offset == file.base_offset;
    });
}

std::vector<SegmentName> strays_among(const std::vector<std::string>& names,
                                      const PartitionLog& log) {
    std::vector<SegmentName> strays;
    for (const std::string& name : names) {
        SegmentName file{.name = name};
        if (parse_segment_name(name, &file.base_offset, &file.segment) && !knows(log, file))
            strays.push_back(std::move(file));
    }
    return strays;
}

// Those that have a file for certain.
std::vector<SegmentName> written_segments(const LogState& state) {
    std::vector<SegmentName> written;
    for (const Segment& segment : state.segments) {
        if (segment.data_end > 0)
            written.push_back({.base_offset = segment.base.offset, .segment = segment.id});
    }
    return written;
}

// `written` were known before the names were read; those that are gone since are nobody's damage.
void report_missing(PartitionLog& log, const std::vector<SegmentName>& written,
                    const std::vector<std::string>& names) {
    std::set<uint32_t> here;
    for (const std::string& name : names) {
        SegmentName file;
        if (parse_segment_name(name, &file.base_offset, &file.segment)) here.insert(file.segment);
    }
    for (const SegmentName& file : written) {
        if (here.contains(file.segment) || !knows(log, file)) continue;
        const Segment* active = log.state().active();
        log.found_damage({ErrorCode::kNotFound,
                          fmt::format("segment {:020}-{:08x} of log {} is missing",
                                      file.base_offset, file.segment, log.id().v),
                          ENOENT},
                         active != nullptr && active->id == file.segment);
    }
}

}  // namespace

Task<void> Sweeper::run() {
    const runtime::StopToken stop = store_.stop_token();
    const std::string root = logs_directory(store_.options().directory);
    auto slept = co_await runtime::sleep_for(
        std::chrono::milliseconds(store_.options().sweep_delay_ms), stop);
    auto fans = co_await runtime::list_directory(root);
    if (!slept || !fans) co_return;
    std::vector<LogId> busy;
    std::set<LogId> seen;
    for (const std::string& fan : *fans) {
        auto names = co_await runtime::list_directory(root + "/" + fan);
        if (!names) continue;
        for (const LogId id : logs_in(*names)) {
            if (stop.stop_requested() || store_.failed()) co_return;
            seen.insert(id);
            if (!co_await sweep_log(id)) busy.push_back(id);
        }
    }
    for (const LogId id : store_.logs()) {
        if (seen.contains(id)) continue;
        if (stop.stop_requested() || store_.failed()) co_return;
        const PartitionLog* log = store_.find_log(id);
        if (log == nullptr || log->state().segments.empty()) continue;
        if (!co_await sweep_log(id)) busy.push_back(id);
    }
    while (!busy.empty()) {
        if (!co_await runtime::sleep_for(kAgain, stop) || store_.failed()) co_return;
        for (const LogId id : std::exchange(busy, {})) {
            if (!co_await sweep_log(id)) busy.push_back(id);
        }
    }
    done_ = true;
    if (const uint64_t files = store_.counters().swept_files; files > 0) {
        runtime::Shard::current().log().info("storage", "what a crash left behind is deleted",
                                             "shard={} files={}", store_.shard(), files);
    }
}

std::vector<LogId> Sweeper::logs_in(const std::vector<std::string>& names) const {
    std::vector<LogId> ids;
    for (const std::string& name : names) {
        LogId id;
        if (parse_log_directory_name(name, &id) &&
            owner_of(id, store_.layout().shards) == store_.shard())
            ids.push_back(id);
    }
    return ids;
}

Task<bool> Sweeper::sweep_log(LogId id) {
    PartitionLog* log = store_.find_log(id);
    if (log == nullptr) {
        auto units = co_await store_.deletes().acquire(1);
        // It may have been made since the names were read; an id is never used again, so one that
        // is gone stays gone.
        if (store_.find_log(id) == nullptr) co_await remove_directory(id);
        co_return true;
    }
    auto inside = log->gate().try_enter();
    if (!inside || store_.bugs().leave_stray_segments) co_return true;  // removal takes all of it
    const std::string directory = log_directory(store_.options().directory, id);
    const std::vector<SegmentName> written = written_segments(log->state());
    const auto names = co_await runtime::list_directory(directory);
    if (!names && shortage_of(names.error()) != Shortage::kNone) co_return false;
    report_missing(*log, written, names ? *names : std::vector<std::string>());
    if (!names) co_return true;  // there is none yet
    const LogState& state = log->state();
    const std::vector<SegmentName> strays = strays_among(*names, *log);
    if (strays.empty()) co_return true;
    // A file that was let go of a moment ago is needed until the record of that is durable.
    if (!co_await log->wait_records(log->records_queued())) co_return true;
    bool all = true;
    for (const SegmentName& stray : strays) {
        auto units = co_await store_.deletes().acquire(1);
        if (knows(*log, stray)) continue;
        // Numbers are used once, so a file of an old number is nobody's. One of a number to come
        // may be in the making, or may be made while it is deleted.
        const bool to_come = stray.segment >= state.next_segment;
        if (to_come && (log->moving() || log->held())) {
            all = false;
            continue;
        }
        if (to_come) log->set_moving(true);
        // Whoever made it and failed then may have left it open.
        co_await store_.files().forget({id, stray.segment});
        const auto removed = co_await runtime::unlink_file(directory + "/" + stray.name);
        if (to_come) log->set_moving(false);
        if (removed) ++store_.counters().swept_files;
    }
    co_return all;
}

Task<void> Sweeper::remove_directory(LogId id) {
    const std::string directory = log_directory(store_.options().directory, id);
    auto names = co_await runtime::list_directory(directory);
    if (!names) co_return;
    for (const std::string& name : *names) {
        if (co_await runtime::unlink_file(directory + "/" + name)) ++store_.counters().swept_files;
    }
    (void)co_await runtime::remove_directory(directory);
}

}  // namespace weir::storage
