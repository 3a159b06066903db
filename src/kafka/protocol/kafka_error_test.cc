#include "kafka/protocol/kafka_error.h"

#include <gtest/gtest.h>

namespace weir::kafka {
namespace {

TEST(KafkaError, has_a_name_and_says_whether_to_retry) {
    EXPECT_EQ(to_string(KafkaError::kUnknownServerError), "UNKNOWN_SERVER_ERROR");
    EXPECT_EQ(to_string(KafkaError::kNone), "NONE");
    EXPECT_EQ(to_string(KafkaError::kNotLeaderOrFollower), "NOT_LEADER_OR_FOLLOWER");
    EXPECT_EQ(to_string(KafkaError::kShareSessionLimitReached), "SHARE_SESSION_LIMIT_REACHED");
    EXPECT_EQ(code(KafkaError::kUnsupportedVersion), 35);
    EXPECT_EQ(code(KafkaError::kUnknownTopicId), 100);
    EXPECT_TRUE(is_retriable(KafkaError::kNotCoordinator));
    EXPECT_FALSE(is_retriable(KafkaError::kNone));
    EXPECT_FALSE(is_retriable(KafkaError::kProducerFenced));
}

TEST(KafkaError, of_a_code_that_is_not_known_is_the_unknown_error) {
    for (int code = -1; code <= 133; ++code) {
        EXPECT_EQ(kafka_error(static_cast<int16_t>(code)), KafkaError{static_cast<int16_t>(code)});
    }
    for (const int code : {-2, 134, INT16_MIN, INT16_MAX}) {
        EXPECT_EQ(kafka_error(static_cast<int16_t>(code)), KafkaError::kUnknownServerError);
        EXPECT_EQ(to_string(KafkaError{static_cast<int16_t>(code)}), "UNKNOWN_SERVER_ERROR");
    }
}

}  // namespace
}  // namespace weir::kafka
