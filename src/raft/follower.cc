// A log that becomes the leader's: Raft §5.3. Positions stand in for indexes; a position's term is
// that of the entry which ends there.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "raft/core.h"
#include "raft/leading.h"

namespace weir::raft {
namespace {

// What a peer sent is one leader's run of entries, or it is refused as a whole.
bool well_formed(const AppendRequest& request) {
    if (request.prev < Position{} || request.commit < Position{}) return false;
    if (request.prev_term < 0 || request.prev_term > request.term) return false;
    if (request.entries.size() > kEntriesPerAppendMax) return false;
    Position at = request.prev;
    Term term = std::max(request.prev_term, 1);
    for (const EntryView& entry : request.entries) {
        const EntryInfo& info = entry.info;
        if (info.first != at || info.term < term || info.term > request.term) return false;
        if (info.kind == EntryKind::kData) {
            if (info.next_offset <= info.first.offset || entry.configuration != nullptr)
                return false;
            // Both are at least 0 here.
            if (info.next_offset > kOffsetMax ||
                info.next_offset - info.first.offset > kEntryOffsetsMax)
                return false;
        } else {
            if (info.next_offset != info.first.offset) return false;
            if (info.first.ordinal == UINT32_MAX) return false;
            if (entry.configuration != nullptr && !entry.configuration->valid()) return false;
        }
        at = info.end();
        term = info.term;
    }
    return true;
}

}  // namespace

// What this log has in common with the leader's for good.
Position Core::match() const {
    if (options_->bugs.acknowledge_unverified) return durable_;
    if (options_->bugs.acknowledge_before_durable) return received_;
    return std::min(durable_, received_);
}

void Core::acknowledge() {
    if (role_ != Role::kFollower || leader_ == kNoNode || !verified_ || !term_saved()) return;
    if (match() <= acknowledged_) return;
    acknowledged_ = match();
    send(leader_, AppendReply{.term = hard_.term,
                              .accepted = true,
                              .match = acknowledged_,
                              .received = std::max(received_, acknowledged_)});
}

void Core::reject(const AppendRequest& request) {
    if (!verified_) received_ = request.prev;  // answered again once the term is saved
    if (!term_saved()) return;
    const TermTable::TermEnd hint = terms_.end_of(request.prev_term, end_);
    send(leader_, AppendReply{.term = hard_.term,
                              .prev = request.prev,
                              .end = end_,
                              .hint_term = hint.term,
                              .hint_end = hint.term == 0 ? start_ : hint.end});
}

Verdict Core::on(NodeId from, const AppendRequest& request) {
    if (!well_formed(request)) return Verdict::kInvalid;
    const Verdict leads = recognize(from, request.term);
    if (leads == Verdict::kStale && term_saved()) send(from, AppendReply{.term = hard_.term});
    if (leads != Verdict::kTaken) return leads;
    ask_recovery(false);
    // A log that is being cut or replaced takes nothing; the leader sends again.
    if (truncating_ || install_ != nullptr) return Verdict::kTaken;
    const Verdict taken = accept_entries(request);
    if (taken == Verdict::kTaken && verified_) advance_commit(std::min(request.commit, received_));
    return taken;
}

// Raft §5.3: whether this log has the entry that the request's entries follow.
bool Core::fits(const AppendRequest& request) const {
    if (request.prev > end_) return false;
    const Term term = terms_.term_before(request.prev);
    return term == request.prev_term ||
           (options_->bugs.skip_prev_check && term < request.prev_term);
}

Verdict Core::accept_entries(const AppendRequest& request) {
    const std::span<const EntryView> entries = request.entries;
    const auto ends_by = [&](size_t i, Position position) {
        return i < entries.size() && entries[i].info.end() <= position;
    };
    size_t next = 0;
    Position matched = request.prev;
    if (request.prev < start_ || !terms_.knows(request.prev)) {
        // What lies below the start is committed, so any leader has it.
        const Position known = terms_.known_from(start_);
        while (ends_by(next, known)) ++next;
        matched = known;
        if (next < entries.size() && entries[next].info.first != known) return Verdict::kInvalid;
    } else if (!fits(request)) {
        // No leader lacks what is committed.
        if (request.prev <= commit_) return Verdict::kContradiction;
        reject(request);
        return Verdict::kTaken;
    }
    // Skip what is here already: an entry that ends where this log's entry of the same term ends
    // is the same entry (term_table.h).
    while (ends_by(next, end_) &&
           terms_.term_before(entries[next].info.end()) == entries[next].info.term) {
        matched = entries[next].info.end();
        ++next;
    }
    if (!std::exchange(verified_, true)) received_ = {};
    if (next < entries.size() && entries[next].info.first < end_) {
        if (entries[next].info.first < commit_) {
            verified_ = false;
            received_ = {};
            return Verdict::kContradiction;
        }
        received_ = matched;
        truncate(entries[next].info.first);
        return Verdict::kTaken;
    }
    const bool append = next < entries.size();
    if (append) append_from(request, next);
    received_ = std::max(received_, append ? end_ : matched);
    if (!append && options_->bugs.truncate_always && matched < end_ && matched >= commit_) {
        received_ = matched;
        truncate(matched);
        return Verdict::kTaken;
    }
    // What is new is acknowledged when it is durable.
    if (!append && term_saved()) {
        acknowledged_ = match();
        send(leader_, AppendReply{.term = hard_.term,
                                  .accepted = true,
                                  .match = acknowledged_,
                                  .received = std::max(received_, acknowledged_)});
    } else if (append && options_->bugs.acknowledge_before_durable) {
        acknowledge();
    }
    return Verdict::kTaken;
}

void Core::append_from(const AppendRequest& request, size_t first) {
    CHECK(request.entries[first].info.first == end_);
    out_->append_begin = first;
    out_->append_end = request.entries.size();
    for (const EntryView& entry : request.entries.subspan(first)) {
        terms_.append(entry.info.term, entry.info.first);
        end_ = entry.info.end();
        if (entry.configuration != nullptr) {
            use_configuration({entry.info.first, *entry.configuration});
        }
    }
}

Verdict Core::on(NodeId from, const Heartbeat& beat) {
    if (beat.commit < Position{} || beat.end < beat.commit) return Verdict::kInvalid;
    const Verdict leads = recognize(from, beat.term);
    if (leads == Verdict::kStale && term_saved()) {
        // Without the context: it confirms nothing, should the sender lead this term by then.
        send(from, HeartbeatReply{.term = hard_.term});
    }
    if (leads != Verdict::kTaken) return leads;
    const bool steady = verified_ && !truncating_ && install_ == nullptr;
    if (steady) advance_commit(std::min(beat.commit, received_));
    const bool all_here = steady && received_ == beat.end && end_ == beat.end &&
                          durable_ == beat.end && commit_ == beat.end;
    if (!term_saved()) return Verdict::kTaken;
    ask_recovery(true);
    if (beat.quiet && all_here && !recovering_) fall_asleep();
    if (steady) acknowledged_ = std::max(acknowledged_, match());
    // What waits for the disk here needs not be sent again.
    if (steady && received_ > match()) {
        send(from,
             AppendReply{
                 .term = hard_.term, .accepted = true, .match = match(), .received = received_});
    }
    send(from, HeartbeatReply{.term = hard_.term,
                              .quiet = quiet_,
                              .context = beat.context,
                              .match = steady ? match() : Position{}});
    return Verdict::kTaken;
}

Verdict Core::install(NodeId from, InstallSnapshot snapshot) {
    SnapshotHead& head = snapshot.head;
    const bool valid = head.start >= Position{} && TermTable::valid(head.terms) &&
                       (head.terms.empty() || (head.terms.back().first < head.start &&
                                               head.terms.back().term <= snapshot.term)) &&
                       (head.configuration.members.empty() || head.configuration.valid());
    if (!valid) return Verdict::kInvalid;
    const Verdict leads = recognize(from, snapshot.term);
    if (leads == Verdict::kStale && term_saved()) send(from, AppendReply{.term = hard_.term});
    if (leads != Verdict::kTaken) return leads;
    if (truncating_ || install_ != nullptr) return Verdict::kStale;
    const Term term = head.terms.empty() ? 0 : head.terms.back().term;
    const bool here = head.start <= commit_ || (head.start <= end_ && terms_.knows(head.start) &&
                                                terms_.term_before(head.start) == term);
    if (here) {
        // The state in it is what this log says anyway.
        if (!std::exchange(verified_, true)) received_ = {};
        received_ = std::max(received_, head.start);
        advance_commit(head.start);
        acknowledged_ = {};
        acknowledge();
        return Verdict::kStale;
    }
    verified_ = false;
    received_ = {};
    install_ = std::make_unique<Install>(Install{hard_.term, head});
    out_->install = std::move(head);
    return Verdict::kTaken;
}

void Core::on_installed(Instant now, Effects& out) {
    const Turn turn(*this, now, out);
    CHECK(install_ != nullptr);
    const std::unique_ptr<Install> done = std::exchange(install_, nullptr);
    const SnapshotHead& head = done->head;
    CHECK(head.start > commit_);
    start_ = end_ = durable_ = commit_ = head.start;
    terms_ = TermTable(head.terms);
    configurations_.clear();
    configurations_.push_back({{-1, 0}, head.configuration});
    configuration_changed();
    if (role_ != Role::kFollower || leader_ == kNoNode || done->term != hard_.term) return;
    verified_ = true;
    received_ = head.start;
    acknowledge();
}

}  // namespace weir::raft
