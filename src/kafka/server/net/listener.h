// Listener: one of a node's named listeners for clients: accepts connections on shard 0 and deals
// them out to the shards in turn. Bounds how many there are, in all and from one address; what is
// beyond is closed at once. Where descriptors are what bounds them, an idle one makes room if there
// is one. Lives on shard 0.
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

    // As the node registers it with its address (cluster::ListenerEndpoints), and as each request
    // that comes in here has it.
    const std::string& name() const { return name_; }
    // "host:port"; port 0 picks a free one, see address().
    runtime::Task<Result<void>> open(std::string address);
    const std::string& address() const { return listener_.address(); }
    // Begins to accept; not before all servers have started. `servers` by shard; they outlive the
    // listener's close().
    void start(std::vector<Server*> servers);
    // No further connections; those that there are go on.
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
