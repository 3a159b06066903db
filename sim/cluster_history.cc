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

void ClusterHistory::may_lose(const PartitionKey& key, bool now) {
    Partition& partition = partitions_[key];
    if (now && !partition.may_lose) {
        ++partition.losses;
        ++counts_.may_lose;
        partition.latest = 0;
    }
    partition.may_lose = now;
}

bool ClusterHistory::may_have_lost(const PartitionKey& key) const {
    const auto partition = partitions_.find(key);
    return partition != partitions_.end() && partition->second.losses > 0;
}

ClusterHistory::Asked ClusterHistory::asked(const PartitionKey& key) const {
    const auto partition = partitions_.find(key);
    if (partition == partitions_.end()) return {};
    return {partition->second.losses - (partition->second.may_lose ? 1 : 0)};
}

void ClusterHistory::acknowledged(const PartitionKey& key, RecordName name, int64_t offset,
                                  int32_t epoch, Asked asked) {
    ++counts_.acknowledged;
    Partition& partition = partitions_[key];
    CHECK(partition.sent.contains(name));
    // A producer that a partition has forgotten may be told that it knows what it does not know.
    if (offset < 0) asked = {};
    const auto [at, is_new] = partition.acknowledged.emplace(name, Told{offset, epoch, asked});
    if (!is_new) {
        Told& told = at->second;
        if (told.offset >= 0 && offset >= 0 && told.offset != offset)
            complain(key, fmt::format("{} was acknowledged at offset {}, then at {}",
                                      to_string(name), told.offset, offset));
        told.offset = std::max(told.offset, offset);
    }
    if (offset < 0 || writers_[name.writer] == WriterKind::kWeak || partition.excused(asked))
        return;
    partition.latest = std::max(partition.latest, offset + 1);
    const auto held = partition.held.find(offset);
    if (held != partition.held.end() && held->second.name != name &&
        !partition.excused(held->second.asked))
        complain(key, fmt::format("{} is acknowledged at offset {}, which holds {}",
                                  to_string(name), offset, to_string(held->second.name)));
}

void ClusterHistory::read(const PartitionKey& key, int64_t offset, int32_t epoch, Bytes value,
                          Asked asked) {
    ++counts_.read;
    Partition& partition = partitions_[key];
    const auto name = name_of(value);
    if (!name || !partition.sent.contains(*name)) {
        complain(key, fmt::format("offset {} holds {}", offset,
                                  name ? to_string(*name) + ", which was never sent here"
                                       : std::string("bytes that nobody sent")));
        return;
    }
    hold(key, partition, offset, {*name, epoch, asked});
    // Of those that were lost on the way, one may be there again.
    if (partition.losses > 0) return;
    const auto [where, is_first] = partition.where.emplace(*name, offset);
    if (!is_first && where->second != offset)
        complain(key, fmt::format("{} is at offset {} and at {}", to_string(*name), where->second,
                                  offset));
    if (writers_[name->writer] == WriterKind::kWeak) return;
    const auto told = partition.acknowledged.find(*name);
    if (told != partition.acknowledged.end() && told->second.offset >= 0 &&
        told->second.offset != offset)
        complain(key, fmt::format("{} was acknowledged at offset {} and is at {}", to_string(*name),
                                  told->second.offset, offset));
}

// One offset holds one record for ever; where the log's end was lost, one for each epoch.
void ClusterHistory::hold(const PartitionKey& key, Partition& partition, int64_t offset,
                          Held held) {
    const auto [at, is_new] = partition.held.emplace(offset, held);
    if (is_new) return;
    Held& before = at->second;
    if (before.epoch == held.epoch || partition.losses == 0) {
        if (before.name != held.name)
            complain(key, fmt::format("offset {} held {} and holds {} now", offset,
                                      to_string(before.name), to_string(held.name)));
        else if (before.epoch != held.epoch)
            complain(key, fmt::format("offset {} was of epoch {} and is of {} now", offset,
                                      before.epoch, held.epoch));
        before.asked.losses = std::max(before.asked.losses, held.asked.losses);
        return;
    }
    // Who still reads what is lost asked before, as did whoever read what was there before.
    const Held& lost = before.epoch < held.epoch ? before : held;
    if (!partition.excused(lost.asked))
        complain(key, fmt::format("offset {} held {} of epoch {}, which must stay, and holds {} of "
                                  "epoch {}",
                                  offset, to_string(lost.name), lost.epoch,
                                  to_string((&lost == &held ? before : held).name),
                                  std::max(before.epoch, held.epoch)));
    const auto [gone, is_first] = partition.gone.emplace(std::pair{offset, lost.epoch}, lost.name);
    if (!is_first && gone->second != lost.name)
        complain(key, fmt::format("offset {} held {} and {} in epoch {}", offset,
                                  to_string(gone->second), to_string(lost.name), lost.epoch));
    if (&lost == &before) before = held;
}

