#include "base/result.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace weir {

std::string_view to_string(ErrorCode code) {
    switch (code) {
        case ErrorCode::kInvalidArgument: return "invalid argument";
        case ErrorCode::kMalformed: return "malformed";
        case ErrorCode::kCorrupt: return "corrupt";
        case ErrorCode::kNotFound: return "not found";
        case ErrorCode::kAlreadyExists: return "already exists";
        case ErrorCode::kOutOfRange: return "out of range";
        case ErrorCode::kResourceExhausted: return "resource exhausted";
        case ErrorCode::kDiskFull: return "disk full";
        case ErrorCode::kIo: return "I/O error";
        case ErrorCode::kEndOfStream: return "end of stream";
        case ErrorCode::kCancelled: return "cancelled";
        case ErrorCode::kTimedOut: return "timed out";
        case ErrorCode::kUnavailable: return "unavailable";
        case ErrorCode::kUnsupported: return "unsupported";
    }
    return "unknown";
}

Error Error::from_errno(int os_errno, std::string_view what) {
    ErrorCode code = ErrorCode::kIo;
    switch (os_errno) {
        case ENOSPC:
        case EDQUOT: code = ErrorCode::kDiskFull; break;
        case ECANCELED: code = ErrorCode::kCancelled; break;
        case ENOENT: code = ErrorCode::kNotFound; break;
        case EEXIST: code = ErrorCode::kAlreadyExists; break;
        case ETIMEDOUT: code = ErrorCode::kTimedOut; break;
        case EINVAL: code = ErrorCode::kInvalidArgument; break;
        case ENOMEM:
        case EMFILE:
        case ENFILE: code = ErrorCode::kResourceExhausted; break;
        default: break;
    }
    char buffer[128];
    return Error{code, fmt::format("{}: {}", what, strerror_r(os_errno, buffer, sizeof buffer)),
                 os_errno};
}

std::string Error::to_string() const {
    if (message.empty()) return std::string(weir::to_string(code));
    return fmt::format("{} ({})", message, weir::to_string(code));
}

Error Error::with(std::string_view context) && {
    message = message.empty() ? std::string(context) : fmt::format("{}: {}", context, message);
    return std::move(*this);
}

}  // namespace weir
