// A small HTTP/1.1 server for the admin port: readiness, metrics, the admin API. Requests are few
// and small, and each has a bound on its size and its time. Parsing is Boost.Beast's, over our own
// streams. Owned by the broker; one shard.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "runtime/memory.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::http {

struct Request {
    std::string method;  // "GET"
    std::string path;    // "/metrics", without the query
    std::string query;   // what follows '?', undecoded; empty if there is none
    std::string body;
};

struct Response {
    int status = 200;
    std::string content_type = "text/plain; charset=utf-8";
    std::string body;
};

class Server {
  public:
    struct Options {
        uint32_t connections_max = 256;  // further ones are closed at once
        uint32_t header_bytes_max = 8 << 10;
        uint64_t body_bytes_max = 1 << 20;
        // Bounds the answers that are being made or wait to be sent, those of others too, if it is
        // there. Outlives the server.
        runtime::MemoryBudget* answers_memory = nullptr;
        Duration request_timeout =
            std::chrono::seconds(30);  // to receive one request, idle time between two included
    };
    using Handler = std::function<runtime::Task<Response>(const Request&)>;

    Server() : Server(Options{}) {}
    explicit Server(Options options) : options_(options) {}

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

  private:
    runtime::Task<void> accept_all();
    runtime::Task<void> serve(std::unique_ptr<runtime::TcpStream> stream);
    runtime::Task<Result<void>> serve_requests(runtime::TcpStream* stream);
    runtime::Task<Response> answer(const Request* request);
    // How large an answer to that path was of late: nobody knows before it is made.
    runtime::Task<Result<runtime::Reservation>> reserve_answer(const std::string* path);

    Options options_;
    std::map<std::string, std::map<std::string, Handler>> handlers_;  // path, method
    std::map<std::string, uint64_t> answer_bytes_;                    // of large ones, by path
    std::string prefix_;
    Handler under_prefix_;
    runtime::TcpListener listener_;
    runtime::Scope scope_;
    uint32_t connections_ = 0;
};

}  // namespace weir::http
