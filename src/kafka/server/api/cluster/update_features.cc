// UpdateFeatures (KIP-584, KIP-778): finalizes what all nodes know, so that it may be used from
// then on. All of a request or nothing; a finalized level never goes back.
#include "kafka/protocol/update_features.h"

#include <fmt/format.h>

#include "cluster/cluster_admin.h"
#include "kafka/server/api/topics/topics.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"
#include "runtime/remote.h"
#include "runtime/shard.h"

namespace weir::kafka {
namespace {

using cluster::AdminError;
using cluster::AdminFault;
using cluster::FeatureChange;
using runtime::Task;

Task<AdminError> update(Request& request, const UpdateFeaturesRequest& body) {
    std::vector<cluster::FeatureUpdate> updates;
    for (const auto& each : body.feature_updates) {
        cluster::FeatureUpdate& update = updates.emplace_back();
        update.feature = each.feature;
        update.level = each.max_version_level;
        update.change = static_cast<FeatureChange>(each.upgrade_type);
        if (request.version() == 0 && each.allow_downgrade)
            update.change = FeatureChange::kUnsafeDowngrade;
        if (update.change < FeatureChange::kUpgrade ||
            update.change > FeatureChange::kUnsafeDowngrade) {
            co_return AdminError{AdminFault::kInvalidFeatureLevel,
                                 fmt::format("there is no upgrade type {}", each.upgrade_type)};
        }
    }
    const Duration timeout = admin_deadline(body.timeout_ms) - runtime::Shard::current().now();
    co_return co_await runtime::on(
        0,
        [server0 = &request.server.peer(0), updates = std::move(updates),
         validate_only = body.validate_only, timeout]() mutable -> Task<AdminError> {
            co_return co_await cluster::update_features(
                server0->controller(), std::move(updates), validate_only,
                {.deadline = runtime::Shard::current().now() + timeout,
                 .stop = server0->background().stop_token()});
        });
}

Task<UpdateFeaturesResponse> answer(Request& request, UpdateFeaturesRequest body) {
    const AdminError error = co_await update(request, body);
    UpdateFeaturesResponse response;
    response.error_code = code(to_kafka(error.fault));
    response.error_message.reset();
    if (!error.ok()) response.error_message = error.message;
    for (const auto& each : body.feature_updates) {
        auto& result = response.results.emplace_back();
        result.feature = each.feature;
        result.error_code = response.error_code;
        result.error_message = response.error_message;
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_update_features(Request& request) {
    return run_handler<UpdateFeaturesRequest, UpdateFeaturesResponse, answer>(request);
}

}  // namespace weir::kafka
