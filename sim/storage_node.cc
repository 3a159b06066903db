#include <set>

#include "runtime/remote.h"
#include "storage/mend.h"
#include "storage_run.h"

namespace weir::sim {

// ---------------------------------------------------------------- tasks of the node

Task<void> StorageRun::node_main(StorageRun* run, StorageLife* life, Shard* shard) {
    if (shard->id() != 0) co_return;
    co_await (life->offline ? repair_offline(run, life) : open_and_serve(run, life));
}

Task<void> StorageRun::open_and_serve(StorageRun* run, StorageLife* life) {
    StoreOptions options = run->knobs_.store;
    options.memory = &life->memory;
    options.go_on = run->recovering_ && run->knobs_.repair == Repair::kGoOn;
    options.on_fatal = [run, life](const Error& error) {
        ++run->result_.seen.fatal_errors;
        run->note("  fatal: " + error.to_string());
        if (!life->fatal) run->judge(error, "the store", *life);
        life->fatal = error;
    };
    Result<std::unique_ptr<StoreSet>> opened = co_await StoreSet::open(std::move(options));
    if (!opened) {
        life->open_error = std::move(opened).error();
        co_return;
    }
    const std::unique_ptr<StoreSet> set = std::move(*opened);
    life->set = set.get();
    life->opened = true;
    life->phase = "checking what was recovered";
    life->metrics.resize(life->shards);
    if (const std::optional<Error> offline = co_await offline_log(run, life)) {
        // Its segments could not be read, so that not all of it is told: as if nothing had opened.
        life->open_error = *offline;
        co_await set->close();
        life->set = nullptr;
        co_return;
    }
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [run, life]() { return check_recovered(run, life); });
    }
    // What was confirmed to be there and was not found on any shard.
    for (const auto& [id, model] : run->models_) {
        if (life->uses.contains(id)) continue;
        if (model->presence == LogModel::Presence::kPresent && !run->recovering_)
            run->suspect(fmt::format("log {} is gone", id.v));
        model->presence = LogModel::Presence::kGone;
    }
    if (!run->suspicion_.empty()) {
        bool told = run->plan_.disk.corrupts();
        for (const StoreMetrics* metrics : life->metrics) told |= metrics->corruptions > 0;
        told |= run->torn_;
        run->loss_is_told_ |= told;
        if (!run->loss_is_told_) run->fail("damage was not told: " + run->suspicion_);
    }
    life->checked = true;
    if (run->recovering_ && !run->over()) run->mended_ = true;
    life->phase = "serving";
    if (!run->over()) {
        Scope scope;
        for (ShardId shard = 0; shard < life->shards; ++shard)
            scope.spawn(on_shard(run, life, shard));
        co_await scope.join();
    }
    if (life->healed && !run->over()) {
        life->phase = "looking for stray files";
        for (ShardId shard = 0; shard < life->shards && !run->over(); ++shard)
            co_await on(shard, [run, life]() { return check_files(run, life); });
    }
    life->stopping = true;
    life->phase = "closing";
    run->count(*life);
    // As the node does it: the state machines go before the store.
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [life]() -> Task<void> {
            Store& store = life->set->local();
            for (const LogId id : store.logs()) {
                if (Log* log = store.find(id)) log->set_state_provider({});
            }
            co_return;
        });
    }
    co_await set->close();
    life->set = nullptr;
}

// What `weir debug repair --apply` does.
Task<void> StorageRun::repair_offline(StorageRun* run, StorageLife* life) {
    life->phase = "looking for damage";
    auto data = co_await OfflineData::open(kDirectory);
    Result<void> done;
    if (!data) done = weir::fail(data.error());
    for (uint32_t shard = 0; data && done && shard < data->layout().shards; ++shard) {
        auto damage = co_await find_damage(data->shard(shard));
        if (!damage) {
            done = weir::fail(damage.error());
        } else if (!damage->places.empty()) {
            const DamagedPlace& place = damage->places[0];
            run->note(fmt::format("  shard {}: {} offset {}: {}", shard, place.file, place.offset,
                                  place.what));
            if (!run->recovering_) run->fail("damage was found where there is none: " + place.what);
            if (!damage->can_be_mended())
                done = weir::fail(ErrorCode::kCorrupt, place.what);
            else if (run->recovering_)
                done = co_await mend(data->shard(shard), std::move(*damage), {});
        }
    }
    if (data) co_await data->close();
    if (done)
        run->looked_ = true;
    else if (done.error().code != ErrorCode::kNotFound)
        run->judge(done.error(), "the repair", *life);
}

