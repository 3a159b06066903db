#include "cluster/node_identity.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/prng.h"

namespace weir::cluster {
namespace {

constexpr std::string_view kFirstLine = "weir-node 1";
constexpr std::string_view kStages[] = {"free", "promised", "member"};
constexpr std::string_view kOwn = "own";  // a stage of the file: a member that is the first

std::unexpected<Error> damaged(std::string_view what) {
    return fail(ErrorCode::kCorrupt,
                fmt::format("the file that says who the node is is damaged: {}", what));
}

bool is_address(std::string_view text) {
    return !text.empty() && text.size() <= kAddressMax &&
           std::ranges::all_of(text, [](char c) { return c > ' ' && c <= '~'; });
}

// The text up to the next separator, which is taken too.
std::string_view take_until(std::string_view& text, char separator) {
    const size_t at = text.find(separator);
    const std::string_view taken = text.substr(0, at);
    text = at == std::string_view::npos ? std::string_view{} : text.substr(at + 1);
    return taken;
}

template <class T>
bool parse_number(std::string_view text, T* value, int base = 10) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value, base);
    return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

bool parse_uuid(std::string_view text, Uuid* uuid) {
    const auto parsed = Uuid::parse(text);
    if (!parsed || parsed->is_zero()) return false;
    *uuid = *parsed;
    return true;
}

// The lines between the first and the checksum.
Result<NodeIdentity> parse_lines(std::string_view lines) {
    NodeIdentity identity;
    const auto take = [&](std::string_view name) -> std::string_view {
        std::string_view line = take_until(lines, '\n');
        return take_until(line, ' ') == name ? line : std::string_view{};
    };
    if (!parse_uuid(take("uuid"), &identity.uuid)) return damaged("no uuid");
    const std::string_view stage_text = take("stage");
    identity.own = stage_text == kOwn;
    const auto stage = std::ranges::find(kStages, identity.own ? kStages[2] : stage_text);
    if (stage == std::end(kStages)) return damaged("no stage");
    identity.stage = static_cast<NodeIdentity::Stage>(stage - std::begin(kStages));
    if (identity.stage != NodeIdentity::Stage::kFree) {
        if (!parse_uuid(take("cluster"), &identity.cluster_id)) return damaged("no cluster");
        if (!parse_number(take("node"), &identity.node_id) || identity.node_id < 0)
            return damaged("no node id");
    }
    while (!lines.empty()) {
        std::string_view line = take("founder");
        Founder& founder = identity.founding.emplace_back();
        if (!parse_number(take_until(line, ' '), &founder.node_id) ||
            !parse_uuid(take_until(line, ' '), &founder.uuid))
            return damaged("a line that is no founder");
        founder.rpc = line;
    }
    const Founding& founding = identity.founding;
    if (founding.empty()) {
        if (identity.stage == NodeIdentity::Stage::kPromised) return damaged("no founders");
        return identity;
    }
    if (identity.own) return damaged("founders of a cluster that has none");
    if (const std::string problem = check_founding(founding); !problem.empty())
        return damaged(problem);
    const auto self = std::ranges::find(founding, identity.uuid, &Founder::uuid);
    if (identity.stage == NodeIdentity::Stage::kFree || self == founding.end() ||
        self->node_id != identity.node_id || cluster_id_of(founding) != identity.cluster_id)
        return damaged("founders that are not this node's");
    return identity;
}

}  // namespace

Uuid cluster_id_of(const Founding& founding) {
    uint64_t high = mix64(1);
    uint64_t low = mix64(2);
    const auto add = [&](uint64_t word) {
        high = mix64(high ^ word);
        low = mix64(low + mix64(word));
    };
    for (const Founder& founder : founding) {
        add(load_be<uint64_t>(founder.uuid.bytes.data()));
        add(load_be<uint64_t>(founder.uuid.bytes.data() + 8));
        add(static_cast<uint64_t>(founder.node_id));
        add(founder.rpc.size());
        for (const char c : founder.rpc) add(static_cast<uint8_t>(c));
    }
    return Uuid::random(high, low);
}

std::string check_founding(const Founding& founding) {
    if (founding.empty() || founding.size() > kSeedsMax)
        return fmt::format("a cluster has 1 to {} founders", kSeedsMax);
    std::set<Uuid> uuids;
    std::set<int32_t> ids;
    for (size_t i = 0; i < founding.size(); ++i) {
        const Founder& founder = founding[i];
        if (!is_address(founder.rpc)) return "a founder's address is none";
        if (i > 0 && founding[i - 1].rpc >= founder.rpc) return "founders are out of order";
        if (founder.uuid.is_zero() || !uuids.insert(founder.uuid).second)
            return fmt::format("{} is the same node as another seed", founder.rpc);
        if (founder.node_id < 0 || founder.node_id == INT32_MAX ||
            !ids.insert(founder.node_id).second)
            return fmt::format("two seeds have node id {}", founder.node_id);
    }
    return {};
}

std::string encode_node_identity(const NodeIdentity& identity) {
    std::string text =
        fmt::format("{}\nuuid {}\nstage {}\n", kFirstLine, identity.uuid.to_string(),
                    identity.own ? kOwn : kStages[static_cast<size_t>(identity.stage)]);
    if (identity.stage != NodeIdentity::Stage::kFree) {
        text +=
            fmt::format("cluster {}\nnode {}\n", identity.cluster_id.to_string(), identity.node_id);
        for (const Founder& founder : identity.founding) {
            text += fmt::format("founder {} {} {}\n", founder.node_id, founder.uuid.to_string(),
                                founder.rpc);
        }
    }
    return text + fmt::format("crc {:08x}\n", crc32c(as_bytes(text)));
}

Result<NodeIdentity> decode_node_identity(std::string_view text) {
    if (text.size() > kNodeIdentityBytesMax || !text.ends_with('\n')) return damaged("its end");
    const std::string_view first = text.substr(0, text.find('\n'));
    const size_t last_line = text.rfind('\n', text.size() - 2);
    if (last_line == std::string_view::npos) return damaged("its end");
    std::string_view checksum = text.substr(last_line + 1, text.size() - last_line - 2);
    uint32_t crc = 0;
    if (take_until(checksum, ' ') != "crc" || checksum.size() != 8 ||
        !parse_number(checksum, &crc, 16) || crc != crc32c(as_bytes(text.substr(0, last_line + 1))))
        return damaged("its checksum");
    if (first != kFirstLine) {
        return fail(ErrorCode::kUnsupported,
                    fmt::format("the file that says who the node is begins with '{}', not '{}'",
                                first, kFirstLine));
    }
    return parse_lines(text.substr(first.size() + 1, last_line - first.size()));
}

}  // namespace weir::cluster
