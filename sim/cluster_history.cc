#include "cluster_history.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/check.h"

namespace weir::sim {
namespace {

uint8_t pad_byte(RecordName name, size_t at) {
    return static_cast<uint8_t>(name.writer * 31 + name.number * 7 + at * 3);
}

std::string to_string(RecordName name) { return fmt::format("w{}#{}", name.writer, name.number); }

// What the bytes say they are; nothing if they are not what a writer sends.
std::optional<RecordName> name_of(Bytes value) {
    if (value.size() < ClusterHistory::kHeadBytes) return std::nullopt;
    const RecordName name{load_be<uint32_t>(value.data()), load_be<uint32_t>(value.data() + 4)};
    if (load_be<uint32_t>(value.data() + 8) != value.size()) return std::nullopt;
    for (size_t i = ClusterHistory::kHeadBytes; i < value.size(); ++i)
        if (value[i] != pad_byte(name, i)) return std::nullopt;
    return name;
}

}  // namespace

std::vector<uint8_t> ClusterHistory::value_of(RecordName name, uint32_t pad) {
    std::vector<uint8_t> value(kHeadBytes + pad);
    store_be<uint32_t>(value.data(), name.writer);
    store_be<uint32_t>(value.data() + 4, name.number);
    store_be<uint32_t>(value.data() + 8, static_cast<uint32_t>(value.size()));
    for (size_t i = kHeadBytes; i < value.size(); ++i) value[i] = pad_byte(name, i);
    return value;
}

void ClusterHistory::complain(const PartitionKey& key, const std::string& what) const {
    listener_(fmt::format("partition {}-{}: {}", key.topic.to_string(), key.index, what));
}

uint32_t ClusterHistory::new_writer(WriterKind kind) {
    writers_.push_back(kind);
    return static_cast<uint32_t>(writers_.size() - 1);
}

void ClusterHistory::sent(const PartitionKey& key, RecordName name) {
    CHECK(name.writer < writers_.size());
    if (partitions_[key].sent.insert(name).second) ++counts_.sent;
}

void ClusterHistory::acknowledged(const PartitionKey& key, RecordName name, int64_t offset) {
    ++counts_.acknowledged;
    Partition& partition = partitions_[key];
    CHECK(partition.sent.contains(name));
    const auto [at, is_new] = partition.acknowledged.emplace(name, offset);
    if (!is_new) {
        if (at->second >= 0 && offset >= 0 && at->second != offset)
            complain(key, fmt::format("{} was acknowledged at offset {}, then at {}",
                                      to_string(name), at->second, offset));
        at->second = std::max(at->second, offset);
    }
    if (offset < 0 || writers_[name.writer] == WriterKind::kWeak) return;
    partition.latest = std::max(partition.latest, offset + 1);
    const auto held = partition.held.find(offset);
    if (held != partition.held.end() && held->second.name != name)
        complain(key, fmt::format("{} is acknowledged at offset {}, which holds {}",
                                  to_string(name), offset, to_string(held->second.name)));
}

void ClusterHistory::read(const PartitionKey& key, int64_t offset, int32_t epoch, Bytes value) {
    ++counts_.read;
    Partition& partition = partitions_[key];
    const auto name = name_of(value);
    if (!name || !partition.sent.contains(*name)) {
        complain(key, fmt::format("offset {} holds {}", offset,
                                  name ? to_string(*name) + ", which was never sent here"
                                       : std::string("bytes that nobody sent")));
        return;
    }
    const auto [at, is_new] = partition.held.emplace(offset, Held{*name, epoch});
    if (!is_new) {
        if (at->second.name != *name)
            complain(key, fmt::format("offset {} held {} and holds {} now", offset,
                                      to_string(at->second.name), to_string(*name)));
        else if (at->second.epoch != epoch)
            complain(key, fmt::format("offset {} was of epoch {} and is of {} now", offset,
                                      at->second.epoch, epoch));
        return;
    }
    const auto [where, is_first] = partition.where.emplace(*name, offset);
    if (!is_first)
        complain(key, fmt::format("{} is at offset {} and at {}", to_string(*name), where->second,
                                  offset));
    if (writers_[name->writer] == WriterKind::kWeak) return;
    const auto told = partition.acknowledged.find(*name);
    if (told != partition.acknowledged.end() && told->second >= 0 && told->second != offset)
        complain(key, fmt::format("{} was acknowledged at offset {} and is at {}", to_string(*name),
                                  told->second, offset));
}

int64_t ClusterHistory::high_watermark_told(const PartitionKey& key, const Teller& teller) const {
    const auto partition = partitions_.find(key);
    if (partition == partitions_.end()) return -1;
    const auto at = partition->second.high_watermarks.find(teller);
    return at == partition->second.high_watermarks.end() ? -1 : at->second;
}

void ClusterHistory::told_high_watermark(const PartitionKey& key, const Teller& teller,
                                         int64_t high_watermark, int64_t before) {
    if (teller.epoch < 0) return;
    if (high_watermark < before)
        complain(key,
                 fmt::format("the high watermark of node {} in epoch {} went back from {} to {}",
                             teller.node, teller.epoch, before, high_watermark));
    Partition& partition = partitions_[key];
    partition.latest = std::max(partition.latest, high_watermark);
    int64_t& told = partition.high_watermarks.emplace(teller, high_watermark).first->second;
    told = std::max(told, high_watermark);
}

int64_t ClusterHistory::latest_at_least(const PartitionKey& key) const {
    const auto partition = partitions_.find(key);
    return partition == partitions_.end() ? 0 : partition->second.latest;
}

void ClusterHistory::told_latest(const PartitionKey& key, int32_t node, int64_t offset,
                                 int64_t at_least) {
    if (offset < at_least)
        complain(key, fmt::format("node {} says that the newest offset is {}, and {} was known",
                                  node, offset, at_least));
}

void ClusterHistory::told_leader(const PartitionKey& key, int32_t epoch, int32_t leader) {
    if (epoch < 0 || leader < 0) return;
    const auto [at, is_new] = partitions_[key].leaders.emplace(epoch, leader);
    if (is_new) ++counts_.epochs;
    if (!is_new && at->second != leader)
        complain(key, fmt::format("epoch {} is led by node {} and by node {}", epoch, at->second,
                                  leader));
}

void ClusterHistory::commit_sent(const Commit& commit, int64_t offset) {
    commits_[commit].sent.insert(offset);
}

void ClusterHistory::commit_acknowledged(const Commit& commit, int64_t offset) {
    ++counts_.commits;
    Committed& committed = commits_[commit];
    CHECK(committed.sent.contains(offset));
    committed.acknowledged = std::max(committed.acknowledged, offset);
}

int64_t ClusterHistory::committed_at_least(const Commit& commit) const {
    const auto at = commits_.find(commit);
    return at == commits_.end() ? -1 : at->second.acknowledged;
}

void ClusterHistory::told_committed(const Commit& commit, int64_t offset, int64_t at_least) {
    if (offset < at_least)
        complain(commit.key, fmt::format("group {} committed {}, and is told {} later",
                                         commit.group, at_least, offset));
    if (offset < 0) return;
    const auto at = commits_.find(commit);
    if (at == commits_.end() || !at->second.sent.contains(offset))
        complain(commit.key, fmt::format("group {} is told the committed offset {}, which nobody "
                                         "committed",
                                         commit.group, offset));
}

std::vector<PartitionKey> ClusterHistory::partitions() const {
    std::vector<PartitionKey> keys;
    for (const auto& [key, partition] : partitions_) keys.push_back(key);
    return keys;
}

void ClusterHistory::check_all_read(const PartitionKey& key, int64_t start, int64_t end) {
    Partition& partition = partitions_[key];
    int32_t epoch = -1;
    int64_t offset = start;
    std::map<uint32_t, uint32_t> last;  // by idempotent writer: the number of its last record
    for (const auto& [at, held] : partition.held) {
        if (at < start) continue;
        if (at >= end) {
            complain(key, fmt::format("offset {} was read, and the log ends at {}", at, end));
            break;
        }
        if (at != offset) {
            complain(key, fmt::format("offsets {} to {} hold no record", offset, at - 1));
            break;
        }
        ++offset;
        if (held.epoch < epoch)
            complain(key, fmt::format("offset {} is of epoch {}, after one of epoch {}", at,
                                      held.epoch, epoch));
        epoch = std::max(epoch, held.epoch);
        if (writers_[held.name.writer] != WriterKind::kIdempotent) continue;
        const auto [before, is_first] = last.emplace(held.name.writer, held.name.number);
        const uint32_t expected = is_first ? 0 : before->second + 1;
        if (start == 0 && held.name.number != expected)
            complain(key, fmt::format("offset {} holds {}, expected number {}", at,
                                      to_string(held.name), expected));
        before->second = held.name.number;
    }
    if (offset < end)
        complain(key, fmt::format("offsets {} to {} hold no record", offset, end - 1));
    for (const auto& [name, told] : partition.acknowledged) {
        if (writers_[name.writer] == WriterKind::kWeak) continue;
        if (told >= 0 && told < start) continue;  // deleted since
        const auto where = partition.where.find(name);
        if (where == partition.where.end())
            complain(key, fmt::format("{}, acknowledged at offset {}, is lost: the log is [{}, {})",
                                      to_string(name), told, start, end));
    }
}

}  // namespace weir::sim
