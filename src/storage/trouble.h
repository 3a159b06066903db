// What an error of the disk means for the part of the store that got it: wait, take one log
// offline, or stop the node. Pure.
#pragma once

#include <cerrno>

#include "base/result.h"

namespace weir::storage {

// A shortage of something that others use too and may free: the operation is retried after a while.
enum class Shortage : uint8_t {
    kNone,
    kSpace,        // a full disk, a quota
    kDescriptors,  // of the process or the host, or the kernel's memory
};

inline Shortage shortage_of(const Error& error) {
    if (error.code == ErrorCode::kDiskFull) return Shortage::kSpace;
    const int e = error.os_errno;
    return e == EMFILE || e == ENFILE || e == ENOMEM || e == ENOBUFS ? Shortage::kDescriptors
                                                                     : Shortage::kNone;
}

// A segment's file is missing, unreadable, unwritable, too short, or not what it should be. Only
// for errors of operations on that file or its directory: the same error of a journal stops the
// node.
inline bool is_damage(const Error& error) {
    if (shortage_of(error) != Shortage::kNone) return false;
    switch (error.code) {
        case ErrorCode::kUnavailable:  // stopping, or the log is being removed
        case ErrorCode::kCancelled:
        case ErrorCode::kResourceExhausted:  // a bound of the store's own
        case ErrorCode::kTimedOut:
            return false;
        default:
            return true;
    }
}

}  // namespace weir::storage
