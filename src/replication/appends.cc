// Entries on the way: read for a follower, and received from the leader.
#include <algorithm>
#include <utility>

#include "base/check.h"
#include "replication/group_parts.h"
#include "runtime/shard.h"

namespace weir::replication {

using raft::Configuration;
using runtime::Shard;
using runtime::SharedBytes;
using runtime::Task;
using storage::EntryKind;
using storage::Position;

namespace {

// Of an append, what a follower asks its log to admit at once.
constexpr size_t kEntriesAdmittedMax = 16;
constexpr uint64_t kBytesAdmittedMax = 32 << 10;
// What an append's frame holds at most beside its payloads, and for each entry.
constexpr size_t kAppendOverhead = 256;
constexpr size_t kEntryOverhead = 40;

}  // namespace

void Group::on_append_message(raft::NodeId from, SharedBytes body) {
    if (out_of_service() || held_) return;
    if (!inbox_.empty() && inbox_bytes_ + body.size() > replicator_.options().inbox_bytes_max) {
        ++replicator_.metrics_.appends_dropped;  // its leader sends it again
        return;
    }
    inbox_bytes_ += body.size();
    inbox_.push_back({from, std::move(body)});
    if (!std::exchange(inbox_running_, true))
        scope_.spawn(run_inbox(), runtime::WorkClass::kReplication);
}

Task<void> Group::run_inbox() {
    while (!inbox_.empty() && !out_of_service()) {
        InboxItem item = std::move(inbox_.front());
        inbox_.pop_front();
        inbox_bytes_ -= item.body.size();
        co_await process(std::move(item));
        if (Shard::current().need_preempt()) co_await runtime::yield();
    }
    inbox_running_ = false;
}

Task<void> Group::process(InboxItem item) {
    auto append = decode_append(item.body);
    if (!append) {
        ++replicator_.metrics_.messages_malformed;
        co_return;
    }
    std::vector<raft::EntryView> views;
    std::vector<std::optional<Configuration>> configurations(append->entries.size());
    views.reserve(append->entries.size());
    for (size_t i = 0; i < append->entries.size(); ++i) {
        const storage::Entry& entry = append->entries[i];
        if (entry.info.kind == EntryKind::kControl) {
            auto control = decode_control(entry.payload.bytes());
            if (!control) {
                ++replicator_.metrics_.messages_malformed;
                co_return;
            }
            configurations[i] = std::move(*control);
        }
        views.push_back({entry.info, configurations[i] ? &*configurations[i] : nullptr});
    }
    // In parts: what is admitted has to be appended before more is, or it waits for itself.
    size_t begin = 0;
    do {
        size_t end = begin;
        uint64_t bytes = 0;
        while (end < views.size() && end - begin < kEntriesAdmittedMax &&
               (end == begin || bytes + append->entries[end].payload.size() <= kBytesAdmittedMax)) {
            bytes += append->entries[end].payload.size();
            ++end;
        }
        // Back-pressure: what the leader sends beyond its window waits there.
        const auto admitted = co_await log_.admit(bytes, scope_.stop_token(), end - begin);
        if (out_of_service()) {
            if (admitted) log_.withdraw(bytes, end - begin);
            co_return;
        }
        if (!admitted) {
            ++replicator_.metrics_.appends_dropped;
            co_return;
        }
        raft::AppendRequest part = append->request;
        if (begin > 0) {
            part.prev = append->entries[begin].info.first;
            part.prev_term = views[begin - 1].info.term;
        }
        part.entries = std::span(views).subspan(begin, end - begin);
        std::vector<storage::Entry> entries;
        std::vector<uint64_t> sizes;
        for (size_t i = begin; i < end; ++i) {
            append->entries[i].shares_block = false;
            sizes.push_back(append->entries[i].payload.size());
            entries.push_back(std::move(append->entries[i]));
        }
        size_t kept_from = 0;
        size_t kept_to = 0;
        const raft::Verdict verdict = call_core(
            [&](raft::Core& core, Instant now, raft::Effects& out) {
                const raft::Verdict stepped =
                    core.step(item.from, raft::Message(part), now, out, vouched(item.from));
                kept_from = out.append_begin;
                kept_to = out.append_end;
                return stepped;
            },
            &entries);
        // Those before were here already, or none is wanted.
        const size_t unwanted = sizes.size() - (kept_to - kept_from);
        if (unwanted > 0) {
            for (size_t i = kept_from; i < kept_to; ++i) bytes -= sizes[i];
            log_.withdraw(bytes, unwanted);
        }
        if (verdict != raft::Verdict::kTaken) {
            count(verdict, item.from);
            co_return;
        }
        begin = end;
    } while (begin < views.size());
    start_wanted_ = std::max(start_wanted_, append->start_offset);
}

Task<void> Group::send_entries(raft::SendEntries work) {
    // What a full queue refuses would count as on its way, and be sent again after resend_timeout:
    // it waits here, and with it what follows it.
    const auto ready =
        co_await replicator_.wait_for_room(work.to, id(), work.bytes_max, scope_.stop_token());
    if (closing_ || failed_) co_return;
    if (!ready) {
        call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
            core.on_sent(work, work.prev, 0, now, out);
        });
        co_return;
    }
    follow_start();
    auto read = co_await log_.read_entries(
        work.prev,
        {.end = work.until, .bytes_max = work.bytes_max, .entries_max = raft::kEntriesPerAppendMax},
        scope_.stop_token());
    if (closing_ || failed_) co_return;
    Position end = work.prev;
    uint64_t bytes = 0;
    if (read && !read->empty() && read->front().info.first == work.prev) {
        end = read->back().info.end();
        for (const storage::FoundEntry& entry : *read) bytes += entry.payload.size();
    } else if (!read && read.error().code == ErrorCode::kCorrupt) {
        Shard::current().log().error("replication", "entries can't be read for a follower",
                                     "log={} offset={} error=\"{}\"", id().v, work.prev.offset,
                                     read.error().to_string());
    }
    // Others may have filled it during the read; from here to the send nothing waits.
    if (bytes > 0) {
        const size_t size = bytes + kAppendOverhead + kEntryOverhead * read->size();
        if (!co_await replicator_.wait_for_room(work.to, id(), size, scope_.stop_token()))
            end = work.prev;
        if (closing_ || failed_) co_return;
    }
    const auto request = call_core([&](raft::Core& core, Instant now, raft::Effects& out) {
        return core.on_sent(work, end, bytes, now, out);
    });
    if (!request || held_) co_return;
    replicator_.send_append(work.to, id(),
                            encode_append(id(), log_.start_offset(), *request, *read));
}

}  // namespace weir::replication