int64_t ClusterHistory::high_watermark_told(const PartitionKey& key, const Teller& teller) const {
    const auto partition = partitions_.find(key);
    if (partition == partitions_.end()) return -1;
    const auto at = partition->second.high_watermarks.find(teller);
    return at == partition->second.high_watermarks.end() ? -1 : at->second;
}

void ClusterHistory::told_high_watermark(const PartitionKey& key, const Teller& teller,
                                         int64_t high_watermark, int64_t before, Asked asked) {
    if (teller.epoch < 0) return;
    if (high_watermark < before)
        complain(key,
                 fmt::format("the high watermark of node {} in epoch {} went back from {} to {}",
                             teller.node, teller.epoch, before, high_watermark));
    Partition& partition = partitions_[key];
    if (!partition.excused(asked)) partition.latest = std::max(partition.latest, high_watermark);
    int64_t& told = partition.high_watermarks.emplace(teller, high_watermark).first->second;
    told = std::max(told, high_watermark);
}

int64_t ClusterHistory::latest_at_least(const PartitionKey& key) const {
    const auto partition = partitions_.find(key);
    return partition == partitions_.end() ? 0 : partition->second.latest;
}

void ClusterHistory::told_latest(const PartitionKey& key, int32_t node, int64_t offset,
                                 int64_t at_least, Asked asked) {
    Partition& partition = partitions_[key];
    if (partition.excused(asked)) return;
    if (offset < at_least)
        complain(key, fmt::format("node {} says that the newest offset is {}, and {} was known",
                                  node, offset, at_least));
    partition.latest = std::max(partition.latest, offset);
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
    std::erase_if(partition.held, [&](const auto& each) {
        return each.first >= end && partition.excused(each.second.asked);
    });
    check_order(key, partition, start, end);
    std::map<RecordName, int64_t> where;
    for (const auto& [at, held] : partition.held) {
        const auto [other, is_first] = where.emplace(held.name, at);
        if (!is_first)
            complain(key, fmt::format("{} is at offset {} and at {}", to_string(held.name),
                                      other->second, at));
    }
    for (const auto& [name, told] : partition.acknowledged) {
        if (writers_[name.writer] == WriterKind::kWeak) continue;
        if (told.offset >= 0 && told.offset < start) continue;  // deleted since
        const auto there = where.find(name);
        if (there != where.end()) {
            if (told.offset >= 0 && there->second != told.offset)
                complain(key, fmt::format("{} was acknowledged at offset {} and is at {}",
                                          to_string(name), told.offset, there->second));
            continue;
        }
        ++counts_.lost;
        if (!partition.excused(told.asked)) {
            complain(key, fmt::format("{}, acknowledged at offset {}, is lost: the log is [{}, {})",
                                      to_string(name), told.offset, start, end));
            continue;
        }
        // A log loses its end: what is there now came later.
        const auto instead = partition.held.find(told.offset);
        if (instead != partition.held.end() && instead->second.epoch <= told.epoch)
            complain(key, fmt::format("{}, acknowledged at offset {} in epoch {}, is lost, and {} "
                                      "of epoch {} is there",
                                      to_string(name), told.offset, told.epoch,
                                      to_string(instead->second.name), instead->second.epoch));
    }
}

void ClusterHistory::check_order(const PartitionKey& key, const Partition& partition, int64_t start,
                                 int64_t end) const {
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
        // Of a writer of which all is lost, the next batch is taken as the first.
        const bool any = is_first && partition.losses > 0;
        if (start == 0 && held.name.number != expected && !any)
            complain(key, fmt::format("offset {} holds {}, expected number {}", at,
                                      to_string(held.name), expected));
        before->second = held.name.number;
    }
    if (offset < end)
        complain(key, fmt::format("offsets {} to {} hold no record", offset, end - 1));
}

}  // namespace weir::sim
