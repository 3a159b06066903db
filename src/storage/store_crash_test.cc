// Crashes at every point: logs of one node do everything that a log can do, the node is killed
// after so many steps of the world, recovers (and is killed while it does), and what it then holds
// is compared with what was acknowledged and what was asked.
#include <map>
#include <optional>

#include "storage/test_store.h"

namespace weir::storage {
namespace {

struct Issued {
    EntryInfo info;
    size_t size = 0;
};

uint64_t salt(LogId log, int32_t term) { return log.v * 7919 + static_cast<uint64_t>(term); }

// What the test knows of one log.
struct LogModel {
    bool created = false;    // acknowledged
    bool may_exist = false;  // asked for
    bool removing = false;
    bool dead = false;            // removed, or never made: its id is not used again
    std::vector<Issued> entries;  // asked for, in order
    size_t acked = 0;             // of them
    std::optional<std::vector<Issued>>
        before_truncation;  // of one that was asked for and not acknowledged
    HardState vote, asked_vote;
    int64_t start = 0, asked_start = 0;
    int32_t term = 1;

    Position end() const { return entries.empty() ? Position{base, 0} : entries.back().info.end(); }
    int64_t base = 0;  // where the log began, or began anew
};

std::vector<uint8_t> encode_state(const std::vector<Issued>& entries) {
    std::vector<uint8_t> state(entries.size() * 12);
    for (size_t i = 0; i < entries.size(); ++i) {
        store_le<int64_t>(state.data() + i * 12, entries[i].info.first.offset);
        store_le<int32_t>(state.data() + i * 12 + 8, entries[i].info.term);
    }
    return state;
}

struct CrashRun {
    explicit CrashRun(uint64_t seed, sim::Plan plan)
        : world({.plan = plan,
                 .log_sink = std::getenv("WEIR_LOG") == nullptr
                                 ? Logger::Sink()
                                 : Logger::stderr_sink([] { return 0; }),
                 .log_level = LogLevel::kTrace}),
          node(world.add_node({.name = "n1"})),
          memory(64_MiB),
          options(small_options(&memory)),
          prng(seed, "crash test") {
        options.journal_file_bytes = 128_KiB;
        options.journal_bytes_max = 1_MiB;
        options.unflushed_bytes_max = 256_KiB;
    }

    // --- one life
    // -------------------------------------------------------------------------------------------------------
    Task<void> live(Shard&) {
        Result<std::unique_ptr<StoreSet>> set = fail(ErrorCode::kIo);
        for (int attempt = 0; attempt < 50 && !set; ++attempt) {
            set = co_await StoreSet::open(options);
            if (set && (*set)->local().metrics().offline_logs > 0) {
                // A segment could not be read: what recovery tells of that log is not all.
                co_await (*set)->close();
                set = fail(ErrorCode::kIo);
            }
            if (!set) {
                const ErrorCode code = set.error().code;
                if (code != ErrorCode::kIo && code != ErrorCode::kDiskFull &&
                    code != ErrorCode::kUnavailable)
                    problem("open: " + set.error().to_string());
                (void)co_await runtime::sleep_for(10ms);
            }
        }
        if (!set) co_return;
        Store& store = (*set)->local();
        co_await verify(&store);
        ++opens;
        runtime::Scope scope;
        std::vector<LogId> alive;
        for (auto& [id, model] : logs) {
            if (!model.dead) alive.push_back(id);
        }
        while (alive.size() < 4) alive.push_back(new_log());
        for (const LogId id : alive) scope.spawn(churn(&store, id, prng.next()));
        co_await scope.join();
        co_await (*set)->close();
    }

    void problem(std::string text) {
        if (problems.size() < 5)
            problems.push_back("life " + std::to_string(lives) + ": " + std::move(text));
    }

