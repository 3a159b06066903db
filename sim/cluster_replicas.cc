#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "base/crc32c.h"
#include "base/units.h"
#include "cluster_run_state.h"
#include "runtime/remote.h"

namespace weir::sim {

namespace {

constexpr Duration kAlikeMax = 120s;  // ... until the replicas are alike, and no others are there

}  // namespace

Task<void> ClusterRun::look_here(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker) {
    kafka::Server& server = broker->server(Shard::current().id());
    std::vector<kafka::Partition*> partitions;
    server.partitions().for_each(
        [&](kafka::Partition& partition) { partitions.push_back(&partition); });
    for (kafka::Partition* partition : partitions) {
        // Nobody deletes topics now, so each stays while it is read.
        storage::Log& log = partition->log();
        SeenReplica replica;
        replica.what = fmt::format("{}-{}", partition->topic(), partition->index());
        replica.start = log.start_offset();
        replica.high_watermark = partition->high_watermark();
        replica.end = log.end().offset;
        for (const auto& producer : partition->producers())
            replica.producers.emplace_back(producer.id, producer.epoch, producer.last_sequence);
        storage::Position at{replica.start, 0};
        while (at.offset < replica.high_watermark) {
            const auto entries = co_await log.read_entries(
                at, {.end = {replica.high_watermark, 0}, .bytes_max = 64_KiB}, {});
            if (!entries || entries->empty()) break;
            for (const storage::FoundEntry& entry : *entries) {
                at = entry.info.end();
                replica.entries.push_back(
                    {entry.info.first, entry.info.term, crc32c(entry.payload.bytes())});
            }
        }
        (*seen)[log.id().v] = std::move(replica);
    }
}

Task<void> ClusterRun::look(std::map<uint64_t, SeenReplica>* seen, broker::Broker* broker) {
    for (runtime::ShardId i = 0; i < Shard::current().count(); ++i)
        co_await runtime::on(i, [seen, broker] { return look_here(seen, broker); });
}

bool ClusterRun::gather(std::map<uint64_t, std::map<uint32_t, SeenReplica>>* replicas) {
    std::vector<std::map<uint64_t, SeenReplica>> seen(machines_.size());
    if (!wait(
            [this] {
                return std::ranges::all_of(machines_, [](const auto& m) { return m->serving; });
            },
            60s, "serving on all nodes"))
        return false;
    for (size_t i = 0; i < machines_.size(); ++i)
        machines_[i]->job = [&seen, i](broker::Broker& broker) { return look(&seen[i], &broker); };
    if (!wait(
            [this] {
                return std::ranges::none_of(machines_,
                                            [](const auto& m) { return m->job.has_value(); });
            },
            60s, "reading the replicas"))
        return false;
    replicas->clear();
    for (uint32_t i = 0; i < seen.size(); ++i)
        for (auto& [log, replica] : seen[i]) (*replicas)[log][i] = std::move(replica);
    return true;
}

// Nobody writes: the replicas come to have the same high watermark, and then are equal below it.
void ClusterRun::compare_replicas() {
    note("comparing replicas");
    std::map<uint64_t, std::map<uint32_t, SeenReplica>> replicas;
    std::string behind;
    const Instant deadline = world_.now() + kAlikeMax;
    do {
        if (!gather(&replicas)) return;
        behind.clear();
        for (const auto& [log, by_node] : replicas) {
            const int64_t high_watermark = by_node.begin()->second.high_watermark;
            std::set<int32_t> holders;
            for (const auto& [node, replica] : by_node) holders.insert(machines_[node]->id);
            const std::string& name = by_node.begin()->second.what;
            const auto wanted = clients_.replicas().find(name);
            if (!clients_.may_move(name) &&
                (wanted == clients_.replicas().end() ||
                 holders != std::set<int32_t>(wanted->second.begin(), wanted->second.end())))
                behind += fmt::format("{} is on {}; ", name, holders);
            for (const auto& [node, replica] : by_node) {
                if (replica.high_watermark != high_watermark || replica.end != high_watermark)
                    behind += fmt::format("{} on n{}: [{}, {}, {}); ", replica.what, node,
                                          replica.start, replica.high_watermark, replica.end);
            }
        }
        if (!behind.empty()) (void)world_.run_for(500ms);
    } while (!behind.empty() && world_.now() < deadline);
    if (!behind.empty()) {
        fail("replicas do not catch up (start, high watermark, end): " + behind);
        return;
    }
    for (const auto& [log, by_node] : replicas) {
        const auto& [first_node, first] = *by_node.begin();
        for (const auto& [node, replica] : by_node) {
            ++result_.seen.replicas_compared;
            const int64_t from = std::max(first.start, replica.start);
            const auto below = [&](const SeenEntry& entry) { return entry.first.offset < from; };
            const auto a = std::ranges::find_if_not(first.entries, below);
            const auto b = std::ranges::find_if_not(replica.entries, below);
            const auto [one, other] =
                std::mismatch(a, first.entries.end(), b, replica.entries.end());
            if (one != first.entries.end() || other != replica.entries.end()) {
                fail(fmt::format(
                    "{}: the replicas on n{} and n{} differ from offset {} on", replica.what,
                    first_node, node,
                    one != first.entries.end() ? one->first.offset : other->first.offset));
                return;
            }
            if (replica.producers != first.producers) {
                fail(fmt::format(
                    "{}: the producers (id, epoch, sequence) on n{} and n{} differ: "
                    "{} and {}",
                    replica.what, first_node, node, first.producers, replica.producers));
                return;
            }
        }
    }
}

}  // namespace weir::sim
