// CHECK: an invariant of ours. It stays on in release; a failure is a bug of ours, prints where, and aborts.
// Input from disk, network or a user is never CHECKed: it is validated into a Result (base/result.h).
// DCHECK is for checks that cost O(n), and is on in debug and sanitizer builds alone.
#pragma once

namespace weir {

[[noreturn]] void check_failed(const char* condition, const char* file, int line) noexcept;

}  // namespace weir

#define CHECK(condition) \
    (__builtin_expect(!!(condition), 1) ? (void)0 \
                                        : ::weir::check_failed(#condition, __FILE__, __LINE__))

#ifdef NDEBUG
#define DCHECK(condition) ((void)sizeof(!!(condition)))
#else
#define DCHECK(condition) CHECK(condition)
#endif
