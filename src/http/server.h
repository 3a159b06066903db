// A small HTTP/1.1 server for the admin port: readiness, metrics, the admin API. Requests are few
// and small; each is bounded in size and time, and so is its answer. Boost.Beast parses over our
// own streams. Owned by the broker; used on one shard.
//
// Readiness probes always get through, whatever other clients do:
//   - A connection beyond connections_max replaces the one that sent its request, or received its
//     answer, longest ago. Connections whose request is being answered are left alone.
//   - Requests under the prefix may use all places but `reserved`; further ones get 503. At most
//     running_max of them run at the same time, in turn, so other requests wait for those alone.
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
        // If set, bounds the answers that are being made or wait to be sent, together with those of
        // others. Outlives the server.
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
    // Handles all methods and paths that begin with `prefix` and have no handler of their own. At
    // most one prefix.
    void handle_under(std::string prefix, Handler handler);

    // "host:port"; port 0 picks one, see address().
    runtime::Task<Result<void>> start(std::string address);
    const std::string& address() const { return listener_.address(); }
    // Closes all connections and waits for the handlers.
    runtime::Task<void> stop();

    uint32_t connection_count() const { return connections_; }

  private:
    // The connection is in `waiting_` while it receives or sends; the one that has waited longest
    // is first.
    struct Connection : ListHook {
        std::unique_ptr<runtime::TcpStream> stream;
        runtime::StopSource evicted;
    };

    runtime::Task<void> accept_all();
    runtime::Task<void> serve(std::unique_ptr<runtime::TcpStream> stream);
    runtime::Task<Result<void>> serve_requests(Connection* connection);
    runtime::Task<Result<void>> send(Connection* connection, std::string text);
    runtime::Task<Response> answer(const Request* request);
    // Reserves as much as recent answers to that path took: the size of this one is not known
    // before it is made.
    runtime::Task<Result<runtime::Reservation>> reserve_answer(const std::string* path);
    // An answer on its way out, with the memory that it holds until it was sent.
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
