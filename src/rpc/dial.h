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

// Connects, says hello, checks the answer, and proves to each other who both are, as the options'
// credentials say. `uuid`, unless it is zero, is that of the node that is expected. Errors: those
// of connect; kTimedOut; kCancelled; kMalformed: no node answers; to_error() of a refusal, also
// where it is this side that refuses.
runtime::Task<Result<Dialled>> dial(std::string address, Hello hello, Uuid uuid,
                                    EndpointOptions options, runtime::StopToken stop);

}  // namespace weir::rpc
