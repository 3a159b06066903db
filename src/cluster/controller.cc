#include "cluster/controller.h"

#include <algorithm>

#include "base/check.h"
#include "runtime/driver.h"
#include "runtime/remote.h"
#include "runtime/scope.h"
#include "runtime/shard.h"
#include "storage/store.h"

namespace weir::cluster {
namespace {

using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;

constexpr int32_t kTerm = 1;  // of a log with one replica
constexpr uint64_t kLogIdsPerBlock = 1024;
constexpr uint64_t kReadBytes = 1 << 20;

Uuid random_uuid() {
    std::array<uint8_t, 16> entropy;
    Shard::current().driver().fill_entropy(entropy);
    return Uuid::random(load_be<uint64_t>(entropy.data()), load_be<uint64_t>(entropy.data() + 8));
}

}  // namespace

Task<Result<void>> Controller::open() {
    storage::RecoveredState recovered = log_.take_recovered();
    const auto take = [this](Bytes bytes) -> Result<void> {
        TRY_ASSIGN(const auto records, decode_metadata(bytes));
        for (const MetadataRecord& record : records) TRY(image_.apply(record));
        return {};
    };
    if (!recovered.state.empty()) co_await runtime::try_(take(recovered.state));
    int64_t offset = std::max(recovered.state_offset, log_.start_offset());
    while (offset < log_.end().offset) {
        const storage::ReadResult read =
            co_await runtime::try_(log_.read(offset, {.bytes_max = kReadBytes}, {}));
        if (read.next_offset <= offset)
            co_return fail(ErrorCode::kCorrupt, "the metadata log ends before its end");
        for (const SharedBytes& part : read.parts) co_await runtime::try_(take(part.bytes()));
        offset = read.next_offset;
    }
    log_.set_state_provider([this] { return encode_metadata(image_.to_records()); });
    // What the last checkpoint holds needs no entries any more.
    if (recovered.state_offset > log_.start_offset()) {
        co_await runtime::try_(log_.truncate_prefix(recovered.state_offset));
    }
    next_log_id_ = image_.log_ids_end();
    if (image_.cluster_id().is_zero()) {
        std::vector<MetadataRecord> first;
        first.emplace_back(ClusterCreated{random_uuid()});
        co_await runtime::try_(commit(std::move(first)));
    }
    for (runtime::ShardId i = 0; i < shards_.size(); ++i) {
        co_await runtime::on(i, [shard = shards_[i], image = image_]() mutable -> Task<void> {
            shard->adopt(std::move(image));
            co_return;
        });
    }
    co_return Result<void>{};
}

void Controller::close() { log_.set_state_provider({}); }

Task<Result<runtime::Units>> Controller::lock(runtime::WaitOptions options) {
    co_return co_await lock_.acquire(1, options);
}

Task<Result<void>> Controller::commit(std::vector<MetadataRecord> records) {
    MetadataChange change;
    for (const MetadataRecord& record : records) {
        if (const auto* deleted = std::get_if<TopicDeleted>(&record)) {
            if (const TopicImage* topic = image_.find(deleted->id))
                change.topics_removed.push_back(*topic);
        }
    }
    const std::vector<uint8_t> payload = encode_metadata(records);
    co_await runtime::try_(log_.admit(payload.size(), {}));
    storage::Entry entry;
    entry.info.term = kTerm;
    entry.info.first = log_.end();
    entry.info.next_offset = entry.info.first.offset + 1;
    entry.info.max_timestamp_ms = Shard::current().wall_now().ms;
    entry.payload = SharedBytes::copy_of(payload);
    const storage::Position end = entry.info.end();
    co_await runtime::try_(log_.append(std::move(entry)));
    // Together with the append, so that a checkpoint's state has what its log has.
    for (const MetadataRecord& record : records) CHECK(image_.apply(record).has_value());
    co_await runtime::try_(log_.wait_durable(end));
    change.records = std::move(records);
    co_await publish(std::move(change));
    co_return Result<void>{};
}

Task<void> Controller::publish(MetadataChange change) {
    std::vector<Task<bool>> tasks;
    const auto one = [](runtime::ShardId to, MetadataShard* shard,
                        MetadataChange change) -> Task<bool> {
        co_await runtime::on(to, [shard, change = std::move(change)]() mutable -> Task<void> {
            co_await shard->apply(std::move(change));
        });
        co_return true;
    };
    for (runtime::ShardId i = 0; i < shards_.size(); ++i)
        tasks.push_back(one(i, shards_[i], change));
    (void)co_await runtime::all(std::move(tasks));
}

Task<Result<std::vector<storage::LogId>>> Controller::take_log_ids(size_t count) {
    if (next_log_id_ + count > image_.log_ids_end()) {
        std::vector<MetadataRecord> reserve;
        reserve.emplace_back(LogIdsReserved{next_log_id_ + count + kLogIdsPerBlock});
        co_await runtime::try_(commit(std::move(reserve)));
    }
    std::vector<storage::LogId> ids;
    for (size_t i = 0; i < count; ++i) ids.push_back({next_log_id_++});
    co_return ids;
}

Task<Result<void>> Controller::create_logs(std::vector<NewLog> logs) {
    const auto one = [](runtime::ShardId to, MetadataShard* shard,
                        std::vector<NewLog> logs) -> Task<Result<void>> {
        co_return co_await runtime::on(
            to, [shard, logs = std::move(logs)]() mutable -> Task<Result<void>> {
                co_return co_await shard->hooks().create_logs(std::move(logs));
            });
    };
    std::vector<Task<Result<void>>> tasks;
    for (runtime::ShardId i = 0; i < shards_.size(); ++i) {
        std::vector<NewLog> mine;
        for (const NewLog& log : logs) {
            if (storage::owner_of(log.id, static_cast<uint32_t>(shards_.size())) == i)
                mine.push_back(log);
        }
        if (!mine.empty()) tasks.push_back(one(i, shards_[i], std::move(mine)));
    }
    std::vector<Result<void>> results = co_await runtime::all(std::move(tasks));
    Result<void> result;
    for (Result<void>& each : results) {
        if (!each) result = std::move(each);
    }
    if (result) co_return result;
    std::vector<storage::LogId> ids;
    for (const NewLog& log : logs) ids.push_back(log.id);
    for (runtime::ShardId i = 0; i < shards_.size(); ++i) {
        co_await runtime::on(i, [shard = shards_[i], ids]() -> Task<void> {
            co_await shard->hooks().remove_logs(ids);
        });
    }
    co_return result;
}

std::vector<PlacementNode> Controller::placement_nodes() const {
    std::vector<PlacementNode> nodes;
    const auto add = [&](int32_t id, std::string rack, bool accepts) {
        nodes.push_back({.id = id,
                         .rack = std::move(rack),
                         .accepts = accepts,
                         .replicas = image_.replica_count(id),
                         .leaders = image_.preferred_count(id)});
    };
    for (const auto& [id, node] : image_.nodes()) {
        add(id, node.info.rack.value_or(""),
            node.state == NodeState::kActive && (!is_alive_ || is_alive_(id)));
    }
    if (nodes.empty()) add(shards_[0]->node_id(), "", true);
    return nodes;
}

Task<Result<int64_t>> Controller::take_producer_ids(int64_t count) {
    const runtime::Units units = co_await runtime::try_(lock({}));
    const int64_t first = image_.producer_ids_end();
    std::vector<MetadataRecord> reserve;
    reserve.emplace_back(ProducerIdsReserved{first + count});
    co_await runtime::try_(commit(std::move(reserve)));
    co_return first;
}

}  // namespace weir::cluster
