// One simulated client's view of the cluster: a Client that any failure may close, and what it was
// told of the partitions' leaders. Owned by the client's coroutine, on its shard.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <utility>

#include "cluster_clients.h"
#include "kafka/protocol/kafka_error.h"
#include "runtime/wait.h"

namespace weir::sim {

using kafka::Client;
using kafka::ClientConnection;
using runtime::try_;

inline std::string text(kafka::KafkaError error) { return std::string(kafka::to_string(error)); }

// Any failure of a call may close it: the next use connects anew.
class ClusterClients::Session {
  public:
    Session(ClusterClients& owner, std::string who)
        : owner_(owner), who_(std::move(who)), prng_(owner.options_.seed, "session " + who_) {}

    const std::string& who() const { return who_; }

    Task<Result<Client*>> client() {
        if (client_) co_return client_.get();
        Client::Options options;
        options.bootstrap = owner_.options_.bootstrap;
        for (size_t i = options.bootstrap.size(); i > 1; --i)
            std::swap(options.bootstrap[i - 1], options.bootstrap[prng_.below(i)]);
        options.connection.client_id = who_;
        options.connection.timeout = owner_.options_.request_timeout;
        auto client = std::make_unique<Client>(std::move(options));
        Result<void> opened = co_await client->open();
        if (!opened) {
            co_await client->close();
            co_return weir::fail(std::move(opened).error());
        }
        client_ = std::move(client);
        co_return client_.get();
    }

    struct Route {
        ClientConnection* connection;
        int32_t node;
        int32_t epoch;
    };
    Task<Result<Route>> leader_of(const Topic* topic, int32_t partition) {
        Client* client = co_await try_(this->client());
        const PartitionKey key{topic->id, partition};
        auto known = routes_.find(key);
        if (known == routes_.end() || known->second.stale) {
            const Client::Topic found = co_await try_(client->topic(topic->name));
            ++owner_.counts_.requests;
            for (const auto& p : found.partitions) {
                const PartitionKey about{topic->id, p.index};
                if (found.id == topic->id)
                    owner_.history_.told_leader(about, p.leader_epoch, p.leader);
                Known& old = routes_[about];
                // A node that knows less than this client does not send it back.
                if (p.leader_epoch >= old.epoch) old = {p.leader, p.leader_epoch, false};
            }
            known = routes_.find(key);
            if (known == routes_.end())
                co_return weir::fail(ErrorCode::kNotFound, "no such partition");
        }
        if (known->second.leader < 0) {
            known->second.stale = true;
            co_return weir::fail(ErrorCode::kUnavailable, "no leader");
        }
        const Known route = known->second;
        ClientConnection* connection = co_await try_(client->to_node(route.leader));
        co_return Route{connection, route.leader, route.epoch};
    }
    // What is known of the partitions' leaders may be old.
    void doubt() {
        for (auto& [key, known] : routes_) known.stale = true;
    }
    Task<void> drop() {
        doubt();
        if (!client_) co_return;
        const std::unique_ptr<Client> client = std::move(client_);
        co_await client->close();
    }
    // After something failed: a while, and everything may be different.
    Task<void> recover(std::string what) {
        ++owner_.counts_.failures;
        owner_.say(who_, std::move(what));
        co_await drop();
        (void)co_await runtime::sleep_for(
            std::chrono::milliseconds(10 + static_cast<int64_t>(prng_.below(200))));
    }
    Prng& prng() { return prng_; }

  private:
    struct Known {
        int32_t leader = -1;
        int32_t epoch = -1;
        bool stale = true;
    };
    ClusterClients& owner_;
    const std::string who_;
    Prng prng_;
    std::unique_ptr<Client> client_;
    std::map<PartitionKey, Known> routes_;
};

}  // namespace weir::sim
