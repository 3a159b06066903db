// The dialling side of a connection's beginning.
#pragma once

#include <memory>
#include <string>

#include "rpc/endpoint.h"

namespace weir::rpc {

struct Dialled {
    std::unique_ptr<runtime::TcpStream> stream;
    HelloReply reply;
};

// Connects, says hello, and checks the answer. Errors: those of connect; kTimedOut; kCancelled;
// kMalformed: no node answers; to_error() of a refusal, also where it is this side that refuses.
runtime::Task<Result<Dialled>> dial(std::string address, Hello hello, EndpointOptions options,
                                    runtime::StopToken stop);

}  // namespace weir::rpc
