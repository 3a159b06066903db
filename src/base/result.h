// Expected failures are values: Result<T> = std::expected<T, Error>. An Error says what kind of failure it is (the caller
// decides by the kind: retry, answer a Kafka error, fail the partition, stop the node) and a sentence for a person.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace weir {

enum class ErrorCode : uint8_t {
    kInvalidArgument,   // the caller's input can't be served, now or ever
    kMalformed,         // bytes from a socket or a file do not parse
    kCorrupt,           // a checksum or a cross-check of stored data failed
    kNotFound,
    kAlreadyExists,
    kOutOfRange,        // an offset outside of what is held
    kResourceExhausted, // a named bound was reached (memory, queue, connections)
    kDiskFull,
    kIo,                // any other error of a device or a socket; os_errno says which
    kEndOfStream,       // the peer closed the connection
    kCancelled,         // a stop token asked for it
    kTimedOut,
    kUnavailable,       // closed, stopping, or not this node's to answer
    kUnsupported,
};

std::string_view to_string(ErrorCode code);

struct Error {
    ErrorCode code;
    std::string message;  // one sentence, no trailing stop; may be empty on hot paths
    int os_errno = 0;

    static Error from_errno(int os_errno, std::string_view what);  // ENOSPC/EDQUOT -> kDiskFull, ECANCELED -> kCancelled, ...
    std::string to_string() const;
    // The same error with "context: " before its message.
    Error with(std::string_view context) &&;
};

template <class T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(ErrorCode code, std::string message = {}) {
    return std::unexpected(Error{code, std::move(message), 0});
}
inline std::unexpected<Error> fail(Error error) { return std::unexpected(std::move(error)); }

}  // namespace weir

// Plain (not coroutine) functions: `TRY(expr)` returns the error of a Result<void>; `TRY_ASSIGN(auto x, expr)` unwraps a value.
// In a coroutine: `co_await try_(expr)` of runtime/task.h.
#define WEIR_CONCAT_(a, b) a##b
#define WEIR_CONCAT(a, b) WEIR_CONCAT_(a, b)
#define TRY(expr) \
    do { \
        if (auto try_result = (expr); !try_result) [[unlikely]] \
            return std::unexpected(std::move(try_result).error()); \
    } while (false)
#define TRY_ASSIGN(declaration, expr) TRY_ASSIGN_(declaration, expr, WEIR_CONCAT(try_result_, __LINE__))
#define TRY_ASSIGN_(declaration, expr, name) \
    auto name = (expr); \
    if (!name) [[unlikely]] \
        return std::unexpected(std::move(name).error()); \
    declaration = std::move(*name)
