// What the nodes of a cluster ask each other besides replication (docs/formats/rpc.md, kinds
// 0x02xx). Everything goes to shard 0 but transfers, which go to the shard that owns the partition.
// Plain values and their bytes.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "cluster/health.h"
#include "cluster/metadata_shard.h"
#include "cluster/records.h"
#include "rpc/message.h"

namespace weir::cluster {

inline constexpr rpc::Kind kHelloCall{0x0201};         // bootstrap.h
inline constexpr rpc::Kind kRegisterCall{0x0202};      // a node says how it is reached
inline constexpr rpc::Kind kLeaderUpdateCall{0x0203};  // leader_table.h
inline constexpr rpc::Kind kReplicasCall{0x0204};      // a leader's report to the controller
inline constexpr rpc::Kind kTransferCall{0x0205};      // to a partition's leader: hand it over
inline constexpr rpc::Kind kProducerIdsCall{0x0206};   // a block of producer ids
inline constexpr rpc::Kind kAdminCall{0x0207};         // a request of the admin API
inline constexpr rpc::Kind kEndCall{0x0209};           // what is committed of the metadata
inline constexpr rpc::Kind kAilmentsCall{0x020b};      // what is wrong with the node's replicas
inline constexpr rpc::Kind kProgressCall{0x0208};      // of partitions that the node leads

// A node that is not the controller forwards it, once.
struct RegisterRequest {
    bool passed_on = false;
    bool is_member = false;  // it was registered before, by its own account
    NodeRegistered node;     // id -1: it has none yet
    bool operator==(const RegisterRequest&) const = default;
};
struct RegisterReply {
    Uuid cluster_id;
    int32_t node_id = -1;
    // The committed end of the metadata log by then.
    int64_t committed_end = 0;
    // How to reach the members.
    std::vector<std::pair<int32_t, Endpoint>> members;
    bool operator==(const RegisterReply&) const = default;
};

struct LeaderUpdateReply {
    uint64_t incarnation = 0;  // LeaderPublisher::acknowledged()
    uint64_t after = 0;
    uint64_t upto = 0;
    bool operator==(const LeaderUpdateReply&) const = default;
};

struct TransferRequest {
    storage::LogId log;
    int32_t target = -1;
    bool operator==(const TransferRequest&) const = default;
};

struct AdminCall {
    std::string method;
    std::string path;
    std::string query;
    bool operator==(const AdminCall&) const = default;
};
struct AdminReply {
    uint16_t status = 200;
    std::string body;
    bool operator==(const AdminReply&) const = default;
};

using AilmentMap = std::map<storage::LogId, std::string>;
using ProgressMap = std::map<storage::LogId, PartitionProgress>;

std::vector<uint8_t> encode(const RegisterRequest& request);
std::vector<uint8_t> encode(const RegisterReply& reply);
std::vector<uint8_t> encode(const LeaderUpdateReply& reply);
std::vector<uint8_t> encode(const MetadataShard::ReplicasReport& report);
std::vector<uint8_t> encode(const TransferRequest& request);
std::vector<uint8_t> encode(const AdminCall& call);
std::vector<uint8_t> encode(const AdminReply& reply);
std::vector<uint8_t> encode(const ProgressMap& progress);
std::vector<uint8_t> encode(const AilmentMap& ailments);
std::vector<uint8_t> encode_i64(int64_t value);

// kMalformed.
Result<RegisterRequest> decode_register_request(Bytes bytes);
Result<RegisterReply> decode_register_reply(Bytes bytes);
Result<LeaderUpdateReply> decode_leader_update_reply(Bytes bytes);
Result<MetadataShard::ReplicasReport> decode_replicas_report(Bytes bytes);
Result<TransferRequest> decode_transfer_request(Bytes bytes);
Result<AdminCall> decode_admin_call(Bytes bytes);
Result<AdminReply> decode_admin_reply(Bytes bytes);
Result<ProgressMap> decode_progress(Bytes bytes);
Result<AilmentMap> decode_ailments(Bytes bytes);
Result<int64_t> decode_i64(Bytes bytes);

}  // namespace weir::cluster
