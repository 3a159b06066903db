#include "cluster/bootstrap.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/byte_reader.h"
#include "base/byte_writer.h"
#include "base/check.h"

namespace weir::cluster {
namespace {

using Stage = NodeIdentity::Stage;

constexpr uint8_t kHelloFormat = 1;

void put_text(ByteWriter& out, std::string_view text) {
    out.write_unsigned_varlong(text.size());
    out.write_text(text);
}

// Longer ones than the identity file may be are malformed.
std::string get_text(ByteReader& in) {
    const uint64_t size = in.read_unsigned_varlong();
    if (size > kNodeIdentityBytesMax) in.set_failed();
    return in.ok() ? std::string(as_text(in.read_bytes(size))) : std::string();
}

std::optional<size_t> index_of(const std::vector<std::string>& list, std::string_view item) {
    const auto at = std::ranges::find(list, item);
    if (at == list.end()) return std::nullopt;
    return static_cast<size_t>(at - list.begin());
}

std::string list_of(const std::vector<std::string>& items) {
    return fmt::format("{}", fmt::join(items, ","));
}

}  // namespace

std::vector<uint8_t> encode_hello(const Hello& hello) {
    ByteWriter out;
    out.write_u8(kHelloFormat);
    put_text(out, hello.rpc);
    out.write_unsigned_varlong(hello.seeds.size());
    for (const std::string& seed : hello.seeds) put_text(out, seed);
    out.write_unsigned_varlong(hello.node_id ? static_cast<uint64_t>(*hello.node_id) + 1 : 0);
    put_text(out, encode_node_identity(hello.identity));
    return out.flatten();
}

Result<Hello> decode_hello(Bytes bytes) {
    ByteReader in(bytes);
    const uint8_t format = in.read_u8();
    if (in.ok() && format != kHelloFormat) {
        return fail(ErrorCode::kUnsupported,
                    fmt::format("a node says hello in an unknown format {}", format));
    }
    Hello hello;
    hello.rpc = get_text(in);
    const uint64_t seeds = in.read_unsigned_varlong();
    if (seeds > kSeedsMax) in.set_failed();
    for (uint64_t i = 0; i < seeds && in.ok(); ++i) hello.seeds.push_back(get_text(in));
    const uint64_t node_id = in.read_unsigned_varlong();
    if (node_id > INT32_MAX) in.set_failed();
    if (in.ok() && node_id > 0) hello.node_id = static_cast<int32_t>(node_id - 1);
    const std::string identity = get_text(in);
    const auto too_long = [](const std::string& text) { return text.size() > kAddressMax; };
    if (!in.ok() || in.remaining() != 0 || too_long(hello.rpc) ||
        std::ranges::any_of(hello.seeds, too_long))
        return fail(ErrorCode::kMalformed, "a node's hello does not parse");
    auto decoded = decode_node_identity(identity);
    if (!decoded) {
        const ErrorCode code = decoded.error().code == ErrorCode::kUnsupported
                                   ? ErrorCode::kUnsupported
                                   : ErrorCode::kMalformed;
        return fail(code, "a node's hello: " + decoded.error().message);
    }
    hello.identity = std::move(*decoded);
    return hello;
}

Result<Bootstrap> Bootstrap::make(Options options) {
    CHECK(!options.identity.uuid.is_zero());
    if (options.seeds.empty() || options.seeds.size() > kSeedsMax) {
        return fail(ErrorCode::kInvalidArgument, fmt::format("--seeds: 1 to {} addresses, not {}",
                                                             kSeedsMax, options.seeds.size()));
    }
    std::set<std::string> seen;
    for (const std::string& seed : options.seeds) {
        if (!seen.insert(seed).second) {
            return fail(ErrorCode::kInvalidArgument,
                        fmt::format("--seeds: {} is there twice", seed));
        }
    }
    const NodeIdentity& identity = options.identity;
    if (options.node_id && identity.stage != Stage::kFree && *options.node_id != identity.node_id) {
        return fail(ErrorCode::kInvalidArgument,
                    fmt::format("--node-id {}: this data directory is node {}'s", *options.node_id,
                                identity.node_id));
    }
    return Bootstrap(std::move(options));
}

Bootstrap::Bootstrap(Options options)
    : options_(std::move(options)),
      identity_(options_.identity),
      seeds_(options_.seeds),
      answers_(seeds_.size()) {
    std::ranges::sort(seeds_);
    if (identity_.stage == Stage::kPromised) {
        // The promise binds, not what the seed list is by now.
        seeds_.clear();
        for (const Founder& founder : identity_.founding) seeds_.push_back(founder.rpc);
        answers_.resize(seeds_.size());
        self_ = index_of(seeds_, own_founder()->rpc);
    } else {
        self_ = index_of(seeds_, options_.rpc);
    }
    evaluate();
}

Hello Bootstrap::hello() const {
    return {
        .rpc = options_.rpc, .seeds = seeds_, .node_id = options_.node_id, .identity = identity_};
}

std::vector<size_t> Bootstrap::to_ask() const {
    std::vector<size_t> ask;
    if (phase_ == Phase::kMember || phase_ == Phase::kRefused) return ask;
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        if (!is_self(seed)) ask.push_back(seed);
    }
    return ask;
}

