#include "kafka/client/offsets.h"

#include <fmt/format.h>

#include "kafka/protocol/list_offsets.h"

namespace weir::kafka {

using runtime::Task;
using runtime::try_;

Task<Result<std::map<int32_t, ListedOffset>>> list_offsets(Client& client, Client::Topic topic,
                                                           int64_t timestamp_ms) {
    std::map<int32_t, ListOffsetsRequest> by_leader;
    for (const auto& partition : topic.partitions) {
        ListOffsetsRequest& request = by_leader[partition.leader];
        request.replica_id = -1;
        if (request.topics.empty())
            request.topics.push_back({.name = topic.name, .partitions = {}});
        auto& asked = request.topics[0].partitions.emplace_back();
        asked.partition_index = partition.index;
        asked.timestamp = timestamp_ms;
    }
    std::map<int32_t, ListedOffset> offsets;
    for (auto& [leader, request] : by_leader) {
        ClientConnection* connection = co_await try_(client.to_node(leader));
        auto answer = co_await try_(connection->call<ListOffsetsResponse>(std::move(request)));
        for (const auto& found : answer.message.topics) {
            for (const auto& p : found.partitions) {
                if (p.error_code != 0) {
                    co_return fail(
                        error_of(p.error_code,
                                 fmt::format("offsets of {}-{}", found.name, p.partition_index)));
                }
                offsets[p.partition_index] = {p.offset, p.timestamp, p.leader_epoch};
            }
        }
    }
    co_return offsets;
}

}  // namespace weir::kafka
