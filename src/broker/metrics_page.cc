#include "broker/metrics_page.h"

#include <algorithm>

#include "broker/broker.h"
#include "http/prometheus.h"
#include "kafka/protocol/api.h"
#include "kafka/server/coordinators/group_shard.h"
#include "kafka/server/server.h"

namespace weir::broker {
namespace {

using http::MetricType;
using http::PrometheusPage;

double sum_of(const std::vector<ShardMetrics>& shards, auto field) {
    uint64_t sum = 0;
    for (const ShardMetrics& shard : shards) sum += field(shard);
    return static_cast<double>(sum);
}

void add_latency(PrometheusPage& page, const std::vector<ShardMetrics>& shards,
                 std::string_view request, auto field) {
    std::vector<double> bounds;
    for (size_t i = 0; i < kafka::LatencyCounts::kBuckets; ++i)
        bounds.push_back(static_cast<double>(kafka::LatencyCounts::bound_us(i)) / 1e6);
    std::vector<uint64_t> counts(kafka::LatencyCounts::kBuckets + 1);
    uint64_t sum_us = 0;
    for (const ShardMetrics& shard : shards) {
        const kafka::LatencyCounts& from = field(shard);
        for (size_t i = 0; i < counts.size(); ++i) counts[i] += from.counts[i];
        sum_us += from.sum_us;
    }
    page.add_histogram(bounds, counts, static_cast<double>(sum_us) / 1e6,
                       {{"request", std::string(request)}});
}

void add_rpc(PrometheusPage& page, const std::vector<ShardMetrics>& shards,
             const rpc::ListenerMetrics& listener) {
    page.begin("weir_rpc_connections_refused_total", MetricType::kCounter,
               "Connections to the rpc port that were closed instead of served: their node is of "
               "another cluster or version, is no member or no longer, meant another node, or did "
               "not prove the cluster's secret; no hello came; or there were too many.");
    const std::pair<const char*, uint64_t> reasons[] = {{"other_cluster", listener.other_cluster},
                                                        {"other_version", listener.other_version},
                                                        {"unknown_node", listener.unknown_node},
                                                        {"other_node", listener.other_node},
                                                        {"not_proven", listener.not_proven},
                                                        {"no_hello", listener.no_hello},
                                                        {"too_many", listener.too_many}};
    for (const auto& [reason, count] : reasons)
        page.add(static_cast<double>(count), {{"reason", reason}});
    page.counter("weir_rpc_stranger_messages_total",
                 "Messages and requests from nodes that are no members, refused.",
                 sum_of(shards, [](const auto& s) { return s.rpc.messages_of_strangers; }));
    page.counter("weir_rpc_malformed_total",
                 "Frames between nodes that could not be read; each ended its connection.",
                 sum_of(shards, [](const auto& s) { return s.rpc.frames_malformed; }));
}

}  // namespace

ShardMetrics gather_metrics(kafka::Server& server, storage::Store& store) {
    return {.server = server.metrics(),
            .store = store.metrics(),
            .connections = server.connection_count(),
            .connections_max = server.connections_max(),
            .partitions = server.partitions().size(),
            .tally = server.partitions().tally(),
            .groups = server.groups().group_count(),
            .fetches_waiting = server.partitions().watches().size(),
            .fetch_answer_bytes = server.fetch_bytes().total() -
                                  static_cast<uint64_t>(server.fetch_bytes().available()),
            .producers = server.partitions().producers().used};
}

std::string render_metrics(const std::vector<ShardMetrics>& shards,
                           const std::vector<MemoryShare>& memory,
                           const rpc::ListenerMetrics& listener, const BuildInfo& build) {
    PrometheusPage page;
    page.begin("weir_build_info", MetricType::kGauge, "Always 1; the labels say what runs.");
    page.add(1, {{"version", build.version}, {"driver", build.driver}});
    page.gauge("weir_shards", "Threads that do the work.", static_cast<double>(shards.size()));
    uint64_t budget = 0, used = 0;
    for (const MemoryShare& share : memory) budget += share.limit, used += share.used;
    page.gauge("weir_memory_budget_bytes", "The memory budget: all shares.",
               static_cast<double>(budget));
    page.gauge("weir_memory_used_bytes", "What is used of the memory budget.",
               static_cast<double>(used));
    page.begin("weir_memory_share_limit_bytes", MetricType::kGauge,
               "The shares of the memory budget.");
    for (const MemoryShare& share : memory)
        page.add(static_cast<double>(share.limit), {{"share", std::string(share.name)}});
    page.begin("weir_memory_share_used_bytes", MetricType::kGauge,
               "What is used of each share; for a moment it may be more than the limit.");
    for (const MemoryShare& share : memory)
        page.add(static_cast<double>(share.used), {{"share", std::string(share.name)}});

    page.gauge("weir_connections", "Open client connections.",
               sum_of(shards, [](const auto& s) { return s.connections; }));
    page.gauge("weir_connections_max",
               "How many there may be: max.connections, or less for want of descriptors.",
               shards.empty() ? 0.0 : static_cast<double>(shards.front().connections_max));
    page.counter("weir_connections_opened_total", "Connections accepted.",
                 sum_of(shards, [](const auto& s) { return s.server.connections_opened; }));
    page.counter("weir_requests_malformed_total",
                 "Requests that were no Kafka; their connections were closed.",
                 sum_of(shards, [](const auto& s) { return s.server.requests_malformed; }));
    page.counter("weir_received_bytes_total", "Bytes received from clients.",
                 sum_of(shards, [](const auto& s) { return s.server.bytes_received; }));
    page.counter("weir_sent_bytes_total", "Bytes sent to clients.",
                 sum_of(shards, [](const auto& s) { return s.server.bytes_sent; }));
    page.begin("weir_requests_total", MetricType::kCounter, "Requests by API.");
    for (const kafka::ApiInfo& api : kafka::all_apis()) {
        const auto key = static_cast<size_t>(api.key);
        if (key >= kafka::ServerMetrics::kApis) continue;
        const double count =
            sum_of(shards, [key](const auto& s) { return s.server.requests[key]; });
        if (count > 0) page.add(count, {{"api", std::string(api.name)}});
    }
    page.begin("weir_request_seconds", MetricType::kHistogram,
               "From a request's last byte to its answer's first.");
    add_latency(page, shards, "produce",
                [](const auto& s) -> const auto& { return s.server.produce_latency; });
    add_latency(page, shards, "fetch",
                [](const auto& s) -> const auto& { return s.server.fetch_latency; });
    add_latency(page, shards, "other",
                [](const auto& s) -> const auto& { return s.server.other_latency; });

    page.gauge("weir_partitions", "Partitions on this node.",
               sum_of(shards, [](const auto& s) { return s.partitions; }));
    page.gauge("weir_partitions_led", "Partitions that this node leads.",
               sum_of(shards, [](const auto& s) { return s.tally.leaders; }));
    page.gauge("weir_partitions_under_replicated",
               "Partitions that this node leads and whose replicas are not all in sync.",
               sum_of(shards, [](const auto& s) { return s.tally.under_replicated; }));
    page.gauge("weir_partitions_leaderless",
               "Partitions with a replica here of which this node knows no leader.",
               sum_of(shards, [](const auto& s) { return s.tally.leaderless; }));
    page.gauge("weir_partitions_recovering",
               "Replicas here that may lack what they acknowledged from memory before a stop that "
               "was not orderly, and have not caught up yet (weir.durability=relaxed).",
               sum_of(shards, [](const auto& s) { return s.tally.recovering; }));
    page.counter("weir_recoveries_total", "Such replicas that have caught up since the start.",
                 sum_of(shards, [](const auto& s) { return s.tally.recoveries; }));
    page.counter("weir_elections_by_all_total",
                 "Elections won here in which all voters had to be heard, because a majority may "
                 "have lost what it had acknowledged from memory: each may have lost records.",
                 sum_of(shards, [](const auto& s) { return s.tally.elections_by_all; }));
    uint64_t lag_max = 0;
    for (const ShardMetrics& shard : shards) lag_max = std::max(lag_max, shard.tally.lag_max);
    page.gauge("weir_replication_lag_max",
               "Records that the follower furthest behind lacks, of the partitions that this node "
               "leads.",
               static_cast<double>(lag_max));
    page.gauge("weir_groups", "Consumer groups that this node coordinates.",
               sum_of(shards, [](const auto& s) { return s.groups; }));
    page.gauge("weir_fetches_waiting", "Fetches that wait for data.",
               sum_of(shards, [](const auto& s) { return s.fetches_waiting; }));
    page.counter("weir_produced_bytes_total", "Bytes of batches appended.",
                 sum_of(shards, [](const auto& s) { return s.server.produced_bytes; }));
    page.counter("weir_produced_batches_total", "Batches appended.",
                 sum_of(shards, [](const auto& s) { return s.server.produced_batches; }));
    page.counter("weir_produce_errors_total",
                 "Partitions of Produce requests answered with an error.",
                 sum_of(shards, [](const auto& s) { return s.server.produce_errors; }));
    page.counter("weir_fetched_bytes_total", "Bytes of batches given to consumers.",
                 sum_of(shards, [](const auto& s) { return s.server.fetched_bytes; }));

    add_rpc(page, shards, listener);

    page.counter("weir_journal_commits_total", "Group commits: one write and one flush each.",
                 sum_of(shards, [](const auto& s) { return s.store.journal_commits; }));
    page.counter("weir_journal_bytes_total", "Bytes written to journals.",
                 sum_of(shards, [](const auto& s) { return s.store.journal_bytes; }));
    page.counter("weir_bypass_bytes_total", "Bytes that went straight to segments.",
                 sum_of(shards, [](const auto& s) { return s.store.bypass_bytes; }));
    page.counter("weir_handed_over_bytes_total", "Bytes moved from journals to segments.",
                 sum_of(shards, [](const auto& s) { return s.store.handed_over_bytes; }));
    page.gauge("weir_unflushed_bytes", "Data in memory and journals that is not in segments yet.",
               sum_of(shards, [](const auto& s) { return s.store.unflushed_bytes; }));
    page.counter("weir_checkpoints_total", "Checkpoints written.",
                 sum_of(shards, [](const auto& s) { return s.store.checkpoints; }));
    page.counter("weir_segment_reads_total", "Reads from segment files.",
                 sum_of(shards, [](const auto& s) { return s.store.segment_reads; }));
    page.counter("weir_segment_read_bytes_total", "Bytes read from segment files.",
                 sum_of(shards, [](const auto& s) { return s.store.segment_read_bytes; }));
    page.counter("weir_cache_hits_total", "Reads of segments that the cache answered.",
                 sum_of(shards, [](const auto& s) { return s.store.cache_hits; }));
    page.counter("weir_cache_misses_total", "Reads of segments that went to the disk.",
                 sum_of(shards, [](const auto& s) { return s.store.cache_misses; }));
    page.gauge("weir_cache_bytes", "What the read caches hold.",
               sum_of(shards, [](const auto& s) { return s.store.cache_bytes; }));
    page.counter("weir_corruptions_total", "Stored data whose checksum failed.",
                 sum_of(shards, [](const auto& s) { return s.store.corruptions; }));
    page.gauge("weir_damaged_logs", "Replicas with a file that is known to be damaged or missing.",
               sum_of(shards, [](const auto& s) { return s.store.damaged_logs; }));
    page.gauge("weir_offline_logs", "Damaged replicas that take no appends.",
               sum_of(shards, [](const auto& s) { return s.store.offline_logs; }));
    page.gauge("weir_logs_with_loss", "Replicas that may lack entries that were acknowledged.",
               sum_of(shards, [](const auto& s) { return s.store.logs_with_loss; }));
    page.gauge("weir_torn_journals",
               "Shards whose journal ended in a block that was not whole when the node started.",
               sum_of(shards, [](const auto& s) { return s.store.torn_ends; }));
    const auto seconds = [](Duration duration) {
        return static_cast<double>(duration.count()) / 1e9;
    };
    Duration stalled{};
    Duration longest{};
    for (const ShardMetrics& shard : shards) {
        stalled += shard.stalls.total;
        longest = std::max(longest, shard.stalls.longest);
    }
    page.counter("weir_stalls_total",
                 "Steps that held a shard for 5 ms or more: meanwhile nothing else of it ran.",
                 sum_of(shards, [](const auto& s) { return s.stalls.count; }));
    page.counter("weir_stall_seconds_total", "How long such steps lasted, together.",
                 seconds(stalled));
    page.gauge("weir_stall_seconds_max", "How long the longest of them lasted.", seconds(longest));
    page.counter("weir_starved_steps_total",
                 "Steps that lasted as long because the machine gave the thread no processor.",
                 sum_of(shards, [](const auto& s) { return s.stalls.starved; }));
    return page.text();
}

}  // namespace weir::broker
