// GroupPartition: drives the coordinator of one partition of __consumer_offsets while this node
// leads the partition, for one term: loads it from the committed log, writes what it wants written,
// carries its replies to whoever waits, and tells it the time. The coordinator (kafka/groups)
// decides; this moves bytes. Owned by the shard's GroupShard, on the shard that owns the partition.
// What survives a crash: the partition's records. The log is not compacted: when it has grown well
// beyond what is alive, what is alive is written again behind it, and the log is cut in front.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "kafka/groups/coordinator.h"
#include "kafka/server/partitions/mailbox.h"
#include "kafka/server/partitions/partition.h"
#include "runtime/scope.h"

namespace weir::kafka {

class GroupPartition {
  public:
    struct Options {
        GroupConfig config;
        int64_t rewrite_bytes = 0;
        bool acknowledge_before_commit = false;  // ServerBugs::forget_commits
    };
    // The partition stays while this is open.
    GroupPartition(Partition& partition, runtime::Gate::Holder use, Mailbox& mailbox,
                   Options options);
    ~GroupPartition();

    // Begins to load, in the background.
    void start();
    // Everyone who waits is answered, what was appended is not waited for. Once.
    runtime::Task<void> close();

    GroupCoordinator& coordinator() { return coordinator_; }
    int32_t index() const { return index_; }
    // In which this node leads the partition.
    raft::Term term() const { return term_; }

    // Puts a request to the coordinator. The reply, if there is one at once; else it is mailed to
    // `reply_to` when there is.
    using Call = std::function<GroupEffects(GroupCoordinator&, RequestId, Moment)>;
    runtime::Task<std::optional<GroupReply>> call(MailAddress reply_to, Call call);

    void on_topics_deleted(const std::vector<std::string>& topics);

  private:
    struct Written {
        std::vector<AppendToken> tokens;
        storage::Position end;
        raft::Term term = 0;
        bool ok = true;
        int64_t cut_before = -1;  // when durable, the log's prefix up to here can go
    };
    struct ToWrite {
        std::optional<AppendToken> token;
        std::vector<LogRecord> records;
        bool begins_rewrite = false;
        bool ends_rewrite = false;
    };

    runtime::Task<void> load();
    runtime::Task<Result<void>> replay();
    runtime::Task<void> write();
    runtime::Task<void> await_durable();
    runtime::Task<void> keep_time();
    void take(GroupEffects effects);
    void maybe_rewrite();
    void rewrite();
    Moment now() const;

    Partition& partition_;  // while use_ is held
    const int32_t index_;
    const raft::Term term_;
    runtime::Gate::Holder use_;
    Mailbox& mailbox_;
    const Options options_;
    GroupCoordinator coordinator_;

    uint64_t next_request_ = 1;
    std::map<RequestId, MailAddress> waiting_;
    std::optional<RequestId> in_call_;  // whose reply is taken out of the effects
    std::optional<GroupReply> call_reply_;

    std::deque<ToWrite> to_write_;
    std::deque<Written> written_;
    runtime::WaitQueue to_write_changed_;
    runtime::WaitQueue written_changed_;
    runtime::WaitQueue time_changed_;

    uint64_t log_bytes_ = 0;   // of records in the log that are not cut off
    uint64_t live_bytes_ = 0;  // what the last rewrite wrote, or loading found
    bool wants_rewrite_ = false;
    bool rewriting_ = false;
    int64_t rewrite_begin_ = -1;
    runtime::WaitQueue rewrite_changed_;

    runtime::Scope scope_;
};

}  // namespace weir::kafka
