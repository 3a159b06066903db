#include "raft/term_table.h"

#include <algorithm>

#include "base/check.h"

namespace weir::raft {

TermTable::TermTable(const std::vector<TermStart>& rows) {
    rows_.reserve(rows.size());
    for (const TermStart& row : rows) append(row.term, row.first);
}

bool TermTable::valid(const std::vector<TermStart>& rows) {
    if (rows.size() > kTermRowsMax) return false;
    for (size_t i = 0; i < rows.size(); ++i) {
        if (rows[i].term <= 0 || rows[i].term > kTermMax || rows[i].first.offset < 0) return false;
        if (i > 0 && rows[i].term <= rows[i - 1].term) return false;
        if (i > 0 && rows[i].first <= rows[i - 1].first) return false;
    }
    return true;
}

size_t TermTable::row_before(Position position) const {
    // The position asked for is nearly always the log's end.
    if (!rows_.empty() && rows_.back().first() < position) return rows_.size();
    const auto found =
        std::lower_bound(rows_.begin(), rows_.end(), position,
                         [](const Row& row, Position at) { return row.first() < at; });
    return static_cast<size_t>(found - rows_.begin());
}

Term TermTable::term_before(Position position) const {
    const size_t row = row_before(position);
    return row == 0 ? 0 : rows_[row - 1].term;
}

bool TermTable::knows(Position position) const { return !forgot_ || row_before(position) > 0; }

Position TermTable::known_from(Position log_start) const {
    if (knows(log_start)) return log_start;
    CHECK(rows_.size() >= 2);
    return rows_[1].first();
}

TermTable::TermEnd TermTable::end_of(Term term, Position log_end) const {
    const auto next = std::upper_bound(rows_.begin(), rows_.end(), term,
                                       [](Term t, const Row& row) { return t < row.term; });
    if (next == rows_.begin()) return {};
    return {std::prev(next)->term, next == rows_.end() ? log_end : next->first()};
}

void TermTable::append(Term term, Position first) {
    CHECK(term >= last_term());
    if (term == last_term()) return;
    if (!rows_.empty()) CHECK(first > rows_.back().first());
    if (rows_.size() == kTermRowsMax) {
        rows_.erase(rows_.begin(), rows_.begin() + kTermRowsMax / 4);
        forgot_ = true;
    }
    rows_.push_back({first.offset, first.ordinal, term});
}

void TermTable::truncate_suffix(Position end) { rows_.resize(row_before(end)); }

void TermTable::truncate_prefix(Position start) {
    const size_t row = row_before(start);
    if (row < 2) return;
    rows_.erase(rows_.begin(), rows_.begin() + static_cast<ptrdiff_t>(row - 1));
    // What was forgotten lay below the new start.
    forgot_ = false;
}

std::vector<TermStart> TermTable::rows_below(Position position) const {
    std::vector<TermStart> rows;
    const size_t count = row_before(position);
    rows.reserve(count);
    for (size_t i = 0; i < count; ++i) rows.push_back({rows_[i].term, rows_[i].first()});
    return rows;
}

std::vector<TermStart> TermTable::rows() const {
    std::vector<TermStart> all;
    for (const Row& row : rows_) all.push_back({row.term, row.first()});
    return all;
}

}  // namespace weir::raft
