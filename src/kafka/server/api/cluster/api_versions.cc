// ApiVersions (KIP-35, KIP-511, KIP-1242): what this server serves. Answered for any version: one
// that is not known gets an answer of version 0 with UNSUPPORTED_VERSION and, so that the client
// can try again, the versions of ApiVersions itself.
#include "kafka/protocol/api_versions.h"

#include <algorithm>

#include "cluster/features.h"
#include "kafka/server/net/handler.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

ApiVersionsResponse::ApiVersion row(const Handler& handler) {
    return {static_cast<int16_t>(handler.key), handler.version_min, handler.version_max};
}

// Before version 4 clients of Java refuse a feature that has a level 0 (KAFKA-17492); in any
// version none is finalized at 0. Features of Kafka's own that would make clients choose newer
// protocols (transaction.version, group.version, share.version) are named when what they stand for
// is there.
void fill_features(Server& server, int16_t version, ApiVersionsResponse& response) {
    for (const auto& [name, range] : cluster::supported_features()) {
        const int32_t min = version < 4 ? std::max(range.min, 1) : range.min;
        if (range.max < min) continue;
        response.supported_features.push_back(
            {name, static_cast<int16_t>(min), static_cast<int16_t>(range.max)});
    }
    for (const auto& [name, level] : server.image().features()) {
        if (level == 0) continue;
        response.finalized_features.push_back(
            {name, static_cast<int16_t>(level), static_cast<int16_t>(level)});
    }
    // Grows with every change of what is finalized.
    response.finalized_features_epoch = server.metadata().end();
}

bool is_client_software(const std::string& text) {
    // KIP-511: letters, digits, '.' and '-', beginning and ending with a letter or a digit.
    const auto is_word = [](char c) {
        return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    };
    if (text.empty() || !is_word(text.front()) || !is_word(text.back())) return false;
    for (const char c : text) {
        if (!is_word(c) && c != '.' && c != '-') return false;
    }
    return true;
}

}  // namespace

Task<Result<void>> handle_api_versions(Request& request) {
    ApiVersionsResponse response;
    const Handler& self = *request.handler;
    if (request.version() < self.version_min || request.version() > self.version_max) {
        response.error_code = code(KafkaError::kUnsupportedVersion);
        response.api_keys.push_back(row(self));
        co_return response.encode(request.out, 0);
    }
    ByteReader in(request.body);
    const ApiVersionsRequest body =
        co_await runtime::try_(ApiVersionsRequest::decode(in, request.version()));
    Server& server = request.server;
    if (request.version() >= 3 && (!is_client_software(body.client_software_name) ||
                                   !is_client_software(body.client_software_version))) {
        response.error_code = code(KafkaError::kInvalidRequest);
    } else if (request.version() >= 5 &&
               ((body.cluster_id && *body.cluster_id != server.image().cluster_id().to_string()) ||
                (body.node_id >= 0 && body.node_id != server.node().id))) {
        // The client holds an address that now belongs to another cluster or node.
        response.error_code = code(KafkaError::kRebootstrapRequired);
    } else {
        for (const Handler& handler : handlers()) response.api_keys.push_back(row(handler));
        fill_features(server, request.version(), response);
    }
    co_return response.encode(request.out, request.version());
}

}  // namespace weir::kafka
