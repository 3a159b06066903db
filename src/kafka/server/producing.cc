#include "kafka/server/producing.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/check.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/server.h"
#include "runtime/deadline_stop.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using runtime::Shard;
using runtime::Task;

struct AppendOrder {
    storage::LogId log;
    CheckedBatch batch;
    AppendOptions options;
};

// What one connection wants appended at one owner.
struct AppendOrders {
    uint64_t connection = 0;
    uint64_t ticket = 0;
    std::vector<AppendOrder> orders;
    Duration timeout;  // for room to append, and for the commit
    int16_t acks = -1;
};

// On the owner's shard: appends in the turn of the ticket, then waits as acks says.
Task<std::vector<AppendOutcome>> append_here(Server& server, AppendOrders wanted) {
    struct Appended {
        Partition* partition;
        runtime::Gate::Holder use;
    };
    std::vector<AppendOutcome> outcomes(wanted.orders.size());
    std::vector<Appended> appended(wanted.orders.size());
    runtime::DeadlineStop stop(Shard::current().now() + wanted.timeout, server.waits());
    {
        const Turn turn = server.append_turns().turn(wanted.connection, wanted.ticket);
        const auto mine = co_await turn.wait(stop.token());
        for (size_t i = 0; i < outcomes.size(); ++i) {
            AppendOrder& order = wanted.orders[i];
            Partition* partition = server.partitions().find(order.log);
            auto use = partition != nullptr ? partition->enter() : std::nullopt;
            if (!use || !mine) {
                outcomes[i].error =
                    use ? KafkaError::kRequestTimedOut : KafkaError::kNotLeaderOrFollower;
                continue;
            }
            outcomes[i] =
                co_await partition->append(std::move(order.batch), order.options, stop.token());
            if (outcomes[i].error == KafkaError::kNone) appended[i] = {partition, std::move(*use)};
        }
    }
    for (size_t i = 0; wanted.acks != 0 && i < outcomes.size(); ++i) {
        Partition* partition = appended[i].partition;
        if (partition == nullptr) continue;
        AppendOutcome& outcome = outcomes[i];
        const bool alone = wanted.acks == 1 || server.bugs().acknowledge_before_commit;
        outcome.error = alone ? co_await partition->wait_durable(outcome.end)
                              : co_await partition->wait_committed(outcome.end, outcome.term,
                                                                   {.stop = stop.token()});
        if (outcome.error != KafkaError::kNone) outcome.hint = partition->hint();
    }
    co_return outcomes;
}

// The items of one owner, and their places among the caller's.
struct Share {
    runtime::ShardId owner = 0;
    std::vector<size_t> places;
    AppendOrders wanted;
};

Task<bool> append_at(Server& server, Share share, std::vector<AppendOutcome>& outcomes) {
    std::vector<uint64_t> sizes;
    for (const AppendOrder& order : share.wanted.orders) sizes.push_back(order.batch.bytes.size());
    auto appended = co_await runtime::on(share.owner, [peer = &server.peer(share.owner),
                                                       wanted = std::move(share.wanted)]() mutable {
        return append_here(*peer, std::move(wanted));
    });
    for (size_t i = 0; i < share.places.size(); ++i) {
        AppendOutcome& outcome = outcomes[share.places[i]];
        outcome = std::move(appended[i]);
        if (outcome.error != KafkaError::kNone) continue;
        server.metrics().produced_bytes += sizes[i];
        ++server.metrics().produced_batches;
    }
    co_return true;
}

}  // namespace