void Bootstrap::note_answer(size_t seed, const Hello& hello) {
    CHECK(seed < seeds_.size());
    if (is_self(seed)) return;
    answers_[seed] = hello;
    note_evidence(hello);
    evaluate();
}

void Bootstrap::lost(size_t seed) {
    CHECK(seed < seeds_.size());
    answers_[seed].reset();
    evaluate();
}

void Bootstrap::heard_from_asker(const Hello& hello) {
    note_evidence(hello);
    evaluate();
}

void Bootstrap::joined(const Uuid& cluster_id, int32_t node_id) {
    if (phase_ != Phase::kJoining || to_persist_) return;
    if (cluster_id != cluster_to_join_) {
        return refuse(ErrorCode::kInvalidArgument,
                      fmt::format("asked cluster {} for a node id, and {} answered",
                                  cluster_to_join_.to_string(), cluster_id.to_string()));
    }
    if (options_.node_id && *options_.node_id != node_id) {
        return refuse(ErrorCode::kInvalidArgument,
                      fmt::format("--node-id {}: the cluster knows this data directory as node {}",
                                  *options_.node_id, node_id));
    }
    persist({.uuid = identity_.uuid,
             .stage = Stage::kMember,
             .cluster_id = cluster_id,
             .node_id = node_id,
             .founding = {}});
}

void Bootstrap::join_refused(std::string reason) {
    if (phase_ != Phase::kJoining || to_persist_) return;
    refuse(ErrorCode::kInvalidArgument, fmt::format("cluster {} does not take this node: {}",
                                                    cluster_to_join_.to_string(), reason));
}

const NodeIdentity* Bootstrap::to_persist() const { return to_persist_ ? &*to_persist_ : nullptr; }

void Bootstrap::persisted() {
    CHECK(to_persist_.has_value());
    const Stage before = identity_.stage;
    identity_ = std::move(*to_persist_);
    to_persist_.reset();
    // What was said of this founding before this node promised it counts too.
    if (before == Stage::kFree) {
        for (const auto& answer : answers_) {
            if (answer) note_evidence(*answer);
        }
    }
    evaluate();
}

std::vector<size_t> Bootstrap::join_through() const {
    std::vector<size_t> members;
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        if (answers_[seed] && answers_[seed]->identity.stage == Stage::kMember)
            members.push_back(seed);
    }
    return members;
}

std::string Bootstrap::waiting_for() const {
    if (phase_ != Phase::kSearching) return {};
    std::vector<std::string> silent;
    for (const size_t seed : to_ask()) {
        if (!answers_[seed]) silent.push_back(seeds_[seed]);
    }
    std::vector<std::string> parts;
    if (!silent.empty()) parts.push_back(fmt::format("no answer from {}", list_of(silent)));
    parts.insert(parts.end(), problems_.begin(), problems_.end());
    if (parts.empty() && identity_.stage == Stage::kPromised) {
        std::vector<std::string> missing;
        for (const Founder& founder : identity_.founding) {
            if (founder.uuid != identity_.uuid && !promised_.contains(founder.uuid))
                missing.push_back(founder.rpc);
        }
        if (!missing.empty())
            parts.push_back(fmt::format("{} to take part in the founding", list_of(missing)));
    }
    return fmt::format("{}", fmt::join(parts, "; "));
}

