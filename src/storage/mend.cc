#include "storage/mend.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <ranges>
#include <set>

#include "base/check.h"
#include "runtime/buffer.h"
#include "runtime/shard.h"
#include "runtime/wait.h"
#include "storage/checkpoint.h"
#include "storage/journal_reader.h"
#include "storage/losses.h"

namespace weir::storage {

using runtime::File;
using runtime::IoBuffer;
using runtime::Task;
using runtime::try_;

namespace {

constexpr uint64_t kCopyBytes = 1_MiB;
constexpr uint32_t kCopiesMax = 10'000;  // of one file, in DATA/damaged

void add_known(ShardDamage* damage, LogId log, int64_t offset) {
    const auto found = damage->logs.find(log);
    if (found == damage->logs.end()) {
        damage->logs[log] = {.end = {}, .last_known = offset};
    } else {
        found->second.last_known = std::max(found->second.last_known, offset);
    }
}

void add_lost_block(ShardDamage* damage, Bytes block) {
    BlockReader reader(block);
    Record record;
    while (true) {
        const auto more = reader.next(&record);
        if (!more || !*more) return;
        int64_t offset = 0;
        if (record.type == RecordType::kEntry || record.type == RecordType::kBypassedEntry)
            offset = record.entry.next_offset;
        else if (record.type == RecordType::kRun)
            offset = record.run.end.offset;
        else if (record.type == RecordType::kTruncatePrefix)
            offset = record.position.offset;
        add_known(damage, record.log, offset);
    }
}

// Blocks of the journal from `first_lost` on, and files of another size than they were made with.
Task<Result<void>> look_through(const RecoveryOptions* options, const CheckpointHeader* header,
                                std::string path, uint64_t sequence, ShardDamage* damage) {
    const uint64_t size = co_await try_(runtime::file_size(path));
    IoBuffer buffer = IoBuffer::allocate(std::max(round_to_page(size), kPage));
    File file = co_await try_(File::open(path, {.flags = runtime::kOpenRead}));
    auto filled = co_await file.read(0, {buffer.data(), buffer.capacity()});
    (void)co_await file.close();
    if (!filled) co_return fail(std::move(filled).error());
    buffer.set_size(*filled);
    const Bytes all = buffer.filled();
    bool sized = false;
    for (uint64_t at = 0; at + kPage <= all.size(); at += kPage) {
        BlockHeader found;
        const BlockCheck check = check_block(all.subspan(at), &found, true);
        if (const auto mark = decode_file_mark(all.subspan(at, kPage)); mark) {
            if (mark->journal_id == header->journal_id) damage->marks.push_back({path, at});
            continue;
        }
        if (check == BlockCheck::kNoBlock || found.journal_id != header->journal_id ||
            found.shard != options->shard || found.file_sequence != sequence) {
            continue;
        }
        if (check != BlockCheck::kValid) continue;
        if (!std::exchange(sized, true) && found.file_bytes != 0 && found.file_bytes != size) {
            damage->to_resize[path] = found.file_bytes;
            damage->places.push_back({path, std::min(size, found.file_bytes),
                                      fmt::format("it has {} bytes and was made with {}: blocks "
                                                  "that were acknowledged may be gone",
                                                  size, found.file_bytes)});
        }
        if (found.block_sequence >= damage->first_lost_block) {
            damage->to_erase.push_back({path, at});
            ++damage->whole_blocks_lost;
            add_lost_block(damage, all.subspan(at, found.length));
        }
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return Result<void>{};
}

// How far the memory of a log that the checkpoint holds was filled again: entries of the terms that
// the checkpoint says, since others were cut off later.
Position filled_again(const LogState& state, Position checkpoint_end) {
    Position end = state.flushed_end;
    for (size_t i = 0; i < state.memory.size(); ++i) {
        const EntryInfo& info = state.memory[i].info;
        if (info.first >= checkpoint_end) break;
        int32_t term = -1;
        for (const TermStart& row : state.terms) {
            if (row.first <= info.first) term = row.term;
        }
        if (term != info.term) break;
        end = info.end();
    }
    return end;
}

Task<Result<void>> replay_whole_part(const RecoveryOptions* options, JournalReader* reader,
                                     Replay* replay, ShardDamage* damage) {
    while (true) {
        auto block = co_await reader->next();
        if (!block) {
            if (block.error().code != ErrorCode::kCorrupt) co_return fail(std::move(block).error());
            damage->first_lost_block = reader->expected();
            damage->places.push_back({options->directory, 0, block.error().message});
            co_return Result<void>{};
        }
        if (!*block) {
            damage->first_lost_block = reader->expected();
            co_return Result<void>{};
        }
        const Result<void> applied = replay->apply((*block)->header, (*block)->bytes);
        if (!applied) {
            if (applied.error().code != ErrorCode::kCorrupt) co_return applied;
            damage->first_lost_block = (*block)->header.block_sequence;
            damage->places.push_back({(*block)->path, (*block)->offset, applied.error().message});
            co_return Result<void>{};
        }
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
}

Task<Result<std::vector<std::pair<uint64_t, std::string>>>> journal_files(std::string directory) {
    std::vector<std::pair<uint64_t, std::string>> files;
    for (const std::string& name : co_await try_(runtime::list_directory(directory))) {
        uint64_t sequence = 0;
        if (parse_journal_name(name, &sequence))
            files.emplace_back(sequence, directory + "/" + name);
    }
    std::ranges::sort(files);
    co_return files;
}

// Of the logs that have a directory: some may be known by it alone.
Task<Result<void>> add_log_directories(const RecoveryOptions* options, LossMap* losses) {
    const std::string root = logs_directory(options->data);
    auto fans = co_await runtime::list_directory(root);
    if (!fans) co_return Result<void>{};
    for (const std::string& fan : *fans) {
        auto names = co_await runtime::list_directory(root + "/" + fan);
        if (!names) continue;
        for (const std::string& name : *names) {
            LogId id;
            if (parse_log_directory_name(name, &id) &&
                owner_of(id, options->layout.shards) == options->shard)
                losses->emplace(id, false);
        }
        if (runtime::Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return Result<void>{};
}

Task<Result<void>> copy_aside(const RecoveryOptions* options, std::string path) {
    const std::string directory = fmt::format("{}/damaged/shards-{}/{}", options->data,
                                              options->layout.generation, options->shard);
    co_await try_(make_durable_directory(directory, 3));
    const std::string name = path.substr(path.rfind('/') + 1);
    std::string to;
    for (uint32_t i = 0; i < kCopiesMax; ++i) {
        to = fmt::format("{}/{}.{}", directory, name, i);
        if (!co_await runtime::file_size(to)) break;
    }
    const uint64_t size = co_await try_(runtime::file_size(path));
    File from =
        co_await try_(File::open(path, {.flags = runtime::kOpenRead | runtime::kOpenBuffered}));
    auto opened = co_await File::open(
        to + ".tmp", {.flags = runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenTruncate |
                               runtime::kOpenBuffered});
    if (!opened) {
        (void)co_await from.close();
        co_return fail(std::move(opened).error());
    }
    File into = std::move(*opened);
    IoBuffer buffer = IoBuffer::allocate(kCopyBytes);
    Result<void> done;
    for (uint64_t at = 0; done && at < size;) {
        auto filled = co_await from.read(at, {buffer.data(), std::min(kCopyBytes, size - at)});
        if (!filled) {
            done = fail(std::move(filled).error());
        } else if (*filled == 0) {
            break;
        } else {
            done = co_await into.write(at, {buffer.data(), *filled});
            at += *filled;
        }
    }
    if (done) done = co_await into.sync();
    (void)co_await from.close();
    (void)co_await into.close();
    co_await try_(std::move(done));
    co_await try_(runtime::rename_path(to + ".tmp", to));
    co_return co_await runtime::sync_directory(directory);
}

Task<Result<void>> write_zeros(File* file, uint64_t from, uint64_t to) {
    IoBuffer zeros = IoBuffer::allocate(kCopyBytes);
    std::memset(zeros.data(), 0, kCopyBytes);
    for (uint64_t at = from; at < to; at += kCopyBytes)
        co_await try_(file->write(at, {zeros.data(), std::min(kCopyBytes, to - at)}));
    co_return Result<void>{};
}

Task<Result<void>> resize(std::string path, uint64_t size) {
    const uint64_t whole = round_down(co_await try_(runtime::file_size(path)), kPage);
    File file =
        co_await try_(File::open(path, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    Result<void> done = co_await file.truncate(size);
    if (done && whole < size) done = co_await write_zeros(&file, whole, size);
    if (done) done = co_await file.sync();
    (void)co_await file.close();
    co_return done;
}

Task<Result<void>> erase_page(ShardDamage::Page page) {
    File file =
        co_await try_(File::open(page.file, {.flags = runtime::kOpenRead | runtime::kOpenWrite}));
    Result<void> done = co_await write_zeros(&file, page.offset, page.offset + kPage);
    if (done) done = co_await file.sync();
    (void)co_await file.close();
    co_return done;
}

// Logs that the journal does not fill again end earlier, and no log holds effects of blocks whose
// numbers are given out again.
Task<Result<void>> rewrite_checkpoint(const RecoveryOptions* options, const ShardDamage* damage) {
    Checkpoint checkpoint =
        co_await try_(Checkpointer::load(Checkpointer::path(options->directory)));
    std::vector<uint8_t> bytes(kCheckpointHeaderBytes);
    for (auto& [id, snapshot] : checkpoint.logs) {
        Position end = snapshot.log.end;
        if (const auto cut = damage->cuts.find(id); cut != damage->cuts.end()) {
            end = cut->second;
            cut_state(end, &snapshot.state_end, snapshot.state_floor, &snapshot.state);
            // Its start may lie beyond what is whole: then nothing is left.
            snapshot.log.start_offset = std::min(snapshot.log.start_offset, end.offset);
        }
        append_section(bytes, snapshot.log, end,
                       std::min(snapshot.applied_block, damage->first_lost_block - 1),
                       {snapshot.state_end, snapshot.state_floor, snapshot.state});
    }
    checkpoint.header.marked = false;
    checkpoint.header.mended = true;
    finish_checkpoint(bytes, checkpoint.header);
    co_await try_(Checkpointer::replace(options->directory, std::move(bytes)));
    co_return co_await runtime::sync_directory(options->directory);
}

Task<Result<void>> lock_file(File* file) {
    Result<void> locked = co_await file->lock();
    if (!locked && locked.error().code == ErrorCode::kUnavailable)
        co_return fail(ErrorCode::kUnavailable,
                       "a node runs on this data directory: stop it first");
    co_return locked;
}

}  // namespace

Task<Result<ShardDamage>> find_damage(RecoveryOptions options) {
    ShardDamage damage;
    damage.shard = options.shard;
    const std::string path = Checkpointer::path(options.directory);
    auto loaded = co_await Checkpointer::load(path);
    if (!loaded) {
        const Error& error = loaded.error();
        if (error.code != ErrorCode::kCorrupt && error.code != ErrorCode::kNotFound)
            co_return fail(error);
        damage.checkpoint_is_damaged = true;
        damage.places.push_back({path, 0, error.to_string()});
        co_return damage;
    }
    const CheckpointHeader header = loaded->header;
    if (std::string other = foreign(options, header); !other.empty()) {
        damage.checkpoint_is_damaged = true;
        damage.places.push_back({path, 0, std::move(other)});
        co_return damage;
    }
    const uint64_t applied_max = applied_block(loaded->logs);
    Replay replay(std::move(loaded->logs));
    JournalReader reader;
    JournalReader::Options how = reader_options(options, header);
    how.verify_checksums = how.any_size = true;
    Result<void> read = co_await reader.open(std::move(how));
    for (const JournalReader::Contradiction& contradiction : reader.contradictions())
        damage.places.push_back({contradiction.path, 0, contradiction.what});
    if (read) read = co_await replay_whole_part(&options, &reader, &replay, &damage);
    co_await reader.close();
    co_await try_(std::move(read));
    for (const auto& [id, log] : replay.logs()) {
        const LogState& state = log.snapshot.log;
        LogLoss loss{.end = state.end, .last_known = state.end.offset};
        if (!log.caught_up) {
            loss.end = filled_again(state, log.checkpoint_end);
            loss.last_known = log.checkpoint_end.offset;
            if (loss.end < log.checkpoint_end) damage.cuts[id] = loss.end;
        }
        damage.logs[id] = loss;
    }
    if (damage.places.empty()) {
        if (const Result<void> finished = replay.finish(); !finished)
            damage.places.push_back({path, 0, finished.error().message});
    }
    const uint64_t next_block = reader.finish().next_block;
    if (const auto gap =
            journal_gap(applied_max, reader.flushed_block(), next_block, options.shard);
        gap && damage.places.empty()) {
        damage.places.push_back({path, 0, *gap});
        damage.first_lost_block = next_block;
    }
    for (auto& [sequence, file] : co_await try_(journal_files(options.directory))) {
        if (sequence >= header.start_file)
            co_await try_(look_through(&options, &header, file, sequence, &damage));
    }
    co_return damage;
}

Task<Result<void>> mend(RecoveryOptions options, ShardDamage damage, MendOptions how) {
    CHECK(damage.can_be_mended());
    // 1.
    LossMap losses;
    if (auto before = co_await Losses::load(options.directory)) losses = std::move(*before);
    for (const auto& [id, loss] : damage.logs) losses.emplace(id, false);
    co_await try_(add_log_directories(&options, &losses));
    for (auto& [id, accepted] : losses) accepted = how.accepted;
    co_await try_(Losses::store(options.directory, std::move(losses)));
    // 2.
    std::set<std::string> changing;
    for (const auto& [file, size] : damage.to_resize) changing.insert(file);
    for (const ShardDamage::Page& page : damage.to_erase) changing.insert(page.file);
    for (const ShardDamage::Page& page : damage.marks) changing.insert(page.file);
    changing.insert(Checkpointer::path(options.directory));
    for (const std::string& path : changing) co_await try_(copy_aside(&options, path));
    // 3. to 5.
    co_await try_(rewrite_checkpoint(&options, &damage));
    for (const auto& [path, size] : damage.to_resize) co_await try_(resize(path, size));
    for (const ShardDamage::Page& page : std::views::reverse(damage.to_erase))
        co_await try_(erase_page(page));
    for (const ShardDamage::Page& page : std::views::reverse(damage.marks))
        co_await try_(erase_page(page));
    const ShardDamage left = co_await try_(find_damage(options));
    if (left.places.empty()) co_return Result<void>{};
    co_return fail(ErrorCode::kCorrupt, fmt::format("{} is still damaged: {}", left.places[0].file,
                                                    left.places[0].what));
}

Task<Result<OfflineData>> OfflineData::open(std::string data) {
    OfflineData opened;
    opened.data_ = data;
    // First, so that no file is made where there is no data directory.
    const std::string text =
        co_await try_(runtime::read_small_file(data + "/layout", kLayoutBytesMax));
    opened.layout_ = co_await try_(parse_layout(text));
    const Result<void> locked = co_await opened.lock();
    if (locked) co_return opened;
    co_await opened.close();
    co_return fail(locked.error());
}

Task<Result<void>> OfflineData::lock() {
    lock_ = co_await try_(
        File::open(data_ + "/LOCK",
                   {.flags = runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenBuffered}));
    co_await try_(lock_file(&lock_));
    directory_lock_ =
        co_await try_(File::open(data_, {.flags = runtime::kOpenRead | runtime::kOpenBuffered}));
    co_return co_await lock_file(&directory_lock_);
}

Task<void> OfflineData::close() {
    if (directory_lock_.is_open()) (void)co_await directory_lock_.close();
    if (lock_.is_open()) (void)co_await lock_.close();
}

RecoveryOptions OfflineData::shard(uint32_t shard) const {
    return {.data = data_,
            .directory = shard_directory(data_, layout_.generation, shard),
            .layout = layout_,
            .shard = shard,
            .bugs = {}};
}

Task<Result<uint64_t>> OfflineData::count_unaccepted(uint32_t which) {
    const LossMap losses = co_await try_(Losses::load(shard(which).directory));
    co_return static_cast<uint64_t>(
        std::ranges::count_if(losses, [](const auto& row) { return !row.second; }));
}

Task<Result<uint64_t>> OfflineData::accept_losses(uint32_t which) {
    const std::string directory = shard(which).directory;
    LossMap losses = co_await try_(Losses::load(directory));
    uint64_t accepted = 0;
    for (auto& [id, is_accepted] : losses) accepted += std::exchange(is_accepted, true) ? 0 : 1;
    if (accepted > 0) co_await try_(Losses::store(directory, std::move(losses)));
    co_return accepted;
}

}  // namespace weir::storage
