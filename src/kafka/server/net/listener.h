// Listener: one of a node's named listeners for clients. Accepts connections on shard 0 and deals
// them out to the shards in turn. Bounds the number of connections, in all and from one address;
// further ones are closed at once. If descriptors are the bound, an idle connection makes room if
// there is one. Lives on shard 0.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "kafka/server/server.h"
#include "runtime/scope.h"
#include "runtime/socket.h"

namespace weir::kafka {

class Listener {
  public:
    explicit Listener(std::string name = std::string(cluster::kPlainListener))
        : name_(std::move(name)) {}

    // The name with which the node registers its address (cluster::ListenerEndpoints); each request
    // that arrives here has it.
    const std::string& name() const { return name_; }
    // "host:port"; port 0 picks a free one, see address().
    runtime::Task<Result<void>> open(std::string address);
    const std::string& address() const { return listener_.address(); }
    // Begins to accept; call it after all servers have started. `servers` are by shard and outlive
    // the listener's close().
    void start(std::vector<Server*> servers);
    // Stops accepting. Existing connections go on.
    runtime::Task<void> close();
    size_t connection_count() const { return open_; }

  private:
    runtime::Task<void> accept_all();
    runtime::Task<void> deal(std::unique_ptr<runtime::TcpStream> stream);
    runtime::Task<void> note_closed(std::string host);
    bool admit(const std::string& host);
    runtime::Task<void> make_room();

    const std::string name_;
    std::vector<Server*> servers_;
    runtime::TcpListener listener_;
    runtime::Scope scope_;
    size_t next_ = 0;
    size_t open_ = 0;
    std::map<std::string, size_t> open_by_host_;
};

}  // namespace weir::kafka
