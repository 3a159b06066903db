#include <cstring>

#include "runtime/wait.h"
#include "storage_run.h"

namespace weir::sim {

LogConfig StorageRun::draw_config(Prng& prng) const {
    LogConfig config;
    config.segment_bytes = prng.between(16 << 10, knobs_.segment_bytes_max);
    config.segment_ms = prng.chance(0.7) ? int64_t{7} * 24 * 3600 * 1000
                                         : static_cast<int64_t>(prng.between(1, 2000));
    config.retention_ms = -1;
    if (knobs_.retention) {
        if (knobs_.brief) config.segment_ms = static_cast<int64_t>(prng.between(1, 100));
        if (prng.chance(0.4))
            config.retention_bytes =
                static_cast<int64_t>(prng.below((knobs_.brief ? 1 : 4) * knobs_.segment_bytes_max));
        if (prng.chance(0.4))
            config.retention_ms = static_cast<int64_t>(prng.between(1, knobs_.brief ? 2500 : 5000));
        config.delete_by_retention = prng.chance(0.9);
    }
    return config;
}

Task<void> StorageRun::serve_shard(StorageRun* run, StorageLife* life, ShardId shard) {
    Scope waits;
    Scope clients;
    for (uint32_t i = 0; i < run->knobs_.clients; ++i)
        clients.spawn(client(run, life, shard * 1000 + i, &waits));
    co_await clients.join();
    co_await waits.join();
    for (auto& [id, use] : life->uses) {
        if (owner_of(id, life->shards) == shard && use.log != nullptr) use.log->on_durable({});
    }
}

LogModel* StorageRun::pick(StorageLife& life, Prng& prng) {
    std::vector<LogModel*> here;
    for (auto& [id, use] : life.uses) {
        if (use.log != nullptr && owner_of(id, life.shards) == Shard::current().id())
            here.push_back(models_.at(id).get());
    }
    return here.empty() ? nullptr : here[prng.below(here.size())];
}

Task<void> StorageRun::client(StorageRun* run, StorageLife* life, uint64_t number, Scope* waits) {
    Prng prng(mix64(mix64(run->options_.seed) + life->number) + number, "client");
    const uint32_t operations =
        life->healed ? std::min<uint32_t>(run->knobs_.operations, 30) : run->knobs_.operations;
    // Each life and client has a taste of its own.
    const uint64_t appends = prng.between(2, 20);
    const uint64_t reads = prng.below(10);
    const uint64_t rare = prng.between(1, 4);
    for (uint32_t i = 0; i < operations; ++i) {
        if (run->over() || life->fatal) co_return;
        if (run->knobs_.pause_max > 0s && prng.chance(0.5)) {
            (void)co_await sleep_for(Duration(static_cast<int64_t>(
                prng.below(static_cast<uint64_t>(run->knobs_.pause_max.count()) + 1))));
        }
        LogModel* model = run->pick(*life, prng);
        const bool room = life->uses.size() < kLogsMax;
        if (model == nullptr || (room && prng.chance(0.04))) {
            const LogId id{run->next_log_++};
            if (owner_of(id, life->shards) != Shard::current().id()) continue;
            const Doing doing(*life, number, "creating", id);
            co_await create(run, life, id, &prng);
            continue;
        }
        const uint64_t kinds = run->knobs_.rewrites ? 7 : 6;  // of rare operations
        const uint64_t drawn = prng.below(appends + reads + kinds * rare);
        if (drawn < appends) {
            const Doing doing(*life, number, "appending to", model->id);
            co_await append_some(run, life, number, model, &prng, waits);
        } else if (drawn < appends + reads) {
            const Doing doing(*life, number, "reading", model->id);
            co_await read_some(run, life, model, &prng);
        } else {
            co_await rare_operation(run, life, number, model, &prng,
                                    (drawn - appends - reads) / rare);
        }
    }
}

Task<void> StorageRun::rare_operation(StorageRun* run, StorageLife* life, uint64_t client,
                                      LogModel* model, Prng* prng, uint64_t which) {
    constexpr std::string_view kNames[] = {
        "searching", "cutting the suffix of", "cutting the prefix of",
        "voting in", "configuring",           "removing",
        "rewriting"};
    const Doing doing(*life, client, kNames[which], model->id);
    switch (which) {
        case 0:
            co_await search(run, life, model, prng);
            break;
        case 1:
            // What a loss undoes must be an earlier state of the log as it is known.
            if (run->knobs_.damage_after >= 0 && run->knobs_.repair != Repair::kNone) break;
            co_await cut_suffix(run, life, model, prng);
            break;
        case 2:
            co_await cut_prefix(run, life, model, prng);
            break;
        case 3:
            co_await vote(run, life, model, prng);
            break;
        case 4:
            // Retention may act on the old configuration once more: where it does, there is one for
            // all time.
            if (!run->knobs_.retention) model->config = run->draw_config(*prng);
            life->uses[model->id].log->configure(model->config);
            break;
        case 5:
            if (prng->chance(0.2)) co_await remove(run, life, model);
            break;
        default:
            co_await rewrite(run, life, model, prng);
    }
}

Task<void> StorageRun::create(StorageRun* run, StorageLife* life, LogId id, Prng* prng) {
    auto made = std::make_unique<LogModel>(id, run->draw_config(*prng));
    LogModel* model = made.get();
    run->models_.emplace(id, std::move(made));
    Store& store = life->set->local();
    Result<Log*> created = co_await store.create_log(id, model->config);
    if (!created) {
        run->judge(created.error(), fmt::format("creating log {}", id.v), *life);
        co_return;
    }
    model->presence = LogModel::Presence::kPresent;
    if (store.find(id) != *created)
        run->fail(fmt::format("log {} was created and is not found", id.v));
    run->adopt(*life, *model, **created);
}

Task<void> StorageRun::remove(StorageRun* run, StorageLife* life, LogModel* model) {
    StorageLife::Use& use = life->uses[model->id];
    if (use.appending > 0 || use.cutting || model->id == kMetadataLog) co_return;
    // Nobody else uses it from here on: the Log dies.
    use.log->on_durable({});
    use.log = nullptr;
    model->presence = LogModel::Presence::kMaybe;
    Result<void> removed = co_await life->set->local().remove_log(model->id);
    if (!removed) {
        run->judge(removed.error(), fmt::format("removing log {}", model->id.v), *life, model->id);
        co_return;
    }
    model->presence = LogModel::Presence::kGone;
    if (life->set->local().find(model->id) != nullptr)
        run->fail(fmt::format("log {} was removed and is found", model->id.v));
}

uint64_t StorageRun::draw_size(Prng& prng, bool control) const {
    if (control) return prng.below(64);
    if (knobs_.large_chance > 0 && prng.chance(knobs_.large_chance))
        return prng.between(1, knobs_.large_max);
    return prng.between(1, knobs_.payload_max);
}

ModelEntryRef StorageRun::make_entry(LogModel& model, Prng& prng, uint64_t size, bool control,
                                     int32_t term) {
    auto entry = std::make_shared<ModelEntry>();
    entry->info.kind = control ? EntryKind::kControl : EntryKind::kData;
    entry->info.term = term;
    entry->info.first = model.end();
    entry->info.next_offset =
        model.end().offset + (control ? 0 : static_cast<int64_t>(prng.between(1, 20)));
    // Unique, so that bytes in the wrong place are never the right ones.
    Prng content(++payloads_, "payload");
    entry->payload.resize(size);
    for (size_t i = 0; i < size; i += 8) {
        const uint64_t word = content.next();
        std::memcpy(entry->payload.data() + i, &word, std::min<size_t>(8, size - i));
    }
    if (!control) {
        entry->info.max_timestamp_ms =
            Shard::current().wall_now().ms - static_cast<int64_t>(prng.below(2000));
        entry->summary_bytes = static_cast<uint32_t>(
            std::min<uint64_t>(size, prng.chance(0.9) ? 61 : prng.below(kSummaryBytesMax + 1)));
    }
    return entry;
}

Task<void> StorageRun::append_some(StorageRun* run, StorageLife* life, uint64_t client,
                                   LogModel* model, Prng* prng, Scope* waits) {
    StorageLife::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    ++use.appending;
    const uint64_t count = prng->chance(0.7) ? 1 : prng->between(2, 12);
    for (uint64_t i = 0; i < count; ++i) {
        const bool new_term = use.log->last_term() == 0 || prng->chance(0.03);
        const uint64_t size = run->draw_size(*prng, new_term);
        // Admission comes first: the place of the entry is known only after it.
        life->doing[client] =
            fmt::format("waiting for admission of {} bytes to log {}", size, model->id.v);
        Result<void> admitted = co_await use.log->admit(size, {});
        if (!admitted) {
            run->judge(admitted.error(), "admission", *life, model->id);
            break;
        }
        run->observe(*life, *model);
        if (use.log->end() != model->end()) {
            run->fail(fmt::format("log {} ends at {}, expected {}", model->id.v,
                                  to_string(use.log->end()), to_string(model->end())));
            break;
        }
        const ModelEntryRef entry = run->make_entry(*model, *prng, size, new_term,
                                                    use.log->last_term() + (new_term ? 1 : 0));
        model->history.push_back(entry);
        Result<void> appended =
            use.log->append({.info = entry->info,
                             .payload = SharedBytes::copy_of(as_bytes(entry->payload)),
                             .summary_bytes = entry->summary_bytes});
        if (!appended) {
            model->history.pop_back();
            run->judge(appended.error(), "append", *life, model->id);
            break;
        }
        ++run->result_.seen.appended;
    }
    const Position position = model->end();
    if (run->failure_.empty()) {
        // Some wait one after the other, some have many in flight.
        if (prng->chance(0.5)) {
            life->doing[client] = fmt::format("waiting until {} of log {} is durable",
                                              to_string(position), model->id.v);
            co_await wait_for(run, life, model, position, model->truncations);
        } else {
            waits->spawn(wait_for(run, life, model, position, model->truncations));
        }
    } else {
        --use.appending;
    }
}

Task<void> StorageRun::wait_for(StorageRun* run, StorageLife* life, LogModel* model,
                                Position position, uint32_t truncations) {
    // Its caller counted it as one that appends, so that nobody cuts the log meanwhile.
    StorageLife::Use& use = life->uses[model->id];
    ++life->waits;
    Result<void> durable = co_await use.log->wait_durable(position);
    --life->waits;
    --use.appending;
    if (!durable) {
        run->judge(durable.error(), "waiting until it is durable", *life, model->id);
        co_return;
    }
    CHECK(model->truncations == truncations);
    if (use.log->durable_end() < position) {
        run->fail(fmt::format("log {}: {} is said to be durable, but the durable end is {}",
                              model->id.v, to_string(position), to_string(use.log->durable_end())));
    }
    model->acknowledge(position);
    run->observe(*life, *model);
}

Task<void> StorageRun::read_some(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    Log* log = use.log;
    const int64_t start = log->start_offset();
    const int64_t end = log->end().offset;
    int64_t offset =
        prng->chance(0.3)
            ? end - static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start) / 8 + 1))
            : start + static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start) + 1));
    const bool outside = prng->chance(0.02);
    if (outside)
        offset = prng->chance(0.5) ? end + 1 + static_cast<int64_t>(prng->below(5))
                                   : start - 1 - static_cast<int64_t>(prng->below(5));
    ReadLimits limits;
    if (prng->chance(0.5)) limits.end_offset = std::min(end, use.durable_seen.offset);
    limits.bytes_max = prng->chance(0.3) ? prng->below(200) : prng->below(100'000);
    limits.at_least_one = prng->chance(0.8);

    const std::vector<ModelEntryRef> before = model->data_from(0);
    const uint32_t truncations = model->truncations;
    const bool was_cutting = use.cutting;
    ++run->result_.seen.reads;
    const Result<ReadResult> result = co_await log->read(offset, limits, {});
    // It may have been removed meanwhile: then the log is gone, and what was read was right.
    const bool removed = use.log == nullptr;
    if (removed) ++run->result_.seen.reads_of_removed;
    // What it looked for was cut off meanwhile, or is being cut off perhaps since before it began.
    const bool cut = was_cutting || use.cutting || truncations != model->truncations;
    if (!result) {
        if (removed && (result.error().code == ErrorCode::kUnavailable ||
                        result.error().code == ErrorCode::kOutOfRange))
            co_return;
        if (result.error().code == ErrorCode::kOutOfRange &&
            (outside || log->start_offset() > offset || cut))
            co_return;
        run->judge(result.error(), fmt::format("reading log {} at {}", model->id.v, offset), *life,
                   model->id);
        co_return;
    }
    if (outside && offset < start) {
        run->fail(fmt::format("log {}: a read at {} outside of [{}, {}] was answered", model->id.v,
                              offset, start, end));
        co_return;
    }
    // It may give what was there when it began, or what came since.
    const bool may_be_short =
        run->knobs_.memory_bytes < (64u << 20) || run->plan_.disk.no_descriptor_chance > 0;
    if (may_be_short && result->memory_was_short && result->size == 0 && !limits.at_least_one)
        co_return;
    const Complaint early = LogModel::check_read(before, offset, limits, *result);
    if (early.empty()) co_return;
    if (cut && result->size == 0) co_return;
    const Complaint late = LogModel::check_read(model->data_from(0), offset, limits, *result);
    if (!late.empty()) run->fail(fmt::format("log {}: {}", model->id.v, late));
}

