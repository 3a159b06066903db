// InitProducerId: a producer id that nobody had before. Without a transactional id what the client
// says about an earlier id is not looked at, as in Kafka.
#include "kafka/protocol/init_producer_id.h"

#include "kafka/server/net/handler.h"
#include "kafka/server/partitions/partition.h"
#include "kafka/server/server.h"

namespace weir::kafka {
namespace {

using runtime::Task;

Task<InitProducerIdResponse> answer(Request& request, InitProducerIdRequest body) {
    InitProducerIdResponse response;
    if (body.transactional_id) {
        // Transactions are not served yet. A code that clients do not retry.
        response.error_code =
            code(body.transactional_id->empty() ? KafkaError::kInvalidRequest
                                                : KafkaError::kTransactionalIdAuthorizationFailed);
        response.producer_epoch = -1;
        co_return response;
    }
    const auto id = co_await request.server.next_producer_id();
    if (!id) {
        response.error_code = code(KafkaError::kCoordinatorNotAvailable);
        response.producer_epoch = -1;
        co_return response;
    }
    response.producer_id = *id;
    response.producer_epoch = 0;
    co_return response;
}

}  // namespace

Task<Result<void>> handle_init_producer_id(Request& request) {
    return run_handler<InitProducerIdRequest, InitProducerIdResponse, answer>(request);
}

}  // namespace weir::kafka
