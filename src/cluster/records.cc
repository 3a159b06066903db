#include "cluster/records.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "base/byte_reader.h"
#include "base/byte_writer.h"

namespace weir::cluster {
namespace {

constexpr uint8_t kFormat = 1;
constexpr size_t kPrefixSize = 5;  // the format, and the size of what follows

void put(ByteWriter& out, uint64_t v) { out.write_unsigned_varlong(v); }
void put(ByteWriter& out, int64_t v) { out.write_varlong(v); }
void put(ByteWriter& out, const Uuid& v) { out.write_bytes(v.bytes); }
void put(ByteWriter& out, const std::string& v) {
    put(out, uint64_t{v.size()});
    out.write_text(v);
}
void put(ByteWriter& out, const std::optional<std::string>& v) {
    out.write_u8(v ? 1 : 0);
    if (v) put(out, *v);
}
void put(ByteWriter& out, const ConfigMap& v) {
    put(out, uint64_t{v.size()});
    for (const auto& [key, value] : v) {
        put(out, key);
        put(out, value);
    }
}
void put(ByteWriter& out, const std::vector<int32_t>& nodes) {
    put(out, uint64_t{nodes.size()});
    for (const int32_t node : nodes) put(out, int64_t{node});
}
void put(ByteWriter& out, const std::vector<PartitionAssignment>& v) {
    put(out, uint64_t{v.size()});
    for (const PartitionAssignment& partition : v) {
        put(out, partition.log.v);
        put(out, partition.replicas);
    }
}
void put(ByteWriter& out, const Endpoint& v) {
    put(out, v.host);
    put(out, uint64_t{v.port});
}
void put(ByteWriter& out, const FeatureRanges& v) {
    put(out, uint64_t{v.size()});
    for (const auto& [name, range] : v) {
        put(out, name);
        put(out, int64_t{range.min});
        put(out, int64_t{range.max});
    }
}

void put(ByteWriter& out, const ClusterCreated& v) { put(out, v.cluster_id); }
void put(ByteWriter& out, const LogIdsReserved& v) { put(out, v.end); }
void put(ByteWriter& out, const ProducerIdsReserved& v) { put(out, v.end); }
void put(ByteWriter& out, const TopicCreated& v) {
    put(out, v.name);
    put(out, v.id);
    put(out, v.partitions);
    put(out, v.configs);
}
void put(ByteWriter& out, const TopicDeleted& v) { put(out, v.id); }
void put(ByteWriter& out, const PartitionsAdded& v) {
    put(out, v.topic);
    put(out, v.partitions);
}
void put(ByteWriter& out, const TopicConfigChanged& v) {
    put(out, v.topic);
    put(out, v.key);
    put(out, v.value);
}
void put(ByteWriter& out, const ResourceConfigChanged& v) {
    out.write_u8(static_cast<uint8_t>(v.resource));
    put(out, v.name);
    put(out, v.key);
    put(out, v.value);
}

void put(ByteWriter& out, const FeatureFinalized& v) {
    put(out, v.feature);
    put(out, int64_t{v.level});
}
void put(ByteWriter& out, const NodeIdsReserved& v) { put(out, int64_t{v.end}); }
void put(ByteWriter& out, const NodeRegistered& v) {
    put(out, int64_t{v.id});
    put(out, v.uuid);
    put(out, v.epoch);
    put(out, v.rpc);
    put(out, v.kafka.primary());
    put(out, v.rack);
    put(out, uint64_t{v.shards});
    put(out, v.features);
}
void put(ByteWriter& out, const NodeRemoved& v) { put(out, int64_t{v.id}); }
void put(ByteWriter& out, const NodeStateChanged& v) {
    put(out, int64_t{v.id});
    out.write_u8(static_cast<uint8_t>(v.state));
}
void put(ByteWriter& out, const PartitionReassigned& v) {
    put(out, v.topic);
    put(out, uint64_t{v.partition});
    put(out, v.target);
    put(out, uint64_t{v.revision});
    if (v.are_founders) put(out, uint64_t{1});
}
void put(ByteWriter& out, const PartitionReplicasChanged& v) {
    put(out, v.topic);
    put(out, uint64_t{v.partition});
    put(out, v.replicas);
    put(out, uint64_t{v.revision});
    if (v.are_founders) put(out, uint64_t{1});
}

void get(ByteReader& in, uint64_t& v) { v = in.read_unsigned_varlong(); }
void get(ByteReader& in, int64_t& v) { v = in.read_varlong(); }
void get(ByteReader& in, Uuid& v) {
    const Bytes bytes = in.read_bytes(v.bytes.size());
    if (in.ok()) std::copy(bytes.begin(), bytes.end(), v.bytes.begin());
}
void get(ByteReader& in, std::string& v) { v = as_text(in.read_bytes(in.read_unsigned_varlong())); }
void get(ByteReader& in, std::optional<std::string>& v) {
    const uint8_t present = in.read_u8();
    if (present > 1) return in.set_failed();
    if (present == 1) get(in, v.emplace());
}
// A count that the bytes left can't hold is malformed: nothing is allocated on its word.
size_t get_count(ByteReader& in, size_t element_size_min) {
    const uint64_t count = in.read_unsigned_varlong();
    if (count > in.remaining() / element_size_min) {
        in.set_failed();
        return 0;
    }
    return count;
}
void get(ByteReader& in, ConfigMap& v) {
    const size_t count = get_count(in, 2);
    for (size_t i = 0; i < count && in.ok(); ++i) {
        std::string key;
        get(in, key);
        get(in, v[std::move(key)]);
    }
}
// Integers that are narrower in memory than in the format.
template <class T>
void get_bounded(ByteReader& in, T& v) {
    int64_t wide = 0;
    if constexpr (std::is_signed_v<T>) {
        get(in, wide);
    } else {
        uint64_t raw = 0;
        get(in, raw);
        wide = static_cast<int64_t>(std::min(raw, uint64_t{INT64_MAX}));
    }
    if (wide < 0 || wide > int64_t{std::numeric_limits<T>::max()}) return in.set_failed();
    v = static_cast<T>(wide);
}
void get(ByteReader& in, std::vector<int32_t>& nodes) {
    nodes.resize(get_count(in, 1));
    for (int32_t& node : nodes) get_bounded(in, node);
}
void get(ByteReader& in, std::vector<PartitionAssignment>& v) {
    v.resize(get_count(in, 2));
    for (PartitionAssignment& partition : v) {
        get(in, partition.log.v);
        get(in, partition.replicas);
    }
}
void get(ByteReader& in, Endpoint& v) {
    get(in, v.host);
    get_bounded(in, v.port);
}
void get(ByteReader& in, FeatureRanges& v) {
    const size_t count = get_count(in, 3);
    for (size_t i = 0; i < count && in.ok(); ++i) {
        std::string name;
        get(in, name);
        FeatureRange& range = v[std::move(name)];
        get_bounded(in, range.min);
        get_bounded(in, range.max);
    }
}

void get(ByteReader& in, ClusterCreated& v) { get(in, v.cluster_id); }
void get(ByteReader& in, LogIdsReserved& v) { get(in, v.end); }
void get(ByteReader& in, ProducerIdsReserved& v) { get(in, v.end); }
void get(ByteReader& in, TopicCreated& v) {
    get(in, v.name);
    get(in, v.id);
    get(in, v.partitions);
    get(in, v.configs);
}
void get(ByteReader& in, TopicDeleted& v) { get(in, v.id); }
void get(ByteReader& in, PartitionsAdded& v) {
    get(in, v.topic);
    get(in, v.partitions);
}
void get(ByteReader& in, TopicConfigChanged& v) {
    get(in, v.topic);
    get(in, v.key);
    get(in, v.value);
}
void get(ByteReader& in, ResourceConfigChanged& v) {
    v.resource = static_cast<ConfigResource>(in.read_u8());
    get(in, v.name);
    get(in, v.key);
    get(in, v.value);
}

void get(ByteReader& in, FeatureFinalized& v) {
    get(in, v.feature);
    get_bounded(in, v.level);
}
void get(ByteReader& in, NodeIdsReserved& v) { get_bounded(in, v.end); }
void get(ByteReader& in, NodeRegistered& v) {
    get_bounded(in, v.id);
    get(in, v.uuid);
    get(in, v.epoch);
    get(in, v.rpc);
    get(in, v.kafka.primary());
    get(in, v.rack);
    get_bounded(in, v.shards);
    get(in, v.features);
}
void get(ByteReader& in, NodeRemoved& v) { get_bounded(in, v.id); }
void get(ByteReader& in, NodeStateChanged& v) {
    get_bounded(in, v.id);
    const uint8_t state = in.read_u8();
    if (state > static_cast<uint8_t>(NodeState::kDecommissioning)) return in.set_failed();
    v.state = static_cast<NodeState>(state);
}
// Of a field that older versions do not write.
bool get_trailing_flag(ByteReader& in) {
    return in.remaining() > 0 && in.read_unsigned_varlong() == 1;
}
void get(ByteReader& in, PartitionReassigned& v) {
    get(in, v.topic);
    get_bounded(in, v.partition);
    get(in, v.target);
    get_bounded(in, v.revision);
    v.are_founders = get_trailing_flag(in);
}
void get(ByteReader& in, PartitionReplicasChanged& v) {
    get(in, v.topic);
    get_bounded(in, v.partition);
    get(in, v.replicas);
    get_bounded(in, v.revision);
    v.are_founders = get_trailing_flag(in);
}

template <size_t I = 0>
bool get_kind(ByteReader& in, uint64_t kind, MetadataRecord& record) {
    if constexpr (I == std::variant_size_v<MetadataRecord>) {
        return false;
    } else {
        // Kinds count from 1, so that zeros are not a record.
        if (kind == I + 1) {
            get(in, record.emplace<I>());
            return true;
        }
        return get_kind<I + 1>(in, kind, record);
    }
}

}  // namespace

std::vector<uint8_t> encode_metadata(const std::vector<MetadataRecord>& records) {
    ByteWriter out;
    out.write_u8(kFormat);
    out.write_i32(0);
    put(out, uint64_t{records.size()});
    for (const MetadataRecord& record : records) {
        ByteWriter body;
        std::visit([&](const auto& v) { put(body, v); }, record);
        put(out, uint64_t{record.index() + 1});
        put(out, uint64_t{body.size()});
        out.write_bytes(body.inline_bytes());
    }
    out.patch_i32(1, static_cast<int32_t>(out.size() - kPrefixSize));
    return out.flatten();
}

Result<std::vector<MetadataRecord>> decode_metadata(Bytes bytes) {
    std::vector<MetadataRecord> records;
    ByteReader entries(bytes);
    while (entries.ok() && entries.remaining() > 0) {
        const uint8_t format = entries.read_u8();
        if (entries.ok() && format != kFormat) {
            return fail(ErrorCode::kUnsupported,
                        "metadata of an unknown format " + std::to_string(format));
        }
        ByteReader in(entries.read_bytes(entries.read_u32()));
        const size_t count = get_count(in, 2);
        for (size_t i = 0; i < count && in.ok(); ++i) {
            const uint64_t kind = in.read_unsigned_varlong();
            ByteReader body(in.read_bytes(in.read_unsigned_varlong()));
            if (!in.ok()) break;
            MetadataRecord& record = records.emplace_back();
            if (!get_kind(body, kind, record)) {
                return fail(ErrorCode::kUnsupported,
                            "a metadata record of an unknown kind " + std::to_string(kind));
            }
            // A later Weir may have added fields at the end that may be ignored; others would come
            // under a new kind.
            if (!body.ok()) in.set_failed();
        }
        if (!in.ok() || in.remaining() != 0) entries.set_failed();
    }
    if (!entries.ok()) return fail(ErrorCode::kMalformed, "metadata records do not parse");
    return records;
}

std::string address_of(const Endpoint& endpoint) {
    return endpoint.host.contains(':') ? fmt::format("[{}]:{}", endpoint.host, endpoint.port)
                                       : fmt::format("{}:{}", endpoint.host, endpoint.port);
}

}  // namespace weir::cluster
