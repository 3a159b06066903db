#include "kafka/server/partitions/replica_set.h"

#include <algorithm>

#include "cluster/topic_admin.h"
#include "kafka/server/partitions/members.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;
using storage::LogId;

// Side by side, so that they share flushes.
constexpr size_t kChangedAtOnce = 512;
// Who asked for a topic waits so long for the leaders of partitions that have one replica.
constexpr Duration kReadyMax = 10s;
// Of a replica that could not be made: a full disk, for example.
constexpr Duration kMakeRetry = 5s;
// To be told what the cluster has decided, of a replica that may have to go.
constexpr Duration kCurrentMax = 500ms;
constexpr Duration kCurrentRetry = 100ms;

bool holds(const std::vector<int32_t>& nodes, int32_t node) {
    return std::ranges::find(nodes, node) != nodes.end();
}

bool names(const cluster::PartitionAssignment& partition, int32_t node) {
    return holds(partition.replicas, node) || holds(partition.target, node) ||
           holds(partition.abandoned, node);
}

// How a replica begins that is made now and that no leader has told of its group.
replication::Beginning beginning(const cluster::PartitionAssignment& partition,
                                 const cluster::MetadataShard& metadata) {
    const int32_t self = metadata.node_id();
    if (!holds(partition.replicas, self))
        return {.founders = {}, .joins = true, .joined_by = partition.revision};
    // The first configuration; a later one is for the group's leader to tell.
    if (!partition.are_founders) return {};
    return {.founders = configuration_of(partition.replicas),
            .joins = false,
            .leads_first = metadata.first_leader(partition) == self};
}

}  // namespace

ReplicaSet::ReplicaSet(storage::Store& store, cluster::MetadataShard& metadata,
                       replication::Replicator& replicator, PartitionEvents& events,
                       runtime::Scope& scope, std::function<void(Partition&)> resigned)
    : store_(store),
      metadata_(metadata),
      replicator_(replicator),
      events_(events),
      scope_(scope),
      resigned_(std::move(resigned)) {}

bool ReplicaSet::owns(LogId id) const {
    const Shard& shard = Shard::current();
    return storage::owner_of(id, shard.count()) == shard.id();
}

Partition* ReplicaSet::find(LogId id) {
    const auto found = partitions_.find(id);
    return found == partitions_.end() ? nullptr : found->second.get();
}

const cluster::PartitionAssignment* ReplicaSet::find_wanted(const Place& place) const {
    const cluster::TopicImage* topic = metadata_.image().find(place.topic);
    const auto index = static_cast<size_t>(place.index);
    if (topic == nullptr || index >= topic->partitions.size()) return nullptr;
    const cluster::PartitionAssignment& partition = topic->partitions[index];
    CHECK(partition.log == place.log);
    return names(partition, replicator_.options().self.v) ? &partition : nullptr;
}

bool ReplicaSet::is_named(const Partition& partition, NodeId node) const {
    const cluster::TopicImage* topic = metadata_.image().find(partition.topic_id());
    const auto index = static_cast<size_t>(partition.index());
    return topic != nullptr && index < topic->partitions.size() &&
           names(topic->partitions[index], node.v);
}

void ReplicaSet::add_places(const cluster::TopicImage& topic, size_t first,
                            std::vector<Place>& to) const {
    for (size_t i = first; i < topic.partitions.size(); ++i) {
        if (owns(topic.partitions[i].log))
            to.push_back({topic.partitions[i].log, topic.id, static_cast<int32_t>(i)});
    }
}

Task<Result<void>> ReplicaSet::open() {
    std::set<LogId> named;
    std::vector<Place> places;
    for (const auto& [name, topic] : metadata_.image().topics()) add_places(topic, 0, places);
    std::erase_if(places, [this](const Place& place) { return find_wanted(place) == nullptr; });
    for (const Place& place : places) named.insert(place.log);
    for (const LogId id : store_.logs()) {
        if (id == storage::kMetadataLog || named.contains(id)) continue;
        // Its topic's creation never became durable, or its deletion did and the removal did not.
        co_await runtime::try_(store_.remove_log(id));
    }
    co_await runtime::try_(bring_all_in_line(places));
    co_await wait_ready(std::move(places));
    co_return Result<void>{};
}

