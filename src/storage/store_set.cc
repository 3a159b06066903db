// StoreSet: the data directory of a node. Takes its lock, reads which shards wrote it, opens a
// ShardStore on each shard; brings a directory that another number of shards wrote into the form
// that this number needs.
#include <fmt/format.h>

#include <charconv>

#include "base/check.h"
#include "base/crc32c.h"
#include "runtime/file.h"
#include "runtime/remote.h"
#include "runtime/shard.h"
#include "runtime/wait.h"
#include "storage/history.h"
#include "storage/layout.h"
#include "storage/shard_store.h"
#include "storage/store.h"

namespace weir::storage {

using runtime::File;
using runtime::Shard;
using runtime::ShardId;
using runtime::Task;
using runtime::try_;

runtime::ShardId owner_of(LogId id, uint32_t shard_count) {
    return id == kMetadataLog ? 0 : static_cast<ShardId>(id.v % shard_count);
}

namespace {

bool is_not_found(const Error& error) {
    return error.code == ErrorCode::kNotFound || error.os_errno == ENOENT;
}

class StoreSetImpl final : public StoreSet {
  public:
    explicit StoreSetImpl(StoreOptions options) : options_(std::move(options)) {}

    Task<Result<void>> open();
    Store& local() override {
        CHECK(stores_[Shard::current().id()] != nullptr);
        return *stores_[Shard::current().id()];
    }
    Task<void> close() override;

  private:
    Task<Result<void>> take_lock();
    Task<Result<void>> begin_history();
    Task<Result<Layout>> read_or_make_layout();
    Task<Result<void>> make_shards(Layout layout, std::vector<std::vector<uint8_t>> checkpoints);
    Task<Result<Layout>> convert(Layout from, Layout to);
    Task<Result<void>> name_journals(Layout layout);
    Task<void> remove_other_generations(uint64_t generation);

