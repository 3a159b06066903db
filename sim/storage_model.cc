#include "storage_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/crc32c.h"
#include "base/prng.h"

namespace weir::sim {

using namespace weir::storage;

std::string to_string(Position position) {
    return fmt::format("{}.{}", position.offset, position.ordinal);
}

namespace {

bool same_info(const EntryInfo& a, const EntryInfo& b) {
    return a.kind == b.kind && a.term == b.term && a.first == b.first &&
           a.next_offset == b.next_offset && a.max_timestamp_ms == b.max_timestamp_ms;
}

std::string describe(const EntryInfo& info) {
    return fmt::format("{} [{}, {}) term {} timestamp {}",
                       info.kind == EntryKind::kData ? "data" : "control", to_string(info.first),
                       to_string(info.end()), info.term, info.max_timestamp_ms);
}

constexpr uint64_t kPaddingMax = 8192;
constexpr size_t kStateBytes = 24;
constexpr uint64_t kStateMagic = 0x5745495253544154;

}  // namespace

size_t LogModel::index_of(Position position) const {
    const auto at = std::ranges::lower_bound(
        history, position, {}, [](const ModelEntryRef& entry) { return entry->info.first; });
    return static_cast<size_t>(at - history.begin());
}

void LogModel::cut(Position at) {
    for (size_t i = index_of(at); i < history.size(); ++i)
        cut_bytes_ += history[i]->payload.size() + kPaddingMax;
    history.resize(index_of(at));
    acknowledged = std::min(acknowledged, at);
    ++truncations;
}

std::vector<uint8_t> LogModel::state_at(int64_t end_offset) const {
    uint64_t hash = 0;
    uint64_t count = 0;
    for (const ModelEntryRef& entry : history) {
        if (entry->info.kind != EntryKind::kData) continue;
        if (entry->info.next_offset > end_offset) break;
        hash = mix64(hash ^ crc32c(as_bytes(entry->payload).first(entry->summary_bytes)));
        hash = mix64(hash ^ static_cast<uint64_t>(entry->info.next_offset));
        ++count;
    }
    std::vector<uint8_t> state(kStateBytes);
    store_le(state.data(), kStateMagic ^ count);
    store_le(state.data() + 8, static_cast<uint64_t>(end_offset));
    store_le(state.data() + 16, hash);
    return state;
}

std::string LogModel::about(std::string_view what, const Seen& seen) const {
    return fmt::format(
        "log {}: {}: seen start={} end={} durable={} hard={}/{} last_term={}; model end={} "
        "acknowledged={} start={}..{} cut={}",
        id.v, what, seen.start_offset, to_string(seen.end), to_string(seen.durable_end),
        seen.hard_state.term, seen.hard_state.voted_for, seen.last_term, to_string(end()),
        to_string(acknowledged), start_acknowledged, start_attempted,
        cut_attempted ? to_string(*cut_attempted) : "-");
}

// The end: a boundary of an entry that was appended.
Complaint LogModel::check_end(const Seen& seen) const {
    if (seen.durable_end != seen.end) return "recovered entries are not durable";
    if (seen.end > end()) return "more than was ever appended";
    const size_t count = index_of(seen.end);
    const Position boundary = count == 0 ? Position{} : history[count - 1]->info.end();
    if (boundary != seen.end) return "the end lies within an entry";
    // Of a log that holds nothing the terms below may be forgotten.
    const bool forgot = seen.last_term == 0 && seen.start_offset >= seen.end.offset;
    if (seen.last_term != last_term_below(seen.end) && !forgot)
        return "the last term is not that of the last entry";
    return {};
}

void LogModel::take_over(const Seen& seen) {
    history.resize(index_of(seen.end));
    acknowledged = seen.end;
    cut_attempted.reset();
    ++truncations;
    hard_states = {seen.hard_state};
}

Complaint LogModel::recovered(const Seen& seen, const RecoveredState& state, int64_t wall_ms) {
    if (Complaint complaint = check_end(seen); !complaint.empty()) return about(complaint, seen);
    const Position least = cut_attempted ? std::min(acknowledged, *cut_attempted) : acknowledged;
    if (seen.end < least) return about("acknowledged entries are lost", seen);
    if (std::ranges::find(hard_states, seen.hard_state) == hard_states.end())
        return about("the vote was forgotten or made up", seen);
    if (Complaint complaint = check_state(state, seen); !complaint.empty())
        return about(complaint, seen);
    take_over(seen);
    if (Complaint complaint = started_at(seen.start_offset, wall_ms); !complaint.empty())
        return about(complaint, seen);
    start_acknowledged = start_attempted = seen.start_offset;
    presence = Presence::kPresent;
    return {};
}

Complaint LogModel::went_back(const Seen& seen, const RecoveredState& state) {
    if (Complaint complaint = check_end(seen); !complaint.empty()) return about(complaint, seen);
    if (Complaint complaint = check_state(state, seen); !complaint.empty())
        return about(complaint, seen);
    if (seen.start_offset > seen.end.offset) return about("it starts after its end", seen);
    take_over(seen);
    start_acknowledged = start_attempted = seen.start_offset;
    presence = Presence::kPresent;
    return {};
}

int32_t LogModel::last_term_below(Position end) const {
    const size_t count = index_of(end);
    return count == 0 ? 0 : history[count - 1]->info.term;
}

Complaint LogModel::check_state(const RecoveredState& state, const Seen& seen) const {
    const Position end = seen.end;
    const int64_t from = state.state_offset;
    int64_t replayed_from = 0;
    if (!state.state.empty()) {
        if (state.state.size() != kStateBytes)
            return fmt::format("a state of {} bytes", state.state.size());
        const auto covered = load_le<int64_t>(state.state.data() + 8);
        if (covered > end.offset)
            return fmt::format("the state covers {}, which is beyond the end", covered);
        if (state.state != state_at(covered))
            return fmt::format("the state at {} is not what the entries give", covered);
        if (covered > from)
            return fmt::format("the state covers {} and is said to cover {}", covered, from);
        replayed_from = covered;
    }
    size_t index = 0;
    const auto skip_control = [&] {
        while (index < state.entries.size() && state.entries[index].info.kind != EntryKind::kData)
            ++index;
    };
    for (const ModelEntryRef& entry : history) {
        const EntryInfo& info = entry->info;
        if (info.end() > end) break;
        if (info.kind != EntryKind::kData || info.next_offset <= replayed_from) continue;
        skip_control();
        // Entries that went with the front of the log, in part or whole, may be given or not.
        const bool gone = info.first.offset < seen.start_offset;
        if (index == state.entries.size() || !same_info(state.entries[index].info, info)) {
            if (gone) continue;
            if (index == state.entries.size())
                return fmt::format("replay ends before {}", describe(info));
            return fmt::format("replay gives {} where {} was appended",
                               describe(state.entries[index].info), describe(info));
        }
        const Bytes summary = as_bytes(entry->payload).first(entry->summary_bytes);
        if (!std::ranges::equal(state.entries[index].summary, summary)) {
            return fmt::format("replay gives a wrong summary of {}", describe(info));
        }
        ++index;
    }
    skip_control();
    if (index < state.entries.size())
        return fmt::format("replay gives {} after the end", describe(state.entries[index].info));
    return {};
}

Complaint LogModel::started_at(int64_t start_offset, int64_t wall_ms) {
    if (start_offset < start_acknowledged) {
        return fmt::format("log {}: starts at {}, although it was moved to {}", id.v, start_offset,
                           start_acknowledged);
    }
    if (start_offset > end().offset)
        return fmt::format("log {}: starts at {}, after its end {}", id.v, start_offset,
                           to_string(end()));
    if (start_offset > start_attempted) {
        if (Complaint complaint = check_retention(start_attempted, start_offset, wall_ms);
            !complaint.empty())
            return complaint;
        start_attempted = start_offset;
        cut_bytes_ = 0;
    }
    return {};
}

// Retention moved the start: each entry that went was too old, or what came after it was large
// enough.
Complaint LogModel::check_retention(int64_t from, int64_t to, int64_t wall_ms) const {
    if (!config.delete_by_retention || (config.retention_bytes < 0 && config.retention_ms < 0)) {
        return fmt::format("log {}: the start moved from {} to {} and nobody asked for it", id.v,
                           from, to);
    }
    uint64_t rest = cut_bytes_;
    for (auto at = history.rbegin(); at != history.rend() && (*at)->info.next_offset > from; ++at) {
        const EntryInfo& info = (*at)->info;
        if (info.first.offset < to) {
            if (info.next_offset > to) {
                return fmt::format("log {}: retention cut {} in two at {}", id.v, describe(info),
                                   to);
            }
            const bool old =
                config.retention_ms >= 0 &&
                (wall_ms == INT64_MAX || info.max_timestamp_ms + config.retention_ms <= wall_ms);
            const bool surplus = config.retention_bytes >= 0 &&
                                 rest >= static_cast<uint64_t>(config.retention_bytes);
            if (!old && !surplus) {
                return fmt::format(
                    "log {}: retention (bytes={} ms={}) moved the start from {} to {} too early: "
                    "it took {} at {}, {} bytes are left",
                    id.v, config.retention_bytes, config.retention_ms, from, to, describe(info),
                    wall_ms, rest);
            }
        }
        // What a log holds counts with its padding: at most a page and a header an entry.
        rest += (*at)->payload.size() + kPaddingMax;
    }
    return {};
}

Complaint LogModel::check_term(int32_t term, const std::optional<Log::TermEnd>& seen,
                               int64_t start_offset) const {
    // The largest term <= `term` that an entry has, and where the next larger one begins.
    std::optional<Log::TermEnd> expected;
    int64_t next = end().offset;
    for (auto entry = history.rbegin(); entry != history.rend(); ++entry) {
        if ((*entry)->info.term <= term) {
            expected = Log::TermEnd{(*entry)->info.term, next};
            break;
        }
        next = (*entry)->info.first.offset;
    }
    const bool same =
        expected.has_value() == seen.has_value() &&
        (!seen || (expected->term == seen->term && expected->end_offset == seen->end_offset));
    if (same) return {};
    // Terms that lie wholly below the start may be forgotten, in part or whole.
    if (expected && expected->end_offset <= start_offset) return {};
    return fmt::format(
        "log {}: the end of term {} is {}, expected {}", id.v, term,
        seen ? fmt::format("{}@{}", seen->term, seen->end_offset) : "unknown",
        expected ? fmt::format("{}@{}", expected->term, expected->end_offset) : "unknown");
}

std::vector<ModelEntryRef> LogModel::data_from(int64_t start_offset) const {
    std::vector<ModelEntryRef> entries;
    for (const ModelEntryRef& entry : history) {
        if (entry->info.kind == EntryKind::kData && entry->info.next_offset > start_offset)
            entries.push_back(entry);
    }
    return entries;
}

Complaint LogModel::check_read(const std::vector<ModelEntryRef>& entries, int64_t offset,
                               const ReadLimits& limits, const ReadResult& result) {
    const auto about = [&](std::string_view what) {
        return fmt::format("read at {} below {} of {} bytes{}: {}: [{}, {}) {} bytes in {} parts{}",
                           offset, limits.end_offset, limits.bytes_max,
                           limits.at_least_one ? ", at least one" : "", what, result.first_offset,
                           result.next_offset, result.size, result.parts.size(),
                           result.memory_was_short ? ", memory was short" : "");
    };
    uint64_t size = 0;
    for (const auto& part : result.parts) size += part.size();
    if (size != result.size) return about("the parts have another size");

    auto entry = std::ranges::find_if(
        entries, [&](const ModelEntryRef& e) { return e->info.next_offset > offset; });
    const bool any = entry != entries.end() && (*entry)->info.next_offset <= limits.end_offset;
    const bool fits = any && ((*entry)->payload.size() <= limits.bytes_max || limits.at_least_one);
    if (size == 0)
        return fits ? about(fmt::format("nothing, but there is {}", describe((*entry)->info))) : "";
    if (!any) return about("something where nothing is");
    if (result.first_offset != (*entry)->info.first.offset)
        return about(fmt::format("begins elsewhere than {}", describe((*entry)->info)));

    // Parts are whole entries, back to back.
    uint64_t taken = 0;
    size_t count = 0;
    for (const auto& part : result.parts) {
        Bytes rest = part.bytes();
        while (!rest.empty()) {
            if (entry == entries.end()) return about("goes on after the end");
            const Bytes payload = as_bytes((*entry)->payload);
            if (rest.size() < payload.size())
                return about(fmt::format("a part ends within {}", describe((*entry)->info)));
            if (!std::ranges::equal(rest.first(payload.size()), payload)) {
                return about(fmt::format("wrong bytes in {}", describe((*entry)->info)));
            }
            if ((*entry)->info.next_offset > limits.end_offset)
                return about("goes beyond the end asked for");
            taken += payload.size();
            ++count;
            rest = rest.subspan(payload.size());
            ++entry;
        }
    }
    if (taken > limits.bytes_max && count > 1) return about("more bytes than asked for");
    if (taken > limits.bytes_max && !limits.at_least_one) return about("more bytes than asked for");
    const int64_t next = (*std::prev(entry))->info.next_offset;
    if (result.next_offset != next) return about(fmt::format("should go on at {}", next));
    return {};
}

Complaint LogModel::check_found(const std::vector<ModelEntryRef>& entries, int64_t start_offset,
                                int64_t end_offset, std::optional<int64_t> timestamp_ms,
                                const std::optional<FoundEntry>& found) {
    const ModelEntry* expected = nullptr;
    for (const ModelEntryRef& entry : entries) {
        const EntryInfo& info = entry->info;
        if (info.next_offset <= start_offset || info.next_offset > end_offset) continue;
        if (timestamp_ms) {
            if (info.max_timestamp_ms < *timestamp_ms) continue;
            expected = entry.get();
            break;
        }
        if (expected == nullptr || info.max_timestamp_ms > expected->info.max_timestamp_ms)
            expected = entry.get();
    }
    const auto about = [&](std::string_view what) {
        return fmt::format(
            "search for {} in [{}, {}): {}: found {}, expected {}",
            timestamp_ms ? fmt::format("timestamp {}", *timestamp_ms) : "the largest timestamp",
            start_offset, end_offset, what, found ? describe(found->info) : "nothing",
            expected ? describe(expected->info) : "nothing");
    };
    if (found.has_value() != (expected != nullptr)) return about("wrong");
    if (!found) return {};
    if (!same_info(found->info, expected->info)) return about("wrong");
    if (!std::ranges::equal(found->payload.bytes(), as_bytes(expected->payload)))
        return about("wrong bytes");
    return {};
}

}  // namespace weir::sim
