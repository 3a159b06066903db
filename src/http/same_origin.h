// Which browsers' requests a server without a login accepts. A page of another site may send
// requests here (cross-site request forgery), or reach this address under its own name (DNS
// rebinding). Browsers reveal the first in Origin and the second in Host. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::http {

// The parts of a request's head that decide.
struct Provenance {
    std::string host;    // the header as it is, with its port
    std::string origin;  // empty: there is none
    std::string content_type;
};

// Whether Host is an IP address, localhost, or one of `names` (without ports, in any case).
// Somebody else could make their own name point here, but not an address.
bool is_known_host(std::string_view host, const std::vector<std::string>& names);
// Whether Origin is missing, or is http:// or https:// followed by exactly this Host.
bool is_same_origin(std::string_view origin, std::string_view host);
// "application/json", with or without parameters.
bool is_json(std::string_view content_type);

// Why a request is refused, as a status and a sentence; nothing if it is not. `changes` is true for
// all methods but GET and HEAD.
struct Refusal {
    int status = 403;
    std::string why;
};
std::optional<Refusal> check_provenance(const Provenance& from, bool changes,
                                        const std::vector<std::string>& names);

}  // namespace weir::http
