// Calls of one connection that wait for their responses. Owned by the connection's owner.
#pragma once

#include <map>
#include <optional>

#include "rpc/connection.h"
#include "runtime/wait.h"

namespace weir::rpc {

class Calls {
  public:
    // Sends the request and waits for the response. The connection, and this object with it, may be
    // destroyed meanwhile if fail_all() was called.
    runtime::Task<Result<runtime::SharedBytes>> exchange(Connection& connection, Message message,
                                                         CallOptions options, size_t in_flight_max);
    // Passes on what the peer sent over the connection: a response, or else kMalformed.
    Result<void> receive(Incoming incoming, EndpointMetrics& metrics);
    void fail_all(const Error& error);
    bool empty() const { return waiting_.empty(); }

  private:
    struct Waiting {
        std::optional<Result<runtime::SharedBytes>> result;
        runtime::WaitQueue done;
        bool answered = false;  // by the peer: not ended with the connection
    };

    std::map<uint64_t, Waiting*> waiting_;
    uint64_t next_ = 1;
};

// The error of a call whose connection ended for that reason.
Error lost(const Error& why);

}  // namespace weir::rpc
