#include "base/log.h"

#include <fmt/format.h>
#include <unistd.h>

#include <ctime>

namespace weir {

std::string_view to_string(LogLevel level) {
    switch (level) {
        case LogLevel::kTrace: return "trace";
        case LogLevel::kDebug: return "debug";
        case LogLevel::kInfo: return "info";
        case LogLevel::kWarn: return "warn";
        case LogLevel::kError: return "error";
    }
    return "unknown";
}

Logger::Logger(LogLevel level_min, Sink sink) : level_min_(level_min), sink_(std::move(sink)) {}

void Logger::emit(LogLevel level, std::string_view component, std::string_view message,
                  fmt::string_view format, fmt::format_args args) const {
    const std::string fields = fmt::vformat(format, args);
    sink_(Event{level, component, message, fields});
}

Logger::Sink Logger::stderr_sink(std::function<int64_t()> wall_ms) {
    return [wall_ms = std::move(wall_ms)](const Event& event) {
        const int64_t now_ms = wall_ms();
        const time_t seconds = now_ms / 1000;
        tm utc{};
        gmtime_r(&seconds, &utc);
        std::string line = fmt::format(
            "ts={:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z level={} component={} msg=\"{}\"{}{}\n",
            utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
            now_ms % 1000, to_string(event.level), event.component, event.message,
            event.fields.empty() ? "" : " ", event.fields);
        [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
    };
}

}  // namespace weir