void Bootstrap::persist(NodeIdentity identity) {
    CHECK(!to_persist_);
    // A promise is never taken back, and a member never leaves.
    CHECK(identity_.stage < identity.stage);
    CHECK(identity_.stage != Stage::kPromised || identity_.cluster_id == identity.cluster_id);
    to_persist_ = std::move(identity);
}

void Bootstrap::refuse(ErrorCode code, std::string reason) {
    phase_ = Phase::kRefused;
    refusal_ = Error{code, std::move(reason), 0};
}

// What stays true whenever it was said: promises and memberships are for ever.
void Bootstrap::note_evidence(const Hello& hello) {
    const NodeIdentity& other = hello.identity;
    if (other.stage == Stage::kFree) return;
    if (identity_.stage == Stage::kPromised && other.cluster_id == identity_.cluster_id) {
        if (std::ranges::count(identity_.founding, other.uuid, &Founder::uuid) > 0)
            promised_.insert(other.uuid);
        if (other.stage == Stage::kMember) has_member_ = true;
    }
    if (identity_.stage == Stage::kFree && other.stage == Stage::kPromised &&
        std::ranges::count(other.founding, identity_.uuid, &Founder::uuid) > 0)
        offered_ = other.founding;
}

void Bootstrap::evaluate() {
    if (to_persist_ || phase_ == Phase::kRefused) return;
    problems_.clear();
    if (identity_.stage == Stage::kMember) {
        phase_ = Phase::kMember;
    } else if (identity_.stage == Stage::kPromised) {
        evaluate_promised();
    } else {
        evaluate_free();
    }
}

void Bootstrap::evaluate_promised() {
    const Founding& founding = identity_.founding;
    const bool is_unanimous = std::ranges::all_of(founding, [this](const Founder& founder) {
        return founder.uuid == identity_.uuid || promised_.contains(founder.uuid);
    });
    if (is_unanimous || has_member_) {
        NodeIdentity member = identity_;
        member.stage = Stage::kMember;
        return persist(std::move(member));
    }
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        if (!answers_[seed]) continue;
        const NodeIdentity& other = answers_[seed]->identity;
        const bool is_founder = std::ranges::count(founding, other.uuid, &Founder::uuid) > 0;
        if (is_founder && other.stage != Stage::kFree && other.cluster_id != identity_.cluster_id) {
            return refuse(
                ErrorCode::kCorrupt,
                fmt::format("{} took part in another founding (cluster {}) than this node (cluster "
                            "{}), which can't come about any more: empty this node's data "
                            "directory; no data is in it",
                            seeds_[seed], other.cluster_id.to_string(),
                            identity_.cluster_id.to_string()));
        }
        const auto at_seed = std::ranges::find(founding, seeds_[seed], &Founder::rpc);
        if (at_seed != founding.end() && at_seed->uuid != other.uuid) {
            problems_.push_back(
                fmt::format("{} is another node than the one that the founding of cluster {} "
                            "names: if its data directory was lost, empty those of all seeds; "
                            "nothing was stored yet",
                            seeds_[seed], identity_.cluster_id.to_string()));
        }
    }
}

// Why this node, which is free, can't found together with what answers at that seed; "" if it can.
std::string Bootstrap::conflict_of(size_t seed, const Hello& hello) const {
    const std::string& name = seeds_[seed];
    if (hello.identity.uuid == identity_.uuid) {
        return fmt::format(
            "{} is this node: --rpc must be the address that --seeds has for it, "
            "not {}",
            name, options_.rpc);
    }
    if (!is_seed()) return {};
    if (hello.seeds != seeds_) {
        return fmt::format("{} was started with other seeds: {} there, {} here", name,
                           hello.seeds.empty() ? "none" : list_of(hello.seeds), list_of(seeds_));
    }
    if (hello.rpc != name) {
        return fmt::format("{} calls itself {}: --rpc must be the address that --seeds has for it",
                           name, hello.rpc);
    }
    if (hello.identity.stage == Stage::kPromised) {
        // Not with this node: that would have been offered.
        return fmt::format(
            "{} takes part in a founding with another node in this one's place: if "
            "this node's data directory was lost, empty those of all seeds, unless "
            "one of them is a member by now",
            name);
    }
    return {};
}

