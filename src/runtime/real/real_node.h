// A node on a real kernel: one pinned thread a shard, each with its driver, from start to orderly
// end.
//
//   Task<int> serve(RealNode& node) { ... co_await on(1, ...) ... co_return 0; }      // on shard 0
//   Result<int> exit_code = run_real_node({.shards = 2}, &serve);
//
// When `main` returns, the node stops: the remote scopes of all shards close, then all loops end.
// What main started on other shards must have ended by then, or end by its scope's stop token.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string_view>

#include "base/log.h"
#include "base/result.h"
#include "base/time.h"
#include "runtime/shard.h"
#include "runtime/stall_counts.h"
#include "runtime/stop_token.h"
#include "runtime/task.h"

namespace weir::runtime {

enum class DriverChoice : uint8_t { kAuto, kUring, kAio };
// "auto", "uring", "aio".
Result<DriverChoice> parse_driver_choice(std::string_view text);

struct RealNodeOptions {
    uint32_t shards = 0;  // 0: as many as processors that this process may use at once
    DriverChoice driver = DriverChoice::kAuto;
    LogLevel log_level = LogLevel::kInfo;
    Logger::Sink
        log_sink;     // default: stderr. Called by all shards and by the watchdog, at the same time
    bool pin = true;  // each thread to its processor; only done when there is one for each and no
                      // quota below that
    // A single step that holds a shard longer is reported with its stack (watchdog.h); 0: not
    // watched.
    Duration stall_threshold = 5ms;
    bool handle_signals = true;  // SIGTERM and SIGINT request stop; a second SIGINT ends the
                                 // process. At most one such node a process
};

class RealNode {
  public:
    virtual ~RealNode() = default;
    virtual Shard& shard() = 0;  // shard 0
    virtual std::string_view driver_name() const = 0;
    virtual uint32_t shard_count() const = 0;
    // Shard 0's token: stops on SIGTERM, SIGINT or request_stop().
    virtual StopToken stop_token() = 0;
    virtual void request_stop() = 0;
    // The stall detector's counts for that shard.
    virtual StallCounts stalls(ShardId shard) const = 0;
};

using NodeMain = std::function<Task<int>(RealNode&)>;

// Blocks the calling thread until the node has ended, and returns what main returned. Fails if the
// kernel refuses the chosen driver.
Result<int> run_real_node(RealNodeOptions options, NodeMain main);

inline RealNodeOptions one_shard_options() {
    return {.shards = 1,
            .log_level = LogLevel::kWarn,
            .log_sink = {},
            .pin = false,
            .stall_threshold = 0ms,
            .handle_signals = false};
}

namespace real_detail {

template <class T>
Task<int> keep_result(Task<T> task, std::optional<T>* result) {
    result->emplace(co_await std::move(task));
    co_return 0;
}

}  // namespace real_detail

// For client commands and tests: runs the task f(node) on a node of one shard, and returns its
// value.
template <class F>
auto run_on_one_shard(F f, RealNodeOptions options = one_shard_options())
    -> Result<typename std::invoke_result_t<F&, RealNode&>::value_type> {
    std::optional<typename std::invoke_result_t<F&, RealNode&>::value_type> result;
    const Result<int> ran = run_real_node(std::move(options), [&](RealNode& node) {
        return real_detail::keep_result(f(node), &result);
    });
    if (!ran) return std::unexpected(ran.error());
    return std::move(*result);
}

}  // namespace weir::runtime
