#include "storage/log_state.h"

#include <algorithm>

#include "base/check.h"

namespace weir::storage {

void EntryQueue::push_back(MemoryEntry entry) {
    if (pieces_.empty() || pieces_.back().size() == kPieceEntries) {
        pieces_.emplace_back();
        if (pieces_.size() > 1) pieces_.back().reserve(kPieceEntries);
    }
    pieces_.back().push_back(std::move(entry));
}

void EntryQueue::pop_front() {
    CHECK(!empty());
    front().payload = {};
    ++head_;
    if (empty()) {
        clear();
    } else if (head_ == kPieceEntries) {
        pieces_.erase(pieces_.begin());
        head_ = 0;
    }
}

void EntryQueue::pop_back() {
    CHECK(!empty());
    pieces_.back().pop_back();
    if (pieces_.back().empty() && pieces_.size() > 1) pieces_.pop_back();
    if (empty()) clear();
}

void EntryQueue::clear() {
    // A hot log fills the piece again at once; an idle one gives it back.
    if (pieces_.size() == 1 && pieces_.front().capacity() <= 64) {
        pieces_.front().clear();
    } else {
        pieces_ = {};
    }
    head_ = 0;
}

void EntryQueue::shrink() {
    if (empty()) {
        pieces_ = {};
        head_ = 0;
    } else if (pieces_.size() == 1) {
        std::vector<MemoryEntry>& only = pieces_.front();
        only.erase(only.begin(), only.begin() + static_cast<ptrdiff_t>(head_));
        head_ = 0;
    }
    if (!pieces_.empty()) pieces_.back().shrink_to_fit();
    pieces_.shrink_to_fit();
}

size_t EntryQueue::capacity() const {
    size_t capacity = 0;
    for (const auto& piece : pieces_) capacity += piece.capacity();
    return capacity;
}

size_t EntryQueue::find(int64_t offset) const {
    size_t low = 0, high = size();
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((*this)[middle].info.next_offset > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

size_t EntryQueue::find(Position position) const {
    size_t low = 0, high = size();
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        if ((*this)[middle].info.end() > position)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void LogState::append(MemoryEntry entry) {
    CHECK(entry.info.first == end);
    end = entry.info.end();
    memory_bytes += entry.payload.size();
    if (terms.empty() || entry.info.term > terms.back().term)
        terms.push_back({entry.info.term, entry.info.first});
    memory.push_back(std::move(entry));
}

void LogState::truncate_suffix(Position to, std::vector<Segment>* removed) {
    if (to >= end) return;
    while (!memory.empty() && memory.back().info.first >= to) {
        memory_bytes -= memory.back().payload.size();
        memory.pop_back();
    }
    while (!terms.empty() && terms.back().first >= to) terms.pop_back();
    end = to;
    if (to >= flushed_end) return;
    flushed_end = to;
    while (!segments.empty() && segments.back().base >= to) {
        removed->push_back(std::move(segments.back()));
        segments.pop_back();
    }
    if (segments.empty()) return;
    Segment& last = segments.back();
    // How much of it is left only its runs could tell: less is no harm, retention then keeps more.
    if (to < last.end) last.payload_bytes = 0;
    last.end = std::min(last.end, to);
    if (last.index != nullptr) cut_index(*last.index, to);
}

void LogState::truncate_prefix(int64_t to, int32_t term_below, std::vector<Segment>* removed) {
    if (to <= start_offset) return;
    start_offset = to;
    if (to > end.offset) {
        for (Segment& segment : segments) removed->push_back(std::move(segment));
        segments.clear();
        memory.clear();
        memory_bytes = 0;
        end = flushed_end = {to, 0};
        if (terms.size() > 1) terms.erase(terms.begin(), terms.end() - 1);
        if (term_below > 0) terms = {{term_below, {to - 1, 0}}};
        return;
    }
    size_t below = 0;
    // The last segment stays for as long as it takes runs.
    while (below < segments.size() && segments[below].end.offset <= to &&
           (below + 1 < segments.size() || segments[below].full))
        ++below;
    for (size_t i = 0; i < below; ++i) removed->push_back(std::move(segments[i]));
    segments.erase(segments.begin(), segments.begin() + static_cast<ptrdiff_t>(below));
    // The term of the last entry below `to` stays known: a truncation to `to` may make it the last
    // one.
    while (terms.size() > 1 && terms[1].first.offset < to) terms.erase(terms.begin());
}

void LogState::open_segment(const SegmentOpened& opened) {
    if (opened.segment < next_segment) return;
    next_segment = opened.segment + 1;
    if (!segments.empty()) segments.back().full = true;
    Segment segment;
    segment.id = opened.segment;
    segment.base = segment.end = opened.base;
    segment.created_ms = opened.created_ms;
    segments.push_back(std::move(segment));
}

void LogState::close_segment(const SegmentClosed& closed) {
    Segment* segment = find_segment(closed.segment);
    if (segment == nullptr) return;
    segment->full = true;
    segment->footer_position = closed.footer_position;
    segment->footer_length = closed.footer_length;
}

bool LogState::replace_segment(const SegmentReplaced& replaced, std::vector<Segment>* removed) {
    next_segment = std::max(next_segment, replaced.replacement + 1);
    Segment* segment = find_segment(replaced.segment);
    if (segment == nullptr) return false;
    Segment by;
    by.id = replaced.replacement;
    by.base = replaced.base;
    by.end = replaced.end;
    by.data_end = by.footer_position = replaced.data_end;
    by.footer_length = replaced.footer_length;
    by.payload_bytes = replaced.payload_bytes;
    by.max_timestamp_ms = replaced.max_timestamp_ms;
    by.created_ms = segment->created_ms;
    by.full = true;
    removed->push_back(std::exchange(*segment, std::move(by)));
    return true;
}

bool LogState::add_run(const RunNote& note) {
    Segment* segment = find_segment(note.segment);
    if (segment == nullptr || note.position < segment->data_end) return false;
    segment->data_end = note.position + note.length;
    segment->end = note.end;
    segment->payload_bytes += note.payload_bytes;
    segment->max_timestamp_ms = std::max(segment->max_timestamp_ms, note.max_timestamp_ms);
    if (segment->index != nullptr) {
        add_to_index(*segment->index,
                     {note.first, note.end, note.max_timestamp_ms, note.position, note.length});
    }
    flushed_end = note.end;
    drop_flushed();
    return true;
}

void LogState::drop_flushed() {
    while (!memory.empty() && memory.front().info.first < flushed_end) {
        memory_bytes -= memory.front().payload.size();
        memory.pop_front();
    }
}

Segment* LogState::find_segment(uint32_t segment_id) {
    for (size_t i = segments.size(); i > 0; --i) {
        if (segments[i - 1].id == segment_id) return &segments[i - 1];
    }
    return nullptr;
}

void LogState::give_back(size_t index_runs_max) {
    memory.shrink();
    for (Segment& segment : segments) {
        if (segment.index == nullptr) continue;
        if (segment.footer_length > 0 || segment.index->size() <= index_runs_max)
            segment.index.reset();
    }
}

const Segment* LogState::segment_beyond(Position past) const {
    const auto at =
        std::partition_point(segments.begin(), segments.end(),
                             [&](const Segment& segment) { return segment.end <= past; });
    return at == segments.end() || at->base.offset > past.offset ? nullptr : &*at;
}

uint64_t LogState::segment_bytes() const {
    uint64_t bytes = 0;
    for (const Segment& segment : segments) bytes += segment.data_end;
    return bytes;
}

uint64_t LogState::payload_bytes() const {
    uint64_t bytes = memory_bytes;
    for (const Segment& segment : segments) bytes += segment.payload_bytes;
    return bytes;
}

void cut_index(std::vector<RunPlace>& index, Position end) {
    while (!index.empty() && index.back().first >= end) index.pop_back();
    if (!index.empty()) index.back().end = std::min(index.back().end, end);
}

void add_to_index(std::vector<RunPlace>& index, const RunPlace& run) {
    cut_index(index, run.first);
    index.push_back(run);
}

}  // namespace weir::storage