Task<void> StorageRun::search(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    Log* log = use.log;
    const std::vector<ModelEntryRef> before = model->data_from(0);
    const int64_t start_before = log->start_offset();
    const int64_t end_offset = prng->chance(0.5) ? log->end().offset : log->durable_end().offset;
    std::optional<int64_t> timestamp;
    if (prng->chance(0.7))
        timestamp = Shard::current().wall_now().ms - static_cast<int64_t>(prng->below(4000));
    if (!before.empty() && timestamp && prng->chance(0.5))
        timestamp = before[prng->below(before.size())]->info.max_timestamp_ms;
    ++use.appending;
    Result<std::optional<FoundEntry>> found = weir::fail(ErrorCode::kUnavailable);
    if (timestamp)
        found = co_await log->find_timestamp(*timestamp, end_offset);
    else
        found = co_await log->find_max_timestamp(end_offset);
    --use.appending;
    if (!found) {
        run->judge(found.error(), fmt::format("searching log {}", model->id.v), *life, model->id);
        co_return;
    }
    // The start may have moved on meanwhile: what was found is right if it was for some start in
    // between, best for the last that left it in.
    int64_t start = log->start_offset();
    if (*found) start = std::clamp((*found)->info.next_offset - 1, start_before, start);
    const Complaint complaint = LogModel::check_found(before, start, end_offset, timestamp, *found);
    if (!complaint.empty()) run->fail(fmt::format("log {}: {}", model->id.v, complaint));
}

