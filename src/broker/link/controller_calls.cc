#include "broker/link/controller_calls.h"

#include "cluster/node_admin.h"
#include "cluster/topic_admin.h"
#include "runtime/remote.h"

namespace weir::broker {

using cluster::MetadataShard;
using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using runtime::try_;

namespace {

constexpr Duration kRetryPause = 50ms;
constexpr Duration kReportTimeout = 10s;
constexpr Duration kEndTimeout = 2s;
constexpr Duration kProducerIdsTimeout = 20s;
constexpr size_t kReportsMax = 10'000;

}  // namespace

Task<Result<SharedBytes>> ControllerCalls::call(rpc::Kind kind, std::vector<uint8_t> body,
                                                Instant deadline) {
    Error last{ErrorCode::kUnavailable, "no controller is known", 0};
    while (Shard::current().now() < deadline && !link_.stopping()) {
        const NodeId leader = link_.controller->leader();
        if (leader.valid() && leader.v != link_.self()) {
            auto answer =
                co_await link_.endpoint().call(leader, 0, rpc::control_message(kind, body),
                                               {.deadline = deadline, .stop = link_.stop_token()});
            if (answer || (answer.error().code != ErrorCode::kUnavailable &&
                           answer.error().code != ErrorCode::kTimedOut))
                co_return answer;
            last = answer.error();
        }
        if (link_.controller->leads()) break;
        (void)co_await runtime::sleep_for(kRetryPause, link_.stop_token());
    }
    co_return fail(ErrorCode::kUnavailable, last.to_string());
}

Task<Result<int64_t>> ControllerCalls::metadata_end() {
    const Instant deadline = LinkParts::in(kEndTimeout);
    if (link_.is_alone()) co_return link_.controller->applied();
    if (link_.controller->leads()) {
        co_return co_await link_.controller->committed_end(
            {.deadline = deadline, .stop = link_.stop_token()});
    }
    const auto answer = co_await try_(co_await call(cluster::kEndCall, {}, deadline));
    co_return cluster::decode_i64(answer.bytes());
}

Task<Result<rpc::Message>> ControllerCalls::answer_end(rpc::Request request) {
    const int64_t end = co_await try_(link_.controller->committed_end(
        {.deadline = std::min(request.deadline, LinkParts::in(kEndTimeout)),
         .stop = link_.stop_token()}));
    co_return rpc::control_message({}, cluster::encode_i64(end));
}

Task<Result<int64_t>> ControllerCalls::allocate_producer_ids(int64_t count) {
    const Instant deadline = LinkParts::in(kProducerIdsTimeout);
    while (Shard::current().now() < deadline && !link_.stopping()) {
        if (link_.controller->leads() || link_.is_alone()) {
            auto first = co_await link_.controller->allocate_producer_ids(
                count, {.deadline = deadline, .stop = link_.stop_token()});
            if (first || link_.is_alone() || first.error().code != ErrorCode::kUnavailable)
                co_return first;
        } else if (const auto answer = co_await call(cluster::kProducerIdsCall,
                                                     cluster::encode_i64(count), deadline)) {
            co_return cluster::decode_i64(answer->bytes());
        }
        (void)co_await runtime::sleep_for(kRetryPause, link_.stop_token());
    }
    co_return fail(ErrorCode::kUnavailable, "no controller gave producer ids");
}

Task<Result<rpc::Message>> ControllerCalls::answer_producer_ids(rpc::Request request) {
    const int64_t count = co_await try_(cluster::decode_i64(request.body.bytes()));
    if (count <= 0 || count > 1'000'000)
        co_return fail(ErrorCode::kInvalidArgument, "a block of producer ids of that size");
    const int64_t first = co_await try_(link_.controller->allocate_producer_ids(
        count, {.deadline = std::min(request.deadline, LinkParts::in(kProducerIdsTimeout)),
                .stop = link_.stop_token()}));
    co_return rpc::control_message({}, cluster::encode_i64(first));
}

Task<Result<rpc::Message>> ControllerCalls::answer_admin(rpc::Request request) {
    auto wanted = co_await try_(cluster::decode_admin_call(request.body.bytes()));
    if (!link_.controller->leads())
        co_return fail(ErrorCode::kUnavailable, "this node is not the controller");
    const cluster::AdminReply reply = co_await admin_(std::move(wanted));
    co_return rpc::control_message({}, cluster::encode(reply));
}

void ControllerCalls::report(const MetadataShard::ReplicasReport& report) {
    Shard::current().remote_scope().spawn(send_report(report));
}

Task<void> ControllerCalls::send_report(MetadataShard::ReplicasReport report) {
    co_await runtime::on(0, [this, report]() -> Task<void> {
        // It is said again as long as it is not heeded: once at a time is enough.
        const auto key = std::pair(report.topic, report.partition);
        const auto inside = link_.gate.try_enter();
        if (!inside || reporting_.size() >= kReportsMax || !reporting_.insert(key).second)
            co_return;
        if (link_.controller->leads() || link_.is_alone()) {
            (void)co_await apply_report(report);
        } else {
            (void)co_await call(cluster::kReplicasCall, cluster::encode(report),
                                LinkParts::in(kReportTimeout));
        }
        reporting_.erase(key);
    });
}

Task<Result<void>> ControllerCalls::apply_report(MetadataShard::ReplicasReport report) {
    cluster::Controller& controller = *link_.controller;
    const runtime::Units lock = co_await try_(
        controller.lock({.deadline = LinkParts::in(kReportTimeout), .stop = link_.stop_token()}));
    auto records = cluster::plan_replicas_changed(controller.image(), report.topic,
                                                  report.partition, report.revision);
    if (records.empty()) co_return Result<void>{};
    co_return co_await controller.commit(std::move(records));
}

Task<Result<rpc::Message>> ControllerCalls::answer_report(rpc::Request request) {
    const auto report = co_await try_(cluster::decode_replicas_report(request.body.bytes()));
    co_await try_(apply_report(report));
    co_return rpc::Message{};
}

}  // namespace weir::broker
