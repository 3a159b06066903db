// The APIs that this server answers. For each: its key, the versions that it advertises and serves,
// how it may overlap with other requests of its connection, and its function. This table alone
// decides; ApiVersions is made from it. Each API has a small file of its own under api/.
#pragma once

#include <span>

#include "base/byte_reader.h"
#include "base/units.h"
#include "kafka/protocol/api.h"
#include "kafka/server/net/request.h"
#include "runtime/helper.h"
#include "runtime/task.h"

namespace weir::kafka {

// Kafka handles one request of a connection at a time. Here some requests may overlap where a
// client can notice nothing but the time.
enum class Overlap : uint8_t {
    kNone,     // begins when all before it are done, and holds up all after it
    kFree,     // reads alone
    kProduce,  // appends in order, then waits side by side
    kFetch,    // at most one whose answer was not sent yet
};

struct Handler {
    ApiKey key;
    int16_t version_min;
    int16_t version_max;
    Overlap overlap;
    // An error closes the connection: the request did not parse, or the answer has no form in this
    // version.
    runtime::Task<Result<void>> (*run)(Request& request);
    bool at_controller = false;  // forward.h; runs on the controller's shard 0 as elsewhere
    bool once = false;  // a repeated call would be answered as if the first had not succeeded
    // For an answer from the controller: what this node waits for before its client gets the
    // answer. If the controller is here, `run` waits itself.
    runtime::Task<void> (*settle)(Request& request, Bytes response) = nullptr;
};

std::span<const Handler> handlers();
// nullptr for an API that is not served.
const Handler* find_handler(int16_t key);

// Larger bodies and their answers are decoded and encoded on a helper's thread: a message of some
// MiB holds hundreds of thousands of strings.
inline constexpr size_t kDecodedAtHelper = 128_KiB;
inline constexpr size_t kDecodedAtHelperProduce = 16_MiB;

// Decodes, calls `answer`, encodes.
template <class RequestBody, class ResponseBody,
          runtime::Task<ResponseBody> (*answer)(Request&, RequestBody)>
runtime::Task<Result<void>> run_handler(Request& request) {
    const auto decode = [&request] {
        ByteReader in(request.body);
        return RequestBody::decode(in, request.version());
    };
    // A Produce is mostly records, which are not looked at here.
    const bool is_large =
        request.body.size() >
        (RequestBody::kApiKey == ApiKey::kProduce ? kDecodedAtHelperProduce : kDecodedAtHelper);
    RequestBody body =
        co_await runtime::try_(is_large ? co_await runtime::on_helper(decode) : decode());
    ResponseBody response = co_await answer(request, std::move(body));
    if (request.no_response) co_return Result<void>{};
    if (is_large || request.has_large_answer) {
        co_return co_await runtime::on_helper([&request, &response] {
            const ResponseBody mine = std::move(response);  // ends here: that takes as long
            return mine.encode(request.out, request.version());
        });
    }
    co_return response.encode(request.out, request.version());
}

// One of these in each api_*.cc.
runtime::Task<Result<void>> handle_alter_configs(Request&);
runtime::Task<Result<void>> handle_alter_partition_reassignments(Request&);
runtime::Task<Result<void>> handle_alter_replica_log_dirs(Request&);
runtime::Task<Result<void>> handle_api_versions(Request&);
runtime::Task<Result<void>> handle_create_acls(Request&);
runtime::Task<Result<void>> handle_create_partitions(Request&);
runtime::Task<Result<void>> handle_create_topics(Request&);
runtime::Task<Result<void>> handle_delete_acls(Request&);
runtime::Task<Result<void>> handle_delete_groups(Request&);
runtime::Task<Result<void>> handle_delete_records(Request&);
runtime::Task<Result<void>> handle_delete_topics(Request&);
runtime::Task<Result<void>> handle_describe_acls(Request&);
runtime::Task<Result<void>> handle_describe_cluster(Request&);
runtime::Task<Result<void>> handle_describe_configs(Request&);
runtime::Task<Result<void>> handle_describe_groups(Request&);
runtime::Task<Result<void>> handle_describe_log_dirs(Request&);
runtime::Task<Result<void>> handle_describe_producers(Request&);
runtime::Task<Result<void>> handle_describe_quorum(Request&);
runtime::Task<Result<void>> handle_describe_topic_partitions(Request&);
runtime::Task<Result<void>> handle_elect_leaders(Request&);
runtime::Task<Result<void>> handle_fetch(Request&);
runtime::Task<Result<void>> handle_find_coordinator(Request&);
runtime::Task<Result<void>> handle_heartbeat(Request&);
runtime::Task<Result<void>> handle_incremental_alter_configs(Request&);
runtime::Task<Result<void>> handle_init_producer_id(Request&);
runtime::Task<Result<void>> handle_join_group(Request&);
runtime::Task<Result<void>> handle_leave_group(Request&);
runtime::Task<Result<void>> handle_list_config_resources(Request&);
runtime::Task<Result<void>> handle_list_groups(Request&);
runtime::Task<Result<void>> handle_list_offsets(Request&);
runtime::Task<Result<void>> handle_list_partition_reassignments(Request&);
runtime::Task<Result<void>> handle_metadata(Request&);
runtime::Task<Result<void>> handle_offset_commit(Request&);
runtime::Task<Result<void>> handle_offset_delete(Request&);
runtime::Task<Result<void>> handle_offset_fetch(Request&);
runtime::Task<Result<void>> handle_offset_for_leader_epoch(Request&);
runtime::Task<Result<void>> handle_produce(Request&);
runtime::Task<Result<void>> handle_sync_group(Request&);
runtime::Task<Result<void>> handle_unregister_broker(Request&);
runtime::Task<Result<void>> handle_update_features(Request&);

runtime::Task<void> settle_create_partitions(Request&, Bytes response);
runtime::Task<void> settle_create_topics(Request&, Bytes response);

}  // namespace weir::kafka
