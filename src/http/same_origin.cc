#include "http/same_origin.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cctype>

namespace weir::http {
namespace {

bool equal(std::string_view a, std::string_view b) {
    return std::ranges::equal(a, b, [](char x, char y) {
        return std::tolower(static_cast<unsigned char>(x)) ==
               std::tolower(static_cast<unsigned char>(y));
    });
}

bool is_port(std::string_view text) {
    return !text.empty() && text.size() <= 5 &&
           std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

bool is_address(const std::string& text) {
    in6_addr address;
    return inet_pton(AF_INET, text.c_str(), &address) == 1 ||
           inet_pton(AF_INET6, text.c_str(), &address) == 1;
}

// Without its port and brackets; nothing if it is none.
std::optional<std::string> name_of(std::string_view host) {
    if (host.starts_with('[')) {
        const size_t end = host.find(']');
        if (end == std::string_view::npos) return std::nullopt;
        const std::string_view rest = host.substr(end + 1);
        if (!rest.empty() && (rest[0] != ':' || !is_port(rest.substr(1)))) return std::nullopt;
        return std::string(host.substr(1, end - 1));
    }
    const size_t colon = host.find(':');
    if (colon != std::string_view::npos && !is_port(host.substr(colon + 1))) return std::nullopt;
    std::string_view name = host.substr(0, colon);
    if (name.ends_with('.')) name.remove_suffix(1);
    if (name.empty()) return std::nullopt;
    return std::string(name);
}

}  // namespace

bool is_known_host(std::string_view host, const std::vector<std::string>& names) {
    const auto name = name_of(host);
    if (!name) return false;
    return is_address(*name) || equal(*name, "localhost") ||
           std::ranges::any_of(names, [&](const std::string& each) { return equal(*name, each); });
}

bool is_same_origin(std::string_view origin, std::string_view host) {
    if (origin.empty()) return true;
    for (const std::string_view scheme : {"http://", "https://"}) {
        if (origin.starts_with(scheme)) return equal(origin.substr(scheme.size()), host);
    }
    return false;  // "null", of a sandboxed page, among others
}

bool is_json(std::string_view content_type) {
    std::string_view type = content_type.substr(0, content_type.find(';'));
    while (type.ends_with(' ') || type.ends_with('\t')) type.remove_suffix(1);
    return equal(type, "application/json");
}

std::optional<Refusal> check_provenance(const Provenance& from, bool changes,
                                        const std::vector<std::string>& names) {
    if (!is_same_origin(from.origin, from.host))
        return Refusal{403, "requests of pages of another origin are refused"};
    if (!is_known_host(from.host, names)) {
        return Refusal{403,
                       "the name in Host is none of this node's: ask by address, or list it in "
                       "admin.names"};
    }
    if (changes && !is_json(from.content_type))
        return Refusal{415, "what changes something needs Content-Type: application/json"};
    return std::nullopt;
}

}  // namespace weir::http