Task<std::vector<AppendOutcome>> append_items(Server& server, std::vector<AppendItem> items,
                                              AppendWants wants, AppendTickets& tickets,
                                              Turn* turn) {
    std::vector<AppendOutcome> outcomes(items.size());
    std::vector<size_t> order(items.size());
    for (size_t i = 0; i < order.size(); ++i) order[i] = i;
    std::ranges::sort(order, {}, [&](size_t i) { return std::pair(items[i].owner, i); });
    std::vector<Task<bool>> appends;
    for (std::span<const size_t> rest(order); !rest.empty();) {
        const runtime::ShardId owner = items[rest.front()].owner;
        const auto other =
            std::ranges::find_if(rest, [&](size_t i) { return items[i].owner != owner; });
        const auto mine = rest.first(static_cast<size_t>(other - rest.begin()));
        rest = rest.subspan(mine.size());
        Share share{.owner = owner,
                    .places = {mine.begin(), mine.end()},
                    .wanted = {.connection = tickets.connection,
                               .ticket = tickets.draw(owner),
                               .orders = {},
                               .timeout = wants.timeout,
                               .acks = wants.acks}};
        share.wanted.orders.reserve(mine.size());
        for (const size_t i : mine)
            share.wanted.orders.push_back(
                {items[i].log, std::move(items[i].batch), items[i].options});
        appends.push_back(append_at(server, std::move(share), outcomes));
    }
    // The tickets keep the order from here on.
    if (turn != nullptr) turn->done();
    (void)co_await runtime::all(std::move(appends));
    co_return outcomes;
}

Task<void> forget_tickets(Server& server, const AppendTickets& tickets) {
    for (runtime::ShardId owner = 0; owner < tickets.next.size(); ++owner) {
        if (tickets.next[owner] == 0) continue;
        co_await runtime::on(owner,
                             [peer = &server.peer(owner), id = tickets.connection]() -> Task<void> {
                                 peer->append_turns().forget(id);
                                 co_return;
                             });
    }
}

Producer::Producer(Server& server)
    : server_(server), tickets_{.connection = server.next_connection_id()} {}

Producer::~Producer() { CHECK(closed_ || tickets_.next.empty() || Shard::current().dying()); }

Task<void> Producer::close() {
    closed_ = true;
    co_await forget_tickets(server_, tickets_);
}

Task<std::vector<Producer::Result>> Producer::produce(std::vector<Batch> batches, Options options) {
    CHECK(!closed_);
    Turn turn(turns_);
    std::vector<Result> results(batches.size());
    std::vector<AppendItem> items;
    std::vector<size_t> places;
    for (size_t i = 0; i < batches.size(); ++i) {
        AppendOutcome& outcome = results[i].outcome;
        // Looked up for each, since checking a batch lets others run.
        const cluster::TopicImage* topic = server_.image().find(batches[i].topic);
        const FoundPartition found = find_partition(server_, topic, batches[i].partition);
        outcome.error = found.error;
        if (outcome.error != KafkaError::kNone) continue;
        if (cluster::is_internal_topic(topic->name) && !options.internal_topics) {
            outcome.error = KafkaError::kInvalidTopicException;
            continue;
        }
        const cluster::TopicSettings settings = server_.metadata().settings(*topic);
        const runtime::SharedBytes& records = batches[i].records;
        auto batch = co_await check_batch(server_.unpacking(), records, records.bytes(), settings,
                                          {}, options.stop);
        if (!batch) {
            outcome.error = batch.error().error;
            outcome.message = std::move(batch.error().message);
            results[i].record_faults = std::move(batch.error().records);
            continue;
        }
        items.push_back(
            {.log = found.log,
             .owner = found.owner,
             .batch = std::move(*batch),
             .options = {.log_append_time = settings.log_append_time,
                         .in_sync_min = options.acks == -1 ? settings.in_sync_min : 1}});
        places.push_back(i);
    }
    batches.clear();
    if (!co_await turn.wait(options.stop)) {
        for (const size_t place : places)
            results[place].outcome.error = KafkaError::kRequestTimedOut;
        co_return results;
    }
    auto outcomes =
        co_await append_items(server_, std::move(items),
                              {.acks = options.acks, .timeout = options.timeout}, tickets_, &turn);
    for (size_t i = 0; i < places.size(); ++i) results[places[i]].outcome = std::move(outcomes[i]);
    co_return results;
}

}  // namespace weir::kafka
