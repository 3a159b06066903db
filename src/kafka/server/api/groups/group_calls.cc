#include "kafka/server/api/groups/group_calls.h"

#include "kafka/server/api/topics/topics.h"
#include "kafka/server/coordinators/group_shard.h"
#include "runtime/remote.h"

namespace weir::kafka {

using runtime::Task;

std::optional<GroupPlace> place_of_group(Server& server, std::string_view group) {
    const cluster::TopicImage* topic = server.image().find(kOffsetsTopic);
    if (topic == nullptr) return std::nullopt;
    const int32_t partition = partition_for(group, static_cast<int32_t>(topic->partitions.size()));
    return GroupPlace{server.owner_of(topic->partitions[static_cast<size_t>(partition)].log),
                      partition};
}

Task<Result<GroupReply>> call_group(Request& request, std::string group,
                                    GroupPartition::Call call) {
    Server& server = request.server;
    const auto place = place_of_group(server, group);
    if (!place) co_return fail(ErrorCode::kNotFound);
    struct Answer {
        bool is_coordinator = false;
        std::optional<GroupReply> reply;
    };
    Mailbox::Slot slot = server.mailbox().open();
    Answer answer = co_await runtime::on(
        place->owner,
        [peer = &server.peer(place->owner), partition = place->partition, address = slot.address(),
         call = std::move(call)]() mutable -> Task<Answer> {
            const std::shared_ptr<GroupPartition> driver = peer->groups().find(partition);
            if (driver == nullptr) co_return Answer{};
            Answer answer;
            answer.is_coordinator = true;
            answer.reply = co_await driver->call(address, std::move(call));
            co_return answer;
        });
    if (!answer.is_coordinator) co_return fail(ErrorCode::kNotFound);
    if (answer.reply) co_return std::move(*answer.reply);
    Mail mail = co_await runtime::try_(slot.receive({.stop = request.gone}));
    co_return std::move(std::get<GroupReply>(mail));
}

}  // namespace weir::kafka
