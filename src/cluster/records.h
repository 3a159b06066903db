// Records of the metadata log: every change of the cluster's state (nodes, topics, partitions,
// configuration, reserved ranges of numbers). One entry of the log holds one or more records that
// take effect together. The fold of all entries is a MetadataImage. Plain values and their binary
// format, versioned by record: docs/formats/metadata-log.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/uuid.h"
#include "storage/entry.h"

namespace weir::cluster {

using ConfigMap = std::map<std::string, std::string, std::less<>>;

// For one partition; longer lists are damage.
inline constexpr size_t kReplicasMax = 64;
// For a host, a rack, a feature's name.
inline constexpr size_t kNodeTextMax = 255;
// For a node that registers from now on, so that no node uses up the automatic ids.
inline constexpr int32_t kNodeIdMax = 1'000'000'000;
inline constexpr size_t kNodeFeaturesMax = 64;

struct PartitionAssignment {
    storage::LogId log;             // the same number on each replica's node
    std::vector<int32_t> replicas;  // node ids; the first is the preferred leader
    // Where a reassignment in progress leads; empty: there is none. An assignment's bytes do not
    // include it: it has records of its own.
    std::vector<int32_t> target = {};
    // Nodes of abandoned targets, in order, without those of the two lists above. They may be
    // members of the partition's group, and keep their replicas until its leader reports that they
    // are not. Follows from the records, as the target does.
    std::vector<int32_t> abandoned = {};
    // The revision of these lists: grows with each change, so that an outdated report is
    // recognized.
    uint32_t revision = 0;
    // The replicas are, and always were, the nodes with which the partition was created: no founder
    // of its group was ever told to drop its replica. Follows from the records.
    bool are_founders = true;
    // Whether the group may have members other than `replicas`, so that its leader must report when
    // it has settled.
    bool is_moving() const { return !target.empty() || !abandoned.empty(); }
    bool operator==(const PartitionAssignment&) const = default;
};

// The first record of every cluster.
struct ClusterCreated {
    Uuid cluster_id;
    bool operator==(const ClusterCreated&) const = default;
};

// Every log id below `end` counts as used, so that none is assigned twice, whether or not its topic
// was created.
struct LogIdsReserved {
    uint64_t end = 0;
    bool operator==(const LogIdsReserved&) const = default;
};

// The same for producer ids (KIP-98: unique in the cluster's life).
struct ProducerIdsReserved {
    int64_t end = 0;
    bool operator==(const ProducerIdsReserved&) const = default;
};

struct TopicCreated {
    std::string name;
    Uuid id;
    std::vector<PartitionAssignment> partitions;
    ConfigMap configs;
    bool operator==(const TopicCreated&) const = default;
};

struct TopicDeleted {
    Uuid id;
    bool operator==(const TopicDeleted&) const = default;
};

struct PartitionsAdded {
    Uuid topic;
    std::vector<PartitionAssignment> partitions;
    bool operator==(const PartitionsAdded&) const = default;
};

struct TopicConfigChanged {
    Uuid topic;
    std::string key;
    std::optional<std::string> value;  // absent: back to the default
    bool operator==(const TopicConfigChanged&) const = default;
};

// The numbers are Kafka's config resource types.
enum class ConfigResource : uint8_t {
    kTopic = 2,
    kBroker = 4,
    kBrokerLogger = 8,
    kClientMetrics = 16,
    kGroup = 32,
};

// Dynamic configuration of anything but a topic. A broker's name is its node id in decimal; "" is
// the default of all brokers.
struct ResourceConfigChanged {
    ConfigResource resource = ConfigResource::kBroker;
    std::string name;
    std::string key;
    std::optional<std::string> value;
    bool operator==(const ResourceConfigChanged&) const = default;
};

// From here on the cluster may use what `level` of the feature stands for (features.h). Never goes
// back.
struct FeatureFinalized {
    std::string feature;
    int32_t level = 0;
    bool operator==(const FeatureFinalized&) const = default;
};

// No node that asks for an id gets one below `end`: the id of a removed node is not assigned again
// automatically.
struct NodeIdsReserved {
    int32_t end = 0;
    bool operator==(const NodeIdsReserved&) const = default;
};

struct Endpoint {
    std::string host;
    uint16_t port = 0;
    bool operator==(const Endpoint&) const = default;
};
// "host:port", "[host]:port" of an IPv6 address.
std::string address_of(const Endpoint& endpoint);

// Where clients reach a node: one address for each of its listeners, by name, in the order of the
// node's configuration; at least one. The first is the primary one. Records and messages contain
// only that one until a node can have more.
inline constexpr std::string_view kPlainListener = "PLAINTEXT";
struct ListenerEndpoint {
    std::string name;
    Endpoint endpoint;
    bool operator==(const ListenerEndpoint&) const = default;
};
class ListenerEndpoints {
  public:
    ListenerEndpoints() : ListenerEndpoints(std::string(), 0) {}
    // One listener, without encryption and authentication.
    ListenerEndpoints(std::string host, uint16_t port)
        : all_{{std::string(kPlainListener), {std::move(host), port}}} {}

