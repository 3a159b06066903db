// Mailbox: answers that another shard sends when they are ready, not when a call returns: a group's
// join that waits for other members, news of data for a waiting fetch. The home shard opens a slot,
// passes its address by on(), and waits with its own deadline and stop token; the other shard
// posts. A post to a closed slot is dropped. Each shard has one; posts to one shard arrive in
// order.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <variant>
#include <vector>

#include "kafka/groups/messages.h"
#include "runtime/driver.h"
#include "runtime/scope.h"
#include "runtime/wait.h"

namespace weir::kafka {

struct DataArrived {};
using Mail = std::variant<DataArrived, GroupReply>;

struct MailAddress {
    runtime::ShardId shard = 0;
    uint64_t slot = 0;
    auto operator<=>(const MailAddress&) const = default;
};

class Mailbox {
  public:
    // `peers` are by shard, this one included; filled before the first post and constant from then
    // on. Posts run in `scope`.
    Mailbox(runtime::ShardId shard, const std::vector<Mailbox*>& peers, runtime::Scope& scope)
        : shard_(shard), peers_(peers), scope_(scope) {}

    class Slot {
      public:
        Slot(Slot&& other) noexcept
            : box_(std::exchange(other.box_, nullptr)), address_(other.address_) {}
        ~Slot() {
            if (box_ != nullptr) box_->slots_.erase(address_.slot);
        }
        MailAddress address() const { return address_; }
        // The next piece of mail; kTimedOut, kCancelled.
        runtime::Task<Result<Mail>> receive(runtime::WaitOptions options);
        // Drops what came so far.
        void clear();

      private:
        friend class Mailbox;
        Slot(Mailbox* box, MailAddress address) : box_(box), address_(address) {}
        Mailbox* box_;
        MailAddress address_;
    };

    // Used on its own shard and destroyed there.
    Slot open();
    // From this shard to any.
    void post(MailAddress to, Mail mail);

  private:
    struct State {
        std::optional<Mail> mail;
        runtime::WaitQueue arrived;
    };
    struct Posted {
        uint64_t slot;
        Mail mail;
    };
    void deliver(Posted posted);
    runtime::Task<void> pump(runtime::ShardId to);

    runtime::ShardId shard_;
    const std::vector<Mailbox*>& peers_;
    runtime::Scope& scope_;
    uint64_t next_slot_ = 1;
    std::map<uint64_t, State> slots_;
    struct Outbox {
        std::vector<Posted> posted;
        bool pumping = false;
    };
    std::map<runtime::ShardId, Outbox> outboxes_;
};

}  // namespace weir::kafka
