// Bugs of the transport that can be switched on (base/bugs.h).
#pragma once

#include "base/bugs.h"

namespace weir::rpc {

struct RpcBugs {
    WEIR_BUG(trust_hello);  // every node that passes the hello counts as a member
};

}  // namespace weir::rpc