Task<void> StorageRun::cut_suffix(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    Log* log = use.log;
    if (use.appending > 0 || use.cutting || model->history.empty()) co_return;
    const size_t first = model->index_of({log->start_offset(), 0});
    if (first >= model->history.size()) co_return;
    // Near the end mostly, as Raft does it; sometimes anywhere.
    const size_t reach = prng->chance(0.8) ? std::min<size_t>(model->history.size() - first, 6)
                                           : model->history.size() - first;
    const size_t index = model->history.size() - 1 - prng->below(reach);
    const Position at = model->history[index]->info.first;
    if (at.offset < log->start_offset()) co_return;
    run->observe(*life, *model);  // what retention did so far is held against the log as it was
    use.cutting = true;
    model->cut_attempted = at;
    Result<void> cut = co_await log->truncate_suffix(at);
    if (!cut) {
        // Whether it was cut, the next recovery tells: until then nothing is appended, and either
        // may be seen.
        run->judge(cut.error(), fmt::format("truncating log {}", model->id.v), *life, model->id);
        co_return;
    }
    use.cutting = false;
    ++run->result_.seen.suffix_truncations;
    run->complain(
        model->started_at(log->start_offset(), run->wall_bound(Shard::current().wall_now())));
    model->cut(at);
    model->cut_attempted.reset();
    use.durable_seen = std::min(use.durable_seen, at);
    if (log->end() != at)
        run->fail(fmt::format("log {} was cut at {} and ends at {}", model->id.v, to_string(at),
                              to_string(log->end())));
    run->observe(*life, *model);
}

