// The bytes that replicas of a group send each other: raft/'s messages with the group's log in
// front and the entries' payloads behind. Pure. Grammar and kinds: docs/formats/replication.md.
#pragma once

#include <optional>
#include <span>
#include <vector>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/result.h"
#include "raft/effects.h"
#include "raft/messages.h"
#include "rpc/message.h"
#include "storage/log.h"

namespace weir::replication {

inline constexpr rpc::Kind kGroupMessages{0x0101};  // one way: small messages of many groups
inline constexpr rpc::Kind kGroupAppend{0x0102};    // one way: entries of one group
inline constexpr rpc::Kind kGroupSnapshot{
    0x0103};  // a request: what a replica needs before entries

// A request about a replica whose log is damaged (repair.cc). An empty answer means yes. An error
// means no: kCorrupt, with the reason.
inline constexpr rpc::Kind kGroupRepair{0x0104};
enum class RepairQuestion : uint8_t {
    kMayLead = 1,     // to a replica: is your log whole?
    kMayDiscard = 2,  // to the leader: are there copies enough without mine?
};
struct RepairRequest {
    RepairQuestion question = RepairQuestion::kMayLead;
    storage::LogId log;
};
rpc::Message encode_repair(const RepairRequest& request);
Result<RepairRequest> decode_repair(Bytes body);  // kMalformed

// A message of one group. `start_offset` is where the sender's log starts, so that followers also
// remove what DeleteRecords or retention removed on the leader.
struct GroupMessage {
    storage::LogId log;
    int64_t start_offset = 0;
    raft::Message message;  // an AppendRequest has no entries: it is a probe
};
void append_message(ByteWriter& to, const GroupMessage& message);
// Decodes a whole frame; kMalformed.
Result<std::vector<GroupMessage>> decode_messages(Bytes body);

// Entries for a follower: the request's own fields, then each entry's, then their payloads.
rpc::Message encode_append(storage::LogId log, int64_t start_offset,
                           const raft::AppendRequest& request,
                           std::span<const storage::FoundEntry> entries);
struct DecodedAppend {
    storage::LogId log;
    int64_t start_offset = 0;
    raft::AppendRequest request;          // entries: not set
    std::vector<storage::Entry> entries;  // payloads are slices of the body; no summaries
};
// Reads only the group's log id. kMalformed.
Result<storage::LogId> peek_append(Bytes body);
Result<DecodedAppend> decode_append(const runtime::SharedBytes& body);

// The payload of a control entry.
std::vector<uint8_t> encode_control(const raft::ControlEntry& entry);
// The configuration in it, if it holds one. kMalformed.
Result<std::optional<raft::Configuration>> decode_control(Bytes payload);

void append_configuration(ByteWriter& to, const raft::Configuration& configuration);
Result<raft::Configuration> read_configuration(ByteReader& from);
void append_position(ByteWriter& to, storage::Position position);
storage::Position read_position(ByteReader& from);

// What a group keeps beside its log, for its next start.
struct KeptConfig {
    // The last committed one that was saved; nothing: none was ever known here.
    std::optional<raft::ConfigurationAt> configuration;
    // If not 0, this replica may have acknowledged from memory. Everything that it acknowledged is
    // in its log as long as the store's history is this one.
    uint64_t memory_history = 0;
    // raft::CoreStart::joined_by. Earlier versions pass it over.
    uint32_t joined_by = 0;
};
std::vector<uint8_t> encode_kept(const KeptConfig& kept);
Result<KeptConfig> decode_kept(Bytes bytes);  // kMalformed

struct Snapshot {
    storage::LogId log;
    raft::InstallSnapshot install;
    std::vector<uint8_t> state;   // the state machine's, which covers what is below ...
    storage::Position state_end;  // ... all of it committed
};
rpc::Message encode_snapshot(const Snapshot& snapshot);
Result<Snapshot> decode_snapshot(Bytes body);

}  // namespace weir::replication
