#include "storage/run_index.h"

#include <fmt/format.h>

#include <cstring>

#include "storage/shard_store.h"
#include "storage/trouble.h"

namespace weir::storage {

using runtime::File;
using runtime::Task;
using runtime::try_;

namespace {

Result<void> check_owner(const RunHeader& header, LogId log, uint32_t segment, uint64_t position) {
    if (header.log != log || header.segment != segment || header.position != position) {
        return fail(
            ErrorCode::kCorrupt,
            fmt::format(
                "a run of log {} segment {} at {}, where one of log {} segment {} should be at {}",
                header.log.v, header.segment, header.position, log.v, segment, position));
    }
    return {};
}

Task<Result<std::vector<RunPlace>>> read_footer(File* file, LogId log, Segment* segment) {
    const uint64_t position = segment->footer_position;
    const uint32_t id = segment->id;
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(round_to_page(segment->footer_length));
    const size_t filled = co_await try_(file->read(position, buffer.all()));
    buffer.set_size(filled);
    Footer footer = co_await try_(parse_footer(buffer.filled()));
    if (footer.log != log || footer.segment != id)
        co_return fail(ErrorCode::kCorrupt, "a footer of another segment");
    co_return std::move(footer.runs);
}

// Reads the header of the run at `position` and adds it.
Task<Result<uint64_t>> hop(File* file, LogId log, uint32_t segment, uint64_t position,
                           std::vector<RunPlace>* index) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(kPage);
    const size_t filled = co_await try_(file->read(position, buffer.all()));
    buffer.set_size(filled);
    const RunHeader header = co_await try_(parse_run_header(buffer.filled()));
    co_await try_(check_owner(header, log, segment, position));
    add_to_index(*index, {header.first, header.end, header.max_timestamp_ms, header.position,
                          header.length});
    co_return position + header.length;
}

Task<Result<void>> load(ShardStore* store, PartitionLog* log, uint32_t id) {
    Segment* segment = log->state().find_segment(id);
    if (segment == nullptr || segment->index != nullptr) co_return Result<void>{};
    const std::string path =
        segment_path(store->options().directory, log->id(), segment->base.offset, id);
    auto pin = co_await store->files().pin({log->id(), id}, path,
                                           runtime::kOpenRead | runtime::kOpenWrite);
    if (!pin) {
        if (log->state().find_segment(id) == nullptr)
            co_return Result<void>{};  // and so its file is gone
        co_return fail(std::move(pin).error());
    }
    segment = log->state().find_segment(id);
    auto index = std::make_unique<std::vector<RunPlace>>();
    if (segment != nullptr && segment->footer_length > 0) {
        auto runs = co_await read_footer(&pin->file(), log->id(), segment);
        if (!runs) co_return fail(std::move(runs).error().with(path));
        *index = std::move(*runs);
        segment = log->state().find_segment(id);
    } else {
        // Runs may be added meanwhile: go on until the end is reached.
        uint64_t position = 0;
        while (segment != nullptr && position < segment->data_end) {
            auto next = co_await hop(&pin->file(), log->id(), id, position, index.get());
            if (!next)
                co_return fail(
                    std::move(next).error().with(fmt::format("{} at {}", path, position)));
            position = *next;
            segment = log->state().find_segment(id);
        }
    }
    if (segment == nullptr || segment->index != nullptr) co_return Result<void>{};
    // The segment may have been truncated, after its runs were written.
    cut_index(*index, segment->end);
    segment->index = std::move(index);
    co_return Result<void>{};
}

}  // namespace

Task<Result<void>> load_index(ShardStore* store, PartitionLog* log, uint32_t id) {
    Result<void> loaded = co_await load(store, log, id);
    if (!loaded && is_damage(loaded.error()) && log->state().find_segment(id) != nullptr)
        log->found_damage(loaded.error(), false);
    co_return loaded;
}

Task<Result<void>> append_footer(File* file, uint64_t position,
                                 const std::vector<uint8_t>* footer) {
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(footer->size());
    std::memcpy(buffer.data(), footer->data(), footer->size());
    buffer.set_size(footer->size());
    co_await try_(file->write(position, buffer.filled()));
    co_await try_(file->truncate(position + footer->size()));
    co_return co_await file->sync();
}

}  // namespace weir::storage
