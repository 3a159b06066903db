// Who may use a server that has no login, as far as browsers are concerned. A page of another site
// may send requests here (cross-site request forgery), or reach this address under a name of its
// own (DNS rebinding). Browsers say both: in Origin, and in Host. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace weir::http {

// What of a request's head counts here.
struct Provenance {
    std::string host;    // the header as it is, with its port
    std::string origin;  // empty: there is none
    std::string content_type;
};

// Whether Host is an address, localhost, or one of `names` (without ports; letters' case does not
// count). A name that somebody else owns could be made to point here; an address could not.
bool is_known_host(std::string_view host, const std::vector<std::string>& names);
// Whether there is no Origin, or it is http:// or https:// and this very Host.
bool is_same_origin(std::string_view origin, std::string_view host);
// "application/json", with or without parameters.
bool is_json(std::string_view content_type);

// Why the request is refused, as a status and a sentence; nothing if it is not. `changes`: of a
// request that is not GET or HEAD.
struct Refusal {
    int status = 403;
    std::string why;
};
std::optional<Refusal> check_provenance(const Provenance& from, bool changes,
                                        const std::vector<std::string>& names);

}  // namespace weir::http
