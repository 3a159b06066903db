#include "kafka/server/partitions/partition_table.h"

#include <algorithm>
#include <set>

#include "cluster/features.h"
#include "cluster/topic_admin.h"
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
constexpr Duration kTendInterval = 1s;
constexpr size_t kTendRounds = 32;  // until each partition was visited
// To be told what the cluster has decided, of a replica that may have to go.
constexpr Duration kCurrentMax = 500ms;
constexpr Duration kCurrentRetry = 100ms;
// Members of groups are changed under the image's revision from this level of weir.version on.
constexpr auto kRevisionsLevel = static_cast<int32_t>(cluster::WeirLevel::kRelaxed);

bool holds(const std::vector<int32_t>& nodes, int32_t node) {
    return std::ranges::find(nodes, node) != nodes.end();
}

bool names(const cluster::PartitionAssignment& partition, int32_t node) {
    return holds(partition.replicas, node) || holds(partition.target, node) ||
           holds(partition.abandoned, node);
}

raft::Configuration members(const std::vector<int32_t>& nodes) {
    raft::Configuration configuration;
    for (const int32_t node : nodes)
        configuration.members.push_back({.node = NodeId{node}, .voter = true});
    std::ranges::sort(configuration.members, {}, &raft::Member::node);
    return configuration;
}

// How a replica begins that is made now and that no leader has told of its group.
replication::Beginning beginning(const cluster::PartitionAssignment& partition, int32_t self) {
    if (!holds(partition.replicas, self)) return {.founders = {}, .joins = true};
    // The first configuration; a later one is for the group's leader to tell.
    if (!partition.are_founders) return {};
    return {.founders = members(partition.replicas), .joins = false};
}

}  // namespace

PartitionTable::PartitionTable(storage::Store& store, cluster::MetadataShard& metadata,
                               replication::Replicator& replicator, Mailbox& mailbox,
                               const ServerBugs& bugs)
    : store_(store), metadata_(metadata), replicator_(replicator), mailbox_(mailbox), bugs_(bugs) {}

PartitionTable::~PartitionTable() = default;

bool PartitionTable::owns(LogId id) const {
    const Shard& shard = Shard::current();
    return storage::owner_of(id, shard.count()) == shard.id();
}

// ---------------------------------------------------------------- replicas come and go

const cluster::PartitionAssignment* PartitionTable::find_wanted(const Place& place) const {
    const cluster::TopicImage* topic = metadata_.image().find(place.topic);
    const auto index = static_cast<size_t>(place.index);
    if (topic == nullptr || index >= topic->partitions.size()) return nullptr;
    const cluster::PartitionAssignment& partition = topic->partitions[index];
    CHECK(partition.log == place.log);
    return names(partition, replicator_.options().self.v) ? &partition : nullptr;
}

void PartitionTable::add_places(const cluster::TopicImage& topic, size_t first,
                                std::vector<Place>& to) const {
    for (size_t i = first; i < topic.partitions.size(); ++i) {
        if (owns(topic.partitions[i].log))
            to.push_back({topic.partitions[i].log, topic.id, static_cast<int32_t>(i)});
    }
}

Task<Result<void>> PartitionTable::open() {
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
    scope_.spawn(tend_all(), runtime::WorkClass::kBackground);
    co_return Result<void>{};
}

Task<void> PartitionTable::close() {
    scope_.request_stop();
    std::vector<LogId> ids;
    for (auto& [id, partition] : partitions_) {
        partition->begin_close();
        ids.push_back(id);
    }
    // Their end is that of what waits for them, changes of members among them.
    for (const LogId id : ids) co_await replicator_.close_group(id);
    co_await scope_.close();
    // Some may have come while others went.
    for (auto& [id, partition] : partitions_) {
        partition->begin_close();
        co_await replicator_.close_group(id);
        co_await partition->close();
    }
    partitions_.clear();
    CHECK(watches_.empty() || Shard::current().dying());
}

