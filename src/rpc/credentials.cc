#include "rpc/credentials.h"

#include <fmt/format.h>

namespace weir::rpc {
namespace {

// A proof of one side is none of the other, and none of another use of the secret.
std::string_view label(Side side) {
    return side == Side::kDialling ? "weir rpc proof: dialling side\n"
                                   : "weir rpc proof: accepting side\n";
}

}  // namespace

Result<std::vector<uint8_t>> ClusterSecret::parse(std::string_view file) {
    while (file.ends_with('\n') || file.ends_with('\r')) file.remove_suffix(1);
    if (file.empty()) return fail(ErrorCode::kInvalidArgument, "no secret is in it");
    if (file.size() < kBytesMin || file.size() > kBytesMax) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("a secret has {} to {} bytes, not {}", kBytesMin, kBytesMax,
                                file.size() > kBytesMax ? "more" : std::to_string(file.size())));
    }
    const Bytes bytes = as_bytes(file);
    return std::vector<uint8_t>(bytes.begin(), bytes.end());
}

Proof ClusterSecret::prove(Side side, Bytes exchange) const {
    return hmac_sha256(secret_, {as_bytes(label(side)), exchange});
}

bool ClusterSecret::check(Side side, Bytes exchange, const Proof& proof) const {
    return equal_in_constant_time(prove(side, exchange), proof);
}

}  // namespace weir::rpc