Task<void> StorageRun::cut_prefix(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    Log* log = use.log;
    if (use.cutting) co_return;
    const int64_t start = log->start_offset();
    const int64_t end = log->durable_end().offset;
    if (end <= start) co_return;
    const int64_t to =
        start + 1 + static_cast<int64_t>(prng->below(static_cast<uint64_t>(end - start)));
    model->start_attempted = std::max(model->start_attempted, to);
    ++use.appending;
    Result<void> cut = co_await log->truncate_prefix(to);
    --use.appending;
    if (!cut) {
        run->judge(cut.error(), fmt::format("truncating log {} from its start", model->id.v), *life,
                   model->id);
        co_return;
    }
    ++run->result_.seen.prefix_truncations;
    model->start_acknowledged = std::max(model->start_acknowledged, to);
    run->observe(*life, *model);
}

// Each entry stays as it is, but the runs in which they lie are others: a small one grows, or a
// file loses what is below the log's start or was cut off.
Task<void> StorageRun::rewrite(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    Log* log = use.log;
    std::vector<SegmentInfo> closed = log->segments();
    std::erase_if(closed, [](const SegmentInfo& segment) { return !segment.closed; });
    if (closed.empty()) co_return;
    const SegmentInfo segment = closed[prng->below(closed.size())];
    const uint32_t id = segment.id;
    const Position end = segment.end;
    const bool slow = prng->chance(0.3);
    const bool gives_up = prng->chance(0.1);
    // Lives as long as the call: the rewriter refers to what is here.
    const SegmentRewriter rewriter =
        [slow, gives_up](const FoundEntry* entry) -> Task<Result<std::optional<RewrittenEntry>>> {
        if (slow) (void)co_await sleep_for(Duration(entry->info.first.offset % 7 * 100'000));
        if (gives_up && entry->info.first.offset % 5 == 4)
            co_return weir::fail(ErrorCode::kUnsupported, "enough");
        co_return RewrittenEntry{.payload = entry->payload,
                                 .max_timestamp_ms = entry->info.max_timestamp_ms,
                                 .summary_bytes = entry->summary_bytes};
    };
    const int64_t start = log->start_offset();
    const uint32_t truncations = model->truncations;
    run->rewritten_.insert(model->id);
    Result<void> rewritten = co_await log->rewrite(id, rewriter, {});
    if (use.log == nullptr) co_return;  // it was removed meanwhile
    const std::vector<SegmentInfo> after = log->segments();
    const bool there =
        std::ranges::any_of(after, [&](const SegmentInfo& each) { return each.id == id; });
    if (!rewritten) {
        if (gives_up && rewritten.error().code == ErrorCode::kUnsupported) co_return;
        // Retention, a cut or another client was faster. One that was closed below the log's start
        // stays until the next time the start moves.
        const ErrorCode code = rewritten.error().code;
        if (code == ErrorCode::kInvalidArgument && end.offset <= log->start_offset()) co_return;
        const bool changed = code == ErrorCode::kUnavailable ||
                             code == ErrorCode::kInvalidArgument || code == ErrorCode::kNotFound;
        if (changed && (!there || log->start_offset() > start || model->truncations > truncations ||
                        use.cutting))
            co_return;
        run->judge(rewritten.error(),
                   fmt::format("rewriting segment {} of log {}", id, model->id.v), *life,
                   model->id);
        co_return;
    }
    ++run->result_.seen.rewrites;
    if (there)
        run->fail(
            fmt::format("log {}: segment {} is there after it was replaced", model->id.v, id));
    run->replaced_.insert({model->id, id});
}

Task<void> StorageRun::vote(StorageRun* run, StorageLife* life, LogModel* model, Prng* prng) {
    StorageLife::Use& use = life->uses[model->id];
    if (use.cutting) co_return;
    HardState next = model->hard_states.back();
    next.term += static_cast<int32_t>(prng->below(3));
    next.voted_for = static_cast<int32_t>(prng->below(5));
    if (model->hard_states.size() > 1) co_return;  // one at a time, as a Raft group does it
    model->hard_states.push_back(next);
    ++use.appending;
    Result<void> saved = co_await use.log->save_hard_state(next);
    --use.appending;
    if (!saved) {
        run->judge(saved.error(), fmt::format("saving the vote of log {}", model->id.v), *life,
                   model->id);
        co_return;
    }
    model->hard_states = {next};
    if (!(use.log->hard_state() == next))
        run->fail(fmt::format("log {}: the vote saved is not the vote told", model->id.v));
    // A good moment to ask for the terms.
    const auto term =
        static_cast<int32_t>(prng->below(static_cast<uint64_t>(use.log->last_term()) + 2));
    run->complain(model->check_term(term, use.log->end_of_term(term), use.log->start_offset()));
}

}  // namespace weir::sim
