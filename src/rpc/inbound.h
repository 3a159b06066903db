// Inbound: a connection that another node's shard dialled to this one, and the requests from it
// that run. Lives in a task of its endpoint (Endpoint::run_inbound), in the endpoint's list.
#pragma once

#include "base/intrusive_list.h"
#include "rpc/connection.h"

namespace weir::rpc {

class Inbound final : public ListHook, public Connection::Owner {
  public:
    Inbound(Endpoint& endpoint, runtime::ByteStream& stream, const Accepted& accepted);
    ~Inbound() = default;

    // Returns when the connection has ended and no request of it runs.
    runtime::Task<void> run();
    void end() { connection_.end(); }
    const Hello& hello() const { return accepted_.hello; }
    bool proven() const { return accepted_.proven; }
    // By what is known now: a node may be learned of after its first connection.
    bool is_member() const { return endpoint_.is_member(accepted_); }
    Instant heard() const { return connection_.heard(); }

  private:
    Result<void> receive(Incoming incoming) override;
    size_t message_bytes_max(size_t options_max) override;
    Result<void> start(Incoming incoming);
    Result<void> refuse(const Incoming& incoming, const Error& error);
    runtime::Task<void> work(const RequestHandler* handler, Incoming incoming);
    Origin origin() const;
    // A response that says no.
    Outgoing refusal(const Incoming& incoming, const Error& error) const;

    Endpoint& endpoint_;
    runtime::ByteStream& stream_;
    const Accepted accepted_;
    Connection connection_;
    runtime::Scope requests_;
};

}  // namespace weir::rpc
