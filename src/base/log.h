// Structured logs: one line for each event, with `logfmt` keys. The code that composes the node
// passes a Logger down (there is no global one) and chooses its sink. A Logger gets its time from
// the caller's clock, so that a simulated run logs the same twice.
//   log.info("storage", "segment rolled", "log={} first_offset={}", id, first);
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <functional>
#include <string_view>

namespace weir {

enum class LogLevel : uint8_t { kTrace, kDebug, kInfo, kWarn, kError };

std::string_view to_string(LogLevel level);

class Logger {
  public:
    struct Event {
        LogLevel level;
        std::string_view component;
        std::string_view message;
        std::string_view fields;  // logfmt, already formatted
    };
    using Sink = std::function<void(const Event&)>;  // called on the thread that logs; must not
                                                     // block for long

    Logger() = default;  // drops everything
    Logger(LogLevel level_min, Sink sink);

    bool enabled(LogLevel level) const { return sink_ && level >= level_min_; }

    void event(LogLevel level, std::string_view component, std::string_view message) const {
        if (enabled(level)) emit(level, component, message, "", fmt::make_format_args());
    }
    template <class... Args>
    void event(LogLevel level, std::string_view component, std::string_view message,
               fmt::format_string<Args...> fields, Args&&... args) const {
        if (enabled(level)) emit(level, component, message, fields, fmt::make_format_args(args...));
    }
    template <class... Args>
    void info(std::string_view component, std::string_view message,
              fmt::format_string<Args...> fields, Args&&... args) const {
        event(LogLevel::kInfo, component, message, fields, std::forward<Args>(args)...);
    }
    void info(std::string_view component, std::string_view message) const {
        event(LogLevel::kInfo, component, message);
    }
    template <class... Args>
    void debug(std::string_view component, std::string_view message,
               fmt::format_string<Args...> fields, Args&&... args) const {
        event(LogLevel::kDebug, component, message, fields, std::forward<Args>(args)...);
    }
    template <class... Args>
    void warn(std::string_view component, std::string_view message,
              fmt::format_string<Args...> fields, Args&&... args) const {
        event(LogLevel::kWarn, component, message, fields, std::forward<Args>(args)...);
    }
    template <class... Args>
    void error(std::string_view component, std::string_view message,
               fmt::format_string<Args...> fields, Args&&... args) const {
        event(LogLevel::kError, component, message, fields, std::forward<Args>(args)...);
    }

    // A sink that writes `ts=… level=… component=… msg="…" fields` to stderr, one write(2) a line.
    // `wall_ms` reads the clock.
    static Sink stderr_sink(std::function<int64_t()> wall_ms);

  private:
    void emit(LogLevel level, std::string_view component, std::string_view message,
              fmt::string_view format, fmt::format_args args) const;

    LogLevel level_min_ = LogLevel::kInfo;
    Sink sink_;
};

}  // namespace weir