// Of a log that went offline while it was opened.
Task<std::optional<Error>> StorageRun::offline_log(StorageRun* run, StorageLife* life) {
    std::optional<Error> found;
    for (ShardId shard = 0; shard < life->shards; ++shard) {
        co_await on(shard, [run, life, &found]() -> Task<void> {
            Store& store = life->set->local();
            for (const LogId id : store.logs()) {
                const Log* log = store.find(id);
                if (run->exempt_.contains(id) || log == nullptr || !log->damage() ||
                    !log->damage()->offline)
                    continue;
                // A loss may have brought a log back whose files were deleted already.
                if (run->recovering_ && !run->may_fail())
                    run->exempt_.insert(id);
                else
                    found = Error{ErrorCode::kIo, log->damage()->reason, 0};
            }
            co_return;
        });
    }
    co_return found;
}

Task<void> StorageRun::on_shard(StorageRun* run, StorageLife* life, ShardId shard) {
    co_await on(shard, [run, life, shard]() { return serve_shard(run, life, shard); });
}

// ---------------------------------------------------------------- recovery against the models

void StorageRun::adopt(StorageLife& life, LogModel& model, Log& log) {
    StorageLife::Use& use = life.uses[model.id];
    use.log = &log;
    use.durable_seen = log.durable_end();
    use.start_seen = log.start_offset();
    // While the log is being cut its end is the one that counts.
    log.set_state_provider([&model, &log] { return model.state_at(log.end().offset); });
    log.on_durable([this, &life, &model] { observe(life, model); });
    log.configure(model.config);
}

// What the log says of itself, at any moment between steps.
void StorageRun::observe(StorageLife& life, LogModel& model) {
    StorageLife::Use& use = life.uses[model.id];
    const Position durable = use.log->durable_end();
    // A cut is told by its return; what it took away is gone before.
    if (use.cutting && model.cut_attempted)
        use.durable_seen = std::min(use.durable_seen, *model.cut_attempted);
    if (durable < use.durable_seen) {
        fail(fmt::format("log {}: the durable end went back from {} to {}", model.id.v,
                         to_string(use.durable_seen), to_string(durable)));
    }
    if (durable > use.log->end())
        fail(fmt::format("log {}: the durable end is beyond the end", model.id.v));
    use.durable_seen = durable;
    model.acknowledge(durable);
    const int64_t start = use.log->start_offset();
    if (start < use.start_seen)
        fail(fmt::format("log {}: the start went back from {} to {}", model.id.v, use.start_seen,
                         start));
    if (start > use.start_seen && start > model.start_attempted) ++result_.seen.retentions;
    use.start_seen = start;
    complain(model.started_at(start, wall_bound(Shard::current().wall_now())));
}

Task<void> StorageRun::check_recovered(StorageRun* run, StorageLife* life) {
    const ShardId shard = Shard::current().id();
    Store& store = life->set->local();
    life->metrics[shard] = &store.metrics();
    // A run of the last block, of which nothing else tells yet, can't be told from a torn one.
    run->torn_ |= run->damage_ && run->damage_->log && !store.torn_end().empty();
    const std::vector<LogId> ids = store.logs();
    for (const LogId id : ids) {
        const auto found = run->models_.find(id);
        const bool is_known = found != run->models_.end();
        if (!is_known ||
            (found->second->presence == LogModel::Presence::kGone && !run->recovering_)) {
            run->suspect(fmt::format("log {} is there, and should not be", id.v));
            continue;
        }
        if (owner_of(id, life->shards) != shard)
            run->fail(fmt::format("log {} is on shard {}, which does not own it", id.v, shard));
        Log* log = store.find(id);
        if (log == nullptr || life->uses.contains(id)) {
            run->fail(fmt::format("log {} is listed and not found, or found twice", id.v));
            co_return;
        }
        co_await check_log(run, life, found->second.get(), log);
        if (run->over()) co_return;
    }
}

Task<void> StorageRun::check_log(StorageRun* run, StorageLife* life, LogModel* model, Log* log) {
    const RecoveredState state = log->take_recovered();
    Complaint complaint = run->recovered(*model, *log, state);
    if (run->exempt_.contains(model->id)) {
        // Nobody uses it where it is not as it was, nor reads what it may lack.
        life->uses[model->id] = {};
        const bool told = run->torn_ || log->damage() || log->may_have_lost() ||
                          life->set->local().metrics().corruptions > 0;
        if (!told) run->complain(complaint);
        if (!complaint.empty()) co_return;
    }
    for (const SegmentInfo& segment : log->segments()) {
        if (complaint.empty() && run->replaced_.contains({model->id, segment.id}) &&
            !run->exempt_.contains(model->id))
            complaint = fmt::format("log {}: segment {}, which was replaced, is back", model->id.v,
                                    segment.id);
    }
    run->suspect(complaint);
    if (!complaint.empty()) co_return;
    run->adopt(*life, *model, *log);
    co_await read_all(run, life, model, log);
}

