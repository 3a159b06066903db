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

// Connects, says hello and checks the answer; then both sides prove who they are as the options'
// credentials demand. `uuid`, unless zero, is the expected node's. Errors: those of connect;
// kTimedOut; kCancelled; kMalformed if no node answers; to_error() of a refusal, by either side.
runtime::Task<Result<Dialled>> dial(std::string address, Hello hello, Uuid uuid,
                                    EndpointOptions options, runtime::StopToken stop);

}  // namespace weir::rpc
