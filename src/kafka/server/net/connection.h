// Connection: one client's connection, from its first byte to its last. Reads frames, starts
// requests as far as their order allows, and sends the answers in the order of the requests.
// Bounds: requests in flight, bytes of a frame, bytes of answers (Server::fetch_bytes), silence
// while idle, and time for half a frame or a part of an answer. Lives on one shard, in one
// coroutine's frame, until run() returns.
//
// It has three coroutines: the reader, the writer, and the watch that ends both when time is up;
// and one for each request in progress.
#pragma once

#include <deque>
#include <memory>
#include <string>

#include "base/intrusive_list.h"
#include "kafka/server/net/request.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::kafka {

class Connection;
class Server;

// In Server::sending() while the connection sends.
struct Sending : ListHook {
    explicit Sending(Connection& connection) : connection(connection) {}
    Connection& connection;
};

// In Server::idle() while the connection waits for a request and owes no answer.
struct Idle : ListHook {
    explicit Idle(Connection& connection) : connection(connection) {}
    Connection& connection;
    Instant since{};
};

class Connection {
  public:
    // `kill`: end now. `drain`: answer the received requests, then end.
    // `listener`: the name of the one that accepted it.
    Connection(Server& server, runtime::ByteStream& stream, std::string listener,
               runtime::StopToken kill, runtime::StopToken drain);
    ~Connection();

    runtime::Task<void> run();
    // The client must read the next piece of its answer within `patience` of the last one;
    // otherwise the connection ends. This never extends the present deadline.
    void expect_progress(Duration patience);
    // Ends the connection to make room for another one: it is idle.
    void evict();

  private:
    // Forwards a stop of the server to this connection.
    struct Forward : runtime::StopCallback {
        Forward(Connection& connection, void (Connection::*call)())
            : StopCallback([](StopCallback& callback) {
                  auto& self = static_cast<Forward&>(callback);
                  (self.connection.*self.call)();
              }),
              connection(connection),
              call(call) {}
        Connection& connection;
        void (Connection::*call)();
    };

    runtime::Task<void> read_requests();
    runtime::Task<void> write_responses();
    runtime::Task<void> watch();
    runtime::Task<void> work(Request* request);
    // Runs the handler when there is memory for its answer.
    runtime::Task<Result<void>> run(Request* request);
    // Frees what other shards keep for this connection.
    runtime::Task<void> leave_owners();
    runtime::Task<Result<void>> send(std::vector<Bytes> parts);

    // Returns whether the connection continues.
    bool accept_frame(runtime::SharedBytes frame);
    void start_eligible();
    void end();        // both directions, now
    void end_reads();  // answers still go out
    // The client has closed its side: requests that it sent are carried out, and waits for news (a
    // fetch, a group) end. The connection ends after them, or after a while.
    void finish_received();
    void set_read_deadline(Duration from_now);
    void update_idle();

    Server& server_;
    runtime::ByteStream& stream_;
    const std::string listener_;
    const std::string client_host_;
    Principal principal_;
    runtime::StopSource stop_;        // of everything
    runtime::StopSource stop_reads_;  // of the reader
    runtime::StopSource hurry_;       // of waits for news
    runtime::StopSource gone_;        // of waits whose only result is an answer
    Forward kill_;
    Forward drain_;

    TurnQueue produce_turns_;  // outlives the requests
    AppendTickets tickets_;
    // Requests in their order: the front is answered next, and the first started_ have started. Of
    // these:
    std::deque<std::unique_ptr<Request>> in_flight_;
    size_t started_ = 0;
    size_t working_ = 0;        // are not done yet
    size_t working_alone_ = 0;  // are not done yet and let no other start (Overlap::kNone)
    size_t fetches_unanswered_ = 0;
    runtime::WaitQueue room_;      // for the reader: fewer in flight
    runtime::WaitQueue answered_;  // for the writer: the front is done, or the reader has ended
    bool reading_ = true;
    bool within_frame_ = false;

    Instant read_deadline_ = Instant::never();
    Sending sending_{*this};
    Idle idle_{*this};
    bool asked_ = false;   // it has sent a request
    Instant write_began_;  // of the piece under way
    Instant write_deadline_ = Instant::never();
    Instant farewell_deadline_ = Instant::never();  // since finish_received()
    bool discards_answers_ = false;                 // a send failed
    Instant watched_until_ = Instant::never();
    runtime::WaitQueue deadline_moved_;
    bool over_ = false;

    runtime::Scope scope_;
};

}  // namespace weir::kafka