    const Endpoint& primary() const { return all_.front().endpoint; }
    Endpoint& primary() { return all_.front().endpoint; }
    // nullptr: the node has no listener of that name.
    const Endpoint* find(std::string_view name) const {
        for (const ListenerEndpoint& each : all_)
            if (each.name == name) return &each.endpoint;
        return nullptr;
    }
    const std::vector<ListenerEndpoint>& all() const { return all_; }
    bool operator==(const ListenerEndpoints&) const = default;

  private:
    std::vector<ListenerEndpoint> all_;
};

// What levels of a feature a binary can work at: [min, max].
struct FeatureRange {
    int32_t min = 0;
    int32_t max = 0;
    bool operator==(const FeatureRange&) const = default;
};
using FeatureRanges = std::map<std::string, FeatureRange, std::less<>>;

// The node is in the cluster and is reached like this. Written again whenever one of these changes.
struct NodeRegistered {
    int32_t id = 0;
    Uuid uuid;           // of its data directory: a node whose disk was replaced is another node
    uint64_t epoch = 0;  // grows with each registration of this id
    Endpoint rpc;        // for other nodes
    ListenerEndpoints kafka;  // as clients are told
    std::optional<std::string> rack;
    uint32_t shards = 1;
    FeatureRanges features;
    bool operator==(const NodeRegistered&) const = default;
};

// Written only when no partition names the node any more.
struct NodeRemoved {
    int32_t id = 0;
    bool operator==(const NodeRemoved&) const = default;
};

enum class NodeState : uint8_t {
    kActive = 0,
    kDraining = 1,         // maintenance: leads nothing, gets no new replicas, keeps what it has
    kDecommissioning = 2,  // the same, and its replicas are moved away
};

struct NodeStateChanged {
    int32_t id = 0;
    NodeState state = NodeState::kActive;
    bool operator==(const NodeStateChanged&) const = default;
};

// The partition's replicas shall become `target`; empty: the reassignment is cancelled, and they
// shall be what they were. Either way the nodes of the earlier target keep their replicas until
// PartitionReplicasChanged.
struct PartitionReassigned {
    Uuid topic;
    uint32_t partition = 0;
    std::vector<int32_t> target;
    uint32_t revision = 0;
    // PartitionAssignment's value after this record. Older versions do not write it, and skip it.
    bool are_founders = false;
    bool operator==(const PartitionReassigned&) const = default;
};

// The partition's replicas are these now, and no reassignment is in progress.
struct PartitionReplicasChanged {
    Uuid topic;
    uint32_t partition = 0;
    std::vector<int32_t> replicas;
    uint32_t revision = 0;
    bool are_founders = false;  // as above
    bool operator==(const PartitionReplicasChanged&) const = default;
};

// In the order of the numbers in the format. New kinds go to the end, and features.h says from
// which level on they may be written.
using MetadataRecord =
    std::variant<ClusterCreated, LogIdsReserved, ProducerIdsReserved, TopicCreated, TopicDeleted,
                 PartitionsAdded, TopicConfigChanged, ResourceConfigChanged, FeatureFinalized,
                 NodeIdsReserved, NodeRegistered, NodeRemoved, NodeStateChanged,
                 PartitionReassigned, PartitionReplicasChanged>;

// One entry of the log, or a snapshot.
std::vector<uint8_t> encode_metadata(const std::vector<MetadataRecord>& records);
// Decodes the records of one or more entries that lie back to back. kMalformed if they do not
// parse; kUnsupported for a format or kind of a later Weir: a node that can't read a record must
// not continue without it.
Result<std::vector<MetadataRecord>> decode_metadata(Bytes bytes);

}  // namespace weir::cluster
