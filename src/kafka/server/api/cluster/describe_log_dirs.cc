// DescribeLogDirs: how much each partition takes on disk.
#include "kafka/protocol/describe_log_dirs.h"

#include <algorithm>

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "runtime/file.h"

namespace weir::kafka {
namespace {

using runtime::Task;

// What lies in the log without the entry that each term begins with, which is a byte of Raft's and
// none of a client's: an empty partition has the size 0.
int64_t data_bytes(const storage::Log& log) {
    if (log.start_offset() >= log.end().offset) return 0;
    const uint64_t own = log.terms().size();
    const uint64_t bytes = log.size_bytes();
    return static_cast<int64_t>(bytes - std::min(bytes, own));
}

Task<std::vector<int64_t>> sizes_here(Server& server, std::vector<storage::LogId> logs) {
    std::vector<int64_t> sizes;
    for (const storage::LogId log : logs) {
        Partition* partition = server.partitions().find(log);
        sizes.push_back(partition == nullptr ? -1 : data_bytes(partition->log()));
    }
    co_return sizes;
}

Task<DescribeLogDirsResponse> answer(Request& request, DescribeLogDirsRequest body) {
    Server& server = request.server;
    DescribeLogDirsResponse response;
    DescribeLogDirsResponse::LogDir& directory = response.results.emplace_back();
    directory.log_dir = server.node().data_directory;
    std::vector<std::pair<runtime::ShardId, storage::LogId>> questions;
    const auto ask = [&](const cluster::TopicImage& image, int32_t index,
                         DescribeLogDirsResponse::Topic& topic) {
        const FoundPartition found = find_partition(server, &image, index);
        if (found.error != KafkaError::kNone) return;
        topic.partitions.push_back({.partition_index = index,
                                    .partition_size = 0,
                                    .offset_lag = 0,
                                    .is_future_key = false});
        questions.emplace_back(found.owner, found.log);
    };
    if (body.topics) {
        for (const DescribeLogDirsRequest::Topic& wanted : *body.topics) {
            const cluster::TopicImage* image = server.image().find(wanted.topic);
            if (image == nullptr) continue;
            DescribeLogDirsResponse::Topic& topic = directory.topics.emplace_back();
            topic.name = wanted.topic;
            for (const int32_t index : wanted.partitions) ask(*image, index, topic);
        }
    } else {
        for (const auto& [name, image] : server.image().topics()) {
            DescribeLogDirsResponse::Topic& topic = directory.topics.emplace_back();
            topic.name = name;
            for (size_t i = 0; i < image.partitions.size(); ++i)
                ask(image, static_cast<int32_t>(i), topic);
        }
    }
    const auto sizes =
        co_await fan_out<storage::LogId, int64_t, sizes_here>(server, std::move(questions));
    size_t next = 0;
    for (DescribeLogDirsResponse::Topic& topic : directory.topics) {
        for (DescribeLogDirsResponse::Partition& partition : topic.partitions)
            partition.partition_size = sizes[next++];
        // Deleted while the owners were asked.
        std::erase_if(topic.partitions,
                      [](const auto& partition) { return partition.partition_size < 0; });
    }
    if (const auto usage = co_await runtime::disk_usage(server.node().data_directory)) {
        directory.total_bytes = static_cast<int64_t>(usage->total_bytes);
        directory.usable_bytes = static_cast<int64_t>(usage->free_bytes);
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_log_dirs(Request& request) {
    return run_handler<DescribeLogDirsRequest, DescribeLogDirsResponse, answer>(request);
}

}  // namespace weir::kafka
