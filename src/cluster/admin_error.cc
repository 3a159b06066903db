#include "cluster/admin_error.h"

namespace weir::cluster {

AdminError admin_error(const Error& error) {
    if (error.code == ErrorCode::kUnavailable) return {AdminFault::kNotController, error.message};
    const bool unavailable =
        error.code == ErrorCode::kCancelled || error.code == ErrorCode::kTimedOut;
    return {unavailable ? AdminFault::kUnavailable : AdminFault::kStorage, error.to_string()};
}

}  // namespace weir::cluster
