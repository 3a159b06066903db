// The first thing on a connection between nodes: the dialling side says who it is and what it
// wants, the accepting side answers with the same or refuses. docs/formats/rpc.md
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/node_id.h"
#include "base/result.h"
#include "base/uuid.h"
#include "rpc/credentials.h"
#include "runtime/driver.h"
#include "runtime/socket.h"

namespace weir::rpc {

inline constexpr uint16_t kVersionMin = 1;
inline constexpr uint16_t kVersionMax = 2;
inline constexpr uint16_t kVersionProofs = 2;  // from it on nodes can prove what they are
inline constexpr size_t kMessageBytesMax = size_t{160} << 20;
// Messages up to this size never wait for memory: what frees memory may be among them.
inline constexpr size_t kSmallBytes = size_t{4} << 10;

struct Identity {
    Uuid cluster;  // zero: in none yet
    NodeId node;   // invalid: it has none yet
    Uuid uuid;     // of the node's data directory; distinguishes nodes without an id
};

struct Hello {
    uint16_t version_min = kVersionMin;
    uint16_t version_max = kVersionMax;
    Identity from;
    uint32_t shards = 0;  // of the dialling node
    runtime::ShardId from_shard = 0;
    runtime::ShardId to_shard = 0;
    NodeId to;               // whom the dialling side expects; invalid: whoever it is
    bool transient = false;  // for one call by address
    bool proves = false;     // it has something to prove with, and proves when asked.
    Nonce nonce{};           // of this connection; zeros in a hello of version 1
};

enum class Refusal : uint16_t {
    kNone = 0,
    kOtherCluster = 1,
    kVersion = 2,      // none in common
    kUnknownNode = 3,  // the dialling node is not, or no longer, a member
    kOtherNode = 4,    // the accepting node is not the one that was expected
    kNotProven = 5,    // the dialling node did not prove that it belongs to the cluster
};
// More shards than any node has: such a hello is malformed.
inline constexpr uint32_t kShardsMax = 4096;

struct HelloReply {
    Refusal refusal = Refusal::kNone;
    uint16_t version = 0;
    Identity from;
    uint32_t shards = 0;  // of the accepting node
    std::string reason;   // for a person, of a refusal
    // The accepting node proves itself, and asks for the same: the dialling one sends a proof, and
    // is told in a verdict what came of it.
    std::optional<Proof> proof;
    Nonce nonce{};  // of this connection, with a proof
};

// What came of the dialling node's proof.
struct Verdict {
    Refusal refusal = Refusal::kNone;
    std::string reason;
};

// kOtherCluster: kInvalidArgument; kVersion, kNotProven: kUnsupported; kUnknownNode, kOtherNode:
// kNotFound; one that is not known here: kUnavailable.
Error to_error(Refusal refusal, const std::string& reason);

// As sent. A reason that is too long is cut.
std::vector<uint8_t> encode(const Hello& hello);
std::vector<uint8_t> encode(const HelloReply& reply);
std::vector<uint8_t> encode_proof(const Proof& proof);
std::vector<uint8_t> encode(const Verdict& verdict);
// What the accepting side's proof is about: the hello as it was sent, and the reply but for the
// proof.
std::vector<uint8_t> exchange_before_reply(Bytes hello, const HelloReply& reply);

// kMalformed: no hello. The other's version may be one that is not known here. *sent: the bytes as
// they came, which is what a proof is about.
runtime::Task<Result<Hello>> read_hello(runtime::ByteStream& stream, runtime::StopToken stop,
                                        std::vector<uint8_t>* sent = nullptr);
runtime::Task<Result<HelloReply>> read_hello_reply(runtime::ByteStream& stream,
                                                   runtime::StopToken stop,
                                                   std::vector<uint8_t>* sent = nullptr);
runtime::Task<Result<Proof>> read_proof(runtime::ByteStream& stream, runtime::StopToken stop);
runtime::Task<Result<Verdict>> read_verdict(runtime::ByteStream& stream, runtime::StopToken stop);

}  // namespace weir::rpc
