// Credentials: how the two nodes of a connection prove to each other that they belong to the
// cluster. The first exchange of a connection asks for the proof (docs/formats/rpc.md); the
// implementation decides what a proof is. Today it is knowledge of a secret that all nodes share.
// Mutual TLS can replace it: the streams then come wrapped, and check() says whether the
// certificate that the peer showed is a node's.
//
// Made before the endpoints and outlives them. It never changes, so any shard may use it.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/sha256.h"

namespace weir::rpc {

using Proof = Digest;
// Each side draws a new nonce for each connection, so that no proof is valid for two.
inline constexpr size_t kNonceBytes = 32;
using Nonce = std::array<uint8_t, kNonceBytes>;

enum class Side : uint8_t { kDialling, kAccepting };

class Credentials {
  public:
    virtual ~Credentials() = default;
    // Makes this node's proof for the peer. This node has the side `side`; `exchange` is what was
    // sent on the connection so far, both nodes' nonces and identities included.
    virtual Proof prove(Side side, Bytes exchange) const = 0;
    // Checks the proof of the peer, which has the side `side`. Takes the same time whether the
    // proof is right or wrong.
    virtual bool check(Side side, Bytes exchange, const Proof& proof) const = 0;
    // Whether peers without a right proof are refused. If not, such peers are treated as nodes
    // without a secret: this is for the time in which a cluster starts to use one.
    virtual bool required() const = 0;
};

// HMAC-SHA-256 with a secret that all nodes of the cluster have.
class ClusterSecret final : public Credentials {
  public:
    static constexpr size_t kBytesMin = 16;
    static constexpr size_t kBytesMax = 1024;

    // The secret is the file's content without newlines at its end. kInvalidArgument: too short or
    // too long.
    static Result<std::vector<uint8_t>> parse(std::string_view file);

    ClusterSecret(std::vector<uint8_t> secret, bool required)
        : secret_(std::move(secret)), required_(required) {}

    Proof prove(Side side, Bytes exchange) const override;
    bool check(Side side, Bytes exchange, const Proof& proof) const override;
    bool required() const override { return required_; }

  private:
    const std::vector<uint8_t> secret_;
    const bool required_;
};

}  // namespace weir::rpc