    Task<void> verify(Store* store) {
        for (auto& [id, model] : logs) {
            Log* log = store->find(id);
            if (log == nullptr) {
                if (model.created && !model.removing)
                    problem("log " + std::to_string(id.v) + " is lost");
                model.dead = model.created || model.removing || model.may_exist;
                continue;
            }
            if (model.dead || !model.may_exist)
                problem("log " + std::to_string(id.v) + " came back");
            model.created = true;
            model.removing = false;
            co_await verify_log(log, &model);
        }
    }

    // `found`, the data entries of a log with these bounds, is what `whole` begins with.
    static bool is_prefix(const std::vector<Issued>& found, int64_t start, int64_t base,
                          const std::vector<Issued>& whole, Position end) {
        size_t i = 0;
        Position at{base, 0};
        for (const Issued& issued : whole) {
            if (issued.info.first >= end) break;
            at = issued.info.end();
            if (issued.info.next_offset <= start || issued.info.kind == EntryKind::kControl)
                continue;
            if (i == found.size() || found[i].info.first.offset != issued.info.first.offset ||
                found[i].info.term != issued.info.term)
                return false;
            ++i;
        }
        return i == found.size() && at == end;
    }

    Task<void> verify_log(Log* log, LogModel* model) {
        const std::string name = "log " + std::to_string(log->id().v) + " ";
        const Position end = log->end();
        const int64_t start = log->start_offset();
        if (log->durable_end() != end) problem(name + "recovered entries that are not durable");
        if (start != model->start && start != model->asked_start)
            problem(name + "start offset " + std::to_string(start));
        if (log->hard_state() != model->vote && log->hard_state() != model->asked_vote)
            problem(name + "vote");
        const bool anew = start == model->asked_start && start > model->end().offset;
        std::vector<Issued> found;
        if (!co_await collect(log, &found)) co_return;
        if (anew) {
            if (end != Position{start, 0})
                problem(name + "began anew, but does not end where it starts");
            model->entries.clear();
            model->base = start;
        } else {
            const Position acked = model->acked == 0 ? Position{model->base, 0}
                                                     : model->entries[model->acked - 1].info.end();
            if (end < acked)
                problem(name + "ends at " + std::to_string(end.offset) + ", acknowledged was " +
                        std::to_string(acked.offset));
            if (is_prefix(found, start, model->base, model->entries, end)) {
                while (!model->entries.empty() && model->entries.back().info.first >= end)
                    model->entries.pop_back();
            } else if (model->before_truncation &&
                       is_prefix(found, start, model->base, *model->before_truncation, end)) {
                model->entries = *model->before_truncation;
                while (!model->entries.empty() && model->entries.back().info.first >= end)
                    model->entries.pop_back();
            } else {
                problem(name + "holds something else");
            }
        }
        if (model->end() != end)
            problem(name + "model ends at " + std::to_string(model->end().offset) + " log at " +
                    std::to_string(end.offset));
        verify_recovered(log, *model);
        model->acked = model->entries.size();
        model->before_truncation.reset();
        model->vote = model->asked_vote = log->hard_state();
        model->start = model->asked_start = start;
        ++model->term;
        const int32_t last =
            model->entries.empty() ? log->last_term() : model->entries.back().info.term;
        if (!model->entries.empty() && log->last_term() != last) {
            problem(name + "last term " + std::to_string(log->last_term()) + ", not " +
                    std::to_string(last));
        }
    }