Complaint StorageRun::recovered(LogModel& model, const Log& log, const RecoveredState& state) {
    const LogModel::Seen seen{.start_offset = log.start_offset(),
                              .end = log.end(),
                              .durable_end = log.durable_end(),
                              .hard_state = log.hard_state(),
                              .last_term = log.last_term()};
    const bool was_removed = model.presence != LogModel::Presence::kPresent;
    if (!recovering_ || !log.may_have_lost())
        return model.recovered(seen, state, wall_bound(Shard::current().wall_now()));
    // Its removal may be lost, how far its start came, or what took a segment's place: files are
    // gone that it has again.
    if (was_removed || log.damage() || rewritten_.contains(model.id)) exempt_.insert(model.id);
    model.presence = LogModel::Presence::kMaybe;
    return model.went_back(seen, state);
}

Task<void> StorageRun::read_all(StorageRun* run, StorageLife* life, LogModel* model, Log* log) {
    int64_t offset = log->start_offset();
    int failures = 0;
    while (offset < log->end().offset && !run->over()) {
        const std::vector<ModelEntryRef> entries = model->data_from(0);
        const ReadLimits limits{.end_offset = log->end().offset, .bytes_max = 64 << 10};
        const Result<ReadResult> result = co_await log->read(offset, limits, {});
        if (!result) {
            // Retention may have passed by.
            if (result.error().code == ErrorCode::kOutOfRange && log->start_offset() > offset) {
                offset = log->start_offset();
                continue;
            }
            run->judge(result.error(), fmt::format("reading log {} at {}", model->id.v, offset),
                       *life, model->id);
            if (++failures > 20 || life->fatal) co_return;
            continue;
        }
        run->complain(LogModel::check_read(entries, offset, limits, *result));
        if (result->next_offset <= offset) {
            run->fail(fmt::format("log {}: reading at {} does not get on", model->id.v, offset));
        }
        offset = result->next_offset;
    }
}

// Under logs/ lies what a log knows and nothing else: crashes cut deletions short, and the next
// life has to end them.
Task<void> StorageRun::check_files(StorageRun* run, StorageLife* life) {
    constexpr Duration kPatience = 30s;
    auto& store = static_cast<ShardStore&>(life->set->local());
    const Instant deadline = Shard::current().now() + kPatience;
    while (!run->over() && !life->fatal) {
        const std::string stray = run->stray_file(store);
        if (store.sweeper().done() && stray.empty()) co_return;
        if (Shard::current().now() >= deadline) {
            run->fail(stray.empty() ? "the sweep does not end"
                                    : fmt::format("nobody deletes {}", stray));
        }
        (void)co_await sleep_for(20ms);
    }
}

// A file or a directory of this shard's that no log knows at this moment; empty: none.
std::string StorageRun::stray_file(ShardStore& store) const {
    const std::string root = logs_directory(kDirectory);
    std::vector<std::string> fans;
    (void)node_.disk().list(root, &fans);
    for (const std::string& fan : fans) {
        std::vector<std::string> directories;
        (void)node_.disk().list(root + "/" + fan, &directories);
        for (const std::string& name : directories) {
            LogId id;
            if (!parse_log_directory_name(name, &id)) return root + "/" + fan + "/" + name;
            if (owner_of(id, store.layout().shards) != store.shard()) continue;
            PartitionLog* log = store.find_log(id);
            if (log == nullptr) return log_directory(kDirectory, id);
            std::set<std::string> known;
            for (const Segment& segment : log->state().segments)
                known.insert(segment_path(kDirectory, id, segment.base.offset, segment.id));
            if (log->draft)
                known.insert(
                    segment_path(kDirectory, id, log->draft->base_offset, log->draft->segment));
            std::vector<std::string> files;
            (void)node_.disk().list(log_directory(kDirectory, id), &files);
            for (const std::string& file : files) {
                std::string path = log_directory(kDirectory, id) + "/" + file;
                if (!known.contains(path)) return path;
            }
        }
    }
    return {};
}

}  // namespace weir::sim
