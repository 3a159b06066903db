#include "storage/journal_reader.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <span>

#include "base/check.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::storage {
namespace {

using runtime::File;
using runtime::Task;
using runtime::try_;

constexpr uint64_t kWindowBytes = 1_MiB;
// No commit is larger; a longer length in a header is damage.
constexpr uint64_t kBlockBytesMax = 256_MiB;

Task<Result<void>> overwrite_page(File* file, uint64_t offset) {
    runtime::IoBuffer zeros = runtime::IoBuffer::allocate(kPage);
    std::memset(zeros.data(), 0, kPage);
    co_await try_(file->write(offset, {zeros.data(), kPage}));
    co_return co_await file->sync();
}

}  // namespace

Task<Result<void>> JournalReader::open(Options options) {
    options_ = std::move(options);
    expected_ = options_.start_block;
    const std::vector<std::string> names =
        co_await try_(runtime::list_directory(options_.directory));
    for (const std::string& name : names) {
        FileOnDisk file;
        if (!parse_journal_name(name, &file.sequence)) continue;
        file.path = options_.directory + "/" + name;
        file.bytes = round_down(co_await try_(runtime::file_size(file.path)), kPage);
        if (file.sequence < options_.start_file) {
            too_old_.push_back({file.path, file.bytes});
        } else {
            files_.push_back(std::move(file));
        }
    }
    std::sort(files_.begin(), files_.end(),
              [](const FileOnDisk& a, const FileOnDisk& b) { return a.sequence < b.sequence; });
    for (FileOnDisk& file : files_) co_await try_(read_mark(&file));
    check_marks();
    if (!files_.empty()) co_await try_(go_to(0));
    co_return Result<void>{};
}

Task<Result<void>> JournalReader::read_mark(FileOnDisk* file) {
    File opened = co_await try_(File::open(file->path, {.flags = runtime::kOpenRead}));
    auto marks = co_await read_marks(&opened, {.journal_id = options_.journal_id,
                                               .file_sequence = file->sequence,
                                               .shard = options_.shard,
                                               .file_bytes = file->bytes});
    (void)co_await opened.close();
    const FileMarks found = co_await try_(std::move(marks));
    file->mark = found.newest;
    co_return Result<void>{};
}

// A file is there with its mark before the mark of the file before says so, and before a checkpoint
// begins with it.
void JournalReader::check_marks() {
    std::map<uint64_t, const FileOnDisk*> by_sequence;
    for (const FileOnDisk& file : files_) {
        by_sequence[file.sequence] = &file;
        if (file.mark) flushed_block_ = std::max(flushed_block_, file.mark->durable_block);
    }
    const auto demand = [&](uint64_t sequence, std::string_view who) {
        const auto found = by_sequence.find(sequence);
        const std::string path = journal_path(options_.directory, sequence);
        if (found == by_sequence.end()) {
            if (options_.ignore_gap) return;
            contradictions_.push_back(
                {path, fmt::format("{} is missing, and {} has it: blocks that were acknowledged "
                                   "may be gone",
                                   path, who)});
        } else if (!found->second->mark && !options_.trust_short) {
            contradictions_.push_back(
                {path, fmt::format("{} has {} bytes and not its mark: it was cut short, emptied or "
                                   "overwritten, and blocks that were acknowledged may be gone",
                                   path, found->second->bytes)});
        }
    };
    if (options_.marked) demand(options_.start_file, "the checkpoint");
    for (const FileOnDisk& file : files_) {
        if (file.mark && file.mark->has_successor) demand(file.sequence + 1, file.path);
    }
    if (options_.trust_short) flushed_block_ = 0;
}

Task<void> JournalReader::close() {
    if (file_.is_open()) (void)co_await file_.close();
}

