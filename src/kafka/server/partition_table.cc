#include "kafka/server/partition_table.h"

#include <set>

#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;
using storage::LogId;

constexpr size_t kLogsCreatedAtOnce = 128;

}  // namespace

PartitionTable::PartitionTable(storage::Store& store, cluster::MetadataShard& metadata,
                               Mailbox& mailbox)
    : store_(store), metadata_(metadata), mailbox_(mailbox) {}

PartitionTable::~PartitionTable() = default;

bool PartitionTable::owns(LogId id) const {
    const Shard& shard = Shard::current();
    return storage::owner_of(id, shard.count()) == shard.id();
}

Task<Result<void>> PartitionTable::open() {
    std::set<LogId> named;
    std::vector<cluster::NewLog> missing;
    for (const auto& [name, topic] : metadata_.image().topics()) {
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            if (!owns(partition.log)) continue;
            named.insert(partition.log);
            if (store_.find(partition.log) == nullptr)
                missing.push_back({partition.log, metadata_.settings(topic).log});
        }
    }
    for (const LogId id : store_.logs()) {
        if (id == storage::kMetadataLog || named.contains(id)) continue;
        // Its topic's creation never became durable, or its deletion did and the removal did not.
        co_await runtime::try_(store_.remove_log(id));
    }
    if (!missing.empty()) co_await runtime::try_(create_logs(std::move(missing)));
    for (const auto& [name, topic] : metadata_.image().topics()) {
        for (size_t i = 0; i < topic.partitions.size(); ++i) {
            if (owns(topic.partitions[i].log))
                co_await runtime::try_(add(topic, static_cast<int32_t>(i)));
        }
        // The image does not change before the broker serves.
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return Result<void>{};
}

Task<void> PartitionTable::close() {
    co_await scope_.close();
    for (auto& [id, partition] : partitions_) co_await partition->close();
    partitions_.clear();
    CHECK(watches_.empty() || Shard::current().dying());
}

Result<void> PartitionTable::add(const cluster::TopicImage& topic, int32_t index) {
    const LogId id = topic.partitions[static_cast<size_t>(index)].log;
    storage::Log* log = store_.find(id);
    if (log == nullptr) return fail(ErrorCode::kNotFound, "a partition has no log");
    log->configure(metadata_.settings(topic).log);
    auto partition = std::make_unique<Partition>(
        *log, topic.id, topic.name, index,
        static_cast<size_t>(metadata_.broker().producers_per_partition_max));
    TRY(partition->recover());
    partition->set_fire([this](FetchWatch& watch) {
        const MailAddress to = watch.address;
        watches_.erase(to);
        mailbox_.post(to, DataArrived{});
    });
    partitions_.emplace(id, std::move(partition));
    return {};
}

Task<Result<void>> PartitionTable::create_logs(std::vector<cluster::NewLog> logs) {
    // Side by side, so that they share flushes.
    for (size_t from = 0; from < logs.size(); from += kLogsCreatedAtOnce) {
        std::vector<Task<Result<storage::Log*>>> tasks;
        for (size_t i = from; i < std::min(logs.size(), from + kLogsCreatedAtOnce); ++i) {
            tasks.push_back(store_.create_log(logs[i].id, logs[i].config));
        }
        const auto results = co_await runtime::all(std::move(tasks));
        for (const auto& result : results) {
            if (!result) co_return fail(result.error());
        }
    }
    co_return Result<void>{};
}

Task<void> PartitionTable::remove_logs(std::vector<LogId> ids) {
    for (const LogId id : ids) {
        if (!owns(id)) continue;
        if (const auto found = partitions_.find(id); found != partitions_.end()) {
            const std::unique_ptr<Partition> partition = std::move(found->second);
            partitions_.erase(found);
            co_await partition->close();
        }
        if (store_.find(id) == nullptr) continue;
        if (const auto removed = co_await store_.remove_log(id); !removed) {
            Shard::current().log().warn("kafka",
                                        "a deleted partition's log stays until the next start",
                                        "log={} error={}", id.v, removed.error().to_string());
        }
    }
}

Task<void> PartitionTable::follow(const cluster::MetadataChange& change) {
    std::set<Uuid> configured;
    bool all_configured = false;
    for (const cluster::MetadataRecord& record : change.records) {
        if (const auto* created = std::get_if<cluster::TopicCreated>(&record)) {
            if (const cluster::TopicImage* topic = metadata_.image().find(created->id)) {
                for (size_t i = 0; i < topic->partitions.size(); ++i) {
                    if (owns(topic->partitions[i].log))
                        CHECK(add(*topic, static_cast<int32_t>(i)).has_value());
                }
            }
        } else if (const auto* added = std::get_if<cluster::PartitionsAdded>(&record)) {
            if (const cluster::TopicImage* topic = metadata_.image().find(added->topic)) {
                for (size_t i = topic->partitions.size() - added->partitions.size();
                     i < topic->partitions.size(); ++i) {
                    if (owns(topic->partitions[i].log))
                        CHECK(add(*topic, static_cast<int32_t>(i)).has_value());
                }
            }
        } else if (const auto* config = std::get_if<cluster::TopicConfigChanged>(&record)) {
            configured.insert(config->topic);
        } else if (std::holds_alternative<cluster::ResourceConfigChanged>(record)) {
            all_configured = true;
        }
    }
    for (const auto& [name, topic] : metadata_.image().topics()) {
        if (configured.empty() && !all_configured) break;
        if (!all_configured && !configured.contains(topic.id)) continue;
        const storage::LogConfig& config = metadata_.settings(topic).log;
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            if (Partition* here = find(partition.log)) here->log().configure(config);
        }
    }
    std::vector<LogId> removed;
    for (const cluster::TopicImage& topic : change.topics_removed) {
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            if (owns(partition.log)) removed.push_back(partition.log);
        }
    }
    // Nobody waits for data that is gone.
    if (!removed.empty())
        scope_.spawn(remove_logs(std::move(removed)), runtime::WorkClass::kBackground);
    co_return;
}

Partition* PartitionTable::find(LogId id) {
    const auto found = partitions_.find(id);
    return found == partitions_.end() ? nullptr : found->second.get();
}

void PartitionTable::for_each(const std::function<void(Partition&)>& visit) {
    for (auto& [id, partition] : partitions_) visit(*partition);
}

Task<void> PartitionTable::expire_producers(WallTime now, int64_t age_ms) {
    std::vector<LogId> ids;
    for (const auto& [id, partition] : partitions_) ids.push_back(id);
    for (const LogId id : ids) {
        if (Partition* partition = find(id)) partition->expire_producers(now, age_ms);
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
}

bool PartitionTable::watch(MailAddress to, int64_t bytes_needed,
                           const std::vector<Seen>& partitions) {
    FetchWatch& watch = watches_[to];
    watch.address = to;
    watch.bytes_needed = bytes_needed;
    watch.hooks.clear();
    std::set<LogId> watched;
    for (const Seen& seen : partitions) {
        Partition* partition = find(seen.log);
        if (partition == nullptr || partition->high_watermark() != seen.high_watermark) {
            watches_.erase(to);
            return false;
        }
        if (!watched.insert(seen.log).second) continue;
        WatchHook& hook = watch.hooks.emplace_back();
        hook.watch = &watch;
        partition->watch(hook);
    }
    return true;
}

}  // namespace weir::kafka
