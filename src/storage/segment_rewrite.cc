#include "storage/segment_rewrite.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/shard.h"
#include "runtime/wait.h"
#include "storage/log_reader.h"
#include "storage/run_index.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::Task;
using runtime::try_;

Task<Result<void>> SegmentRewrite::run() {
    LogState& state = log_.state();
    // Who writes to the log may be about to open a segment, with the next number.
    co_await log_.wait_not_moving();
    const Segment* segment = state.find_segment(segment_);
    if (segment == nullptr) co_return fail(ErrorCode::kNotFound, "the log has no such segment");
    if (!segment->full || segment->base >= segment->end)
        co_return fail(ErrorCode::kInvalidArgument, "the segment still takes entries");
    const Position from = std::max(segment->base, Position{state.start_offset, 0});
    if (from >= segment->end)
        co_return fail(ErrorCode::kInvalidArgument, "the segment lies below the log's start");
    replaced_.segment = segment_;
    replaced_.end = segment->end;
    replaced_.replacement = state.next_segment++;
    Result<void> written = co_await write_file(from);
    if (written) written = unchanged();
    if (written) written = store_.admission().admit_record();
    if (!written) {
        co_await delete_file();
        co_return written;
    }
    co_return co_await log_.wait_records(replace());
}

Result<void> SegmentRewrite::unchanged() const {
    TRY(store_.usable());
    if (stop_.stop_requested()) return fail(ErrorCode::kCancelled);
    const Segment* segment = log_.state().find_segment(segment_);
    if (log_.removing() || segment == nullptr || segment->end != replaced_.end)
        return fail(ErrorCode::kUnavailable, "the segment changed while it was rewritten");
    return {};
}

Task<Result<void>> SegmentRewrite::write_file(Position from) {
    co_await try_(write_entries(from));
    if (!added_.empty()) co_await try_(end_run());
    const std::vector<uint8_t> footer =
        build_footer(log_.id(), replaced_.replacement, replaced_.data_end, index_);
    replaced_.footer_length = static_cast<uint32_t>(footer.size());
    co_await try_(append_footer(&file_.file(), replaced_.data_end, &footer));
    co_return co_await store_.sync_names(log_directory(store_.options().directory, log_.id()));
}

Task<Result<void>> SegmentRewrite::write_entries(Position from) {
    LogReader reader(store_, log_);
    const ReadEntriesLimits limits{.end = replaced_.end, .bytes_max = store_.limits().run_bytes};
    while (from < replaced_.end) {
        Result<std::vector<FoundEntry>> read = co_await reader.read_entries(from, limits, stop_);
        co_await try_(unchanged());
        if (from.offset < log_.start_offset() || (read && read->empty()))
            co_return fail(ErrorCode::kUnavailable, "the segment changed while it was rewritten");
        std::vector<FoundEntry> entries = co_await try_(std::move(read));
        for (FoundEntry& entry : entries) {
            from = entry.info.end();
            co_await try_(add(std::move(entry)));
        }
        // Who waits for memory must not hold any.
        for (; copied_ < added_.size(); ++copied_)
            added_[copied_].payload =
                runtime::SharedBytes::copy_of(added_[copied_].payload.bytes());
    }
    co_return Result<void>{};
}

Task<Result<void>> SegmentRewrite::add(FoundEntry entry) {
    const std::optional<RewrittenEntry> rewritten = co_await try_(rewriter_(&entry));
    co_await try_(unchanged());
    if (rewritten) {
        const uint64_t size = rewritten->payload.size();
        if ((size == 0 && !entry.payload.empty()) || size > kEntryBytesMax || rewritten->summary_bytes > kSummaryBytesMax ||
            rewritten->summary_bytes > size)
            co_return fail(ErrorCode::kInvalidArgument, "a payload that no entry can have");
        entry.info.max_timestamp_ms = rewritten->max_timestamp_ms;
        entry.payload = rewritten->payload;
        entry.summary_bytes = rewritten->summary_bytes;
    }
    if (!added_.empty() && added_bytes_ + entry.payload.size() > store_.limits().run_bytes)
        co_await try_(end_run());
    added_bytes_ += entry.payload.size();
    added_.push_back(std::move(entry));
    if (added_bytes_ >= store_.limits().run_bytes) co_await try_(end_run());
    co_return Result<void>{};
}

Task<Result<void>> SegmentRewrite::end_run() {
    CHECK(!added_.empty());
    if (!file_) {
        replaced_.base = added_.front().info.first;
        log_.draft = {replaced_.replacement, replaced_.base.offset};
        file_ = co_await try_(store_.files().pin(
            {log_.id(), replaced_.replacement},
            segment_path(store_.options().directory, log_.id(), replaced_.base.offset,
                         replaced_.replacement),
            runtime::kOpenRead | runtime::kOpenWrite | runtime::kOpenCreate |
                runtime::kOpenTruncate));
    }
    std::vector<RunEntry> entries;
    entries.reserve(added_.size());
    for (const FoundEntry& entry : added_)
        entries.push_back({entry.info, entry.payload.bytes(), entry.summary_bytes});
    const size_t length = run_length(added_.size(), added_bytes_);
    // Who holds memory must not wait for more.
    std::optional<runtime::Reservation> reservation =
        store_.options().memory->try_reserve(length);
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(
        length, reservation ? std::move(*reservation) : runtime::Reservation());
    buffer.set_size(length);
    RunBuild build(buffer.all(), std::move(entries),
                   {.log = log_.id(),
                    .segment = replaced_.replacement,
                    .position = replaced_.data_end,
                    .written_ms = runtime::Shard::current().wall_now().ms});
    while (build.step()) co_await runtime::yield();
    const RunHeader& header = build.header();
    co_await try_(file_.file().write(header.position, buffer.filled()));
    index_.push_back(
        {header.first, header.end, header.max_timestamp_ms, header.position, header.length});
    replaced_.data_end += header.length;
    replaced_.payload_bytes += header.payload_bytes;
    replaced_.max_timestamp_ms = std::max(replaced_.max_timestamp_ms, header.max_timestamp_ms);
    added_.clear();
    copied_ = 0;
    added_bytes_ = 0;
    co_return unchanged();
}

Task<void> SegmentRewrite::delete_file() {
    if (!log_.draft) co_return;
    file_.release();
    co_await store_.files().forget({log_.id(), replaced_.replacement});
    (void)co_await runtime::unlink_file(segment_path(store_.options().directory, log_.id(),
                                                     log_.draft->base_offset,
                                                     log_.draft->segment));
    log_.draft.reset();
}

uint64_t SegmentRewrite::replace() {
    LogState& state = log_.state();
    std::vector<Segment> removed;
    const bool there = state.replace_segment(replaced_, &removed);
    CHECK(there);
    state.find_segment(replaced_.replacement)->index =
        std::make_unique<std::vector<RunPlace>>(std::move(index_));
    log_.draft.reset();
    store_.read_ahead().forget(log_.id());
    uint64_t record = log_.records_queued();
    if (!store_.bugs().lose_replacement) {
        record = log_.queue_record(
            [&](std::vector<uint8_t>& to) { append_segment_replaced(to, replaced_); });
    }
    log_.remove_segments(std::move(removed), record);
    return record;
}

}  // namespace weir::storage
