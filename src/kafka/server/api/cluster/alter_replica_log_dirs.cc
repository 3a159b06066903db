// AlterReplicaLogDirs (KIP-113): a node has one directory, so a replica is where it should be, or
// the directory is not there. kafka-reassign-partitions asks for it when it is given the
// directories of a plan back.
#include "kafka/protocol/alter_replica_log_dirs.h"

#include <algorithm>
#include <map>

#include "kafka/server/api/fan_out.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

std::string_view without_slash(std::string_view path) {
    while (path.size() > 1 && path.ends_with('/')) path.remove_suffix(1);
    return path;
}

Task<std::vector<bool>> are_here(Server& server, std::vector<storage::LogId> logs) {
    std::vector<bool> here;
    for (const storage::LogId log : logs) here.push_back(server.partitions().find(log) != nullptr);
    co_return here;
}

Task<AlterReplicaLogDirsResponse> answer(Request& request, AlterReplicaLogDirsRequest body) {
    Server& server = request.server;
    AlterReplicaLogDirsResponse response;
    std::map<std::string, size_t> places;  // a topic is answered once, whatever the directory
    std::vector<std::pair<runtime::ShardId, storage::LogId>> questions;
    std::vector<std::pair<size_t, size_t>> asked;  // topic and partition of the response
    for (AlterReplicaLogDirsRequest::Dir& dir : body.dirs) {
        const bool is_ours = without_slash(dir.path) == without_slash(server.node().data_directory);
        for (const auto& topic : dir.topics) {
            const cluster::TopicImage* image = server.image().find(topic.name);
            const auto place = places.try_emplace(topic.name, response.results.size()).first;
            if (place->second == response.results.size())
                response.results.emplace_back().topic_name = topic.name;
            auto& partitions = response.results[place->second].partitions;
            for (const int32_t index : topic.partitions) {
                const FoundPartition found = find_partition(server, image, index);
                const KafkaError error = is_ours ? found.error : KafkaError::kLogDirNotFound;
                if (error == KafkaError::kNone) {
                    questions.emplace_back(found.owner, found.log);
                    asked.emplace_back(place->second, partitions.size());
                }
                partitions.push_back({index, code(error)});
            }
        }
    }
    const auto here =
        co_await fan_out<storage::LogId, bool, are_here>(server, std::move(questions));
    for (size_t i = 0; i < asked.size(); ++i) {
        if (here[i]) continue;
        response.results[asked[i].first].partitions[asked[i].second].error_code =
            code(KafkaError::kReplicaNotAvailable);
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_alter_replica_log_dirs(Request& request) {
    return run_handler<AlterReplicaLogDirsRequest, AlterReplicaLogDirsResponse, answer>(request);
}

}  // namespace weir::kafka
