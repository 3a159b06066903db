#include "storage/journal_writer.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"
#include "runtime/buffer.h"
#include "runtime/shard.h"

namespace weir::storage {
namespace {

using runtime::File;
using runtime::Task;
using runtime::try_;

constexpr uint64_t kPrewriteChunk = 1_MiB;
// Damage may have left a smaller one.
constexpr uint64_t kSpareBytesMin = 16 * kPage;

Task<Result<void>> fill_with_zeros(File* file, uint64_t bytes) {
    runtime::IoBuffer zeros = runtime::IoBuffer::allocate(std::min(bytes, kPrewriteChunk));
    std::memset(zeros.data(), 0, zeros.capacity());
    for (uint64_t at = 0; at < bytes; at += kPrewriteChunk) {
        co_await try_(file->write(at, {zeros.data(), std::min(kPrewriteChunk, bytes - at)}));
    }
    co_return co_await file->sync();
}

}  // namespace

Task<Result<void>> JournalWriter::open(Options options, Start start) {
    options_ = std::move(options);
    spare_ = std::move(start.spare);
    old_ = {start.old.begin(), start.old.end()};
    next_sequence_ = start.next_file;
    next_block_ = start.next_block;
    marked_block_ = next_block_ - 1;
    marked_from_ = std::min(start.marked_from, next_sequence_);
    for (const OldFile& file : old_) total_bytes_ += file.bytes;
    for (const SpareFile& file : spare_) total_bytes_ += file.bytes;
    Ready first = co_await try_(make_ready(next_sequence_, true));
    next_ = std::move(first);
    ++next_sequence_;
    if (!old_.empty() && marked_from(old_.back().sequence))
        co_await try_(promise_first(old_.back()));
    switch_to_next();
    co_return Result<void>{};
}

// The last file of the life before says that the first one of this life is there.
Task<Result<void>> JournalWriter::promise_first(OldFile before) {
    File file = co_await try_(File::open(journal_path(options_.directory, before.sequence),
                                         {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    auto promised = co_await add_mark(&file, mark_of(before.sequence, before.bytes, true));
    (void)co_await file.close();
    if (!promised) co_return fail(std::move(promised).error());
    co_return Result<void>{};
}

// To a file of which it is not known where its newest mark is. Durable. Gives the slot of the next
// one.
Task<Result<uint32_t>> JournalWriter::add_mark(File* file, FileMark mark) {
    const FileMarks there = co_await try_(read_marks(file, mark));
    co_await try_(put_mark(file, there.next_slot, mark));
    co_await try_(file->sync());
    co_return (there.next_slot + 1) % kMarkSlots;
}

FileMark JournalWriter::mark_of(uint64_t sequence, uint64_t bytes, bool has_successor) const {
    return {.journal_id = options_.journal_id,
            .file_sequence = sequence,
            .shard = options_.shard,
            .has_successor = has_successor,
            .file_bytes = bytes,
            .durable_block = next_block_ - 1};
}

Task<Result<void>> JournalWriter::put_mark(File* file, uint32_t slot, FileMark mark) {
    co_await try_(write_mark(file, slot, mark));
    marked_block_ = std::max(marked_block_, mark.durable_block);
    marked_at_ = runtime::Shard::current().now();
    co_return Result<void>{};
}

Task<Result<void>> JournalWriter::mark_current(bool has_successor) {
    const uint32_t slot = mark_slot_;
    mark_slot_ = (slot + 1) % kMarkSlots;
    co_return co_await put_mark(&file_, slot, mark_of(file_sequence_, file_bytes_, has_successor));
}

Task<Result<void>> JournalWriter::mark() {
    co_await try_(mark_current(false));
    co_return co_await file_.sync();
}

Task<void> JournalWriter::close() {
    if (file_.is_open()) (void)co_await file_.close();
    if (next_) {
        (void)co_await next_->file.close();
        next_.reset();
    }
}

void JournalWriter::give_up() {
    given_up_ = true;
    prepared_.notify_all();
}

Task<Result<JournalWriter::Ready>> JournalWriter::make_ready(uint64_t sequence, bool urgent) {
    SpareFile spare;
    const std::string path = journal_path(options_.directory, sequence);
    if (auto chosen = choose_spare(sequence)) {
        spare = std::move(*chosen);
    } else {
        const bool first = file_sequence_ == 0;
        const uint64_t bytes = first ? options_.first_file_bytes : options_.file_bytes;
        if (!urgent && total_bytes_ + bytes > options_.bytes_max) {
            co_return fail(ErrorCode::kResourceExhausted, "the journal has its largest size");
        }
        spare = co_await try_(prewrite(bytes));
        total_bytes_ += bytes;
    }
    // A file that fails to become ready stays a spare one: its path tells under which name.
    auto renamed = co_await runtime::rename_path(spare.path, path);
    if (!renamed) {
        spare_.push_back(std::move(spare));
        co_return fail(std::move(renamed).error());
    }
    spare.path = path;
    auto synced = co_await runtime::sync_directory(options_.directory);
    if (!synced) {
        spare_.push_back(std::move(spare));
        co_return fail(std::move(synced).error());
    }
    auto ready = co_await open_marked(&spare, sequence);
    if (!ready) spare_.push_back(std::move(spare));
    co_return ready;
}

std::optional<SpareFile> JournalWriter::choose_spare(uint64_t sequence) {
    // One that has this name already: to give the name to another would delete it.
    auto chosen =
        std::ranges::find(spare_, journal_path(options_.directory, sequence), &SpareFile::path);
    if (chosen != spare_.end() && chosen->bytes < kSpareBytesMin) {
        total_bytes_ -= chosen->bytes;
        spare_.erase(chosen);
        chosen = spare_.end();
    }
    // Else the largest: small ones are leftovers of a start.
    if (chosen == spare_.end()) chosen = std::ranges::max_element(spare_, {}, &SpareFile::bytes);
    if (chosen == spare_.end() || chosen->bytes < kSpareBytesMin) return std::nullopt;
    SpareFile spare = std::move(*chosen);
    spare_.erase(chosen);
    return spare;
}

Task<Result<JournalWriter::Ready>> JournalWriter::open_marked(const SpareFile* spare,
                                                              uint64_t sequence) {
    Ready ready;
    ready.sequence = sequence;
    ready.bytes = spare->bytes;
    ready.file =
        co_await try_(File::open(spare->path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    auto marked = co_await add_mark(&ready.file, mark_of(sequence, spare->bytes, false));
    if (marked) {
        ready.mark_slot = *marked;
        co_return ready;
    }
    (void)co_await ready.file.close();
    co_return fail(std::move(marked).error());
}

Task<Result<SpareFile>> JournalWriter::prewrite(uint64_t bytes) {
    SpareFile spare{.path = options_.directory + "/journal-new", .bytes = bytes};
    File file = co_await try_(File::open(
        spare.path, {.flags = runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenTruncate,
                     .preallocate_bytes = bytes}));
    Result<void> filled = co_await fill_with_zeros(&file, bytes);
    (void)co_await file.close();
    if (!filled) {
        (void)co_await runtime::unlink_file(spare.path);
        co_return fail(std::move(filled).error());
    }
    co_return spare;
}

Task<Result<void>> JournalWriter::prepare() {
    if (next_ || preparing_) co_return Result<void>{};
    preparing_ = true;
    auto ready = co_await make_ready(next_sequence_, starved_);
    preparing_ = false;
    space_wanted_ = !ready && is_largest(ready.error());
    if (!ready) co_return fail(std::move(ready).error());
    ++next_sequence_;
    next_ = std::move(*ready);
    prepared_.notify_all();
    co_return Result<void>{};
}

void JournalWriter::switch_to_next() {
    if (file_sequence_ != 0) {
        // A small first file may be left without a block: then the next file has the same first
        // block, and file_of() prefers it.
        old_.push_back({file_sequence_, file_first_block_, file_bytes_});
    }
    file_ = std::move(next_->file);
    file_sequence_ = next_->sequence;
    file_bytes_ = next_->bytes;
    file_first_block_ = next_block_;
    mark_slot_ = next_->mark_slot;
    at_ = 0;
    next_.reset();
    wanted_.notify_all();
}

Task<Result<void>> JournalWriter::make_room(uint64_t bytes, runtime::StopToken stop) {
    while (at_ + bytes > block_room(file_bytes_)) {
        if (!next_) {
            if (given_up_) co_return fail(ErrorCode::kUnavailable, "the store failed");
            starved_ = true;
            wanted_.notify_all();
            auto waited = co_await prepared_.wait({.stop = stop});
            starved_ = false;
            co_await try_(std::move(waited));
            continue;
        }
        // From here on blocks are written into the next file: if it is gone then, that is known.
        co_await try_(mark_current(true));
        co_await try_(file_.sync());
        File full = std::move(file_);
        switch_to_next();
        (void)co_await full.close();  // every block in it is durable
    }
    co_return Result<void>{};
}

BlockHeader JournalWriter::next_header() const {
    return {.journal_id = options_.journal_id,
            .file_sequence = file_sequence_,
            .block_sequence = next_block_,
            .shard = options_.shard,
            .written_ms = runtime::Shard::current().wall_now().ms,
            .file_bytes = file_bytes_};
}

Task<Result<void>> JournalWriter::write(Bytes block) {
    CHECK(at_ + block.size() <= block_room(file_bytes_));
    // Flushed with the block.
    if (wants_mark() && runtime::Shard::current().now() - marked_at_ >= options_.mark_pause)
        co_await try_(mark_current(false));
    co_return co_await file_.write(at_, block);
}

Task<Result<void>> JournalWriter::sync() { return file_.sync(); }

void JournalWriter::advance(uint64_t bytes) {
    at_ += bytes;
    ++next_block_;
}

uint64_t JournalWriter::used_bytes() const {
    uint64_t bytes = at_;
    for (const OldFile& file : old_) bytes += file.bytes;
    return bytes;
}

JournalWriter::OldFile JournalWriter::file_of(uint64_t block) const {
    OldFile found{file_sequence_, file_first_block_, file_bytes_};
    for (auto it = old_.rbegin(); it != old_.rend() && found.first_block > block; ++it) found = *it;
    return found;
}

uint64_t JournalWriter::block_back(uint64_t bytes) const {
    uint64_t back = at_;
    if (back >= bytes) return file_first_block_;
    for (auto it = old_.rbegin(); it != old_.rend(); ++it) {
        back += it->bytes;
        if (back >= bytes) return it->first_block;
    }
    return 0;
}

void JournalWriter::release_before(uint64_t sequence) {
    bool freed = false;
    while (!old_.empty() && old_.front().sequence < sequence) {
        spare_.push_back(
            {journal_path(options_.directory, old_.front().sequence), old_.front().bytes});
        old_.pop_front();
        freed = true;
    }
    if (!freed) return;
    space_wanted_ = false;
    wanted_.notify_all();
}

Task<void> JournalWriter::trim() {
    while (true) {
        // Small files only serve a start; and beyond the limit none is kept.
        // Nor the one that has the next name already: a file that gets it meanwhile would be
        // deleted.
        const std::string next = journal_path(options_.directory, next_sequence_);
        const auto surplus = std::find_if(spare_.begin(), spare_.end(), [&](const SpareFile& file) {
            if (file.path == next) return false;
            return file.bytes < options_.file_bytes || total_bytes_ > options_.bytes_max;
        });
        if (surplus == spare_.end()) co_return;
        const SpareFile file = std::move(*surplus);
        spare_.erase(surplus);
        total_bytes_ -= file.bytes;
        (void)co_await runtime::unlink_file(file.path);
    }
}

}  // namespace weir::storage
