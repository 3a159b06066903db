// Principal: who sent a request, for access control and quotas: "User:alice". Until connections are
// authenticated everybody is the anonymous user.
#pragma once

#include <string>
#include <string_view>

namespace weir::kafka {

struct Principal {
    std::string type = "User";
    std::string name = "ANONYMOUS";

    bool is_anonymous() const { return *this == Principal{}; }
    std::string to_string() const { return type + ":" + name; }
    // Parses what to_string() made; a text without a colon is a user's name.
    static Principal parse(std::string_view text) {
        const size_t colon = text.find(':');
        if (colon == std::string_view::npos) return {.name = std::string(text)};
        return {.type = std::string(text.substr(0, colon)),
                .name = std::string(text.substr(colon + 1))};
    }
    bool operator==(const Principal&) const = default;
};

}  // namespace weir::kafka
