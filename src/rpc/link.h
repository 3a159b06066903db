// Link: the outbound connection from this shard to one shard of another node, dialled again and
// again while somebody uses it. Lives in a task of its endpoint (Endpoint::run_link).
#pragma once

#include <memory>
#include <optional>

#include "rpc/calls.h"
#include "rpc/connection.h"
#include "rpc/dial.h"

namespace weir::rpc {

class Link final : public Connection::Owner {
  public:
    Link(Endpoint& endpoint, NodeId node, runtime::ShardId remote_shard);
    ~Link() = default;

    NodeId node() const { return node_; }
    runtime::ShardId remote_shard() const { return remote_shard_; }

    // Returns after end(), or when nobody has used the link for idle_after.
    runtime::Task<void> run();
    void end();
    // Call it when the address changed: the next attempt does not wait.
    void dial_now();
    void note_used();

    // nullptr: not connected.
    Connection* connection();
    Calls& calls() { return calls_; }
    // An attempt to connect is under way; its end wakes the waiting calls.
    bool dialling() const { return dialling_; }
    runtime::WaitQueue& dialled() { return dialled_; }

  private:
    Result<void> receive(Incoming incoming) override;
    bool wanted() override;

    Hello hello() const;
    runtime::Task<void> serve(Dialled dialled);
    void note_failure(const Error& error);

    Endpoint& endpoint_;
    const NodeId node_;
    const runtime::ShardId remote_shard_;
    runtime::StopSource stop_;
    bool dialling_ = true;
    runtime::WaitQueue dialled_;
    runtime::WaitQueue dial_now_;
    Duration pause_;
    Instant used_;
    Calls calls_;
    std::optional<Connection> connection_;
};

}  // namespace weir::rpc
