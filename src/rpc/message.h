// What nodes of a cluster send each other: one-way messages, requests and their responses. Their
// bodies are bytes that the users of rpc/ encode and decode; on the wire: docs/formats/rpc.md.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "base/node_id.h"
#include "base/result.h"
#include "base/time.h"
#include "base/uuid.h"
#include "runtime/buffer.h"
#include "runtime/driver.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::rpc {

// Which handler a message is for. docs/formats/rpc.md assigns the numbers.
enum class Kind : uint16_t {};

// A connection sends its control lane before its data lane, and large messages in pieces, so that a
// heartbeat does not wait behind megabytes. Messages of one lane arrive in the order in which they
// were sent; the lanes have no order between them.
enum class Lane : uint8_t { kControl, kData };
inline constexpr size_t kLanes = 2;

// An outgoing message. The receiver gets the body and the parts behind it as one run of bytes.
struct Message {
    Kind kind{};  // ignored in a response
    Lane lane = Lane::kData;
    std::vector<uint8_t> body;
    // Sent from where they lie, without copying.
    std::vector<runtime::SharedBytes> parts;

    size_t size() const {
        size_t size = body.size();
        for (const runtime::SharedBytes& part : parts) size += part.size();
        return size;
    }
};

inline Message control_message(Kind kind, std::vector<uint8_t> body) {
    return {.kind = kind, .lane = Lane::kControl, .body = std::move(body), .parts = {}};
}

// Who sent a message.
struct Origin {
    NodeId node;                 // invalid: it has none yet
    Uuid uuid;                   // of the node's data directory
    runtime::ShardId shard = 0;  // of that node
    bool member = false;         // of this node's cluster, as Endpoint says who is
};

// A received one-way message. The body's memory stays reserved in the endpoint's budget while any
// reference is held: keeping bodies slows down the reading from peers.
struct Received {
    Origin from;
    runtime::SharedBytes body;
};

// A received request.
struct Request {
    Origin from;
    runtime::SharedBytes body;
    // Nobody waits for the response after this moment of this shard's clock; never(): the caller
    // set no deadline.
    Instant deadline = Instant::never();
    // Stops when the caller's connection is gone or the endpoint closes.
    runtime::StopToken stop;
};

// Called in the order of arrival by the receiving loop: must return soon.
using MessageHandler = std::function<void(Received)>;
// The task's error goes to the caller unchanged, code and message. The function object lives as
// long as the endpoint, so a lambda that is a coroutine may capture.
using RequestHandler = std::function<runtime::Task<Result<Message>>(Request)>;

}  // namespace weir::rpc
