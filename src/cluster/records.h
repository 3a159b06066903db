// Records of the metadata log: every change of what the cluster is (topics, partitions,
// configuration, ranges of numbers handed out). One entry of the log holds one or more records that
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

struct PartitionAssignment {
    storage::LogId log;             // the same number on each replica's node
    std::vector<int32_t> replicas;  // node ids; the first is the preferred leader
    bool operator==(const PartitionAssignment&) const = default;
};

// The first record of every cluster.
struct ClusterCreated {
    Uuid cluster_id;
    bool operator==(const ClusterCreated&) const = default;
};

// Every log id below `end` counts as given out, so that one is never given out twice, whatever
// became of the topic that it was meant for.
struct LogIdsReserved {
    uint64_t end = 0;
    bool operator==(const LogIdsReserved&) const = default;
};

// Likewise of producer ids (KIP-98: unique in the cluster's life).
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

// The order is that of the numbers in the format; new kinds go to the end.
using MetadataRecord =
    std::variant<ClusterCreated, LogIdsReserved, ProducerIdsReserved, TopicCreated, TopicDeleted,
                 PartitionsAdded, TopicConfigChanged, ResourceConfigChanged>;

// One entry of the log, or a snapshot.
std::vector<uint8_t> encode_metadata(const std::vector<MetadataRecord>& records);
// The records of one or more entries that lie back to back. kMalformed for what does not parse,
// kUnsupported for a format or a kind of a later Weir: a node that can't read a record must not go
// on without it.
Result<std::vector<MetadataRecord>> decode_metadata(Bytes bytes);

}  // namespace weir::cluster
