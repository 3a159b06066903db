#include "raft/testing/log.h"

#include <algorithm>

#include "base/check.h"
#include "base/prng.h"

namespace weir::raft {

bool LogEntry::same(const LogEntry& other) const {
    return info.kind == other.info.kind && info.term == other.info.term &&
           info.first == other.info.first && info.next_offset == other.info.next_offset &&
           value == other.value && (configuration == nullptr) == (other.configuration == nullptr) &&
           (configuration == nullptr || *configuration == *other.configuration);
}

uint64_t chain(uint64_t hash, const LogEntry& entry) {
    return mix64(hash ^ mix64(entry.value) ^ static_cast<uint64_t>(entry.info.end().offset));
}

size_t ModelLog::index_of(Position position) const {
    const auto found = std::ranges::lower_bound(
        entries, position, {}, [](const LogEntry& entry) { return entry.info.first; });
    return static_cast<size_t>(found - entries.begin());
}

const LogEntry* ModelLog::find(Position first) const {
    const size_t index = index_of(first);
    return index < entries.size() && entries[index].info.first == first ? &entries[index] : nullptr;
}

bool ModelLog::boundary(Position position) const {
    return position == end() || find(position) != nullptr;
}

void ModelLog::append(LogEntry entry) {
    CHECK(entry.info.first == end());
    entries.push_back(std::move(entry));
}

bool ModelLog::cut(Position at) {
    if (!boundary(at)) return false;
    entries.resize(index_of(at));
    return true;
}

void ModelLog::drop_below(Position at) {
    if (at <= start) return;
    const size_t count = index_of(at);
    CHECK(boundary(at));
    for (size_t i = 0; i < count; ++i) {
        const LogEntry& entry = entries[i];
        if (base_terms.empty() || base_terms.back().term < entry.info.term) {
            base_terms.push_back({entry.info.term, entry.info.first});
        }
        if (entry.configuration) base_configuration = *entry.configuration;
        base_hash = chain(base_hash, entry);
    }
    entries.erase(entries.begin(), entries.begin() + static_cast<ptrdiff_t>(count));
    start = at;
}

std::vector<TermStart> ModelLog::terms() const {
    std::vector<TermStart> rows;
    if (!base_terms.empty()) rows.push_back(base_terms.back());
    for (const LogEntry& entry : entries) {
        if (rows.empty() || rows.back().term < entry.info.term) {
            rows.push_back({entry.info.term, entry.info.first});
        }
    }
    return rows;
}

std::vector<ConfigurationAt> ModelLog::configurations() const {
    std::vector<ConfigurationAt> rows{{start, base_configuration}};
    for (const LogEntry& entry : entries) {
        if (entry.configuration) rows.push_back({entry.info.first, *entry.configuration});
    }
    return rows;
}

const Configuration& ModelLog::configuration() const {
    for (size_t i = entries.size(); i-- > 0;) {
        if (entries[i].configuration) return *entries[i].configuration;
    }
    return base_configuration;
}

void ModelDisk::apply_first() {
    const Op op = std::move(pending.front());
    pending.pop_front();
    switch (op.kind) {
        case Op::Kind::kAppend:
            return log.append(op.entry);
        case Op::Kind::kCut:
            CHECK(log.cut(op.position));
            return;
        case Op::Kind::kDropBelow:
            return log.drop_below(op.position);
        case Op::Kind::kSave:
            hard_state = op.hard_state;
            return;
        case Op::Kind::kInstall:
            log = *op.log;
            return;
    }
}

}  // namespace weir::raft
