// DescribeAcls, CreateAcls, DeleteAcls (KIP-140): as a broker of Kafka's without an authorizer
// answers them, so that clients say what is the matter.
#include "kafka/protocol/create_acls.h"
#include "kafka/protocol/delete_acls.h"
#include "kafka/protocol/describe_acls.h"
#include "kafka/protocol/kafka_error.h"
#include "kafka/server/net/handler.h"

namespace weir::kafka {
namespace {

using runtime::Task;

constexpr std::string_view kNoAuthorizer = "No Authorizer is configured.";

Task<DescribeAclsResponse> describe(Request&, DescribeAclsRequest) {
    DescribeAclsResponse response;
    response.error_code = code(KafkaError::kSecurityDisabled);
    response.error_message = std::string(kNoAuthorizer);
    co_return response;
}

Task<CreateAclsResponse> create(Request&, CreateAclsRequest body) {
    CreateAclsResponse response;
    for (size_t i = 0; i < body.creations.size(); ++i) {
        auto& result = response.results.emplace_back();
        result.error_code = code(KafkaError::kSecurityDisabled);
        result.error_message = std::string(kNoAuthorizer);
    }
    co_return response;
}

Task<DeleteAclsResponse> remove(Request&, DeleteAclsRequest body) {
    DeleteAclsResponse response;
    for (size_t i = 0; i < body.filters.size(); ++i) {
        auto& result = response.filter_results.emplace_back();
        result.error_code = code(KafkaError::kSecurityDisabled);
        result.error_message = std::string(kNoAuthorizer);
    }
    co_return response;
}

}  // namespace

Task<Result<void>> handle_describe_acls(Request& request) {
    return run_handler<DescribeAclsRequest, DescribeAclsResponse, describe>(request);
}

Task<Result<void>> handle_create_acls(Request& request) {
    return run_handler<CreateAclsRequest, CreateAclsResponse, create>(request);
}

Task<Result<void>> handle_delete_acls(Request& request) {
    return run_handler<DeleteAclsRequest, DeleteAclsResponse, remove>(request);
}

}  // namespace weir::kafka
