#include "storage/memory/memory_store.h"

#include <algorithm>

#include "runtime/remote.h"
#include "runtime/shard.h"
#include "runtime/wait.h"

namespace weir::storage {

using runtime::Task;

class MemoryLog final : public Log {
  public:
    MemoryLog(MemoryStore& store, LogId id, LogConfig config)
        : store_(store), id_(id), config_(config) {}

    LogId id() const override { return id_; }
    const LogConfig& config() const override { return config_; }
    void configure(const LogConfig& config) override { config_ = config; }
    int64_t start_offset() const override { return start_; }
    Position end() const override { return end_; }
    Position durable_end() const override { return durable_; }
    HardState hard_state() const override { return hard_state_; }
    int32_t last_term() const override {
        return entries_.empty() ? last_term_ : entries_.back().info.term;
    }
    std::vector<TermStart> terms() const override {
        std::vector<TermStart> terms;
        if (last_term_ > 0 && start_ > 0) terms.push_back({last_term_, {start_ - 1, 0}});
        for (const Entry& entry : entries_) {
            if (terms.empty() || terms.back().term < entry.info.term)
                terms.push_back({entry.info.term, entry.info.first});
        }
        return terms;
    }
    std::optional<TermEnd> end_of_term(int32_t term) const override {
        std::optional<TermEnd> found;
        for (const Entry& entry : entries_) {
            if (entry.info.term <= term) {
                found = TermEnd{entry.info.term, entry.info.end().offset};
            } else {
                break;
            }
        }
        return found;
    }
    uint64_t size_bytes() const override {
        uint64_t size = 0;
        for (const Entry& entry : entries_) size += entry.payload.size();
        return size;
    }
    bool is_in_older_segment(int64_t) const override { return false; }

    Task<Result<void>> admit(uint64_t, runtime::StopToken, uint64_t) override {
        if (store_.failure_) co_return fail(*store_.failure_);
        if (offline()) co_return fail(ErrorCode::kIo, damage_->reason);
        co_return Result<void>{};
    }
    void withdraw(uint64_t, uint64_t) override {}
    Result<void> append(Entry entry) override {
        if (store_.failure_) return fail(*store_.failure_);
        if (offline()) return fail(ErrorCode::kIo, damage_->reason);
        CHECK(entry.info.first == end_);
        end_ = entry.info.end();
        // As on a disk: it outlives the node, and the node's memory budget with it.
        entry.payload = runtime::SharedBytes::copy_of(entry.payload.bytes());
        entries_.push_back(std::move(entry));
        if (!flushing_) {
            flushing_ = true;
            store_.scope_->spawn(flush());
        }
        return {};
    }
    Task<Result<void>> wait_durable(Position position) override {
        while (durable_ < position) {
            if (store_.failure_) co_return fail(*store_.failure_);
            co_await runtime::try_(co_await waiters_.wait());
        }
        co_return Result<void>{};
    }
    void on_durable(std::function<void()> listener) override { listener_ = std::move(listener); }

