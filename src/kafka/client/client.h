// Client: a Kafka client of one cluster: bootstrap addresses, metadata, and a connection to each
// broker in use. The `weir` command and the benchmarks use it. It is not a general client library:
// it has no background refresh and no consumer-group membership.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "kafka/client/connection.h"
#include "kafka/protocol/metadata.h"

namespace weir::kafka {

class Client {
  public:
    struct Options {
        std::vector<std::string> bootstrap;  // "host:port"
        ClientConnection::Options connection;
    };

    explicit Client(Options options) : options_(std::move(options)) {}
    ~Client() = default;

    // Connects to the first bootstrap address that answers, and learns the brokers.
    runtime::Task<Result<void>> open();
    runtime::Task<void> close();

    // A connection for any admin request.
    ClientConnection& any() { return *bootstrap_; }
    runtime::Task<Result<ClientConnection*>> to_node(int32_t node_id);
    // The coordinator of a consumer group.
    runtime::Task<Result<ClientConnection*>> to_group_coordinator(std::string group);
    // A separate connection, for load generators: the caller closes it.
    runtime::Task<Result<std::unique_ptr<ClientConnection>>> connect_apart(int32_t node_id);

    struct Partition {
        int32_t index;
        int32_t leader;
        int32_t leader_epoch;  // -1: the broker does not say
        std::vector<int32_t> replicas;
        std::vector<int32_t> in_sync;
        int16_t error_code;
    };
    struct Topic {
        std::string name;
        Uuid id;
        bool is_internal = false;
        std::vector<Partition> partitions;  // by index
    };
    // All topics if `names` is empty. Unknown topics fail with kNotFound.
    runtime::Task<Result<std::vector<Topic>>> topics(std::vector<std::string> names);
    runtime::Task<Result<Topic>> topic(std::string name);

    struct Broker {
        int32_t id;
        std::string address;
    };
    const std::vector<Broker>& brokers() const { return brokers_; }

  private:
    runtime::Task<Result<MetadataResponse>> metadata(MetadataRequest request);

    Options options_;
    std::unique_ptr<ClientConnection> bootstrap_;
    std::vector<Broker> brokers_;
    std::map<int32_t, std::unique_ptr<ClientConnection>> by_node_;
};

// kNotFound for unknown names, kAlreadyExists, kTimedOut, else kIo. The message has Kafka's name of
// the code and the broker's sentence, if any.
Error error_of(int16_t code, std::string_view what,
               const std::optional<std::string>& message = std::nullopt);

}  // namespace weir::kafka
