// Listener: where other nodes connect (--rpc HOST:PORT). Accepts on shard 0, answers their hellos,
// and hands each connection to the endpoint of the shard that it is for. Bounds how many there are.
// Lives on shard 0.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "rpc/endpoint.h"
#include "rpc/hello.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::rpc {

struct ListenerOptions {
    uint32_t connections_max = 16384;
    Duration hello_timeout = 3s;
    // Called on shard 0 for each hello that fits this node's cluster and version and whose proof,
    // if one is demanded, is right. Returns kNone, or why the node is refused, with a sentence in
    // *reason. Default: all are admitted.
    std::function<Refusal(const Hello& hello, std::string* reason)> admit;
};

// Connections that the listener closed instead of serving them, since its start.
struct ListenerMetrics {
    uint64_t too_many = 0;  // above connections_max
    uint64_t no_hello = 0;  // none came in time, or what came is none
    // Refusals of hellos, by reason: see Refusal.
    uint64_t other_cluster = 0;
    uint64_t other_version = 0;
    uint64_t other_node = 0;
    uint64_t unknown_node = 0;
    uint64_t not_proven = 0;
};

class Listener {
  public:
    // `endpoints` are by shard. They outlive the listener's close() and are closed after it; the
    // listener is destroyed after that.
    Listener(std::vector<Endpoint*> endpoints, ListenerOptions options);

    // "host:port"; port 0 picks a free one, see address().
    runtime::Task<Result<void>> open(std::string address);
    const std::string& address() const { return listener_.address(); }
    // Begins to accept. Call it after the handlers of all endpoints are set.
    void start();
    // Stops accepting. Existing connections go on until their endpoints close.
    runtime::Task<void> close();
    size_t connection_count() const { return connections_; }
    const ListenerMetrics& metrics() const { return metrics_; }

  private:
    runtime::Task<void> accept_all();
    runtime::Task<void> welcome(std::unique_ptr<runtime::TcpStream> stream);
    runtime::Task<Result<void>> greet(runtime::TcpStream* stream, Accepted* accepted,
                                      Verdict* verdict, runtime::StopToken stop);
    // Fills the reply, except for admit()'s decision.
    void judge(const Hello& hello, HelloReply* reply) const;
    Refusal admit(const Hello& hello, std::string* reason) const;
    void count_refusal(Refusal refusal);
    void log_refusal(const std::string& address, const Hello& hello, const Verdict& verdict);
    runtime::Task<void> hand_over(std::unique_ptr<runtime::TcpStream> stream, Accepted accepted);

    std::vector<Endpoint*> endpoints_;
    ListenerOptions options_;
    runtime::TcpListener listener_;
    runtime::Scope scope_;
    size_t connections_ = 0;
    ListenerMetrics metrics_;
    std::string refusal_logged_;  // the last one's reason
    Instant refusal_logged_at_{};
};

}  // namespace weir::rpc