    void verify_recovered(Log* log, const LogModel& model) {
        const RecoveredState recovered = log->take_recovered();
        std::map<std::pair<int64_t, int32_t>, bool> known;
        for (size_t i = 0; i + 12 <= recovered.state.size(); i += 12) {
            known[{load_le<int64_t>(recovered.state.data() + i),
                   load_le<int32_t>(recovered.state.data() + i + 8)}] = true;
        }
        Position last;
        for (const auto& entry : recovered.entries) {
            if (entry.info.first < last) problem("recovered entries are out of order");
            last = entry.info.first;
            known[{entry.info.first.offset, entry.info.term}] = true;
            if (entry.info.kind == EntryKind::kData &&
                (entry.summary.size() != 24 ||
                 load_le<int64_t>(entry.summary.data() + 8) != entry.info.first.offset)) {
                problem("a recovered summary is wrong");
            }
        }
        for (const Issued& issued : model.entries) {
            if (issued.info.next_offset <= log->start_offset() ||
                issued.info.kind == EntryKind::kControl)
                continue;
            if (!known.erase({issued.info.first.offset, issued.info.term})) {
                problem("log " + std::to_string(log->id().v) +
                        ": recovery does not tell of offset " +
                        std::to_string(issued.info.first.offset));
                return;
            }
        }
        for (const auto& [key, unused] : known) {
            if (key.first < log->start_offset()) continue;
            const bool control = std::any_of(model.entries.begin(), model.entries.end(),
                                             [&key = key](const Issued& issued) {
                                                 return issued.info.kind == EntryKind::kControl &&
                                                        issued.info.first.offset == key.first;
                                             });
            if (!control)
                problem("log " + std::to_string(log->id().v) + ": recovery tells of offset " +
                        std::to_string(key.first) + ", which is not there");
        }
    }