Task<void> ReplicaSet::begin_close() {
    std::vector<LogId> ids;
    for (auto& [id, partition] : partitions_) {
        partition->begin_close();
        ids.push_back(id);
    }
    // Their end is that of what waits for them, changes of members among them.
    for (const LogId id : ids) co_await replicator_.close_group(id);
}

Task<void> ReplicaSet::close() {
    // Some may have come while others went.
    for (auto& [id, partition] : partitions_) {
        partition->begin_close();
        co_await replicator_.close_group(id);
        co_await partition->close();
    }
    partitions_.clear();
}

Task<Result<void>> ReplicaSet::create_logs(std::vector<cluster::NewLog> logs) {
    for (size_t from = 0; from < logs.size(); from += kChangedAtOnce) {
        std::vector<Task<Result<storage::Log*>>> tasks;
        for (size_t i = from; i < std::min(logs.size(), from + kChangedAtOnce); ++i) {
            tasks.push_back(store_.create_log(logs[i].id, logs[i].config));
        }
        const auto results = co_await runtime::all(std::move(tasks));
        for (const auto& result : results) {
            if (!result) co_return fail(result.error());
        }
    }
    co_return Result<void>{};
}

Task<void> ReplicaSet::remove_logs(std::vector<LogId> ids) {
    for (const LogId id : ids) {
        if (owns(id)) co_await remove(id);
    }
}

Task<void> ReplicaSet::remove(LogId id) {
    if (const auto found = partitions_.find(id); found != partitions_.end()) {
        const std::unique_ptr<Partition> partition = std::move(found->second);
        partitions_.erase(found);
        const bool led = partition->leads();
        partition->begin_close();
        if (led) resigned_(*partition);
        co_await replicator_.close_group(id);
        co_await partition->close();
    }
    if (store_.find(id) == nullptr) co_return;
    if (const auto removed = co_await store_.remove_log(id); !removed) {
        Shard::current().log().warn("kafka", "a removed partition's log stays until the next start",
                                    "log={} error={}", id.v, removed.error().to_string());
    }
}

Task<Result<void>> ReplicaSet::bring_in_line(Place place) {
    while (changing_.contains(place.log)) (void)co_await change_over_.wait();
    changing_.insert(place.log);
    Result<void> result = co_await change(place);
    changing_.erase(place.log);
    change_over_.notify_all();
    co_return result;
}

// The image may change while this waits; then the change that follows it comes after this one.
Task<Result<void>> ReplicaSet::change(const Place& place) {
    if (find_wanted(place) == nullptr) {
        co_await await_current(place);
        if (find_wanted(place) == nullptr) {
            co_await remove(place.log);
            co_return Result<void>{};
        }
    }
    if (find(place.log) != nullptr) co_return Result<void>{};
    storage::Log* log = store_.find(place.log);
    if (log == nullptr) {
        const cluster::TopicImage* topic = metadata_.image().find(place.topic);
        log = co_await runtime::try_(store_.create_log(place.log, metadata_.settings(*topic).log));
    }
    co_return co_await make(place, *log);
}

// An image that lags may be at a record that takes the replica away, while the cluster has given it
// back since, and the group's leader counts on what the replica has. So it says nothing more until
// the image is as new as that silence; what was decided later finds it gone.
Task<void> ReplicaSet::await_current(const Place& place) {
    const runtime::StopToken stop = scope_.stop_token();
    const auto hold = [&](bool held) {
        if (Partition* here = find(place.log); here != nullptr && here->group() != nullptr)
            here->group()->hold(held);
    };
    // A topic that was deleted does not come back.
    const auto is_undecided = [&] {
        return metadata_.image().find(place.topic) != nullptr && find_wanted(place) == nullptr &&
               find(place.log) != nullptr && !stop.stop_requested();
    };
    hold(true);
    while (is_undecided()) {
        const auto current = co_await metadata_.wait_current(
            {.deadline = Shard::current().now() + kCurrentMax, .stop = stop});
        // A controller of an older version can't say.
        if (current || current.error().code == ErrorCode::kUnsupported) break;
        if (is_undecided()) (void)co_await runtime::sleep_for(kCurrentRetry, stop);
    }
    if (find_wanted(place) != nullptr) hold(false);
}

