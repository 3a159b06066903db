// CreatePartitions: a topic grows, and never shrinks.
#include "kafka/protocol/create_partitions.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<CreatePartitionsResponse> answer(Request& request, CreatePartitionsRequest body) {
    std::vector<cluster::MorePartitions> topics;
    for (auto& topic : body.topics) {
        cluster::MorePartitions& more = topics.emplace_back();
        more.topic = std::move(topic.name);
        more.count = topic.count;
        if (!topic.assignments) continue;
        more.assignments.emplace();
        for (auto& assignment : *topic.assignments)
            more.assignments->push_back(std::move(assignment.broker_ids));
    }
    const Duration timeout = admin_deadline(body.timeout_ms) - runtime::Shard::current().now();
    const auto outcomes =
        co_await runtime::on(0,
                             [server0 = &request.server.peer(0), topics = std::move(topics),
                              validate_only = body.validate_only,
                              timeout]() mutable -> Task<std::vector<cluster::TopicOutcome>> {
                                 co_return co_await cluster::create_partitions(
                                     server0->controller(), std::move(topics), validate_only,
                                     {.deadline = runtime::Shard::current().now() + timeout,
                                      .stop = server0->background().stop_token()});
                             });
    std::vector<std::string> made;
    CreatePartitionsResponse response;
    for (const cluster::TopicOutcome& outcome : outcomes) {
        if (outcome.error.ok()) made.push_back(outcome.topic.name);
        CreatePartitionsResponse::Topic& topic = response.results.emplace_back();
        topic.name = outcome.topic.name;
        topic.error_code = code(to_kafka(outcome.error.fault));
        if (!outcome.error.ok()) topic.error_message = outcome.error.message;
    }
    if (!request.passed_on && !body.validate_only)
        co_await await_leaders(request, std::move(made), admin_end(request, body.timeout_ms));
    co_return response;
}

}  // namespace

Task<void> settle_create_partitions(Request& request, Bytes response) {
    ByteReader asked(request.body), answered(response);
    const auto body = CreatePartitionsRequest::decode(asked, request.version());
    const auto outcome = CreatePartitionsResponse::decode(answered, request.version());
    if (!body || !outcome || body->validate_only) co_return;
    std::vector<std::string> made;
    for (const CreatePartitionsResponse::Topic& topic : outcome->results) {
        if (topic.error_code == 0) made.push_back(topic.name);
    }
    co_await await_leaders(request, std::move(made), admin_end(request, body->timeout_ms));
}

Task<Result<void>> handle_create_partitions(Request& request) {
    return run_handler<CreatePartitionsRequest, CreatePartitionsResponse, answer>(request);
}

}  // namespace weir::kafka
