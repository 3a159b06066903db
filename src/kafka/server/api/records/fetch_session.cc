#include "kafka/server/api/records/fetch_session.h"

#include <algorithm>

#include "kafka/protocol/fetch.h"

namespace weir::kafka {
namespace {

constexpr int16_t kByIdFrom = 13;
constexpr int32_t kFinalEpoch = -1;
constexpr int32_t kInitialEpoch = 0;

template <class Visit>
void for_each_target(const FetchRequest& request, Visit visit) {
    for (const auto& topic : request.topics) {
        for (const auto& partition : topic.partitions) {
            visit(FetchTarget{.key = {topic.topic, topic.topic_id, partition.partition},
                              .offset = partition.fetch_offset,
                              .current_leader_epoch = partition.current_leader_epoch,
                              .last_fetched_epoch = partition.last_fetched_epoch,
                              .bytes_max = partition.partition_max_bytes});
        }
    }
}

}  // namespace

void FetchSessions::put(Session& session, FetchTarget target) {
    const auto place = session.places.find(target.key);
    if (place != session.places.end()) {
        session.order.at(place->second).target = std::move(target);
        return;
    }
    session.places.emplace(target.key, session.next_place);
    session.order.emplace(session.next_place++, Entry{.target = std::move(target)});
    ++partitions_;
}

void FetchSessions::drop(Session& session, const FetchKey& key) {
    const auto place = session.places.find(key);
    if (place == session.places.end()) return;
    session.order.erase(place->second);
    session.places.erase(place);
    --partitions_;
}

void FetchSessions::erase(int32_t id) {
    const auto found = sessions_.find(id);
    if (found == sessions_.end()) return;
    partitions_ -= found->second.order.size();
    sessions_.erase(found);
}

bool FetchSessions::make_room(size_t partitions, Instant now) {
    while (sessions_.size() >= sessions_max_ || partitions_ + partitions > kPartitionsMax) {
        if (sessions_.empty()) return false;
        const auto oldest = std::ranges::min_element(
            sessions_, {}, [](const auto& entry) { return entry.second.used; });
        if (now - oldest->second.used < kKept) return false;
        erase(oldest->first);
    }
    return true;
}

FetchSessions::Plan FetchSessions::begin(const FetchRequest& request, int16_t version, Instant now,
                                         uint64_t entropy) {
    Plan plan;
    const bool is_full = version < 7 || request.session_epoch == kFinalEpoch ||
                         request.session_epoch == kInitialEpoch;
    if (is_full) {
        if (version >= 7 && request.session_id != 0) erase(request.session_id);
        for_each_target(request,
                        [&](FetchTarget target) { plan.targets.push_back(std::move(target)); });
        const bool wants_session = version >= 7 && request.session_epoch == kInitialEpoch;
        if (!wants_session || plan.targets.empty() || !make_room(plan.targets.size(), now))
            return plan;
        auto id = static_cast<int32_t>(entropy & INT32_MAX);
        while (id == 0 || sessions_.contains(id)) id = id == INT32_MAX ? 1 : id + 1;
        Session& session = sessions_[id];
        session.by_id = version >= kByIdFrom;
        session.used = now;
        for (const FetchTarget& target : plan.targets) put(session, target);
        plan.session_id = id;
        return plan;
    }
    const auto found = sessions_.find(request.session_id);
    if (found == sessions_.end()) {
        plan.error = KafkaError::kFetchSessionIdNotFound;
        return plan;
    }
    Session& session = found->second;
    if (session.next_epoch != request.session_epoch) {
        plan.error = KafkaError::kInvalidFetchSessionEpoch;
        return plan;
    }
    if (session.by_id != (version >= kByIdFrom)) {
        plan.error = KafkaError::kFetchSessionTopicIdError;
        return plan;
    }
    session.next_epoch = session.next_epoch == INT32_MAX ? 1 : session.next_epoch + 1;
    session.used = now;
    for_each_target(request, [&](FetchTarget target) { put(session, std::move(target)); });
    for (const auto& topic : request.forgotten_topics_data) {
        for (const int32_t partition : topic.partitions)
            drop(session, {topic.topic, topic.topic_id, partition});
    }
    plan.session_id = request.session_id;
    plan.incremental = true;
    plan.targets.reserve(session.order.size());
    for (const auto& [place, entry] : session.order) plan.targets.push_back(entry.target);
    if (partitions_ > kPartitionsMax) erase(request.session_id);
    return plan;
}

bool FetchSessions::note(int32_t session_id, const FetchKey& key, const Seen& seen) {
    const auto found = sessions_.find(session_id);
    if (found == sessions_.end()) return true;
    Session& session = found->second;
    const auto place = session.places.find(key);
    if (place == session.places.end()) return true;
    const auto at = session.order.find(place->second);
    Entry& entry = at->second;
    const bool has_error = seen.error != KafkaError::kNone;
    const bool include = seen.has_data || has_error || entry.had_error ||
                         entry.high_watermark != seen.high_watermark ||
                         entry.log_start_offset != seen.log_start_offset;
    entry.high_watermark = seen.high_watermark;
    entry.log_start_offset = seen.log_start_offset;
    entry.had_error = has_error;
    if (seen.has_data) {
        auto node = session.order.extract(at);
        node.key() = session.next_place++;
        place->second = node.key();
        session.order.insert(std::move(node));
    }
    return include;
}

}  // namespace weir::kafka
