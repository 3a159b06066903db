#include "cluster_strangers.h"

#include <fmt/format.h>

#include "base/units.h"
#include "cluster/leader_table.h"
#include "cluster/wire.h"
#include "raft/types.h"
#include "replication/wire.h"
#include "rpc/outbox.h"
#include "runtime/deadline_stop.h"
#include "runtime/shard.h"
#include "runtime/socket.h"
#include "runtime/wait.h"

namespace weir::sim {

using runtime::Shard;
using runtime::StopToken;
using runtime::Task;

namespace {

constexpr Duration kTalkMax = 1s;  // of one connection
constexpr Duration kListenMax = 300ms;
constexpr uint64_t kLogsMax = 24;  // of those that there may be
constexpr rpc::Kind kForward{0x0301};

void add(std::vector<uint8_t>& to, rpc::FrameType type, rpc::Message message, uint64_t call) {
    rpc::Outbox outbox(16_MiB, 16_MiB);
    outbox.push({.type = type, .call = call, .message = std::move(message)});
    rpc::Outbox::Batch batch;
    while (!outbox.empty()) {
        outbox.gather(&batch);
        for (const Bytes part : batch.parts) to.insert(to.end(), part.begin(), part.end());
        outbox.free(batch);
        batch.clear();
    }
}

}  // namespace

ClusterStrangers::ClusterStrangers(Options options, std::function<void(const std::string&)> fail)
    : options_(std::move(options)),
      fail_(std::move(fail)),
      prng_(options_.seed, "strangers"),
      memory_(16_MiB) {}

Task<void> ClusterStrangers::run(ClusterStrangers* self) {
    while (!self->stop_) {
        const auto mean = static_cast<double>(self->options_.pause_mean.count());
        const auto pause =
            Duration(static_cast<int64_t>(self->prng_.exponential(mean)) + 1'000'000);
        const Instant next = Shard::current().now() + std::min<Duration>(pause, 5s);
        while (!self->stop_ && Shard::current().now() < next)
            (void)co_await runtime::sleep_for(20ms);
        if (!self->stop_) co_await self->attempt();
    }
    self->stopped_ = true;
}

Task<void> ClusterStrangers::attempt() {
    Attempt what = draw();
    runtime::DeadlineStop limit(Shard::current().now() + kTalkMax, {});
    co_await talk(std::move(what), limit.token());
}

rpc::Identity ClusterStrangers::draw_identity(Role* role) {
    rpc::Identity nobody{.uuid = Uuid::random(prng_.next(), prng_.next())};
    if (known_.empty()) {
        *role = Role::kStranger;
        return nobody;
    }
    auto chosen = known_.begin();
    std::advance(chosen, prng_.below(known_.size()));
    const rpc::Identity member = chosen->second;
    if (*role != Role::kStranger) return member;
    switch (prng_.below(5)) {
        case 0:
            return nobody;
        case 1:  // the second look's: no cluster, and a node that there is not
            nobody.node = NodeId{9999};
            return nobody;
        case 2:
            nobody.cluster = member.cluster;
            nobody.node = NodeId{prng_.chance(0.5) ? 9999 : static_cast<int32_t>(prng_.next())};
            return nobody;
        case 3:  // a member's name, and another data directory
            nobody.cluster = member.cluster;
            nobody.node = member.node;
            return nobody;
        default:
            // The member to the byte; that is none where its proof is asked for.
            if (options_.required) return member;
            nobody.node = member.node;
            return nobody;
    }
}

// Out of reach of every group there is, and of what older versions let happen.
int32_t ClusterStrangers::draw_wild_term() {
    const int32_t wild[] = {
        2 * raft::kTermLeapMax + 10,
        raft::kTermOldMax - 1,
        raft::kTermMax,
        INT32_MAX,
        static_cast<int32_t>(prng_.between(3u * raft::kTermLeapMax, raft::kTermOldMax - 1)),
        static_cast<int32_t>(
            prng_.between(raft::kTermOldMax + 2u * raft::kTermLeapMax, raft::kTermMax))};
    return wild[prng_.below(std::size(wild))];
}

std::vector<uint8_t> ClusterStrangers::draw_frames(const Attempt& what) {
    std::vector<uint8_t> bytes;
    const bool wild = what.role == Role::kWildMember;
    const auto log = [&] { return storage::LogId{1 + prng_.below(kLogsMax)}; };
    const auto term = [&]() -> raft::Term {
        if (wild) return std::min(draw_wild_term(), raft::kTermMax);
        return prng_.chance(0.3) ? raft::kTermOldMax : static_cast<raft::Term>(1 + prng_.below(60));
    };
    const auto position = [&]() -> storage::Position {
        if (wild && prng_.chance(0.3)) return {raft::kOffsetMax, UINT32_MAX};
        return {static_cast<int64_t>(prng_.below(3000)), static_cast<uint32_t>(prng_.below(3))};
    };
    // One-way: what unseats leaders, if it is believed.
    ByteWriter frame;
    for (uint64_t i = 0, count = 1 + prng_.below(12); i < count; ++i) {
        const auto own = position();
        raft::Message message;
        switch (prng_.below(6)) {
            case 0:
                message = raft::VoteRequest{.term = term(), .end = own, .transfer = true};
                break;
            case 1:
                message = raft::AppendReply{
                    .term = term(), .accepted = true, .match = own, .received = own};
                break;
            case 2:
                message = raft::HeartbeatReply{.term = term(), .context = 1, .match = own};
                break;
            case 3:
                message = raft::RecoveryRequest{.term = term(), .end = own};
                break;
            default:
                message = raft::Heartbeat{.term = term(), .commit = own, .end = own};
        }
        replication::append_message(frame, {.log = log(), .message = message});
    }
    add(bytes, rpc::FrameType::kMessage,
        {.kind = replication::kGroupMessages, .lane = rpc::Lane::kControl, .body = frame.flatten()},
        0);
    if (prng_.chance(0.3)) {
        const raft::AppendRequest request{.term = term(), .prev = position(), .commit = position()};
        add(bytes, rpc::FrameType::kMessage, replication::encode_append(log(), 0, request, {}), 0);
    }
    // What members alone may ask, and a node in another's name.
    uint64_t call = 0;
    const auto ask = [&](rpc::Kind kind, std::vector<uint8_t> body) {
        add(bytes, rpc::FrameType::kRequest, rpc::control_message(kind, std::move(body)), ++call);
    };
    // A member's is answered, and believed as far as it can be.
    if (const int32_t node = what.hello.from.node.v; node >= 0 && prng_.chance(0.5)) {
        cluster::LeaderUpdate update{.node = node, .after = 0, .upto = 1, .states = {}};
        update.states.push_back({.log = log(),
                                 .leader = node,
                                 .epoch = wild ? draw_wild_term() : 1'000,
                                 .revision = 0,
                                 .in_sync = {node}});
        ask(cluster::kLeaderUpdateCall, cluster::encode_leader_update(update));
    }
    if (wild) return bytes;
    switch (prng_.below(6)) {
        case 0:
            ask(cluster::kTransferCall, cluster::encode(cluster::TransferRequest{log(), 1}));
            break;
        case 1:
            ask(cluster::kProducerIdsCall, cluster::encode_i64(1'000));
            break;
        case 2:
            ask(cluster::kAdminCall,
                cluster::encode(cluster::AdminCall{
                    "POST", fmt::format("/v1/nodes/{}/decommission", 1 + prng_.below(3)), ""}));
            break;
        case 3:
            ask(cluster::kEndCall, {});
            break;
        case 4:
            ask(kForward, std::vector<uint8_t>(20, 0));
            break;
        default: {
            // Where a member is, by who is not that member.
            if (known_.empty()) break;
            cluster::RegisterRequest request{.passed_on = prng_.chance(0.5), .is_member = true};
            request.node.uuid = known_.begin()->second.uuid;
            request.node.id = known_.begin()->second.node.v;
            request.node.rpc = {"n0", 1};
            ask(cluster::kRegisterCall, cluster::encode(request));
        }
    }
    return bytes;
}

ClusterStrangers::Attempt ClusterStrangers::draw() {
    Attempt what;
    what.address = options_.addresses[prng_.below(options_.addresses.size())];
    const uint64_t kind = prng_.below(10);
    what.role = kind < 5 ? Role::kStranger : kind < 9 ? Role::kWildMember : Role::kReplay;
    // Where nobody asks for a proof, what was said once may be said again.
    if (what.role == Role::kReplay && (!options_.required || !recorded_.contains(what.address)))
        what.role = Role::kStranger;
    what.hello.from = draw_identity(&what.role);
    what.hello.shards = 1 + static_cast<uint32_t>(prng_.below(4));
    what.hello.to_shard = static_cast<runtime::ShardId>(prng_.below(4));
    // It does not end the member's own connection.
    what.hello.transient = what.role != Role::kStranger || prng_.chance(0.5);
    for (uint8_t& byte : what.hello.nonce) byte = static_cast<uint8_t>(prng_.next());
    if (prng_.chance(0.2)) what.hello.version_max = 1;
    what.hello.proves = what.hello.version_max > 1 && prng_.chance(0.7);
    if (what.role == Role::kWildMember) {
        what.hello.version_max = rpc::kVersionMax;
        what.hello.proves = what.proves = options_.credentials != nullptr;
    } else if (what.hello.proves && options_.credentials != nullptr) {
        what.proves = what.wrong_proof = prng_.chance(0.5);
    }
    what.frames = draw_frames(what);
    if (what.role == Role::kReplay) what.recorded = recorded_.at(what.address);
    return what;
}

Task<void> ClusterStrangers::talk(Attempt what, StopToken limit) {
    auto stream = co_await runtime::TcpStream::connect(what.address, limit);
    if (!stream) co_return;
    ++counts_.attempts;
    std::vector<uint8_t> exchange = rpc::encode(what.hello);
    if (what.role == Role::kReplay) exchange = what.recorded;
    std::vector<uint8_t> sent = exchange;
    Result<void> written = co_await (*stream)->write_all({Bytes(exchange)}, limit);
    std::vector<uint8_t> reply_bytes;
    const auto reply = co_await rpc::read_hello_reply(**stream, limit, &reply_bytes);
    bool let_in = false;
    if (written && reply) {
        if (reply->from.node.valid()) known_[what.address] = reply->from;
        let_in = reply->refusal == rpc::Refusal::kNone;
        const bool answers = let_in && reply->proof && what.proves;
        std::vector<uint8_t> proof_bytes;
        if (answers) {
            exchange.insert(exchange.end(), reply_bytes.begin(), reply_bytes.end());
            rpc::Proof proof = options_.credentials->prove(rpc::Side::kDialling, exchange);
            if (what.wrong_proof) proof[prng_.below(proof.size())] ^= 0x10;
            proof_bytes = rpc::encode_proof(proof);
            sent.insert(sent.end(), proof_bytes.begin(), proof_bytes.end());
            (void)co_await (*stream)->write_all({Bytes(proof_bytes)}, limit);
        }
        if (let_in && reply->proof) {
            // Without a proof of its own none comes.
            const auto verdict = co_await rpc::read_verdict(**stream, limit);
            let_in = verdict && verdict->refusal == rpc::Refusal::kNone;
        }
    }
    if (let_in && what.role != Role::kWildMember && options_.required)
        fail_(fmt::format("{} lets in who proves nothing", what.address));
    if (let_in && what.role == Role::kWildMember && what.proves) recorded_[what.address] = sent;
    if (what.role == Role::kReplay) ++counts_.replays;
    if (let_in) {
        ++(what.role == Role::kWildMember ? counts_.wild : counts_.strangers);
        (void)co_await (*stream)->write_all({Bytes(what.frames)}, limit);
        co_await listen(&what, stream->get(), limit);
    }
    co_await (*stream)->close();
}

Task<void> ClusterStrangers::listen(const Attempt* what, runtime::ByteStream* stream,
                                    StopToken limit) {
    runtime::DeadlineStop end(Shard::current().now() + kListenMax, limit);
    rpc::MessageReader reader(*stream, memory_, 4_MiB, 100ms);
    while (true) {
        const auto incoming = co_await reader.next(end.token());
        if (!incoming) co_return;
        if (incoming->type == rpc::FrameType::kResponse && what->role != Role::kWildMember)
            fail_(fmt::format("{} answers a stranger's request of kind {:#06x}", what->address,
                              static_cast<uint16_t>(incoming->kind)));
    }
}

}  // namespace weir::sim
