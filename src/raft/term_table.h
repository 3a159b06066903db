// The terms of a log's entries: one row for each term, with the position where its entries begin.
// This is all that a core knows of its log's content, and it is enough: the entries of one term
// come from one leader, in one order, so two logs with the same term at the same position are the
// same below it (Raft §5.3). Bounded: beyond kTermRowsMax the oldest rows are forgotten, and the
// terms below them are no longer known.
#pragma once

#include <cstdint>
#include <vector>

#include "raft/types.h"

namespace weir::raft {

class TermTable {
  public:
    TermTable() = default;
    // Rows ascend strictly in term and position.
    explicit TermTable(const std::vector<TermStart>& rows);
    static bool valid(const std::vector<TermStart>& rows);

    // The term of the entry that ends at `position` or holds it; 0 if nothing lies below.
    Term term_before(Position position) const;
    bool knows(Position position) const;  // whether term_before() can be told
    Term last_term() const { return rows_.empty() ? 0 : rows_.back().term; }
    // The largest term <= `term` and where it ends; `log_end` if it is the last. {0, {}} if there
    // is none.
    struct TermEnd {
        Term term = 0;
        Position end;
    };
    TermEnd end_of(Term term, Position log_end) const;
    // The lowest entry boundary at or above `log_start` whose term_before() is known.
    Position known_from(Position log_start) const;

    // An entry of `term` begins at `first`, the log's end. Needs term >= last_term().
    void append(Term term, Position first);
    void truncate_suffix(Position end);
    void truncate_prefix(Position start);  // keeps the row of the entry that ends there

    size_t size() const { return rows_.size(); }
    std::vector<TermStart> rows_below(Position position) const;  // that begin before it
    std::vector<TermStart> rows() const;
    size_t memory_bytes() const { return rows_.capacity() * sizeof(Row); }

  private:
    struct Row {  // a TermStart in 16 bytes
        int64_t offset;
        uint32_t ordinal;
        Term term;
        Position first() const { return {offset, ordinal}; }
    };
    size_t row_before(Position position) const;  // index + 1 of the last that begins before it

    std::vector<Row> rows_;
    bool forgot_ = false;
};

}  // namespace weir::raft