Task<Result<void>> ReplicaSet::make(const Place& place, storage::Log& log) {
    const cluster::PartitionAssignment* wanted = find_wanted(place);
    if (wanted == nullptr) co_return Result<void>{};  // not any more
    const cluster::TopicImage* topic = metadata_.image().find(place.topic);
    log.configure(metadata_.settings(*topic).log);
    auto made = std::make_unique<Partition>(
        events_, log, topic->id, topic->name, place.index,
        static_cast<size_t>(metadata_.broker().producers_per_partition_max));
    Partition* partition = made.get();
    auto opened = co_await replicator_.open(log, *partition, beginning(*wanted, metadata_),
                                            [&](replication::Group& group) {
                                                partition->set_group(group);
                                                partitions_.emplace(place.log, std::move(made));
                                            });
    if (!opened) co_return fail(std::move(opened.error()));
    topic = metadata_.image().find(place.topic);
    if (topic != nullptr) configure(*partition, metadata_.settings(*topic));
    co_return Result<void>{};
}

void ReplicaSet::configure(Partition& partition, const cluster::TopicSettings& settings) {
    partition.log().configure(settings.log);
    if (partition.group() == nullptr) return;
    partition.group()->set_relaxed(settings.relaxed &&
                                   !cluster::is_internal_topic(partition.topic()));
}

Task<Result<void>> ReplicaSet::bring_all_in_line(std::vector<Place> places) {
    Result<void> result;
    for (size_t from = 0; from < places.size(); from += kChangedAtOnce) {
        std::vector<Task<Result<void>>> tasks;
        for (size_t i = from; i < std::min(places.size(), from + kChangedAtOnce); ++i)
            tasks.push_back(bring_in_line(places[i]));
        for (Result<void>& each : co_await runtime::all(std::move(tasks))) {
            if (!each) result = std::move(each);
        }
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    co_return result;
}

void ReplicaSet::bring_in_line_soon(std::vector<Place> places) {
    scope_.spawn(bring_in_line_later(std::move(places), 0ns), runtime::WorkClass::kBackground);
}

void ReplicaSet::retry(std::vector<Place> places) {
    scope_.spawn(bring_in_line_later(std::move(places), kMakeRetry),
                 runtime::WorkClass::kBackground);
}

Task<void> ReplicaSet::bring_in_line_later(std::vector<Place> places, Duration delay) {
    const runtime::StopToken stop = scope_.stop_token();
    if (delay > 0ns && !co_await runtime::sleep_for(delay, stop)) co_return;
    while (true) {
        const auto done = co_await bring_all_in_line(places);
        if (done) co_return;
        Shard::current().log().error("kafka", "a replica can't be made; it is tried again",
                                     "error=\"{}\"", done.error().to_string());
        if (!co_await runtime::sleep_for(kMakeRetry, stop)) co_return;
    }
}

Task<void> ReplicaSet::wait_ready(std::vector<Place> places) {
    const Instant deadline = Shard::current().now() + kReadyMax;
    for (const Place& place : places) {
        if (Shard::current().need_preempt()) co_await runtime::yield();
        Partition* partition = find(place.log);
        if (partition == nullptr) continue;
        const auto use = partition->enter();
        if (!use || partition->leads()) continue;
        const raft::Configuration& members = partition->group()->configuration();
        if (members.members.size() != 1 || !members.is_voter(replicator_.options().self)) continue;
        if (!co_await partition->wait_ready({.deadline = deadline, .stop = scope_.stop_token()}))
            co_return;
    }
}

}  // namespace weir::kafka
