// Request: one request on its way through the server, from its frame to the bytes of its answer.
// Owned by its Connection, used on the connection's shard.
#pragma once

#include <string>
#include <vector>

#include "base/byte_writer.h"
#include "base/result.h"
#include "base/time.h"
#include "kafka/protocol/api.h"
#include "kafka/protocol/header.h"
#include "runtime/buffer.h"
#include "runtime/stop_token.h"
#include "runtime/wait.h"

namespace weir::kafka {

class Server;
struct Handler;

// Produce requests of one connection append in the order in which they came, though they wait for
// the disk side by side. A Turn is held while one appends.
class TurnQueue {
  public:
    uint64_t take_ticket() { return next_ticket_++; }
    // Until all tickets before this one are done.
    runtime::Task<Result<void>> wait_for(uint64_t ticket, runtime::StopToken stop) {
        while (serving_ != ticket) co_await runtime::try_(co_await changed_.wait({.stop = stop}));
        co_return Result<void>{};
    }
    // In any order; each ticket once.
    void done(uint64_t ticket) {
        if (ticket != serving_) {
            done_early_.push_back(ticket);
            return;
        }
        ++serving_;
        for (bool again = true; again;) {
            again = std::erase(done_early_, serving_) > 0;
            if (again) ++serving_;
        }
        changed_.notify_all();
    }

  private:
    uint64_t next_ticket_ = 0;
    uint64_t serving_ = 0;
    std::vector<uint64_t> done_early_;  // bounded by the requests in flight
    runtime::WaitQueue changed_;
};

// Done on destruction, or before.
class Turn {
  public:
    Turn() = default;
    explicit Turn(TurnQueue& queue) : queue_(&queue), ticket_(queue.take_ticket()) {}
    Turn(Turn&& other) noexcept
        : queue_(std::exchange(other.queue_, nullptr)), ticket_(other.ticket_) {}
    Turn& operator=(Turn&& other) noexcept {
        done();
        queue_ = std::exchange(other.queue_, nullptr);
        ticket_ = other.ticket_;
        return *this;
    }
    ~Turn() { done(); }
    runtime::Task<Result<void>> wait(runtime::StopToken stop) {
        return queue_->wait_for(ticket_, stop);
    }
    void done() {
        if (queue_ != nullptr) std::exchange(queue_, nullptr)->done(ticket_);
    }

  private:
    TurnQueue* queue_ = nullptr;
    uint64_t ticket_ = 0;
};

struct Request {
    Request(Server& server, const std::string& client_host)
        : server(server), client_host(client_host) {}

    Server& server;
    const std::string& client_host;
    runtime::StopToken stop;  // of the connection: nobody wants the answer any more
    runtime::StopToken
        hurry;  // answer with what there is: no new requests come, the node is about to stop
    const Handler* handler = nullptr;
    RequestHeader header;
    runtime::SharedBytes frame;  // after the size
    Bytes body;                  // within the frame
    Instant arrived;
    Turn turn;  // of a Produce

    // The answer. `out` begins with the size and the header; what it refers to by add_external() is
    // kept alive by `keep`.
    ByteWriter out;
    std::vector<runtime::SharedBytes> keep;
    runtime::Units units;      // of what bounds the bytes in answers
    bool no_response = false;  // acks=0
    bool close_after = false;  // acks=0, and it failed

    bool started = false;
    bool done = false;

    int16_t version() const { return header.api_version; }
    std::string client_id() const { return header.client_id.value_or(""); }
};

}  // namespace weir::kafka
