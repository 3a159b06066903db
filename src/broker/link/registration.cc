#include "broker/link/registration.h"

#include "broker/options.h"
#include "cluster/features.h"
#include "cluster/node_admin.h"

namespace weir::broker {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::StopToken;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kRegisterTimeout = 5s;
constexpr Duration kRetryPause = 50ms;

}  // namespace

Task<Result<int64_t>> Registration::register_node(cluster::NodeRegistered self, StopToken stop) {
    self.id = link_.self();
    self.uuid = link_.identity.uuid;
    const std::string own = cluster::address_of(self.rpc);
    size_t next = Shard::current().prng().below(1000);
    while (!stop.stop_requested() && !link_.stopping()) {
        if (const auto& broken = link_.controller->broken()) co_return fail(*broken);
        Result<cluster::RegisterReply> reply = fail(ErrorCode::kUnavailable);
        if (link_.controller->leads()) {
            reply = co_await register_here(self, false, LinkParts::in(kRegisterTimeout));
        } else {
            const std::vector<std::string> addresses = addresses_.to_ask(seeds_);
            const std::string address =
                addresses.empty() ? own : addresses[next++ % addresses.size()];
            if (address != own) {
                const auto answer = co_await link_.endpoint().call_address(
                    address, 0,
                    rpc::control_message(cluster::kRegisterCall,
                                         cluster::encode(cluster::RegisterRequest{
                                             .passed_on = false, .is_member = true, .node = self})),
                    {.deadline = LinkParts::in(kRegisterTimeout), .stop = stop});
                reply = answer ? cluster::decode_register_reply(answer->bytes())
                               : Result<cluster::RegisterReply>(fail(answer.error()));
            }
        }
        if (reply) {
            addresses_.add_hints({reply->members.begin(), reply->members.end()});
            on_addresses_();
            confirmed_ = std::move(self);
            co_return reply->committed_end;
        }
        // That is an answer, not a failure to get one.
        if (reply.error().code == ErrorCode::kInvalidArgument) co_return fail(reply.error());
        (void)co_await runtime::sleep_for(kRetryPause, stop);
    }
    co_return fail(ErrorCode::kCancelled);
}

void Registration::find_strangers() {
    if (stranger_dialled_ && confirmed_ && !std::exchange(registering_again_, true))
        link_.scope.spawn(register_again());
}

Task<void> Registration::register_again() {
    stranger_dialled_ = false;  // one that is not found dials again
    (void)co_await register_node(*confirmed_, link_.stop_token());
    registering_again_ = false;
}

Task<Result<cluster::RegisterReply>> Registration::register_here(cluster::NodeRegistered node,
                                                                 bool is_member, Instant deadline) {
    cluster::Controller& controller = *link_.controller;
    const runtime::WaitOptions options{.deadline = deadline, .stop = link_.stop_token()};
    const cluster::NodeIdentity& identity = link_.identity;
    {
        const runtime::Units lock = co_await try_(controller.lock(options));
        const int32_t level = static_cast<int32_t>(cluster::WeirLevel::kCluster);
        if (controller.image().cluster_id().is_zero()) {
            co_await try_(controller.commit(
                cluster::founding_records(identity.cluster_id, identity.founding)));
        } else if (controller.image().feature_level(cluster::kWeirVersion) < level) {
            // A node of its own that others may join from now on.
            const auto newest = static_cast<int32_t>(cluster::WeirLevel::kNewest);
            co_await try_(
                cluster::check_finalize(controller.image(), cluster::kWeirVersion, newest));
            std::vector<cluster::MetadataRecord> records;
            records.emplace_back(
                cluster::FeatureFinalized{std::string(cluster::kWeirVersion), newest});
            co_await try_(controller.commit(std::move(records)));
        }
        // A controller that was deposed and does not know it yet may lack a node that is
        // registered, and what is refused here is refused for good.
        co_await try_(controller.committed_end(options));
        if (!controller.leads()) co_return fail(ErrorCode::kUnavailable, "the controller moved");
        // Who belongs to the controller's group was not removed: a founder that comes late.
        is_member &= controller.group()->configuration().find(NodeId{node.id}) == nullptr;
        is_member |= controller.was_removed(node.uuid);
        auto planned = co_await try_(cluster::plan_registration(
            controller.image(), identity.founding, std::move(node), is_member));
        node = planned.node;
        if (planned.is_news) {
            std::vector<cluster::MetadataRecord> records;
            records.emplace_back(std::move(planned.node));
            co_await try_(controller.commit(std::move(records)));
            Shard::current().log().info(
                "cluster", "a node is registered", "node={} rpc={} kafka={}", node.id,
                cluster::address_of(node.rpc), cluster::address_of(node.kafka.primary()));
        }
    }
    cluster::RegisterReply reply{.cluster_id = controller.image().cluster_id(), .node_id = node.id};
    reply.committed_end = co_await try_(controller.committed_end(options));
    if (!controller.leads()) co_return fail(ErrorCode::kUnavailable, "the controller moved");
    AddressMap known = addresses_.hints();
    for (const cluster::Founder& founder : identity.founding) {
        if (founder.node_id != link_.self()) continue;
        if (const auto own = parse_host_port(founder.rpc))
            known[link_.self()] = {own->host, static_cast<uint16_t>(own->port)};
    }
    reply.members =
        cluster::member_addresses(controller.image(), controller.group()->configuration(), known);
    co_return reply;
}

Task<Result<rpc::Message>> Registration::answer(rpc::Request request) {
    auto wanted = co_await try_(cluster::decode_register_request(request.body.bytes()));
    const Instant deadline = std::min(request.deadline, LinkParts::in(kRegisterTimeout));
    // A node registers itself alone; a member passes on what such a node said.
    if (request.from.uuid != wanted.node.uuid && !(wanted.passed_on && request.from.member))
        co_return fail(ErrorCode::kUnavailable, "a node can register itself alone");
    if (link_.controller->leads()) {
        const auto reply =
            co_await try_(register_here(std::move(wanted.node), wanted.is_member, deadline));
        co_return rpc::control_message({}, cluster::encode(reply));
    }
    const NodeId leader = link_.controller->leader();
    if (wanted.passed_on || !leader.valid() || leader.v == link_.self())
        co_return fail(ErrorCode::kUnavailable, "the controller is not here");
    wanted.passed_on = true;
    const SharedBytes answer = co_await try_(link_.endpoint().call(
        leader, 0, rpc::control_message(cluster::kRegisterCall, cluster::encode(wanted)),
        {.deadline = deadline, .stop = link_.stop_token()}));
    co_return rpc::Message{.kind = {}, .lane = rpc::Lane::kControl, .body = {}, .parts = {answer}};
}

}  // namespace weir::broker
