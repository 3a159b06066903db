// What lives as long as one process of a node: shards, drivers, open files, operations in flight.
// Internal to runtime/sim.
#pragma once

#include <map>
#include <optional>

#include "runtime/sim/driver.h"
#include "runtime/sim/world.h"

namespace weir::sim {

class Socket;

// An entry of the process's table of descriptors.
struct OpenFile {
    InodeRef inode;                  // a file ...
    std::shared_ptr<Socket> socket;  // ... or a socket
    uint32_t flags = 0;
    uint64_t identity = 0;  // never used twice
};

// An operation in flight. Holds copies of what it was given, so that it can take effect after its
// awaiter was destroyed.
struct Pending {
    Op* op = nullptr;  // nullptr: abandoned
    SimDriver* driver = nullptr;
    uint64_t id = 0;
    OpKind kind;
    std::shared_ptr<OpenFile> file;
    uint64_t offset = 0;
    uint64_t size = 0;
    uint32_t flags = 0;
    std::string path;
    std::string path2;
    std::vector<uint8_t> data;  // of a write
    uint64_t barrier = 0;       // of a flush
    InodeRef directory;         // of a directory's flush
    bool scheduled = false;     // its completion is in the queue of events
};

struct World::Seat {
    World& world;
    Node& node;
    Shard& shard;
    size_t ready_at = SIZE_MAX;  // index in World::ready_
    bool stalled = false;
    uint64_t deadline_generation = 0;
    Instant deadline_at = Instant::never();
};

struct Node::Process {
    uint64_t life = 0;
    World::Main main;
    ShardGroup group;
    std::vector<std::unique_ptr<SimDriver>> drivers;
    std::vector<std::unique_ptr<Shard>> shards;
    std::vector<std::unique_ptr<World::Seat>> seats;
    std::vector<std::unique_ptr<Scope>> roots;
    std::vector<std::shared_ptr<OpenFile>> files;  // by descriptor; nullptr: free
    uint64_t identities = 0;
    std::map<uint64_t, std::shared_ptr<Pending>>
        in_flight;  // by id: the order is that of submission
    uint32_t mains_left = 0;
};

}  // namespace weir::sim
