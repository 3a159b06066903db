// Bugs of the transport that can be switched on (base/bugs.h).
#pragma once

#include "base/bugs.h"

namespace weir::rpc {

struct RpcBugs {
    WEIR_BUG(trust_hello);  // whoever passes the hello is taken for a member
};

}  // namespace weir::rpc