Task<Result<void>> JournalReader::go_to(size_t index) {
    if (file_.is_open()) co_await try_(file_.close());
    current_ = index;
    at_ = 0;
    buffer_.set_size(0);
    File file = co_await try_(
        File::open(files_[index].path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    file_ = std::move(file);
    // fsync before reading: after kill -9 the last block may be in the device's cache alone; a
    // later power cut must not take what we build on.
    co_return co_await file_.sync();
}

Task<Result<Bytes>> JournalReader::view(uint64_t offset, uint64_t bytes) {
    const uint64_t end = std::min(offset + bytes, files_[current_].bytes);
    if (offset >= end) co_return Bytes{};
    if (offset < buffer_offset_ || end > buffer_offset_ + buffer_.size()) {
        const uint64_t window = std::min(std::max(kWindowBytes, round_to_page(end - offset)),
                                         files_[current_].bytes - offset);
        if (buffer_.capacity() < window) buffer_ = runtime::IoBuffer::allocate(window);
        buffer_.set_size(0);
        buffer_offset_ = offset;
        const size_t filled = co_await try_(file_.read(offset, {buffer_.data(), window}));
        buffer_.set_size(filled);
    }
    const uint64_t held = buffer_offset_ + buffer_.size();
    if (offset >= held) co_return Bytes{};
    co_return buffer_.filled().subspan(offset - buffer_offset_, std::min(end, held) - offset);
}

bool JournalReader::ours(const BlockHeader& header) const {
    return header.journal_id == options_.journal_id && header.shard == options_.shard &&
           header.file_sequence == files_[current_].sequence && header.length <= kBlockBytesMax;
}

// A header lies in one sector, which is written as a whole or not at all: one that agrees in all
// fields but one with the next block's was damaged since.
bool JournalReader::resembles_next(Bytes page) const {
    if (page.size() < kBlockHeaderBytes) return false;
    const uint8_t* at = page.data();
    const bool agrees[] = {load_le<uint32_t>(at) == kBlockMagic,
                           load_le<uint16_t>(at + 8) == kJournalVersion,
                           load_le<uint64_t>(at + 16) == options_.journal_id,
                           load_le<uint64_t>(at + 24) == files_[current_].sequence,
                           load_le<uint64_t>(at + 32) == expected_,
                           load_le<uint32_t>(at + 40) == options_.shard};
    return std::ranges::count(agrees, false) == 1;
}

Task<Result<JournalReader::Place>> JournalReader::look(uint64_t offset) {
    Place place;
    place.bytes = co_await try_(view(offset, kPage));
    place.check = check_block(place.bytes, &place.header, options_.verify_checksums);
    if (place.check == BlockCheck::kNoBlock) co_return place;
    if (!ours(place.header)) {
        place.check =
            BlockCheck::kNoBlock;  // an old block of a recycled file, or one of another journal
        co_return place;
    }
    if (place.check == BlockCheck::kIncomplete) {
        place.bytes = co_await try_(view(offset, place.header.length));
        place.check = check_block(place.bytes, &place.header, options_.verify_checksums);
        if (place.check == BlockCheck::kIncomplete) place.check = BlockCheck::kBroken;
    }
    co_return place;
}

Task<Result<std::optional<JournalReader::Block>>> JournalReader::next() {
    if (files_.empty()) co_return std::nullopt;
    const size_t end_file = current_;
    const uint64_t end_offset = at_;
    while (true) {
        Place place = co_await try_(look(at_));
        if (place.check == BlockCheck::kValid && place.header.block_sequence == expected_) {
            // The file got its size before its first block, durably.
            if (const uint64_t made = place.header.file_bytes;
                made != 0 && made != files_[current_].bytes && !options_.any_size &&
                !options_.trust_short) {
                co_return fail(ErrorCode::kCorrupt,
                               fmt::format("{} has {} bytes and was made with {}: blocks that were "
                                           "acknowledged may be gone",
                                           files_[current_].path, files_[current_].bytes, made));
            }
            torn_.clear();
            Block block{.header = place.header,
                        .bytes = {place.bytes.begin(), place.bytes.begin() + place.header.length},
                        .path = files_[current_].path,
                        .offset = at_};
            if (!files_[current_].has_blocks) {
                files_[current_].has_blocks = true;
                files_[current_].first_block = expected_;
            }
            ++expected_;
            at_ += round_to_page(place.header.length);
            co_return block;
        }
        const bool broken =
            place.check == BlockCheck::kBroken && place.header.block_sequence == expected_;
        if (torn_.empty() && (broken || resembles_next(place.bytes)))
            torn_ = fmt::format("{} offset {}", files_[current_].path, at_);
        // The journal goes on in a later file (the rest of this one was too small for the block, or
        // a restart began a new file), or it ends here.
        if (current_ + 1 == files_.size()) break;
        co_await try_(go_to(current_ + 1));
    }
    co_await try_(search_beyond_the_end(end_file, end_offset));
    co_return std::nullopt;
}

Task<Result<void>> JournalReader::search_beyond_the_end(size_t file, uint64_t offset) {
    for (size_t i = file; i < files_.size(); ++i) {
        if (i != current_) co_await try_(go_to(i));
        for (uint64_t at = i == file ? offset : 0; at < files_[i].bytes; at += kPage) {
            Place place = co_await try_(look(at));
            if (place.check == BlockCheck::kValid && place.header.block_sequence >= expected_) {
                co_return fail(ErrorCode::kCorrupt,
                               fmt::format("{} offset {}: block {} is damaged or missing, but "
                                           "block {} follows at {} offset {}",
                                           files_[file].path, offset, expected_,
                                           place.header.block_sequence, files_[i].path, at));
            }
            if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
        }
    }
    co_return Result<void>{};
}

JournalWriter::Start JournalReader::finish() const {
    JournalWriter::Start start;
    start.next_block = expected_;
    start.next_file = std::max<uint64_t>(options_.start_file, 1);
    start.spare = too_old_;
    // Numbers go on after the last file with blocks, so that there is no gap: files that were made
    // ready and not used keep their names, and one without blocks among the others stays.
    size_t old = files_.size();
    while (old > 0 && !(files_[old - 1].has_blocks && files_[old - 1].first_block < expected_))
        --old;
    for (size_t i = old; i < files_.size(); ++i)
        start.spare.push_back({files_[i].path, files_[i].bytes});
    uint64_t first_block = expected_;
    for (size_t i = old; i-- > 0;) {
        const FileOnDisk& file = files_[i];
        if (file.has_blocks) first_block = file.first_block;
        start.old.push_back({file.sequence, first_block, file.bytes});
        start.next_file = std::max(start.next_file, file.sequence + 1);
    }
    std::ranges::reverse(start.old);
    for (const FileOnDisk& file : std::span(files_).first(old)) {
        if (!file.mark) start.marked_from = UINT64_MAX;
        if (file.mark && start.marked_from == UINT64_MAX) start.marked_from = file.sequence;
    }
    return start;
}

Task<Result<void>> JournalReader::erase(const Block& block) {
    File file =
        co_await try_(File::open(block.path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    Result<void> erased = co_await overwrite_page(&file, block.offset);
    (void)co_await file.close();
    co_return erased;
}

}  // namespace weir::storage
