#include "broker/membership.h"

#include <fmt/format.h>

#include "base/bytes.h"
#include "replication/wire.h"
#include "runtime/file.h"
#include "runtime/shard.h"

namespace weir::broker {

using cluster::Bootstrap;
using cluster::NodeIdentity;
using runtime::Shard;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;

namespace {

// Of one question to a seed, and of one request to be taken in.
constexpr Duration kAskTimeout = 1s;
constexpr Duration kJoinTimeout = 5s;
// Between two rounds, and as much again at random.
constexpr Duration kRoundPause = 100ms;
// What it waits for is said again after so long.
constexpr Duration kTellInterval = 10s;

Uuid random_uuid() {
    std::array<uint8_t, 16> entropy;
    Shard::current().driver().fill_entropy(entropy);
    return Uuid::random(load_be<uint64_t>(entropy.data()), load_be<uint64_t>(entropy.data() + 8));
}

NodeIdentity own_identity(int32_t node) {
    return {.uuid = random_uuid(),
            .stage = NodeIdentity::Stage::kMember,
            .cluster_id = {},
            .node_id = node,
            .founding = {},
            .own = true};
}

// A cluster of one node is founded in its log: its only voter, then its id, and then the file is
// written. So a log that holds no more than that is of a first start, which a crash or a power cut
// ended before the file was there. Whatever the node did as a member came after the file. Gives the
// node's id.
std::optional<int32_t> own_founding(const storage::Log* log) {
    if (log == nullptr || log->end().offset > 1 || log->group_config().empty()) return {};
    const auto kept = replication::decode_kept(log->group_config());
    if (!kept || !kept->configuration) return {};
    const raft::Configuration& members = kept->configuration->configuration;
    if (members.members.size() != 1 || !members.members[0].voter) return {};
    return members.members[0].node.v;
}

}  // namespace

std::unexpected<Error> Membership::is_another(int32_t node) const {
    return fail(
        ErrorCode::kInvalidArgument,
        fmt::format("--node-id {}: this data directory is node {}'s", *options_.node_id, node));
}

Task<Result<void>> Membership::load(const storage::Log* log) {
    const std::string path = fmt::format("{}/{}", options_.data, cluster::kNodeIdentityFile);
    auto text = co_await runtime::read_small_file(path, cluster::kNodeIdentityBytesMax);
    const bool has_metadata =
        log != nullptr && (log->end() != storage::Position{} || log->last_term() > 0);
    if (text) {
        auto decoded = cluster::decode_node_identity(*text);
        if (!decoded) co_return fail(std::move(decoded).error().with(path));
        identity_ = std::move(*decoded);
    } else if (text.error().code != ErrorCode::kNotFound) {
        co_return fail(std::move(text).error().with(path));
    } else if (const auto own_id = own_founding(log)) {
        // A cut before found_own(): the first start goes on.
        is_new_own_ = true;
        identity_ = own_identity(*own_id);
        if (options_.node_id && *options_.node_id != *own_id) co_return is_another(*own_id);
        co_return Result<void>{};
    } else if (has_metadata && !log->group_config().empty()) {
        co_return fail(ErrorCode::kCorrupt,
                       fmt::format("{} is missing, and the directory holds a node of a cluster: "
                                   "without it nobody knows which",
                                   path));
    } else if (has_metadata || options_.seeds.empty()) {
        is_new_own_ = true;
        identity_ = own_identity(options_.node_id.value_or(0));
        co_return Result<void>{};
    } else {
        co_await try_(save({.uuid = random_uuid()}));
    }
    if (!options_.seeds.empty()) {
        bootstrap_ = co_await try_(Bootstrap::make({.identity = identity_,
                                                    .rpc = options_.rpc.value_or(""),
                                                    .seeds = options_.seeds,
                                                    .node_id = options_.node_id}));
    } else if (identity_.stage != NodeIdentity::Stage::kMember) {
        co_return fail(ErrorCode::kInvalidArgument,
                       "this data directory was made with --seeds, and its node has not found its "
                       "cluster yet: give --seeds, or another --data");
    } else if (options_.node_id && *options_.node_id != identity_.node_id) {
        co_return is_another(identity_.node_id);
    }
    co_return Result<void>{};
}

Task<Result<void>> Membership::found_own(const Uuid& cluster_id) {
    NodeIdentity own = identity_;
    own.cluster_id = cluster_id;
    co_await try_(save(std::move(own)));
    is_new_own_ = false;
    if (!options_.seeds.empty()) {
        bootstrap_ = co_await try_(Bootstrap::make({.identity = identity_,
                                                    .rpc = options_.rpc.value_or(""),
                                                    .seeds = options_.seeds,
                                                    .node_id = options_.node_id}));
    }
    co_return Result<void>{};
}

Task<Result<void>> Membership::save(NodeIdentity identity) {
    co_await try_(
        runtime::replace_small_file(fmt::format("{}/{}", options_.data, cluster::kNodeIdentityFile),
                                    cluster::encode_node_identity(identity)));
    identity_ = std::move(identity);
    co_return Result<void>{};
}

rpc::Identity Membership::transport_identity() const {
    if (identity_.stage != NodeIdentity::Stage::kMember) return {.uuid = identity_.uuid};
    return {
        .cluster = identity_.cluster_id, .node = NodeId{identity_.node_id}, .uuid = identity_.uuid};
}

cluster::Hello Membership::hello() const {
    if (bootstrap_) return bootstrap_->hello();
    return {.rpc = options_.rpc.value_or(""),
            .seeds = {},
            .node_id = options_.node_id,
            .identity = identity_};
}

Task<Result<rpc::Message>> Membership::answer_hello(rpc::Request request) {
    const auto asker = co_await try_(cluster::decode_hello(request.body.bytes()));
    // What it promised counts as a founder's: nobody speaks for another.
    if (asker.identity.uuid != request.from.uuid)
        co_return fail(ErrorCode::kInvalidArgument, "a hello in the name of another node");
    if (bootstrap_) {
        bootstrap_->heard_from_asker(asker);
        heard_.notify_all();
    }
    co_return rpc::control_message({}, cluster::encode_hello(hello()));
}

Task<Result<void>> Membership::find_cluster(rpc::Endpoint& endpoint, cluster::NodeRegistered self,
                                            std::function<void(const rpc::Identity&)> identified,
                                            StopToken stop) {
    while (bootstrap_ && bootstrap_->phase() != Bootstrap::Phase::kMember) {
        if (stop.stop_requested()) co_return fail(ErrorCode::kCancelled);
        if (bootstrap_->phase() == Bootstrap::Phase::kRefused)
            co_return fail(bootstrap_->refusal());
        if (const NodeIdentity* next = bootstrap_->to_persist()) {
            co_await try_(save(*next));
            bootstrap_->persisted();
            identified(transport_identity());
            continue;
        }
        co_await try_(join_step(endpoint, self, stop));
    }
    co_return Result<void>{};
}

Task<Result<void>> Membership::join_step(rpc::Endpoint& endpoint, cluster::NodeRegistered& self,
                                         StopToken stop) {
    std::vector<Task<bool>> questions;
    for (const size_t seed : bootstrap_->to_ask()) questions.push_back(ask(endpoint, seed, stop));
    if (!questions.empty()) (void)co_await runtime::all(std::move(questions));
    if (bootstrap_->to_persist() != nullptr) co_return Result<void>{};
    if (bootstrap_->phase() == Bootstrap::Phase::kJoining) {
        self.uuid = identity_.uuid;
        self.id = options_.node_id.value_or(-1);
        for (const size_t seed : bootstrap_->join_through()) {
            if (co_await join_through(endpoint, bootstrap_->seeds()[seed], self, stop))
                co_return Result<void>{};
        }
    }
    notify_waiting();
    const auto pause = kRoundPause + Duration(static_cast<int64_t>(Shard::current().prng().below(
                                         static_cast<uint64_t>(kRoundPause.count()))));
    (void)co_await heard_.wait({.deadline = Shard::current().now() + pause, .stop = stop});
    co_return Result<void>{};
}

Task<bool> Membership::ask(rpc::Endpoint& endpoint, size_t seed, StopToken stop) {
    const auto answer = co_await endpoint.call_address(
        bootstrap_->seeds()[seed], 0,
        rpc::control_message(cluster::kHelloCall, cluster::encode_hello(bootstrap_->hello())),
        {.deadline = Shard::current().now() + kAskTimeout, .stop = stop});
    const auto heard = answer ? cluster::decode_hello(answer->bytes())
                              : Result<cluster::Hello>(fail(answer.error()));
    // Waiting does not help if the seed does not talk to this node: the log says why.
    if (!answer && answer.error().code == ErrorCode::kUnsupported) {
        refusals_[seed] = fmt::format("{}: {}", bootstrap_->seeds()[seed], answer.error().message);
    } else {
        refusals_.erase(seed);
    }
    if (heard) {
        bootstrap_->note_answer(seed, *heard);
    } else {
        bootstrap_->lost(seed);
    }
    co_return heard.has_value();
}

// Whether there is an answer that counts.
Task<bool> Membership::join_through(rpc::Endpoint& endpoint, std::string address,
                                    cluster::NodeRegistered self, StopToken stop) {
    const auto answer = co_await endpoint.call_address(
        std::move(address), 0,
        rpc::control_message(cluster::kRegisterCall,
                             cluster::encode(cluster::RegisterRequest{
                                 .passed_on = false, .is_member = false, .node = self})),
        {.deadline = Shard::current().now() + kJoinTimeout, .stop = stop});
    if (!answer) {
        const bool is_final = answer.error().code == ErrorCode::kInvalidArgument;
        join_error_ = answer.error().to_string();
        if (is_final) bootstrap_->join_refused(answer.error().message);
        co_return is_final;
    }
    const auto reply = cluster::decode_register_reply(answer->bytes());
    if (!reply) co_return false;
    members_ = reply->members;
    bootstrap_->joined(reply->cluster_id, reply->node_id);
    co_return true;
}

void Membership::notify_waiting() {
    std::string waiting = bootstrap_->phase() == Bootstrap::Phase::kJoining
                              ? fmt::format("the controller to take this node in; {}", join_error_)
                              : bootstrap_->waiting_for();
    for (const auto& [seed, refusal] : refusals_) waiting += "; " + refusal;
    const Instant now = Shard::current().now();
    if (waiting.empty() || (waiting == waiting_for_ && now < told_ + kTellInterval)) return;
    waiting_for_ = waiting;
    told_ = now;
    Shard::current().log().info("cluster", "looking for the cluster", "waiting_for=\"{}\"",
                                waiting);
}

}  // namespace weir::broker
