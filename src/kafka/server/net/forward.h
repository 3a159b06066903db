// Forward: requests that only the controller can answer, on their way there. A node that is not the
// controller sends the request as its client did (rpc kind 0x0301, docs/formats/rpc.md) and
// answers what comes back, when its own image has what the controller had by then.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/byte_reader.h"
#include "kafka/server/net/request.h"
#include "rpc/message.h"
#include "runtime/task.h"

namespace weir::kafka {

inline constexpr rpc::Kind kForwardCall{0x0301};

// What comes before the body of a request that is passed on: which request, and who sent it.
struct ForwardHead {
    int16_t api_key = 0;
    int16_t api_version = 0;
    std::optional<std::string> client_id;
    std::string client_host;
    Principal principal;
};
// The anonymous user is not named: versions before principals would read the name as the body, and
// they know no other user.
std::vector<uint8_t> encode(const ForwardHead& head);
// The body follows in `in`. kMalformed, also for what a later version added.
Result<ForwardHead> read_forward_head(ByteReader& in);

// A handler with at_controller, at the controller: this node or another. Where none is to be had in
// time it runs here, and fails with the errors of its API. kEndOfStream, for one that is done once:
// the controller went away, and whether it was done is not known; the client's connection ends, as
// if it had gone to the controller itself.
runtime::Task<Result<void>> run_at_controller(Request& request);

// The body of a request of the node's own, and the body of its answer. Nothing: this node is the
// controller, or alone. kUnavailable: there was none by the deadline.
runtime::Task<Result<std::optional<runtime::SharedBytes>>> ask_controller(
    Server& server, ApiKey key, int16_t version, runtime::SharedBytes body, Instant deadline);

// At the controller, on shard 0.
runtime::Task<Result<rpc::Message>> answer_forwarded(Server& server, rpc::Request request);

}  // namespace weir::kafka