Task<Result<void>> PartitionTable::create_logs(std::vector<cluster::NewLog> logs) {
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

Task<void> PartitionTable::remove_logs(std::vector<LogId> ids) {
    for (const LogId id : ids) {
        if (owns(id)) co_await remove(id);
    }
}

Task<void> PartitionTable::remove(LogId id) {
    if (const auto found = partitions_.find(id); found != partitions_.end()) {
        const std::unique_ptr<Partition> partition = std::move(found->second);
        partitions_.erase(found);
        const bool led = partition->leads();
        partition->begin_close();
        if (led) lead_listeners_.notify(*partition);
        co_await replicator_.close_group(id);
        co_await partition->close();
    }
    if (store_.find(id) == nullptr) co_return;
    if (const auto removed = co_await store_.remove_log(id); !removed) {
        Shard::current().log().warn("kafka", "a removed partition's log stays until the next start",
                                    "log={} error={}", id.v, removed.error().to_string());
    }
}

Task<Result<void>> PartitionTable::bring_in_line(Place place) {
    while (changing_.contains(place.log)) (void)co_await change_over_.wait();
    changing_.insert(place.log);
    Result<void> result = co_await change(place);
    changing_.erase(place.log);
    change_over_.notify_all();
    co_return result;
}

// The image may change while this waits; then whoever follows that change comes after it.
Task<Result<void>> PartitionTable::change(const Place& place) {
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
Task<void> PartitionTable::await_current(const Place& place) {
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

Task<Result<void>> PartitionTable::make(const Place& place, storage::Log& log) {
    const cluster::PartitionAssignment* wanted = find_wanted(place);
    if (wanted == nullptr) co_return Result<void>{};  // not any more
    const cluster::TopicImage* topic = metadata_.image().find(place.topic);
    log.configure(metadata_.settings(*topic).log);
    auto made = std::make_unique<Partition>(
        static_cast<PartitionEvents&>(*this), log, topic->id, topic->name, place.index,
        static_cast<size_t>(metadata_.broker().producers_per_partition_max));
    Partition* partition = made.get();
    auto opened =
        co_await replicator_.open(log, *partition, beginning(*wanted, replicator_.options().self.v),
                                  [&](replication::Group& group) {
                                      partition->set_group(group);
                                      partitions_.emplace(place.log, std::move(made));
                                  });
    if (!opened) co_return fail(std::move(opened.error()));
    topic = metadata_.image().find(place.topic);
    if (topic != nullptr) configure(*partition, metadata_.settings(*topic));
    co_return Result<void>{};
}

void PartitionTable::configure(Partition& partition, const cluster::TopicSettings& settings) {
    partition.log().configure(settings.log);
    if (partition.group() == nullptr) return;
    partition.group()->set_relaxed(settings.relaxed &&
                                   !cluster::is_internal_topic(partition.topic()));
}

Task<Result<void>> PartitionTable::bring_all_in_line(std::vector<Place> places) {
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

Task<void> PartitionTable::bring_in_line_later(std::vector<Place> places, Duration delay) {
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

// Those whose group has no other member than this node lead as soon as they have written that they
// do.
Task<void> PartitionTable::wait_ready(std::vector<Place> places) {
    const Instant deadline = Shard::current().now() + kReadyMax;
    for (const Place& place : places) {
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

Task<void> PartitionTable::follow(const cluster::MetadataChange& change) {
    const cluster::MetadataImage& image = metadata_.image();
    std::set<Uuid> configured;
    bool all_configured = false;
    std::vector<Place> named, reassigned;
    const auto add_one = [&](const Uuid& id, uint32_t index, std::vector<Place>& to) {
        const cluster::TopicImage* topic = image.find(id);
        if (topic == nullptr || index >= topic->partitions.size()) return;
        const LogId log = topic->partitions[index].log;
        if (owns(log)) to.push_back({log, id, static_cast<int32_t>(index)});
    };
    for (const cluster::MetadataRecord& record : change.records) {
        if (const auto* created = std::get_if<cluster::TopicCreated>(&record)) {
            if (const cluster::TopicImage* topic = image.find(created->id))
                add_places(*topic, 0, named);
        } else if (const auto* added = std::get_if<cluster::PartitionsAdded>(&record)) {
            if (const cluster::TopicImage* topic = image.find(added->topic))
                add_places(*topic, topic->partitions.size() - added->partitions.size(), named);
        } else if (const auto* target = std::get_if<cluster::PartitionReassigned>(&record)) {
            add_one(target->topic, target->partition, reassigned);
        } else if (const auto* changed = std::get_if<cluster::PartitionReplicasChanged>(&record)) {
            add_one(changed->topic, changed->partition, named);
        } else if (const auto* config = std::get_if<cluster::TopicConfigChanged>(&record)) {
            configured.insert(config->topic);
        } else if (std::holds_alternative<cluster::ResourceConfigChanged>(record)) {
            all_configured = true;
        }
    }
    for (const auto& [name, topic] : image.topics()) {
        if (configured.empty() && !all_configured) break;
        if (!all_configured && !configured.contains(topic.id)) continue;
        const cluster::TopicSettings& settings = metadata_.settings(topic);
        for (const cluster::PartitionAssignment& partition : topic.partitions) {
            if (Partition* here = find(partition.log)) configure(*here, settings);
        }
    }
    // Nobody waits for data that is gone.
    std::vector<Place> removed;
    for (const cluster::TopicImage& topic : change.topics_removed) {
        add_places(topic, 0, removed);
        for (const cluster::PartitionAssignment& partition : topic.partitions)
            metadata_.leaders().forget(partition.log);
    }
    if (!removed.empty()) {
        scope_.spawn(bring_in_line_later(std::move(removed), 0ns), runtime::WorkClass::kBackground);
    }
    for (Place& place : reassigned) {
        if (Partition* here = find(place.log)) tend(*here);
        named.push_back(std::move(place));
    }
    // What goes asks the controller first, which needs what follows this change.
    std::vector<Place> gone;
    std::erase_if(named, [&](const Place& place) {
        if (find_wanted(place) != nullptr) return false;
        if (find(place.log) != nullptr) gone.push_back(place);
        return true;
    });
    if (!gone.empty()) {
        scope_.spawn(bring_in_line_later(std::move(gone), 0ns), runtime::WorkClass::kBackground);
    }
    if (named.empty()) co_return;
    // Whoever asked for the topic is answered when its replicas are here.
    if (co_await bring_all_in_line(named)) {
        co_await wait_ready(std::move(named));
    } else {
        scope_.spawn(bring_in_line_later(std::move(named), kMakeRetry),
                     runtime::WorkClass::kBackground);
    }
}

// ---------------------------------------------------------------- who leads

void PartitionTable::on_role(Partition& partition) {
    announce(partition);
    to_tend_.insert(partition.log().id());
    lead_listeners_.notify(partition);
}

void PartitionTable::announce(Partition& partition) {
    const int32_t self = replicator_.options().self.v;
    const LogId id = partition.log().id();
    // What this shard has heard is what it said itself, if this node leads.
    const cluster::LeaderState* known = metadata_.leaders().find(id);
    cluster::LeaderState state{.log = id};
    if (partition.leads()) {
        state.leader = self;
        state.epoch = partition.leader_epoch();
        state.in_sync = partition.in_sync();
        if (known != nullptr && known->epoch == state.epoch && !known->hearsay) {
            if (known->leader == self && known->in_sync == state.in_sync) return;
            state.revision = known->revision + 1;
        }
    } else {
        if (known == nullptr || known->leader != self ||
            (partition.is_leader() && known->epoch == partition.leader_epoch()))
            return;
        state.epoch = known->epoch;
        state.revision = known->revision + 1;
    }
    metadata_.announce(std::move(state));
}

// A leader says so when it is ready, and is heard at once. But it may not come to that for long,
// and what it says may be lost: then clients would be sent to the one before, which crashed and is
// back, until somebody else leads.
void PartitionTable::pass_on_hearsay(Partition& partition) {
    const LogId id = partition.log().id();
    const LeaderHint hint = partition.hint();
    const cluster::LeaderState* known = metadata_.leaders().find(id);
    if (hint.leader < 0 || (known != nullptr && known->epoch >= hint.epoch)) return;
    metadata_.announce({.log = id,
                        .leader = hint.leader,
                        .epoch = hint.epoch,
                        .in_sync = {hint.leader},
                        .hearsay = true});
}

// A partition whose group hibernates and is what the image wants has nothing to tell: news of it
// wakes the group (a peer that goes or comes) or comes with a record of the metadata. So a round
// visits those that are awake, those that were in the round before, and those that owe something;
// and a few of all the others, should that be wrong.
Task<void> PartitionTable::tend_all() {
    const runtime::StopToken stop = scope_.stop_token();
    LogId next{0};  // of the others
    while (co_await runtime::sleep_for(kTendInterval, stop)) {
        if (metadata_.image().nodes().size() < 2) continue;
        std::set<LogId> ids = std::exchange(to_tend_, {});
        replicator_.for_each_awake([&](replication::Group& group) { ids.insert(group.id()); });
        auto at = partitions_.lower_bound(next);
        for (size_t left = partitions_.size() / kTendRounds + 1;
             left > 0 && at != partitions_.end(); --left)
            ids.insert(at++->first);
        next = at == partitions_.end() ? LogId{0} : at->first;
        for (const LogId id : ids) {
            Partition* partition = find(id);
            if (partition != nullptr) tend(*partition);
            if (Shard::current().need_preempt()) co_await runtime::yield();
        }
    }
}

// What the leader of a partition owes the cluster: to say who is in sync, and to make the group
// what the image wants it to be. What a follower owes this node: to say whom it follows.
void PartitionTable::tend(Partition& partition) {
    if (!partition.leads()) return pass_on_hearsay(partition);
    announce(partition);
    if (!settle_members(partition) || !partition.group()->core().quiet())
        to_tend_.insert(partition.log().id());
}

bool PartitionTable::settle_members(Partition& partition) {
    const cluster::TopicImage* topic = metadata_.image().find(partition.topic_id());
    const auto index = static_cast<size_t>(partition.index());
    if (topic == nullptr || index >= topic->partitions.size()) return true;
    const cluster::PartitionAssignment& wanted = topic->partitions[index];
    const raft::Core& core = partition.group()->core();
    if (!core.configuration_settled()) return false;
    raft::Configuration target = members(wanted.target.empty() ? wanted.replicas : wanted.target);
    if (metadata_.image().feature_level(cluster::kWeirVersion) >= kRevisionsLevel)
        target.revision = wanted.revision;
    const raft::Configuration& now = core.configuration();
    // What this node knows of the cluster is older.
    if (now.revision > target.revision) return false;
    // A report tells the replicas that were left to go, so a group that was where it shall be
    // before it was asked says so with the revision: whoever leads next does not take it back.
    if (wanted.is_moving() ? now == target : now.members == target.members) {
        // Said again until the image has it.
        if (wanted.is_moving())
            metadata_.report({topic->id, static_cast<uint32_t>(index), wanted.revision});
        return !wanted.is_moving();
    }
    const LogId id = partition.log().id();
    if (changing_members_.insert(id).second)
        scope_.spawn(change_members(id, std::move(target)), runtime::WorkClass::kReplication);
    return false;
}

Task<void> PartitionTable::change_members(LogId id, raft::Configuration target) {
    Partition* partition = find(id);
    if (partition != nullptr && partition->leads()) {
        // One that fails is tried again by tend_all(), on whichever node leads then.
        const auto done = co_await partition->group()->change_configuration(std::move(target));
        Shard::current().log().info("kafka", "a partition's replicas change",
                                    "log={} outcome=\"{}\"", id.v,
                                    done ? "done" : done.error().to_string());
    }
    changing_members_.erase(id);
    partition = find(id);
    if (partition != nullptr && partition->leads() &&
        partition->group()->core().configuration_settled())
        tend(*partition);
}

PartitionTable::Tally PartitionTable::tally() const {
    Tally tally;
    tally.recoveries = replicator_.metrics().recoveries;
    tally.elections_by_all = replicator_.metrics().elections_by_all;
    for (const auto& [id, partition] : partitions_) {
        if (partition->hint().leader < 0) ++tally.leaderless;
        const replication::Group* group = partition->group();
        if (group != nullptr && group->core().recovering()) ++tally.recovering;
        if (!partition->leads()) continue;
        ++tally.leaders;
        const cluster::TopicImage* topic = metadata_.image().find(partition->topic_id());
        const auto index = static_cast<size_t>(partition->index());
        if (topic != nullptr && index < topic->partitions.size() &&
            partition->in_sync().size() < topic->partitions[index].replicas.size())
            ++tally.under_replicated;
        const raft::Core& core = partition->group()->core();
        for (const raft::PeerStatus& peer : core.peers()) {
            const int64_t lag = core.end().offset - peer.match.offset;
            tally.lag_max =
                std::max(tally.lag_max, static_cast<uint64_t>(std::max<int64_t>(0, lag)));
        }
    }
    return tally;
}

Task<Result<void>> PartitionTable::transfer(LogId id, NodeId to) {
    Partition* partition = find(id);
    const auto use = partition != nullptr ? partition->enter() : std::nullopt;
    if (!use) co_return fail(ErrorCode::kNotFound, "this node has no replica of the partition");
    co_return co_await partition->group()->transfer(to);
}

// ---------------------------------------------------------------- lookups and watches

void PartitionTable::fire(FetchWatch& watch) {
    const MailAddress to = watch.address;
    watches_.erase(to);
    mailbox_.post(to, DataArrived{});
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
        if (partition == nullptr || partition->high_watermark() != seen.high_watermark ||
            partition->leader_epoch() != seen.epoch) {
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
