// Request: one request on its way through the server, from its frame to the bytes of its answer.
// Owned by its Connection, used on the connection's shard.
#pragma once

#include <string>
#include <vector>

#include "base/byte_writer.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/protocol/api.h"
#include "kafka/protocol/header.h"
#include "kafka/server/net/principal.h"
#include "kafka/server/net/turns.h"
#include "runtime/buffer.h"
#include "runtime/stop_token.h"
#include "runtime/wait.h"

namespace weir::kafka {

class Server;
struct Handler;

struct Request {
    Request(Server& server, const std::string& client_host)
        : server(server), client_host(client_host) {}

    Server& server;
    const std::string& client_host;
    Principal principal;      // who it is from, also where another node passed it on
    std::string listener;     // the name of the one that it came to; empty: passed on
    runtime::StopToken stop;  // end now: the server closes, or the connection is cut
    // The client has closed its side. The request is still carried out, but nobody waits for its
    // answer.
    runtime::StopToken gone;
    // Answer with what there is: no new requests come, since the client has closed its side or the
    // node is about to stop.
    runtime::StopToken hurry;
    runtime::StopToken drain;  // the node is about to stop
    // Another node forwarded it, and will settle it (Handler::settle).
    bool passed_on = false;
    const Handler* handler = nullptr;
    RequestHeader header;
    runtime::SharedBytes frame;  // after the size
    Bytes body;                  // within the frame
    Instant arrived;
    Turn turn;  // of a Produce: held until its batches have their places at their owners
    AppendTickets* tickets = nullptr;  // of the connection

    // The answer. `out` begins with the size and the header; `keep` keeps alive what add_external()
    // refers to.
    ByteWriter out;
    std::vector<runtime::SharedBytes> keep;
    runtime::Units units;             // of what bounds the bytes in answers to fetches
    runtime::Reservation out_memory;  // of `out`, until it was sent
    bool has_large_answer = false;    // thousands of parts: to be encoded on a helper's thread
    bool no_response = false;         // acks=0
    bool close_after = false;         // acks=0, and it failed

    bool done = false;

    int16_t version() const { return header.api_version; }
    std::string client_id() const { return header.client_id.value_or(""); }
};

}  // namespace weir::kafka
