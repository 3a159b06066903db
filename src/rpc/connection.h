// Connection: frames over one stream in both directions, from the end of the hello to the end of
// the connection; the same on both sides. Each side sends something at least every keep_alive. A
// peer that was silent for silence_max is considered dead. Used on one shard; lives in its owner's
// task.
#pragma once

#include <optional>

#include "rpc/endpoint.h"
#include "rpc/message_reader.h"
#include "rpc/outbox.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::rpc {

class Connection {
  public:
    class Owner {
      public:
        // Called in the order of arrival; must return soon. An error ends the connection.
        virtual Result<void> receive(Incoming incoming) = 0;
        // Asked now and then; false ends the connection in good order.
        virtual bool wanted() { return true; }
        // The largest next message that the owner accepts, where the options allow up to
        // `options_max`.
        virtual size_t message_bytes_max(size_t options_max) { return options_max; }

      protected:
        ~Owner() = default;
    };

    // All arguments outlive the connection. The connection also ends when `parent` stops.
    Connection(runtime::ByteStream& stream, Owner& owner, const EndpointOptions& options,
               EndpointMetrics& metrics, runtime::StopToken parent);

    // Returns when the connection has ended and nothing uses the stream any more.
    runtime::Task<void> run();
    // Ends the connection now: run() returns soon. The owner receives nothing from here on.
    void end() { stop_.request_stop(); }
    bool ended() const { return stop_.stop_requested(); }
    // Why it ended; kCancelled: because of end().
    const Error& error() const { return error_; }

    bool fits(Lane lane, size_t size) const { return outbox_.fits(lane, size); }
    size_t queued_bytes(Lane lane) const { return outbox_.queued_bytes(lane); }
    // The caller asks first whether the message fits.
    void push(Outgoing outgoing);
    // Waits until a message of that size fits.
    runtime::Task<Result<void>> wait_for_room(Lane lane, size_t size);

    runtime::StopToken stop_token() { return stop_.token(); }
    Instant since() const { return since_; }
    Instant heard() const { return reader_.heard(); }  // by Shard::awake_now()

  private:
    struct Forward : runtime::StopCallback {
        explicit Forward(Connection& connection)
            : StopCallback(
                  [](StopCallback& callback) { static_cast<Forward&>(callback).connection.end(); }),
              connection(connection) {}
        Connection& connection;
    };

    runtime::Task<void> read();
    runtime::Task<void> write();
    runtime::Task<void> watch();
    void end_with(Error error);

    runtime::ByteStream& stream_;
    Owner& owner_;
    const EndpointOptions& options_;
    EndpointMetrics& metrics_;
    runtime::StopSource stop_;
    Forward forward_;
    Error error_{.code = ErrorCode::kCancelled, .message = "closed"};
    MessageReader reader_;
    Outbox outbox_;
    runtime::WaitQueue work_;  // for the writer: something to send
    runtime::WaitQueue room_;  // something was sent
    Instant since_;
    Instant spoke_;
    bool writing_ = false;
    runtime::Scope scope_;
};

}  // namespace weir::rpc
