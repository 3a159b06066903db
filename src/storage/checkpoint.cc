#include "storage/checkpoint.h"

#include <algorithm>

#include "runtime/buffer.h"
#include "runtime/file.h"
#include "runtime/shard.h"
#include "storage/shard_store.h"

namespace weir::storage {

using runtime::File;
using runtime::Task;
using runtime::try_;

namespace {

constexpr uint64_t kCheckpointBytesMax = 4ull << 30;
constexpr uint64_t kChunk = 1_MiB;

Task<Result<void>> write_chunks(File* file, const std::vector<uint8_t>* bytes) {
    runtime::IoBuffer buffer =
        runtime::IoBuffer::allocate(std::min(kChunk, round_to_page(bytes->size())));
    for (uint64_t at = 0; at < bytes->size(); at += kChunk) {
        const uint64_t size = std::min(kChunk, bytes->size() - at);
        const uint64_t padded = round_to_page(size);
        std::memcpy(buffer.data(), bytes->data() + at, size);
        std::memset(buffer.data() + size, 0, padded - size);
        co_await try_(file->write(at, {buffer.data(), padded}));
    }
    co_return co_await file->sync();
}

Task<Result<std::vector<uint8_t>>> read_whole(File* file, uint64_t size) {
    std::vector<uint8_t> bytes;
    bytes.reserve(size);
    runtime::IoBuffer buffer = runtime::IoBuffer::allocate(kChunk);
    while (bytes.size() < size) {
        const size_t filled = co_await try_(file->read(bytes.size(), buffer.all()));
        bytes.insert(bytes.end(), buffer.data(), buffer.data() + filled);
        if (filled < kChunk) break;
    }
    co_return bytes;
}

}  // namespace

Task<Result<Checkpoint>> Checkpointer::load(std::string path) {
    const auto found = co_await runtime::file_size(path);
    // It was there, durably, before the layout said that there is such a shard.
    if (!found && found.error().code == ErrorCode::kNotFound)
        co_return fail(ErrorCode::kCorrupt, path + " is missing");
    const uint64_t size = co_await try_(Result<uint64_t>(found));
    if (size > kCheckpointBytesMax) co_return fail(ErrorCode::kCorrupt, path + ": too large");
    File file = co_await try_(File::open(path, {.flags = runtime::kOpenRead}));
    auto bytes = co_await read_whole(&file, size);
    (void)co_await file.close();
    if (!bytes) co_return fail(std::move(bytes).error());
    auto checkpoint = parse_checkpoint(*bytes);
    if (!checkpoint) co_return fail(std::move(checkpoint).error().with(path));
    co_return checkpoint;
}

Task<Result<void>> Checkpointer::replace(std::string directory, std::vector<uint8_t> checkpoint) {
    const std::string temporary = path(directory) + ".tmp";
    File file = co_await try_(File::open(
        temporary, {.flags = runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenTruncate,
                    .preallocate_bytes = round_to_page(checkpoint.size())}));
    Result<void> written = co_await write_chunks(&file, &checkpoint);
    (void)co_await file.close();
    co_await try_(std::move(written));
    co_return co_await runtime::rename_path(temporary, path(directory));
}

bool Checkpointer::short_of_space() const {
    return store_.journal().starved() || store_.journal().space_wanted();
}

bool Checkpointer::due() const {
    if (store_.metrics().journal_bytes - journal_bytes_at_last_ >= store_.limits().checkpoint_bytes)
        return true;
    return short_of_space() &&
           store_.journal().file_of(needed_block()).sequence > store_.journal().oldest_file();
}

uint64_t Checkpointer::needed_block() const {
    return std::min(store_.commits().durable_block() + 1, store_.handover().oldest_block());
}

uint64_t Checkpointer::old_block() const {
    const JournalWriter& journal = store_.journal();
    // When files run short everything has to go that is not in the current one; else what a
    // checkpoint that is due could not let go of.
    if (short_of_space()) return journal.block_back(0);
    return store_.metrics().journal_bytes - journal_bytes_at_last_ >=
                   store_.limits().checkpoint_bytes
               ? journal.block_back(journal.bytes_max() / 2)
               : 0;
}

Task<Result<void>> Checkpointer::run(bool wait) {
    auto alone = co_await running_.acquire(1);
    CHECK(alone.has_value());
    co_return co_await run_alone(wait);
}

Task<Result<void>> Checkpointer::run_shared() {
    const uint64_t wanted = begun_ + 1;
    auto alone = co_await running_.acquire(1);
    CHECK(alone.has_value());
    if (last_written_ >= wanted) co_return Result<void>{};
    co_return co_await run_alone(true);
}

Task<Result<void>> Checkpointer::run_alone(bool wait) {
    co_await try_(store_.healthy());
    const uint64_t number = ++begun_;
    const uint64_t journal_bytes = store_.metrics().journal_bytes;
    // On a full disk commits may wait for a journal file or a segment that only a checkpoint makes
    // room for: it must not wait for them in turn.
    wait = wait && !store_.admission().is_short();
    Captured captured;
    co_await capture(wait, &captured);
    if (wait && !co_await wait_for(std::move(captured.barriers))) {
        captured = {};
        co_await capture(false, &captured);
    }
    co_await try_(store_.healthy());
    const JournalWriter::OldFile start = store_.journal().file_of(captured.start_block);
    finish_checkpoint(captured.bytes, {.journal_id = journal_id_,
                                       .generation = store_.layout().generation,
                                       .shard = store_.shard(),
                                       .shards = store_.layout().shards,
                                       .start_file = start.sequence,
                                       .start_block = start.first_block,
                                       .logs = captured.logs,
                                       .written_ms = runtime::Shard::current().wall_now().ms,
                                       .marked = store_.journal().marked_from(start.sequence)});
    co_await try_(replace(store_.directory(), std::move(captured.bytes)));
    co_await try_(store_.sync_names(store_.directory()));
    ++store_.counters().checkpoints;
    last_written_ = number;
    journal_bytes_at_last_ = journal_bytes;
    store_.journal().release_before(start.sequence);
    co_await store_.journal().trim();
    store_.admission().changed();
    co_return Result<void>{};
}

// Without `wait` it holds things that were asked for and are not durable, which a crash may keep or
// lose.
Task<void> Checkpointer::capture(bool wait, Captured* captured) {
    captured->bytes.resize(kCheckpointHeaderBytes);
    std::vector<LogId> ids;
    for (const auto& [id, log] : store_.all_logs()) ids.push_back(id);
    // Logs made or removed from here on are in later blocks.
    captured->start_block = store_.commits().durable_block() + 1;
    if (store_.bugs().recycle_too_early) {
        JournalWriter& journal = store_.journal();
        journal.release_before(journal.file_of(captured->start_block).sequence);
    }
    for (const LogId id : ids) {
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        PartitionLog* log = store_.find_log(id);
        if (log == nullptr || log->removing()) continue;
        const EntryQueue& memory = log->state().memory;
        if (!memory.empty() && memory.front().block != 0)
            captured->start_block = std::min(captured->start_block, memory.front().block);
        if (log->has_pending() || log->in_commit())
            captured->barriers.push_back({id, log->end(), log->records_queued()});
        log->capture(captured->bytes, store_.commits().durable_block(), wait);
        ++captured->logs;
    }
}

Task<bool> Checkpointer::wait_for(std::vector<Barrier> barriers) {
    for (const Barrier& barrier : barriers) {
        PartitionLog* log = store_.find_log(barrier.log);
        if (log == nullptr) continue;
        auto inside = log->gate().try_enter();
        if (!inside) continue;  // being removed: its removal is in a later block than all it had
        // A truncation since then took what was captured beyond it; its record is waited for like
        // any other.
        while (!store_.failed() && (log->records_durable() < barrier.records ||
                                    log->durable_end() < std::min(barrier.end, log->end()))) {
            // Then a commit may wait for a segment that nobody makes.
            if (store_.admission().is_short() || store_.stop_token().stop_requested())
                co_return false;
            (void)co_await store_.commits().progress().wait();
        }
    }
    co_return true;
}

}  // namespace weir::storage
