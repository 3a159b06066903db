#include "runtime/sim/driver.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/crc32c.h"
#include "runtime/sim/network.h"
#include "runtime/sim/process.h"

namespace weir::sim {
namespace {

bool is_network(OpKind kind) { return kind >= OpKind::kListen; }

// Operations that change nothing on the disk, whatever becomes of them.
bool is_read_only(OpKind kind) {
    return kind == OpKind::kRead || kind == OpKind::kStat || kind == OpKind::kListDir ||
           kind == OpKind::kDiskUsage || kind == OpKind::kLock || kind == OpKind::kClose;
}

bool needs_descriptor(OpKind kind) {
    switch (kind) {
        case OpKind::kClose:
        case OpKind::kRead:
        case OpKind::kWrite:
        case OpKind::kFdatasync:
        case OpKind::kFallocate:
        case OpKind::kTruncate:
        case OpKind::kLock:
        case OpKind::kAccept:
        case OpKind::kRecv:
        case OpKind::kSend:
        case OpKind::kShutdown:
            return true;
        default:
            return false;
    }
}

// What O_DIRECT and the open mode ask for.
int32_t validate(const Op& op, const OpenFile& file) {
    const bool transfers = op.kind == OpKind::kRead || op.kind == OpKind::kWrite;
    if (file.inode == nullptr)
        return op.kind == OpKind::kClose || is_network(op.kind) ? 0 : -EINVAL;
    if (is_network(op.kind)) return -ENOTSOCK;
    if (op.kind == OpKind::kRead && (file.flags & kOpenRead) == 0) return -EBADF;
    const bool writes =
        op.kind == OpKind::kWrite || op.kind == OpKind::kFallocate || op.kind == OpKind::kTruncate;
    if (writes && (file.flags & kOpenWrite) == 0)
        return op.kind == OpKind::kTruncate ? -EINVAL : -EBADF;
    if (transfers && (file.flags & kOpenBuffered) == 0) {
        const auto memory = reinterpret_cast<uintptr_t>(op.data);
        if (memory % kDirectAlign != 0 || op.offset % kDirectAlign != 0 ||
            op.size % kDirectAlign != 0)
            return -EINVAL;
    }
    return 0;
}

// A part of `size` bytes that a short transfer stops at: at least one byte, less than all where
// that is possible.
size_t short_size(size_t size, size_t unit, Prng& prng) {
    if (size <= unit) return size;
    return unit * prng.between(1, (size - 1) / unit);
}

}  // namespace

Fd add_file(Node& node, std::shared_ptr<OpenFile> file) {
    std::vector<std::shared_ptr<OpenFile>>& files = node.process_->files;
    file->identity = ++node.process_->identities;
    size_t fd = 0;
    while (fd < files.size() && files[fd] != nullptr) ++fd;
    if (fd == files.size()) files.emplace_back();
    files[fd] = std::move(file);
    return {static_cast<int32_t>(fd)};
}

std::shared_ptr<OpenFile> find_file(Node& node, Fd fd) {
    const std::vector<std::shared_ptr<OpenFile>>& files = node.process_->files;
    return fd.v >= 0 && static_cast<size_t>(fd.v) < files.size() ? files[static_cast<size_t>(fd.v)]
                                                                 : nullptr;
}

void World::close_file(Node& node, Fd fd, bool power_lost) {
    const std::shared_ptr<OpenFile> file =
        std::move(node.process_->files[static_cast<size_t>(fd.v)]);
    if (file->inode) {
        if (file->inode->locked_by == file->identity) file->inode->locked_by = 0;
        node.disk_.close(*file->inode);
    } else {
        network_->close(*file->socket, power_lost);
    }
}

Instant SimDriver::now() const { return node_.local(world_.read_clock()); }
WallTime SimDriver::wall_now() const { return {world_.wall_ms(node_)}; }

void SimDriver::ring_doorbell(ShardId to) { world_.doorbell(node_, to); }

void SimDriver::fill_entropy(MutableBytes bytes) {
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(node_.entropy_.next());
}

Duration SimDriver::draw_latency(Duration mean) {
    Prng& prng = node_.disk_prng_;
    const DiskFaults& faults = node_.disk_faults_;
    double ns = 1000 + prng.exponential(static_cast<double>(mean.count()));
    if (faults.stall_chance > 0 && prng.chance(faults.stall_chance)) {
        ns += static_cast<double>(faults.stall_max.count()) * prng.unit();
    }
    return Duration(static_cast<int64_t>(ns));
}

void SimDriver::submit(Op& op) {
    Node::Process& process = *node_.process_;
    auto pending = std::make_shared<Pending>();
    pending->op = &op;
    pending->driver = this;
    pending->id = ++world_.operations_;
    pending->kind = op.kind;
    pending->offset = op.offset;
    pending->size = op.size;
    pending->flags = op.flags;
    if (op.path != nullptr) pending->path = op.path;
    if (op.path2 != nullptr) pending->path2 = op.path2;
    op.driver_data = pending.get();
    process.in_flight.emplace(pending->id, pending);

    int32_t refused = 0;
    if (needs_descriptor(op.kind)) {
        pending->file = find_file(node_, op.fd);
        refused = pending->file ? validate(op, *pending->file) : -EBADF;
    }
    if (refused != 0) {
        world_.at(world_.now_ + 500ns, EventKind::kOperation, node_.id(), [this, pending, refused] {
            if (pending->driver != nullptr) world_.finish(*pending, refused);
        });
        return;
    }
    if (is_network(op.kind)) {
        world_.network_->submit(pending);
        return;
    }

    const DiskFaults& faults = node_.disk_faults_;
    Duration mean = faults.metadata_mean;
    switch (op.kind) {
        case OpKind::kRead:
            mean = faults.read_mean;
            break;
        case OpKind::kWrite:
            mean = faults.write_mean;
            check_no_overlap(*pending);
            pending->data.assign(op.data, op.data + op.size);
            world_.hash_ = mix64(world_.hash_ ^ crc32c(pending->data));
            break;
        case OpKind::kFdatasync:
            mean = faults.sync_mean;
            pending->barrier = node_.disk_.barrier();
            break;
        case OpKind::kSyncDir:
            mean = faults.sync_mean;
            pending->barrier = node_.disk_.barrier();
            pending->directory = node_.disk_.find(pending->path);
            break;
        default:
            break;
    }
    world_.at(world_.now_ + draw_latency(mean), EventKind::kOperation, node_.id(), [this, pending] {
        if (pending->driver != nullptr) world_.finish(*pending, apply(*pending));
    });
}

// Two writes in flight to the same bytes have no defined order: nobody may rely on which one wins,
// so nobody may do it.
void SimDriver::check_no_overlap(const Pending& write) const {
    for (const auto& [id, other] : node_.process_->in_flight) {
        if (other->kind != OpKind::kWrite || id == write.id || other->file == nullptr) continue;
        const bool apart = other->file->inode != write.file->inode ||
                           other->offset + other->size <= write.offset ||
                           write.offset + write.size <= other->offset;
        CHECK(apart);
    }
}

void SimDriver::cancel(Op& op) {
    auto* pending = static_cast<Pending*>(op.driver_data);
    CHECK(pending != nullptr);
    // Operations of the disk run to their end, as in hardware.
    if (is_network(pending->kind))
        world_.network_->cancel(node_.process_->in_flight.at(pending->id));
}

void SimDriver::abandon(Op& op) {
    CHECK(Shard::current().dying());
    auto* pending = static_cast<Pending*>(op.driver_data);
    CHECK(pending != nullptr);
    pending->op = nullptr;
}

int32_t SimDriver::apply(Pending& pending) {
    switch (pending.kind) {
        case OpKind::kRead:
            return apply_read(pending);
        case OpKind::kWrite:
            return apply_write(pending);
        case OpKind::kFdatasync:
        case OpKind::kSyncDir:
            return apply_sync(pending);
        default:
            return apply_metadata(pending);
    }
}

int32_t SimDriver::apply_read(Pending& pending) {
    Prng& prng = node_.disk_prng_;
    const DiskFaults& faults = node_.disk_faults_;
    Inode& inode = *pending.file->inode;
    if (faults.bit_rot_chance > 0 && prng.chance(faults.bit_rot_chance)) {
        node_.disk_.flip_bit(inode, prng);
        ++node_.corruptions_;
    }
    if (faults.latent_error_chance > 0 && prng.chance(faults.latent_error_chance)) {
        node_.disk_.lose_page(inode, prng);
        ++node_.corruptions_;
    }
    if (faults.read_error_chance > 0 && prng.chance(faults.read_error_chance)) return -EIO;
    size_t size = pending.size;
    if (faults.short_read_chance > 0 && prng.chance(faults.short_read_chance)) {
        size =
            short_size(size, (pending.file->flags & kOpenBuffered) != 0 ? 1 : kDirectAlign, prng);
    }
    return node_.disk_.read(inode, pending.offset, {pending.op->data, size});
}

int32_t SimDriver::apply_write(Pending& pending) {
    Prng& prng = node_.disk_prng_;
    const DiskFaults& faults = node_.disk_faults_;
    Inode& inode = *pending.file->inode;
    // The memory belongs to the driver while the operation is in flight.
    CHECK(std::memcmp(pending.op->data, pending.data.data(), pending.size) == 0);
    if (faults.write_error_chance > 0 && prng.chance(faults.write_error_chance)) {
        apply_partly(pending);
        return -EIO;
    }
    Bytes bytes = pending.data;
    if (faults.short_write_chance > 0 && prng.chance(faults.short_write_chance)) {
        bytes = bytes.first(short_size(
            bytes.size(), (pending.file->flags & kOpenBuffered) != 0 ? 1 : kSectorBytes, prng));
    }
    if (faults.lost_write_chance > 0 && prng.chance(faults.lost_write_chance)) {
        ++node_.corruptions_;
        if (pending.offset + bytes.size() <= inode.size) return static_cast<int32_t>(bytes.size());
    }
    uint64_t offset = pending.offset;
    if (faults.misdirected_write_chance > 0 && prng.chance(faults.misdirected_write_chance) &&
        inode.size > bytes.size()) {
        offset = prng.below((inode.size - bytes.size()) / kPageBytes + 1) * kPageBytes;
        ++node_.corruptions_;
    }
    return node_.disk_.write(inode, offset, bytes);
}

int32_t SimDriver::apply_sync(Pending& pending) {
    Prng& prng = node_.disk_prng_;
    const DiskFaults& faults = node_.disk_faults_;
    const bool fails = faults.sync_error_chance > 0 && prng.chance(faults.sync_error_chance);
    if (pending.kind == OpKind::kFdatasync) {
        Inode& inode = *pending.file->inode;
        if (fails) {
            node_.disk_.fail_sync(inode, pending.barrier,
                                  (pending.file->flags & kOpenBuffered) != 0, prng);
            return -EIO;
        }
        node_.disk_.sync(inode, pending.barrier);
        return 0;
    }
    if (pending.directory == nullptr) return -ENOENT;
    if (!pending.directory->directory) return -ENOTDIR;
    if (faults.no_descriptor_chance > 0 && prng.chance(faults.no_descriptor_chance)) return -EMFILE;
    if (fails) return -EIO;
    node_.disk_.sync_dir(*pending.directory, pending.barrier);
    return 0;
}

int32_t SimDriver::apply_metadata(Pending& pending) {
    Prng& prng = node_.disk_prng_;
    Disk& disk = node_.disk_;
    const DiskFaults& faults = node_.disk_faults_;
    if (faults.no_descriptor_chance > 0 &&
        (pending.kind == OpKind::kOpen || pending.kind == OpKind::kListDir) &&
        prng.chance(faults.no_descriptor_chance))
        return -EMFILE;
    if (!is_read_only(pending.kind)) {
        if (faults.metadata_error_chance > 0 && prng.chance(faults.metadata_error_chance))
            return -EIO;
        const bool allocates =
            pending.kind == OpKind::kMakeDir || pending.kind == OpKind::kFallocate ||
            (pending.kind == OpKind::kOpen && (pending.flags & kOpenCreate) != 0);
        if (allocates && faults.metadata_full_chance > 0 &&
            prng.chance(faults.metadata_full_chance))
            return -ENOSPC;
    }
    switch (pending.kind) {
        case OpKind::kOpen: {
            InodeRef inode;
            const int32_t result = disk.open(pending.path, pending.flags, pending.size, &inode);
            if (result < 0) return result;
            auto file = std::make_shared<OpenFile>();
            file->inode = std::move(inode);
            file->flags = pending.flags;
            return add_file(node_, std::move(file)).v;
        }
        case OpKind::kClose: {
            for (const auto& [id, other] : node_.process_->in_flight)
                CHECK(id == pending.id || other->file != pending.file);
            world_.close_file(node_, pending.op->fd, false);
            return 0;
        }
        case OpKind::kFallocate:
            return disk.fallocate(*pending.file->inode, pending.offset, pending.size);
        case OpKind::kTruncate:
            return disk.truncate(*pending.file->inode, pending.size);
        case OpKind::kRename:
            return disk.rename(pending.path, pending.path2);
        case OpKind::kUnlink:
            return disk.unlink(pending.path);
        case OpKind::kMakeDir:
            return disk.make_dir(pending.path);
        case OpKind::kRemoveDir:
            return disk.remove_dir(pending.path);
        case OpKind::kStat:
            return disk.stat(pending.path, &pending.op->size_out);
        case OpKind::kListDir:
            return disk.list(pending.path, pending.op->names_out);
        case OpKind::kLock: {
            uint64_t& owner = pending.file->inode->locked_by;
            if (owner != 0 && owner != pending.file->identity) return -EWOULDBLOCK;
            owner = pending.file->identity;
            return 0;
        }
        case OpKind::kDiskUsage:
            pending.op->size_out = disk.free_bytes();
            pending.op->size2_out = disk.capacity_bytes();
            return 0;
        default:
            CHECK(false);
    }
}

void SimDriver::apply_partly(Pending& pending) {
    if (is_network(pending.kind) || is_read_only(pending.kind)) return;
    Prng& prng = node_.disk_prng_;
    Disk& disk = node_.disk_;
    if (pending.kind == OpKind::kWrite) {
        if (pending.file == nullptr) return;
        const Bytes bytes = pending.data;
        const double drawn = prng.unit();
        if (drawn < 0.3) return;
        if (drawn < 0.6) {
            (void)disk.write(*pending.file->inode, pending.offset, bytes);
            return;
        }
        for (size_t done = 0; done < bytes.size();) {
            const size_t part =
                std::min(bytes.size() - done, kPageBytes - (pending.offset + done) % kPageBytes);
            if (prng.chance(0.5))
                (void)disk.write(*pending.file->inode, pending.offset + done,
                                 bytes.subspan(done, part));
            done += part;
        }
        return;
    }
    if (prng.chance(0.5)) return;
    switch (pending.kind) {
        case OpKind::kOpen: {
            InodeRef inode;
            if (disk.open(pending.path, pending.flags, pending.size, &inode) == 0)
                disk.close(*inode);
            break;
        }
        case OpKind::kFdatasync:
            if (pending.file) disk.sync(*pending.file->inode, pending.barrier);
            break;
        case OpKind::kSyncDir:
            if (pending.directory) disk.sync_dir(*pending.directory, pending.barrier);
            break;
        case OpKind::kFallocate:
            if (pending.file)
                (void)disk.fallocate(*pending.file->inode, pending.offset, pending.size);
            break;
        case OpKind::kTruncate:
            if (pending.file) (void)disk.truncate(*pending.file->inode, pending.size);
            break;
        case OpKind::kRename:
            (void)disk.rename(pending.path, pending.path2);
            break;
        case OpKind::kUnlink:
            (void)disk.unlink(pending.path);
            break;
        case OpKind::kMakeDir:
            (void)disk.make_dir(pending.path);
            break;
        case OpKind::kRemoveDir:
            (void)disk.remove_dir(pending.path);
            break;
        default:
            CHECK(false);
    }
}

}  // namespace weir::sim