const Founder* Bootstrap::own_founder() const {
    const auto own = std::ranges::find(identity_.founding, identity_.uuid, &Founder::uuid);
    CHECK(own != identity_.founding.end());
    return &*own;
}

bool Bootstrap::adopt(const Founding& founding) {
    const auto self = std::ranges::find(founding, identity_.uuid, &Founder::uuid);
    CHECK(self != founding.end());
    const bool is_same_list = std::ranges::equal(founding, seeds_, {}, &Founder::rpc);
    if (!is_same_list || self->rpc != options_.rpc) {
        problems_.push_back("a founding is under way in which this node has the address " +
                            self->rpc + ", and with other seeds or another --rpc than it has now");
        return false;
    }
    if (options_.node_id && *options_.node_id != self->node_id) {
        problems_.push_back(
            fmt::format("a founding is under way in which this node has id {}, not {}",
                        self->node_id, *options_.node_id));
        return false;
    }
    persist({.uuid = identity_.uuid,
             .stage = Stage::kPromised,
             .cluster_id = cluster_id_of(founding),
             .node_id = self->node_id,
             .founding = founding});
    return true;
}

// If every seed answers, is free, and agrees on who they are.
std::optional<Founding> Bootstrap::founding_of_all() {
    Founding founding;
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        const auto& answer = answers_[seed];
        if (!is_self(seed) && !answer) return std::nullopt;
        const auto& wanted = is_self(seed) ? options_.node_id : answer->node_id;
        founding.push_back({.rpc = seeds_[seed],
                            .uuid = is_self(seed) ? identity_.uuid : answer->identity.uuid,
                            .node_id = wanted.value_or(static_cast<int32_t>(seed) + 1)});
    }
    if (std::string problem = check_founding(founding); !problem.empty()) {
        problems_.push_back(std::move(problem));
        return std::nullopt;
    }
    return founding;
}

void Bootstrap::evaluate_free() {
    phase_ = Phase::kSearching;
    std::map<Uuid, std::string> clusters;  // and a seed that is a member
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        if (!answers_[seed]) continue;
        const NodeIdentity& other = answers_[seed]->identity;
        if (other.stage != Stage::kMember) continue;
        clusters.emplace(other.cluster_id, seeds_[seed]);
        const auto self = std::ranges::find(other.founding, identity_.uuid, &Founder::uuid);
        if (self != other.founding.end()) {
            return refuse(ErrorCode::kCorrupt,
                          fmt::format("this node has founded cluster {} (so says {}), and its data "
                                      "directory does not know: it is an old copy, and what the "
                                      "node has voted for since is lost. Empty it, and the node "
                                      "joins as a new one",
                                      other.cluster_id.to_string(), seeds_[seed]));
        }
    }
    if (clusters.size() > 1) {
        std::vector<std::string> named;
        for (const auto& [id, seed] : clusters)
            named.push_back(fmt::format("{} to cluster {}", seed, id.to_string()));
        problems_.push_back(
            fmt::format("the seeds belong to different clusters: {}", list_of(named)));
        return;
    }
    if (clusters.size() == 1) {
        cluster_to_join_ = clusters.begin()->first;
        phase_ = Phase::kJoining;
        return;
    }
    if (offered_ && adopt(*offered_)) return;
    for (size_t seed = 0; seed < seeds_.size(); ++seed) {
        if (!answers_[seed]) continue;
        if (std::string conflict = conflict_of(seed, *answers_[seed]); !conflict.empty())
            problems_.push_back(std::move(conflict));
    }
    if (!is_seed() && problems_.empty()) problems_.push_back("the seeds to found their cluster");
    if (!problems_.empty()) return;
    if (const auto founding = founding_of_all()) (void)adopt(*founding);
}

}  // namespace weir::cluster
