// Credentials: how the two nodes of a connection prove to each other that they belong to the
// cluster. The first exchange of a connection asks for it (docs/formats/rpc.md); what a proof is,
// is up to the implementation: a secret that all nodes share, here. One by certificates (mutual
// TLS) takes its place: its streams come wrapped, and its check() says whether the certificate that
// the stream's peer showed is that of a node.
//
// Made before the endpoints, outlives them, and never changes: any shard may use it.
#pragma once

#include <string>
#include <vector>

#include "base/bytes.h"
#include "base/result.h"
#include "base/sha256.h"

namespace weir::rpc {

using Proof = Digest;
// What either side draws anew for each connection, so that no proof is good for two.
inline constexpr size_t kNonceBytes = 32;
using Nonce = std::array<uint8_t, kNonceBytes>;

enum class Side : uint8_t { kDialling, kAccepting };

class Credentials {
  public:
    virtual ~Credentials() = default;
    // For the peer: by this node, which has that side of a connection on which `exchange` was said
    // so far, both nodes' nonces and identities in it.
    virtual Proof prove(Side side, Bytes exchange) const = 0;
    // Of what the peer, which has that side, sent. Takes as long whether it is right or wrong.
    virtual bool check(Side side, Bytes exchange, const Proof& proof) const = 0;
    // Whether peers without a right proof are refused. Where not, they count as nodes that have
    // nothing to prove with: for the time in which a cluster takes a secret up.
    virtual bool required() const = 0;
};

// HMAC-SHA-256 with a secret that all nodes of the cluster have.
class ClusterSecret final : public Credentials {
  public:
    static constexpr size_t kBytesMin = 16;
    static constexpr size_t kBytesMax = 1024;

    // The secret is what the file holds, less newlines at its end. kInvalidArgument: too short or
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