    StoreOptions options_;
    uint64_t history_ = 0;  // 0: not known yet
    bool opened_ = false;
    File lock_;
    File directory_lock_;
    std::string torn_end_;  // of the shards that wrote the directory, if there were more or fewer
    std::vector<std::unique_ptr<ShardStore>>
        stores_;  // [shard], each made, used and destroyed there
};

Task<Result<void>> StoreSetImpl::take_lock() {
    const std::string path = options_.directory + "/LOCK";
    lock_ = co_await try_(File::open(
        path, {.flags = runtime::kOpenWrite | runtime::kOpenCreate | runtime::kOpenBuffered}));
    // A process that was killed may hold it for a moment longer, until its last operations ended.
    Result<void> locked;
    for (int attempt = 0; attempt < 5; ++attempt) {
        locked = co_await lock_.lock();
        if (locked || locked.error().code != ErrorCode::kUnavailable) break;
        (void)co_await runtime::sleep_for(50ms);
    }
    if (!locked) co_return locked;
    // The directory itself too: somebody may delete LOCK while the node runs, and the next one
    // would make another.
    auto directory = co_await File::open(options_.directory,
                                         {.flags = runtime::kOpenRead | runtime::kOpenBuffered});
    if (!directory) co_return fail(std::move(directory).error());
    directory_lock_ = std::move(*directory);
    for (int attempt = 0; attempt < 5; ++attempt) {
        locked = co_await directory_lock_.lock();
        if (locked || locked.error().code != ErrorCode::kUnavailable) break;
        (void)co_await runtime::sleep_for(50ms);
    }
    co_return locked;
}

// Before anything is served: from now on a stop is not an orderly one unless close() notes it.
Task<Result<void>> StoreSetImpl::begin_history() {
    const std::string path = history_path(options_.directory);
    History history;
    const auto text = co_await runtime::read_small_file(path, 4096);
    if (text) {
        if (auto parsed = parse_history(*text)) {
            history = *parsed;
        } else {
            // As if it were missing.
            Shard::current().log().warn("storage", "the history is damaged: a new one begins",
                                        "file={} error=\"{}\"", path, parsed.error().to_string());
        }
    } else if (!is_not_found(text.error())) {
        co_return fail(text.error());
    }
    // A new one also where there is no such file: nobody knows what became of it.
    history_ = history.stopped ? history.id : 0;
    while (history_ == 0) {
        Shard::current().driver().fill_entropy(
            {reinterpret_cast<uint8_t*>(&history_), sizeof history_});
    }
    Result<void> noted =
        co_await runtime::replace_small_file(path, encode_history({history_, false}));
    if (noted || noted.error().code != ErrorCode::kDiskFull) co_return noted;
    // A full disk can be served from. What counts is that the file does not say "stopped" while the
    // node runs: then the next start draws a new number.
    (void)co_await runtime::unlink_file(path + ".tmp");
    if (!history.stopped) co_return Result<void>{};
    co_await try_(runtime::unlink_file(path));
    co_return co_await runtime::sync_directory(options_.directory);
}

Task<Result<Layout>> StoreSetImpl::read_or_make_layout() {
    const std::string path = options_.directory + "/layout";
    auto text = co_await runtime::read_small_file(path, kLayoutBytesMax);
    if (text) co_return parse_layout(*text);
    if (!is_not_found(text.error())) co_return fail(std::move(text).error());
    if (co_await runtime::list_directory(logs_directory(options_.directory))) {
        co_return fail(
            ErrorCode::kCorrupt,
            fmt::format("{} holds logs, but its layout file is gone", options_.directory));
    }
    Layout layout{.generation = 1, .shards = Shard::current().count(), .journals = {}};
    std::vector<std::vector<uint8_t>> checkpoints(layout.shards,
                                                  std::vector<uint8_t>(kCheckpointHeaderBytes));
    for (uint32_t i = 0; i < layout.shards; ++i) {
        uint64_t journal_id = 0;
        Shard::current().driver().fill_entropy(
            {reinterpret_cast<uint8_t*>(&journal_id), sizeof journal_id});
        layout.journals.push_back(journal_id);
        finish_checkpoint(checkpoints[i], {.journal_id = journal_id,
                                           .generation = layout.generation,
                                           .shard = i,
                                           .shards = layout.shards,
                                           .start_file = 1,
                                           .start_block = 1,
                                           .logs = 0,
                                           .written_ms = Shard::current().wall_now().ms});
    }
    co_await try_(make_shards(layout, std::move(checkpoints)));
    co_await try_(runtime::replace_small_file(path, encode_layout(layout)));
    co_return layout;
}

// The directories of a generation, each with its first checkpoint and an empty journal.
Task<Result<void>> StoreSetImpl::make_shards(Layout layout,
                                             std::vector<std::vector<uint8_t>> checkpoints) {
    for (uint32_t i = 0; i < layout.shards; ++i) {
        const std::string directory = shard_directory(options_.directory, layout.generation, i);
        co_await try_(make_durable_directory(directory, 2));
        co_await try_(Checkpointer::replace(directory, std::move(checkpoints[i])));
        co_await try_(runtime::sync_directory(directory));
    }
    co_return Result<void>{};
}

// Of a layout file of an earlier version.
Task<Result<void>> StoreSetImpl::name_journals(Layout layout) {
    for (uint32_t i = 0; i < layout.shards; ++i)
        layout.journals.push_back(stores_[i]->journal_id());
    const std::string path = options_.directory + "/layout";
    Result<void> named = co_await runtime::replace_small_file(path, encode_layout(layout));
    if (named || named.error().code != ErrorCode::kDiskFull) co_return named;
    // The next start does it.
    (void)co_await runtime::unlink_file(path + ".tmp");
    co_return Result<void>{};
}

Task<Result<Layout>> StoreSetImpl::convert(Layout from, Layout to) {
    // 1. Each old shard recovers, moves all its entries to segments and writes a checkpoint that
    // needs no journal.
    std::map<LogId, LogSnapshot> logs;
    std::vector<LossMap> losses(to.shards);
    for (uint32_t i = 0; i < from.shards; ++i) {
        ShardStore old(options_, from, i);
        Result<void> done = co_await old.open();
        if (done) done = co_await old.flush();
        if (torn_end_.empty()) torn_end_ = old.torn_end();
        const bool failed = old.failed();
        co_await old.close();
        co_await try_(std::move(done));
        if (failed)
            co_return fail(ErrorCode::kIo,
                           "an old shard failed while the number of shards was changed");
        Checkpoint checkpoint = co_await try_(Checkpointer::load(
            Checkpointer::path(shard_directory(options_.directory, from.generation, i))));
        for (const auto& [id, accepted] :
             co_await try_(Losses::load(shard_directory(options_.directory, from.generation, i))))
            losses[owner_of(id, to.shards)].emplace(id, accepted);
        for (auto& [id, snapshot] : checkpoint.logs) logs.emplace(id, std::move(snapshot));
    }
    // 2. The new owners' checkpoints. Until the layout file names the new generation a crash leaves
    // the old one in force.
    std::vector<std::vector<uint8_t>> checkpoints(to.shards,
                                                  std::vector<uint8_t>(kCheckpointHeaderBytes));
    std::vector<uint32_t> counts(to.shards);
    for (const auto& [id, snapshot] : logs) {
        const ShardId owner = owner_of(id, to.shards);
        if (snapshot.log.flushed_end != snapshot.log.end)
            co_return fail(ErrorCode::kCorrupt, "entries left in an old shard's journal");
        append_section(checkpoints[owner], snapshot.log, snapshot.log.end, 0,
                       {snapshot.state_end, snapshot.state_floor, snapshot.state});
        ++counts[owner];
    }
    for (uint32_t i = 0; i < to.shards; ++i) {
        uint64_t journal_id = 0;
        Shard::current().driver().fill_entropy(
            {reinterpret_cast<uint8_t*>(&journal_id), sizeof journal_id});
        to.journals.push_back(journal_id);
        finish_checkpoint(checkpoints[i], {.journal_id = journal_id,
                                           .generation = to.generation,
                                           .shard = i,
                                           .shards = to.shards,
                                           .start_file = 1,
                                           .start_block = 1,
                                           .logs = counts[i],
                                           .written_ms = Shard::current().wall_now().ms});
    }
    co_await try_(make_shards(to, std::move(checkpoints)));
    for (uint32_t i = 0; i < to.shards; ++i) {
        co_await try_(Losses::store(shard_directory(options_.directory, to.generation, i),
                                    std::move(losses[i])));
    }
    co_await try_(runtime::replace_small_file(options_.directory + "/layout", encode_layout(to)));
    Shard::current().log().info("storage", "number of shards changed", "from={} to={} logs={}",
                                from.shards, to.shards, logs.size());
    co_return to;
}

Task<void> StoreSetImpl::remove_other_generations(uint64_t generation) {
    auto names = co_await runtime::list_directory(options_.directory);
    if (!names) co_return;
    const std::string current = fmt::format("shards-{}", generation);
    for (const std::string& name : *names) {
        if (!name.starts_with("shards-") || name == current) continue;
        const std::string root = options_.directory + "/" + name;
        auto shards = co_await runtime::list_directory(root);
        if (!shards) continue;
        for (const std::string& shard : *shards) {
            const std::string directory = root + "/" + shard;
            auto files = co_await runtime::list_directory(directory);
            if (!files) continue;
            for (const std::string& file : *files)
                (void)co_await runtime::unlink_file(directory + "/" + file);
            (void)co_await runtime::remove_directory(directory);
        }
        (void)co_await runtime::remove_directory(root);
    }
}

Task<Result<void>> StoreSetImpl::open() {
    co_await try_(make_durable_directory(options_.directory, 1));
    co_await try_(take_lock());
    co_await try_(begin_history());
    const Layout found = co_await try_(read_or_make_layout());
    co_await try_(make_durable_directory(logs_directory(options_.directory), 1));
    Layout layout = found;
    if (found.shards != Shard::current().count()) {
        layout = co_await try_(convert(found, {.generation = found.generation + 1,
                                               .shards = Shard::current().count(),
                                               .journals = {}}));
    }
    co_await remove_other_generations(layout.generation);
    stores_.resize(layout.shards);
    std::vector<Task<Result<void>>> opening;
    for (uint32_t i = 0; i < layout.shards; ++i) {
        opening.push_back(runtime::on(i, [this, i, layout]() -> Task<Result<void>> {
            stores_[i] = std::make_unique<ShardStore>(options_, layout, i);
            stores_[i]->set_history(history_);
            if (i == 0) stores_[i]->set_torn_end(torn_end_);
            co_return co_await stores_[i]->open();
        }));
    }
    for (Result<void>& opened : co_await runtime::all(std::move(opening)))
        co_await try_(std::move(opened));
    opened_ = true;
    if (layout.journals.empty()) co_await try_(name_journals(layout));
    co_return Result<void>{};
}

Task<void> StoreSetImpl::close() {
    std::vector<Task<bool>> closing;
    for (uint32_t i = 0; i < stores_.size(); ++i) {
        closing.push_back(runtime::on(i, [this, i]() -> Task<bool> {
            if (stores_[i] == nullptr) co_return false;
            co_await stores_[i]->close();
            const bool whole = stores_[i]->closed_whole();
            stores_[i].reset();
            co_return whole;
        }));
    }
    bool whole = opened_;
    if (!closing.empty()) {
        for (const bool each : co_await runtime::all(std::move(closing))) whole = whole && each;
    }
    stores_.clear();
    if (std::exchange(opened_, false) && whole) {
        const auto noted = co_await runtime::replace_small_file(history_path(options_.directory),
                                                                encode_history({history_, true}));
        if (!noted)
            Shard::current().log().warn("storage", "the orderly stop could not be noted",
                                        "error=\"{}\"", noted.error().to_string());
    }
    if (directory_lock_.is_open()) (void)co_await directory_lock_.close();
    if (lock_.is_open()) (void)co_await lock_.close();
}

}  // namespace

Task<Result<std::unique_ptr<StoreSet>>> StoreSet::open(StoreOptions options) {
    CHECK(Shard::current().id() == 0);
    CHECK(options.memory != nullptr);
    auto set = std::make_unique<StoreSetImpl>(std::move(options));
    Result<void> opened = co_await set->open();
    if (!opened) {
        co_await set->close();
        co_return fail(std::move(opened).error());
    }
    co_return std::unique_ptr<StoreSet>(std::move(set));
}

}  // namespace weir::storage