    // All data entries of the log, checked byte by byte.
    Task<bool> collect(Log* log, std::vector<Issued>* found) {
        int64_t at = log->start_offset();
        while (at < log->end().offset) {
            auto result = co_await log->read(at, {.bytes_max = 100'000}, {});
            if (!result && result.error().code == ErrorCode::kIo) continue;  // the disk's mood
            if (!result) {
                problem("read: " + result.error().to_string());
                co_return false;
            }
            if (result->parts.empty()) {
                problem("log " + std::to_string(log->id().v) + ": nothing at " +
                        std::to_string(at));
                co_return false;
            }
            for (const auto& part : result->parts) {
                for (size_t i = 0; i < part.size();) {
                    Issued issued;
                    issued.info.first.offset = load_le<int64_t>(part.data() + i + 8);
                    issued.size = load_le<uint64_t>(part.data() + i + 16);
                    const uint64_t found_salt = load_le<uint64_t>(part.data() + i);
                    issued.info.term = static_cast<int32_t>(found_salt - log->id().v * 7919);
                    const auto right =
                        payload_of({found_salt}, issued.info.first.offset, issued.size);
                    if (i + issued.size > part.size() ||
                        std::memcmp(right.data(), part.data() + i, issued.size) != 0) {
                        problem("payload of offset " + std::to_string(issued.info.first.offset));
                        co_return false;
                    }
                    found->push_back(issued);
                    i += issued.size;
                }
            }
            at = result->next_offset;
        }
        co_return true;
    }

    // --- what a log goes through
    // ----------------------------------------------------------------------------------------
    LogId new_log() {
        logs[{next_id}];
        return {next_id++};
    }

    Task<void> churn(Store* store, LogId id, uint64_t seed) {
        Prng random(seed, "churn");
        LogModel* model = &logs[id];
        for (int i = 0; i < 400 && !store->failed(); ++i) {
            if (random.chance(0.3))
                (void)co_await runtime::sleep_for(std::chrono::microseconds(random.below(3000)));
            if (model->dead) {
                id = new_log();
                model = &logs[id];
            }
            Log* log = store->find(id);
            if (log == nullptr) {
                model->may_exist = true;
                auto created = co_await store->create_log(
                    id, {.segment_bytes = 100'000, .delete_by_retention = false});
                if (!created) co_return;
                const LogId same = (*created)->id();
                CHECK(same == id);
                *model = {.created = true, .may_exist = true};
                log = *created;
            }
            if (random.chance(0.1)) {
                log->set_state_provider([model, log] {
                    std::vector<Issued> data;
                    // While a truncation waits for its turn the log still holds all.
                    for (const Issued& issued :
                         model->before_truncation ? *model->before_truncation : model->entries) {
                        if (issued.info.kind == EntryKind::kData && issued.info.end() <= log->end())
                            data.push_back(issued);
                    }
                    return encode_state(data);
                });
            }
            const uint64_t what = random.below(100);
            bool ok = true;
            if (what < 60)
                ok = co_await append_some(log, model, &random, random.below(6) + 1,
                                          random.below(2000));
            else if (what < 75)
                ok = co_await append_some(log, model, &random, random.below(8) + 4,
                                          3000 + random.below(20000));
            else if (what < 80)
                ok = co_await vote(log, model, &random);
            else if (what < 88)
                ok = co_await truncate_suffix(log, model, &random);
            else if (what < 93)
                ok = co_await truncate_prefix(log, model, &random);
            else if (what < 94)
                ok = co_await remove(store, id, model);
            else
                ok = co_await read_some(log, model, &random);
            if (!ok) co_return;
        }
    }

    Task<bool> append_some(Log* log, LogModel* model, Prng* random, uint64_t count, size_t size) {
        for (uint64_t i = 0; i < count; ++i) {
            if (!co_await log->admit(size, {})) co_return false;
            const bool control = random->chance(0.1);
            Entry entry;
            entry.info = {.kind = control ? EntryKind::kControl : EntryKind::kData,
                          .term = model->term,
                          .first = log->end(),
                          .next_offset = log->end().offset +
                                         (control ? 0 : static_cast<int64_t>(random->below(3)) + 1),
                          .max_timestamp_ms = control ? -1 : log->end().offset};
            entry.payload = payload_of({salt(log->id(), model->term)}, log->end().offset, size);
            entry.summary_bytes = 24;
            if (control && random->chance(0.5)) ++model->term, entry.info.term = model->term;
            const Issued issued{entry.info, entry.payload.size()};
            if (!log->append(std::move(entry))) co_return false;
            model->entries.push_back(issued);
        }
        if (random->chance(0.2)) co_return true;
        const size_t asked = model->entries.size();
        if (!co_await log->wait_durable(log->end())) co_return false;
        model->acked = std::max(model->acked, asked);
        co_return true;
    }

    Task<bool> vote(Log* log, LogModel* model, Prng* random) {
        model->asked_vote = {.term = model->term,
                             .voted_for = static_cast<int32_t>(random->below(5))};
        if (!co_await log->save_hard_state(model->asked_vote)) co_return false;
        model->vote = model->asked_vote;
        co_return true;
    }

    Task<bool> truncate_suffix(Log* log, LogModel* model, Prng* random) {
        if (model->entries.empty()) co_return true;
        const size_t back = random->chance(0.7)
                                ? random->below(std::min<size_t>(model->entries.size(), 10))
                                : random->below(model->entries.size());
        const size_t keep = model->entries.size() - 1 - back;
        const Position end = model->entries[keep].info.first;
        if (end < Position{model->asked_start, 0}) co_return true;
        model->before_truncation = model->entries;
        model->acked = std::min(model->acked, keep);
        model->entries.resize(keep);
        ++model->term;
        if (!co_await log->truncate_suffix(end)) co_return false;
        model->before_truncation.reset();
        if (log->end() != end) problem("a truncation did not truncate");
        co_return true;
    }

    Task<bool> truncate_prefix(Log* log, LogModel* model, Prng* random) {
        if (model->entries.empty()) co_return true;
        const int64_t span = model->end().offset - model->start;
        if (random->chance(0.05)) {
            model->asked_start = model->end().offset + 1 + static_cast<int64_t>(random->below(100));
            if (!co_await log->truncate_prefix(model->asked_start)) co_return false;
            model->entries.clear();
            model->acked = 0;
            model->base = model->start = model->asked_start;
            co_return true;
        }
        model->asked_start = std::max(
            model->start, model->start + static_cast<int64_t>(
                                             random->below(static_cast<uint64_t>(span) + 1) / 2));
        if (!co_await log->truncate_prefix(model->asked_start)) co_return false;
        model->start = model->asked_start;
        co_return true;
    }

    Task<bool> remove(Store* store, LogId id, LogModel* model) {
        model->removing = true;
        if (!co_await store->remove_log(id)) co_return false;
        model->dead = true;
        co_return true;
    }

    Task<bool> read_some(Log* log, LogModel* model, Prng* random) {
        if (log->end().offset == log->start_offset()) co_return true;
        const int64_t from = log->start_offset() +
                             static_cast<int64_t>(random->below(
                                 static_cast<uint64_t>(log->end().offset - log->start_offset())));
        auto result = co_await log->read(from, {.bytes_max = random->below(50'000)}, {});
        if (!result) {
            if (result.error().code != ErrorCode::kIo &&
                result.error().code != ErrorCode::kUnavailable)
                problem("read: " + result.error().to_string());
            co_return true;
        }
        if (result->parts.empty() || result->first_offset > from) problem("a read found nothing");
        (void)model;
        co_return true;
    }

    // --- lives
    // ----------------------------------------------------------------------------------------------------------
    void run(int lives_max, uint64_t steps_mean) {
        for (lives = 0; lives < lives_max && problems.empty(); ++lives) {
            const bool last = lives + 1 == lives_max;
            world.start(node, [this](Shard& shard) { return live(shard); });
            const uint64_t end =
                last ? UINT64_MAX
                     : world.steps() +
                           static_cast<uint64_t>(prng.exponential(static_cast<double>(steps_mean)));
            (void)world.run_until(
                [&] { return node.finished() || world.steps() >= end || !problems.empty(); }, 1h);
            if (node.finished())
                world.reap(node);
            else
                world.kill(node, prng.chance(0.7) ? sim::Kill::kPower : sim::Kill::kProcess);
        }
    }

    sim::World world;
    sim::Node& node;
    runtime::MemoryBudget memory;
    StoreOptions options;
    Prng prng;
    std::map<LogId, LogModel> logs;
    std::vector<std::string> problems;
    uint64_t next_id = 2;
    int lives = 0;
    int opens = 0;
};

// WEIR_BUG=name switches a bug on: the test must then fail.
StorageBugs bugs_from_environment() {
    const std::string name = std::getenv("WEIR_BUG") == nullptr ? "" : std::getenv("WEIR_BUG");
    return {.acknowledge_before_flush = name == "acknowledge_before_flush",
            .skip_block_checksum = name == "skip_block_checksum",
            .recycle_too_early = name == "recycle_too_early",
            .forget_journal_tail = name == "forget_journal_tail",
            .lose_run_record = name == "lose_run_record",
            .skip_directory_sync = name == "skip_directory_sync",
            .acknowledge_bypass_before_segment_flush =
                name == "acknowledge_bypass_before_segment_flush",
            .truncate_suffix_in_memory_only = name == "truncate_suffix_in_memory_only",
            .forget_hard_state = name == "forget_hard_state",
            .stale_state_blob = name == "stale_state_blob"};
}

uint64_t env_number(const char* name, uint64_t otherwise) {
    const char* text = std::getenv(name);
    return text == nullptr ? otherwise : std::strtoull(text, nullptr, 10);
}

void run_seeds(bool faults) {
    const uint64_t first = env_number("WEIR_SEED", 1);
    const uint64_t count = env_number("WEIR_SEEDS", 25);
    int opens = 0;
    for (uint64_t seed = first; seed < first + count; ++seed) {
        sim::Plan plan{.seed = seed};
        if (faults) plan = sim::draw_plan(seed);
        CrashRun run(seed, plan);
        run.options.bugs = bugs_from_environment();
        run.run(8, seed % 3 == 0 ? 500 : 6000);
        opens += run.opens;
        for (const std::string& problem : run.problems)
            ADD_FAILURE() << "seed " << seed << ": " << problem;
        if (!run.problems.empty()) return;
    }
    EXPECT_GT(opens, static_cast<int>(count));
}

TEST(StoreCrash, nothing_acknowledged_is_lost_at_any_point) { run_seeds(false); }
TEST(StoreCrash, nor_when_the_disk_fails_now_and_then) { run_seeds(true); }

}  // namespace
}  // namespace weir::storage
