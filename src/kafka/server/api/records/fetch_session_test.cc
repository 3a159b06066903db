#include "kafka/server/api/records/fetch_session.h"

#include <gtest/gtest.h>

#include "kafka/protocol/fetch.h"

namespace weir::kafka {
namespace {

constexpr int16_t kByName = 12;
constexpr int16_t kById = 13;

FetchRequest fetch(int32_t session_id, int32_t session_epoch,
                   std::vector<std::pair<std::string, int32_t>> partitions) {
    FetchRequest request;
    request.session_id = session_id;
    request.session_epoch = session_epoch;
    for (auto& [topic, index] : partitions) {
        request.topics.push_back(
            {.topic = topic,
             .partitions = {{.partition = index, .fetch_offset = 0, .partition_max_bytes = 100}}});
    }
    return request;
}

class Sessions : public testing::Test {
  protected:
    FetchSessions::Plan begin(const FetchRequest& request, int16_t version = kByName) {
        return sessions.begin(request, version, now, ++entropy);
    }
    int32_t open(std::vector<std::pair<std::string, int32_t>> partitions) {
        return begin(fetch(0, 0, std::move(partitions))).session_id;
    }

    FetchSessions sessions{2};
    Instant now;
    uint64_t entropy = 0;
};

TEST_F(Sessions, a_request_without_a_session_is_served_as_it_stands) {
    const auto plan = begin(fetch(0, -1, {{"a", 0}, {"b", 1}}));
    EXPECT_EQ(plan.session_id, 0);
    EXPECT_FALSE(plan.incremental);
    EXPECT_EQ(plan.targets.size(), 2u);
    EXPECT_EQ(sessions.size(), 0u);
}

TEST_F(Sessions, an_incremental_request_fetches_all_of_its_session) {
    const int32_t id = open({{"a", 0}, {"b", 1}});
    ASSERT_NE(id, 0);
    const auto plan = begin(fetch(id, 1, {}));
    EXPECT_EQ(plan.error, KafkaError::kNone);
    EXPECT_TRUE(plan.incremental);
    ASSERT_EQ(plan.targets.size(), 2u);
    EXPECT_EQ(plan.targets[1].key.topic, "b");
}

TEST_F(Sessions, partitions_are_changed_added_and_forgotten) {
    const int32_t id = open({{"a", 0}, {"b", 1}});
    FetchRequest request = fetch(id, 1, {{"a", 0}, {"c", 2}});
    request.topics[0].partitions[0].fetch_offset = 50;
    request.forgotten_topics_data.push_back({.topic = "b", .partitions = {1}});
    const auto plan = begin(request);
    ASSERT_EQ(plan.targets.size(), 2u);
    EXPECT_EQ(plan.targets[0].offset, 50);
    EXPECT_EQ(plan.targets[1].key.topic, "c");
    EXPECT_EQ(sessions.partitions(), 2u);
}

TEST_F(Sessions, epochs_count_up_and_wrap_to_one) {
    const int32_t id = open({{"a", 0}});
    EXPECT_EQ(begin(fetch(id, 2, {})).error, KafkaError::kInvalidFetchSessionEpoch);
    EXPECT_EQ(begin(fetch(id, 1, {})).error, KafkaError::kNone);
    EXPECT_EQ(begin(fetch(id, 1, {})).error, KafkaError::kInvalidFetchSessionEpoch);
    EXPECT_EQ(begin(fetch(id, 2, {})).error, KafkaError::kNone);
    EXPECT_EQ(begin(fetch(id + 1, 1, {})).error, KafkaError::kFetchSessionIdNotFound);
}

TEST_F(Sessions, the_final_epoch_ends_a_session_and_zero_begins_another) {
    const int32_t id = open({{"a", 0}});
    EXPECT_EQ(begin(fetch(id, -1, {{"a", 0}})).session_id, 0);
    EXPECT_EQ(sessions.size(), 0u);
    EXPECT_EQ(sessions.partitions(), 0u);
    const int32_t second = open({{"a", 0}});
    const auto third = begin(fetch(second, 0, {{"a", 0}}));
    EXPECT_NE(third.session_id, 0);
    EXPECT_EQ(sessions.size(), 1u);
}

TEST_F(Sessions, ids_and_names_do_not_mix_in_one_session) {
    const int32_t id = open({{"a", 0}});
    EXPECT_EQ(begin(fetch(id, 1, {}), kById).error, KafkaError::kFetchSessionTopicIdError);
}

TEST_F(Sessions, an_incremental_answer_holds_what_changed) {
    const int32_t id = open({{"a", 0}});
    const FetchKey key{"a", {}, 0};
    EXPECT_TRUE(sessions.note(id, key, {.high_watermark = 5, .log_start_offset = 0}));
    EXPECT_FALSE(sessions.note(id, key, {.high_watermark = 5, .log_start_offset = 0}));
    EXPECT_TRUE(sessions.note(id, key, {.high_watermark = 6, .log_start_offset = 0}));
    EXPECT_TRUE(sessions.note(id, key, {.high_watermark = 6, .log_start_offset = 1}));
    EXPECT_TRUE(
        sessions.note(id, key, {.high_watermark = 6, .log_start_offset = 1, .has_data = true}));
    EXPECT_FALSE(sessions.note(id, key, {.high_watermark = 6, .log_start_offset = 1}));
    EXPECT_TRUE(sessions.note(id, key, {.error = KafkaError::kNotLeaderOrFollower}));
    EXPECT_TRUE(sessions.note(id, key, {.error = KafkaError::kNotLeaderOrFollower}))
        << "an error is said each time";
    EXPECT_TRUE(sessions.note(id, key, {.high_watermark = 6, .log_start_offset = 1}));
}

TEST_F(Sessions, a_partition_that_gave_data_goes_to_the_end) {
    const int32_t id = open({{"a", 0}, {"b", 0}, {"c", 0}});
    sessions.note(id, {"a", {}, 0}, {.has_data = true});
    const auto plan = begin(fetch(id, 1, {}));
    EXPECT_EQ(plan.targets[0].key.topic, "b");
    EXPECT_EQ(plan.targets[2].key.topic, "a");
}

TEST_F(Sessions, a_full_cache_gives_no_session_until_one_is_old) {
    open({{"a", 0}});
    now = now + 1s;
    const int32_t second = open({{"b", 0}});
    EXPECT_EQ(open({{"c", 0}}), 0);
    now = now + FetchSessions::kKept - 1s;
    const int32_t third = open({{"c", 0}});
    EXPECT_NE(third, 0);
    EXPECT_EQ(begin(fetch(second, 1, {})).error, KafkaError::kNone) << "the oldest went";
    EXPECT_EQ(sessions.size(), 2u);
}

TEST_F(Sessions, before_version_seven_there_are_none) {
    EXPECT_EQ(begin(fetch(0, 0, {{"a", 0}}), 6).session_id, 0);
    EXPECT_EQ(sessions.size(), 0u);
}

}  // namespace
}  // namespace weir::kafka