    Task<Result<ReadResult>> read(int64_t offset, ReadLimits limits, runtime::StopToken) override {
        if (offset < start_ || offset > end_.offset) co_return fail(ErrorCode::kOutOfRange);
        ReadResult result{.parts = {}, .size = 0, .first_offset = offset, .next_offset = offset};
        for (const Entry& entry : entries_) {
            if (entry.info.kind != EntryKind::kData || entry.info.next_offset <= offset) continue;
            if (entry.info.next_offset > limits.end_offset) break;
            const bool first = result.parts.empty();
            if (result.size + entry.payload.size() > limits.bytes_max &&
                !(first && limits.at_least_one))
                break;
            if (first) result.first_offset = entry.info.first.offset;
            result.parts.push_back(entry.payload);
            result.size += entry.payload.size();
            result.next_offset = entry.info.next_offset;
        }
        co_return result;
    }
    Task<Result<std::vector<FoundEntry>>> read_entries(Position from, ReadEntriesLimits limits,
                                                       runtime::StopToken) override {
        if (from < Position{start_, 0} || end_ < from) co_return fail(ErrorCode::kOutOfRange);
        std::vector<FoundEntry> found;
        uint64_t size = 0;
        for (const Entry& entry : entries_) {
            if (entry.info.end() <= from) continue;
            if (entry.info.end() > limits.end) break;
            if (!found.empty() && (size + entry.payload.size() > limits.bytes_max ||
                                   found.size() == limits.entries_max))
                break;
            size += entry.payload.size();
            found.push_back({entry.info, entry.payload, entry.summary_bytes});
        }
        co_return found;
    }
    Task<Result<std::optional<FoundEntry>>> find_timestamp(int64_t timestamp_ms,
                                                           int64_t end_offset) override {
        for (const Entry& entry : entries_) {
            if (entry.info.next_offset > end_offset) break;
            if (entry.info.next_offset > start_ && entry.info.max_timestamp_ms >= timestamp_ms) {
                co_return FoundEntry{entry.info, entry.payload, entry.summary_bytes};
            }
        }
        co_return std::optional<FoundEntry>();
    }
    Task<Result<std::optional<FoundEntry>>> find_max_timestamp(int64_t end_offset) override {
        std::optional<FoundEntry> found;
        for (const Entry& entry : entries_) {
            if (entry.info.next_offset > end_offset) break;
            if (entry.info.next_offset > start_ &&
                (!found || entry.info.max_timestamp_ms > found->info.max_timestamp_ms)) {
                found = FoundEntry{entry.info, entry.payload, entry.summary_bytes};
            }
        }
        co_return found;
    }
    Task<Result<void>> truncate_suffix(Position end) override {
        while (!entries_.empty() && !(entries_.back().info.end() <= end)) entries_.pop_back();
        end_ = entries_.empty() ? Position{start_, 0} : entries_.back().info.end();
        durable_ = std::min(durable_, end_);
        cut_state();
        co_return Result<void>{};
    }
    Task<Result<void>> truncate_prefix(int64_t start_offset) override {
        if (start_offset > end_.offset) co_return fail(ErrorCode::kOutOfRange);
        start_ = std::max(start_, start_offset);
        while (!entries_.empty() && entries_.front().info.next_offset <= start_) {
            last_term_ = entries_.front().info.term;
            entries_.erase(entries_.begin());
        }
        co_return Result<void>{};
    }
    RetentionHold hold_from(int64_t offset) override { return holds_.add(offset); }
    std::vector<SegmentInfo> segments() const override { return {}; }
    Task<Result<SegmentPin>> pin(uint32_t) override {
        co_return fail(ErrorCode::kNotFound, "a log in memory has no segments");
    }
    Task<Result<void>> rewrite(uint32_t, SegmentRewriter, runtime::StopToken) override {
        co_return fail(ErrorCode::kNotFound, "a log in memory has no segments");
    }
    Task<Result<void>> save_hard_state(HardState state) override {
        hard_state_ = state;
        co_return Result<void>{};
    }
    Task<Result<void>> start_anew(int64_t start_offset, int32_t term_below) override {
        if (start_offset < start_) co_return fail(ErrorCode::kOutOfRange);
        entries_.clear();
        start_ = start_offset;
        end_ = durable_ = {start_, 0};
        last_term_ = term_below;
        state_.clear();
        state_end_ = {};
        damage_.reset();
        waiters_.notify_all();
        co_return Result<void>{};
    }
    Task<Result<void>> save_group_config(std::vector<uint8_t> config) override {
        group_config_ = std::move(config);
        co_return Result<void>{};
    }
    const std::vector<uint8_t>& group_config() const override { return group_config_; }
    void save_state() {
        if (!provider_) return;
        CapturedState captured = provider_();
        state_ = std::move(captured.bytes);
        state_floor_ = captured.floor_offset;
        state_end_ = end_;
    }
    void set_state_provider(std::function<CapturedState()> provider) override {
        provider_ = std::move(provider);
    }
    RecoveredState take_recovered() override { return std::exchange(recovered_, {}); }
    const std::optional<LogDamage>& damage() const override { return damage_; }
    void on_damage(std::function<void()> listener) override {
        damage_listener_ = std::move(listener);
    }
    bool may_have_lost() const override { return may_have_lost_; }
    Task<Result<void>> confirm_whole() override {
        may_have_lost_ = false;
        co_return Result<void>{};
    }
    void set_damage(LogDamage damage) {
        damage_ = std::move(damage);
        if (damage_listener_) damage_listener_();
    }
    void mark_may_have_lost() { may_have_lost_ = true; }
    bool offline() const { return damage_ && damage_->offline; }

