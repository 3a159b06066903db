// A small HTTP/1.1 server for the admin port: readiness, metrics, the admin API. Requests are few
// and small, and each has a bound on its size and its time, and so has its answer. Parsing is
// Boost.Beast's, over our own streams. Owned by the broker; one shard.
//
// Whoever asks whether the node is ready must get through, whatever the others do:
//   - A connection beyond connections_max takes the place of the one that has sent its request, or
//     received its answer, for longest; those whose request is being answered are left alone.
//   - Requests under the prefix may take all places but `reserved`; more get 503. A few of them run
//     at the same time, in turn, so that what comes between waits for those alone.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/intrusive_list.h"
#include "base/log.h"
#include "base/result.h"
#include "http/same_origin.h"
#include "runtime/memory.h"
#include "runtime/scope.h"
#include "runtime/socket.h"
#include "runtime/wait.h"

namespace weir::http {

struct Request {
    std::string method;  // "GET"
    std::string path;    // "/metrics", without the query
    std::string query;   // what follows '?', undecoded; empty if there is none
    std::string body;
    Provenance from;
};

struct Response {
    int status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};

class Server {
  public:
    struct Options {
        uint32_t connections_max = 256;
        uint32_t reserved = 32;    // of them, for what is not under the prefix
        uint32_t running_max = 8;  // of those under the prefix
        uint32_t header_bytes_max = 8 << 10;
        uint64_t body_bytes_max = 1 << 20;
        // Bounds the answers that are being made or wait to be sent, those of others too, if it is
        // there. Outlives the server.
        runtime::MemoryBudget* answers_memory = nullptr;
        Duration request_timeout =
            std::chrono::seconds(30);  // to receive one request, idle time between two included
        Duration answer_timeout = std::chrono::seconds(30);  // until the client has its answer
    };
    using Handler = std::function<runtime::Task<Response>(const Request&)>;

    Server() : Server(Options{}) {}
    explicit Server(Options options) : options_(options), running_(options.running_max) {}

    // Before start(). A handler runs on the server's shard; the request lives until its task ends.
    // Unknown paths get 404, known ones with another method 405.
    void handle(std::string method, std::string path, Handler handler);
    // All methods and paths that begin with `prefix` and have no handler of their own. One.
    void handle_under(std::string prefix, Handler handler);

    // "host:port"; port 0 picks one, see address().
    runtime::Task<Result<void>> start(std::string address);
    const std::string& address() const { return listener_.address(); }
    // Closes all connections and waits for the handlers.
    runtime::Task<void> stop();

    uint32_t connection_count() const { return connections_; }

  private:
    // In `waiting_` while it receives or sends, the one that has done so for longest first.
    struct Connection : ListHook {
        std::unique_ptr<runtime::TcpStream> stream;
        runtime::StopSource evicted;
    };

    runtime::Task<void> accept_all();
    runtime::Task<void> serve(std::unique_ptr<runtime::TcpStream> stream);
    runtime::Task<Result<void>> serve_requests(Connection* connection);
    runtime::Task<Result<void>> send(Connection* connection, std::string text);
    runtime::Task<Response> answer(const Request* request);
    // How large an answer to that path was of late: nobody knows before it is made.
    runtime::Task<Result<runtime::Reservation>> reserve_answer(const std::string* path);
    // As it goes out, with the memory that it takes until it has.
    struct Answer {
        std::string text;
        runtime::Reservation memory;
    };
    runtime::Task<Result<Answer>> make_answer(const Request* request, bool keep_alive);
    bool is_under_prefix(const Request& request) const;
    runtime::Task<Result<Answer>> make_in_turn(const Request* request, bool keep_alive);

    Options options_;
    std::map<std::string, std::map<std::string, Handler>> handlers_;  // path, method
    std::map<std::string, uint64_t> answer_bytes_;                    // of large ones, by path
    std::string prefix_;
    Handler under_prefix_;
    runtime::TcpListener listener_;
    IntrusiveList<Connection> waiting_;
    uint32_t under_prefix_count_ = 0;
    runtime::Semaphore running_;
    uint32_t connections_ = 0;
    runtime::Scope scope_;
};

}  // namespace weir::http
