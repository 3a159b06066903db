// What a node is started with: the options of cluster/config_table.h from flags and from one TOML
// file, checked, and parsed where the broker itself needs them. Plain code.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "cluster/config_view.h"
#include "kafka/server/partitions/server_bugs.h"
#include "raft/options.h"
#include "rpc/credentials.h"
#include "rpc/rpc_bugs.h"
#include "storage/store.h"

namespace weir::broker {

struct BrokerOptions {
    cluster::ConfigMap given;  // every option that a flag or the file set, by name: what
                               // DescribeConfigs shows as static
    std::string data;
    std::string kafka;
    std::string admin;
    // The admin port's host names, beside those that it and the other ports listen on.
    std::vector<std::string> admin_names = {};
    std::optional<std::string> advertised;
    uint32_t shards = 0;  // 0: one a processor
    uint64_t memory = 0;
    uint64_t descriptors = 0;  // that the process may open; 0: no bound
    std::string driver;
    LogLevel log_level = LogLevel::kInfo;
    std::optional<std::string> rpc;
    std::vector<std::string> seeds;  // sorted; none: a cluster of its own
    std::optional<int32_t> node_id;
    std::optional<std::string> rack;
    // The content of the file that --cluster-secret names, for make_credentials().
    std::optional<std::string> cluster_secret;
    bool cluster_secret_optional = false;
    bool insecure = false;
    std::shared_ptr<const rpc::Credentials> credentials = {};
    uint64_t journal_bytes = 0;
    uint64_t journal_file_bytes = 0;
    uint64_t cache_bytes = 0;
    int64_t retention_check_ms = 0;
    // For the simulator, which draws small limits and switches bugs on; nothing else sets these.
    std::function<void(storage::StoreOptions&)> adjust_store = {};
    std::function<void(raft::Options&)> adjust_raft = {};
    kafka::ServerBugs server_bugs = {};
    rpc::RpcBugs rpc_bugs = {};
};

// Flags win over the file. kInvalidArgument names the option and says what it may be.
Result<BrokerOptions> make_options(cluster::ConfigMap file, cluster::ConfigMap flags,
                                   uint64_t machine_memory_bytes);

// Makes the credentials from the cluster's secret. kInvalidArgument names the file.
Result<std::shared_ptr<const rpc::Credentials>> make_credentials(const BrokerOptions& options,
                                                                 std::string_view file);

// A TOML file of `name = value`. A dotted name may be written as it is, quoted, or as tables.
Result<cluster::ConfigMap> parse_options_file(std::string_view text);

// The text of docs/reference/configuration.md, made from the table.
std::string options_as_markdown();

struct HostPort {
    std::string host;
    int32_t port = 0;
};
// "host:port", "[v6]:port".
Result<HostPort> parse_host_port(std::string_view text);
std::string to_text(const HostPort& address);
// An address that clients may be told to connect to: a host name or an address, but not what only a
// listener may use (0.0.0.0). Kafka's form "PLAINTEXT://host:port" is accepted. Port 0 stands for
// the port that is listened on.
Result<HostPort> parse_advertised(std::string_view text);

}  // namespace weir::broker
