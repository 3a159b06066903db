#include "cluster_clients.h"

#include <fmt/format.h>

#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::sim {

ClusterClients::ClusterClients(ClientOptions options, ClusterHistory& history,
                               std::function<void(const std::string&)> fail)
    : options_(std::move(options)), history_(history), fail_(std::move(fail)) {
    for (uint32_t i = 0; i < options_.topics; ++i)
        topics_.push_back({fmt::format("topic-{}", i), {}, 0, i < options_.relaxed_topics});
}

ClusterClients::~ClusterClients() = default;

Prng ClusterClients::prng(std::string_view who, uint64_t number) const {
    return Prng(options_.seed, fmt::format("{} {}", who, number));
}

std::string ClusterClients::doing() const {
    std::string all;
    for (const auto& [who, what] : doing_)
        all += fmt::format("{}{}: {}", all.empty() ? "" : "; ", who, what);
    return all;
}

Task<void> ClusterClients::pause(Prng* prng) {
    const auto longest = static_cast<uint64_t>(options_.pause_max.count());
    (void)co_await runtime::sleep_for(
        Duration(static_cast<int64_t>(longest == 0 ? 0 : prng->below(longest))));
}

Task<void> ClusterClients::run(ClusterClients* self) {
    co_await create_topics(self);
    self->serving_ = true;
    Scope producers;
    Scope readers;
    Scope members;
    const ClientOptions& options = self->options_;
    for (uint32_t i = 0; i < options.idempotent_producers; ++i)
        producers.spawn(idempotent(self, i));
    for (uint32_t i = 0; i < options.plain_producers; ++i)
        producers.spawn(once(self, i, WriterKind::kPlain));
    for (uint32_t i = 0; i < options.weak_producers; ++i)
        producers.spawn(once(self, i, WriterKind::kWeak));
    if (options.admin) producers.spawn(admin(self));
    producers.spawn(operate(self));
    for (uint32_t i = 0; i < options.readers; ++i) readers.spawn(reader(self, i));
    for (uint32_t i = 0; i < options.members; ++i) members.spawn(member(self, i));
    co_await producers.join();
    self->producers_done_ = true;
    co_await read_all(self);
    self->all_read_ = true;
    co_await readers.join();
    co_await members.join();
    co_await settle(self);
    co_await check_topics(self);
    self->doing_.clear();
    self->finished_ = true;
}

}  // namespace weir::sim
