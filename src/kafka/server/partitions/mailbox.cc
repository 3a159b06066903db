#include "kafka/server/partitions/mailbox.h"

#include "runtime/remote.h"

namespace weir::kafka {

using runtime::Task;

Mailbox::Slot Mailbox::open() {
    const MailAddress address{shard_, next_slot_++};
    slots_.try_emplace(address.slot);
    return Slot(this, address);
}

Task<Result<Mail>> Mailbox::Slot::receive(runtime::WaitOptions options) {
    // The slot stays where it is until this Slot dies, and its owner waits for this task.
    State& state = box_->slots_.at(address_.slot);
    while (!state.mail) co_await runtime::try_(co_await state.arrived.wait(options));
    Mail mail = std::move(*state.mail);
    state.mail.reset();
    co_return mail;
}

void Mailbox::Slot::clear() { box_->slots_.at(address_.slot).mail.reset(); }

void Mailbox::deliver(Posted posted) {
    const auto found = slots_.find(posted.slot);
    if (found == slots_.end()) return;
    found->second.mail = std::move(posted.mail);
    found->second.arrived.notify_all();
}

void Mailbox::post(MailAddress to, Mail mail) {
    if (to.shard == shard_) return deliver({to.slot, std::move(mail)});
    Outbox& outbox = outboxes_[to.shard];
    outbox.posted.push_back({to.slot, std::move(mail)});
    // One message is on its way at a time, and takes along what was posted meanwhile.
    if (!outbox.pumping) outbox.pumping = scope_.spawn(pump(to.shard));
}

Task<void> Mailbox::pump(runtime::ShardId to) {
    Outbox& outbox = outboxes_[to];
    while (!outbox.posted.empty()) {
        std::vector<Posted> batch = std::exchange(outbox.posted, {});
        co_await runtime::on(to,
                             [box = peers_[to], batch = std::move(batch)]() mutable -> Task<void> {
                                 for (Posted& posted : batch) box->deliver(std::move(posted));
                                 co_return;
                             });
    }
    outbox.pumping = false;
}

}  // namespace weir::kafka
