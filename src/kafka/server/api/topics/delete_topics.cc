// DeleteTopics: the topic is unknown everywhere when the answer goes out; its data goes in the
// background.
#include "kafka/protocol/delete_topics.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<DeleteTopicsResponse> answer(Request& request, DeleteTopicsRequest body) {
    std::vector<cluster::TopicRef> refs;
    for (std::string& name : body.topic_names) refs.push_back({std::move(name), {}});
    for (auto& topic : body.topics) refs.push_back({topic.name.value_or(""), topic.topic_id});
    const Duration timeout = admin_deadline(body.timeout_ms) - runtime::Shard::current().now();
    const auto outcomes =
        co_await runtime::on(0,
                             [server0 = &request.server.peer(0), refs = std::move(refs),
                              timeout]() mutable -> Task<std::vector<cluster::TopicOutcome>> {
                                 co_return co_await cluster::delete_topics(
                                     server0->controller(), std::move(refs),
                                     {.deadline = runtime::Shard::current().now() + timeout,
                                      .stop = server0->background().stop_token()});
                             });
    DeleteTopicsResponse response;
    for (const cluster::TopicOutcome& outcome : outcomes) {
        DeleteTopicsResponse::Topic& topic = response.responses.emplace_back();
        // By an id that nobody has there is no name to give.
        if (outcome.topic.name.empty() && request.version() >= 6) {
            topic.name.reset();
        } else {
            topic.name = outcome.topic.name;
        }
        topic.topic_id = outcome.topic.id;
        topic.error_code = code(to_kafka(outcome.error.fault));
        if (!outcome.error.ok()) topic.error_message = outcome.error.message;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_delete_topics(Request& request) {
    return run_handler<DeleteTopicsRequest, DeleteTopicsResponse, answer>(request);
}

}  // namespace weir::kafka
