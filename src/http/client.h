// One HTTP/1.1 request, for the commands that ask a node's admin port. Each request has its own
// connection and is bounded in size and time. Used on one shard.
#pragma once

#include <string>

#include "base/result.h"
#include "base/time.h"
#include "runtime/task.h"

namespace weir::http {

struct ClientRequest {
    std::string address;  // "host:port"
    std::string method = "GET";
    std::string target;  // path and query, as they go out
    Duration timeout = std::chrono::seconds(30);
    uint64_t answer_bytes_max = 256u << 20;
};

struct ClientAnswer {
    int status = 0;
    std::string body;
};

// kTimedOut; kMalformed if the answer is not HTTP; else the connection's error.
runtime::Task<Result<ClientAnswer>> ask(ClientRequest request);

}  // namespace weir::http