    void restart(bool lose_unsynced) {
        if (!lose_unsynced) save_state();
        if (lose_unsynced) {
            while (!entries_.empty() && !(entries_.back().info.end() <= durable_))
                entries_.pop_back();
            end_ = durable_;
        }
        durable_ = end_;
        provider_ = {};
        listener_ = {};
        damage_.reset();
        damage_listener_ = {};
        flushing_ = false;
        cut_state();
        recovered_ = {.state = state_,
                      .state_end = state_end_,
                      .state_offset = std::max(state_end_.offset, start_),
                      .entries = {}};
        for (const Entry& entry : entries_) {
            if (entry.info.first < state_end_) continue;
            const Bytes summary = entry.payload.bytes().first(
                std::min<size_t>(entry.summary_bytes, entry.payload.size()));
            recovered_.entries.push_back({entry.info, {summary.begin(), summary.end()}});
        }
    }

  private:
    RetentionHolds holds_;  // there is no retention here
    void cut_state() {
        if (state_end_ <= end_) return;
        if (state_floor_ >= 0 && state_floor_ <= end_.offset) {
            state_end_ = end_;
            return;
        }
        state_end_ = {};
        state_.clear();
    }

    Task<void> flush() {
        co_await runtime::yield();
        flushing_ = false;
        keep_copies();
        durable_ = end_;
        waiters_.notify_all();
        if (listener_) listener_();
    }

    // What is durable is the disk's and no longer the request's: it must not hold the memory that
    // the request was given, which its node may not outlive.
    void keep_copies() {
        for (auto entry = entries_.rbegin(); entry != entries_.rend(); ++entry) {
            if (entry->info.end() <= durable_) break;
            entry->payload = runtime::SharedBytes::copy_of(entry->payload.bytes());
        }
    }

    MemoryStore& store_;
    const LogId id_;
    LogConfig config_;
    std::vector<Entry> entries_;
    int64_t start_ = 0;
    Position end_;
    Position durable_;
    HardState hard_state_;
    std::vector<uint8_t> group_config_;
    int32_t last_term_ = 0;
    bool flushing_ = false;
    runtime::WaitQueue waiters_;
    std::function<void()> listener_;
    std::function<CapturedState()> provider_;
    std::vector<uint8_t> state_;
    Position state_end_;
    int64_t state_floor_ = -1;
    RecoveredState recovered_;
    std::optional<LogDamage> damage_;
    std::function<void()> damage_listener_;
    bool may_have_lost_ = false;
};

MemoryStore::MemoryStore() : scope_(std::make_unique<runtime::Scope>()) {}
MemoryStore::~MemoryStore() = default;

Task<Result<Log*>> MemoryStore::create_log(LogId id, LogConfig config) {
    if (failure_) co_return fail(*failure_);
    if (logs_.contains(id)) co_return fail(ErrorCode::kAlreadyExists);
    co_return logs_.emplace(id, std::make_unique<MemoryLog>(*this, id, config)).first->second.get();
}

Task<Result<void>> MemoryStore::remove_log(LogId id) {
    co_await scope_->join();
    if (logs_.erase(id) == 0) co_return fail(ErrorCode::kNotFound);
    co_return Result<void>{};
}

Task<Result<void>> MemoryStore::checkpoint() {
    co_await scope_->join();
    for (auto& [id, log] : logs_) log->save_state();
    co_return Result<void>{};
}

Log* MemoryStore::find(LogId id) {
    const auto found = logs_.find(id);
    return found == logs_.end() ? nullptr : found->second.get();
}

std::vector<LogId> MemoryStore::logs() const {
    std::vector<LogId> ids;
    for (const auto& [id, log] : logs_) ids.push_back(id);
    return ids;
}

void MemoryStore::damage(LogId id, LogDamage damage) {
    logs_.at(id)->set_damage(std::move(damage));
}

void MemoryStore::mark_may_have_lost(LogId id) { logs_.at(id)->mark_may_have_lost(); }

Task<void> MemoryStore::restart(bool lose_unsynced) {
    co_await scope_->join();
    for (auto& [id, log] : logs_) log->restart(lose_unsynced);
}

MemoryStoreSet::MemoryStoreSet(uint32_t shard_count) {
    for (uint32_t i = 0; i < shard_count; ++i) stores_.push_back(std::make_unique<MemoryStore>());
}

Store& MemoryStoreSet::local() { return *stores_[runtime::Shard::current().id()]; }

Task<void> MemoryStoreSet::close() {
    for (runtime::ShardId i = 0; i < stores_.size(); ++i) {
        co_await runtime::on(
            i, [store = stores_[i].get()]() -> Task<void> { co_await store->restart(false); });
    }
}

}  // namespace weir::storage
