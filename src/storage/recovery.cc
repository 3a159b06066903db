#include "storage/recovery.h"

#include <fmt/format.h>

#include <algorithm>

#include "runtime/buffer.h"
#include "runtime/file.h"
#include "runtime/shard.h"
#include "runtime/wait.h"
#include "storage/checkpoint.h"
#include "storage/journal_reader.h"

namespace weir::storage {

using runtime::File;
using runtime::Task;
using runtime::try_;

namespace {

Task<Result<bool>> run_is_whole(File* file, LogId log, const RunNote* note) {
    // What is read here must not vanish later.
    co_await try_(file->sync());
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(note->length);
    const size_t filled = co_await try_(file->read(note->position, buffer.all()));
    buffer.set_size(filled);
    RunCheck check(buffer.filled());
    while (check.step()) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    const Result<RunView>& view = check.result();
    co_return view && view->header().log == log && view->header().crc == note->crc &&
        view->header().length == note->length;
}

// False when a run that the block refers to is not whole on disk: then the block was never
// acknowledged.
Task<Result<bool>> references_hold(const RecoveryOptions* options,
                                   const JournalReader::Block* block, Replay* replay) {
    auto runs = replay->bypassed_runs(block->bytes);
    if (!runs) co_return fail(std::move(runs).error());
    for (const Replay::BypassedRun& run : *runs) {
        auto file = co_await File::open(
            segment_path(options->data, run.log, run.segment_base, run.note.segment),
            {.flags = runtime::kOpenRead | runtime::kOpenWrite});
        if (!file) {
            if (file.error().os_errno == ENOENT || file.error().code == ErrorCode::kNotFound)
                co_return false;
            co_return fail(std::move(file).error());
        }
        auto whole = co_await run_is_whole(&*file, run.log, &run.note);
        (void)co_await file->close();
        if (!whole) co_return fail(std::move(whole).error());
        if (!*whole) co_return false;
    }
    co_return true;
}

// `applied`: the newest block that the checkpoint has effects of.
Task<Result<void>> replay_journal(const RecoveryOptions* options, JournalReader* reader,
                                  Replay* replay, uint64_t applied, RecoveredShard* recovered) {
    const uint64_t flushed = std::max(applied, reader->flushed_block());
    auto first = co_await reader->next();
    if (!first) co_return fail(std::move(first).error());
    std::optional<JournalReader::Block> block = std::move(*first);
    while (block) {
        auto following = co_await reader->next();
        if (!following) co_return fail(std::move(following).error());
        const bool last = !following->has_value();
        if (last && options->bugs.forget_journal_tail) {
            reader->unread();
            break;
        }
        // Of a block that was flushed, with its runs, a run that is not whole is a segment's
        // damage.
        if (last && block->header.block_sequence > flushed) {
            const bool whole = co_await try_(references_hold(options, &*block, replay));
            if (!whole) {
                runtime::Shard::current().log().info("storage", "last commit was torn",
                                                     "file={} offset={} block={}", block->path,
                                                     block->offset, block->header.block_sequence);
                recovered->torn = fmt::format("{} offset {}", block->path, block->offset);
                // It must not count at the next recovery either, when others follow it.
                co_await try_(JournalReader::erase(*block));
                reader->unread();
                break;
            }
        }
        Result<void> applied = replay->apply(block->header, block->bytes);
        if (!applied)
            co_return fail(std::move(applied).error().with(
                fmt::format("{} offset {}", block->path, block->offset)));
        ++recovered->blocks;
        block = std::move(*following);
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return replay->finish();
}

}  // namespace

uint64_t applied_block(const std::map<LogId, LogSnapshot>& logs) {
    uint64_t newest = 0;
    for (const auto& [id, snapshot] : logs) newest = std::max(newest, snapshot.applied_block);
    return newest;
}

std::optional<std::string> journal_gap(uint64_t applied, uint64_t flushed, uint64_t next_block,
                                       uint32_t shard) {
    if (std::max(applied, flushed) < next_block) return std::nullopt;
    return fmt::format(
        "the journal of shard {} ends before block {}, and {} block {}: blocks that were flushed "
        "are missing",
        shard, next_block,
        applied >= next_block ? "its checkpoint has the effects of" : "its marks tell of",
        std::max(applied, flushed));
}

JournalReader::Options reader_options(const RecoveryOptions& options,
                                      const CheckpointHeader& header) {
    return {.directory = options.directory,
            .journal_id = header.journal_id,
            .shard = header.shard,
            .start_file = header.start_file,
            .start_block = header.start_block,
            .marked = header.marked,
            .verify_checksums = !options.bugs.skip_block_checksum,
            .ignore_gap = options.bugs.ignore_journal_gap,
            .trust_short = options.bugs.trust_short_journal};
}

std::string foreign(const RecoveryOptions& options, const CheckpointHeader& header) {
    if (header.generation != options.layout.generation || header.shard != options.shard ||
        header.shards != options.layout.shards) {
        return fmt::format("{} holds the checkpoint of shard {} of {}, generation {}",
                           options.directory, header.shard, header.shards, header.generation);
    }
    const auto& journals = options.layout.journals;
    if (journals.empty() || journals[options.shard] == header.journal_id) return {};
    return fmt::format(
        "{} is another data directory's: its journal is {:016x}, the layout names {:016x}",
        options.directory, header.journal_id, journals[options.shard]);
}

Task<Result<RecoveredShard>> recover_shard(RecoveryOptions options) {
    Checkpoint checkpoint =
        co_await try_(Checkpointer::load(Checkpointer::path(options.directory)));
    const CheckpointHeader header = checkpoint.header;
    if (std::string other = foreign(options, header); !other.empty())
        co_return fail(ErrorCode::kCorrupt, std::move(other));
    RecoveredShard recovered;
    recovered.header = header;
    const uint64_t applied = applied_block(checkpoint.logs);
    Replay replay(std::move(checkpoint.logs));
    JournalReader reader;
    Result<void> replayed = co_await reader.open(reader_options(options, header));
    if (replayed && !reader.contradictions().empty())
        replayed = fail(ErrorCode::kCorrupt, reader.contradictions().front().what);
    if (replayed)
        replayed = co_await replay_journal(&options, &reader, &replay, applied, &recovered);
    co_await reader.close();
    co_await try_(std::move(replayed));
    if (recovered.torn.empty()) recovered.torn = reader.torn();
    recovered.logs = std::move(replay.logs());
    recovered.journal = reader.finish();
    if (const auto gap = journal_gap(applied, reader.flushed_block(), recovered.journal.next_block,
                                     options.shard))
        co_return fail(ErrorCode::kCorrupt, *gap);
    if (!recovered.torn.empty()) {
        runtime::Shard::current().log().warn(
            "storage", "the last block is not whole: it was never acknowledged, or it is damaged",
            "shard={} place=\"{}\"", options.shard, recovered.torn);
    }
    co_return recovered;
}

}  // namespace weir::storage
