#include "runtime/sim/disk.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/check.h"
#include "base/crc32c.h"
#include "runtime/driver.h"

namespace weir::sim {

using namespace weir::runtime;

// What a power cut does on the whole. Pages that are picked independently hardly ever show the
// plainest case, where the disk kept what it got up to a point, so that case has a share of its
// own.
struct CutPoint {
    enum class Mode : uint8_t { kIndependent, kKeepAll, kDropAll, kPrefix } mode;
    uint64_t sequence = 0;  // kPrefix: versions up to here are kept, the next one may be torn,
                            // later ones are dropped
    double keep_chance = 0.5;
};

namespace {

const PageRef kZeros;

Bytes page_bytes(const PageRef& page) {
    static constexpr Page kZeroPage{};
    return page ? Bytes(*page) : Bytes(kZeroPage);
}

PageRef tear(const PageRef& before, const PageRef& after, bool garbage, Prng& prng) {
    auto page = std::make_shared<Page>();
    constexpr size_t kSectors = kPageBytes / kSectorBytes;
    const bool in_order = prng.chance(0.5);
    const size_t done = prng.below(kSectors + 1);
    for (size_t sector = 0; sector < kSectors; ++sector) {
        const size_t at = sector * kSectorBytes;
        const bool is_new = in_order ? sector < done : prng.chance(0.5);
        if (garbage && prng.chance(in_order ? (sector == done ? 0.5 : 0) : 0.2)) {
            for (size_t i = 0; i < kSectorBytes; i += 8) {
                const uint64_t noise = prng.next();
                std::memcpy(page->data() + at + i, &noise, 8);
            }
        } else {
            std::memcpy(page->data() + at, page_bytes(is_new ? after : before).data() + at,
                        kSectorBytes);
        }
    }
    return page;
}

std::vector<std::string_view> split(std::string_view path) {
    std::vector<std::string_view> parts;
    size_t at = 0;
    while (at < path.size()) {
        const size_t end = std::min(path.find('/', at), path.size());
        const std::string_view part = path.substr(at, end - at);
        if (!part.empty() && part != ".") parts.push_back(part);
        at = end + 1;
    }
    return parts;
}

// Whether `inner` is `outer` or lies below it.
bool holds(const InodeRef& outer, const InodeRef& inner) {
    if (outer == inner) return true;
    return std::ranges::any_of(outer->names, [&](const auto& entry) {
        return entry.second->directory && holds(entry.second, inner);
    });
}

size_t pages_of(uint64_t size) { return (size + kPageBytes - 1) / kPageBytes; }

}  // namespace

Disk::Disk(uint64_t capacity_bytes) : capacity_pages_(capacity_bytes / kPageBytes) { wipe(); }

void Disk::wipe() {
    unsynced_names_.clear();
    used_pages_ = 0;
    root_ = std::make_shared<Inode>(++inodes_made_, true);
    root_->names_held = 1;
}

Disk::Place Disk::look_up(std::string_view path) const {
    Place place{.directory = nullptr, .name = {}, .inode = root_};
    for (const std::string_view part : split(path)) {
        if (place.inode == nullptr || !place.inode->directory) return {};
        place.directory = place.inode;
        place.name = part;
        const auto found = place.directory->names.find(part);
        place.inode = found == place.directory->names.end() ? nullptr : found->second;
    }
    return place;
}

InodeRef Disk::find(std::string_view path) const { return look_up(path).inode; }

void Disk::assign(NameChange change) {
    change.sequence = ++sequence_;
    std::vector<InodeRef> without_name;
    for (const Assignment& to : change.assignments) {
        const auto found = to.directory->names.find(to.name);
        InodeRef before;
        if (found != to.directory->names.end()) {
            before = found->second;
            to.directory->names.erase(found);
            --before->names_held;
        }
        if (to.inode) {
            to.directory->names.emplace(to.name, to.inode);
            ++to.inode->names_held;
        }
        if (before && before != to.inode) without_name.push_back(std::move(before));
    }
    // After all: a file that is renamed has no name for a moment.
    for (const InodeRef& inode : without_name) free_if_dead(*inode);
    unsynced_names_.push_back(std::move(change));
}

void Disk::persist(const NameChange& change) {
    for (const Assignment& to : change.assignments) {
        if (to.inode) {
            to.directory->durable_names.insert_or_assign(to.name, to.inode);
        } else {
            to.directory->durable_names.erase(to.name);
        }
    }
}

int32_t Disk::open(std::string_view path, uint32_t flags, uint64_t preallocate, InodeRef* out) {
    const Place place = look_up(path);
    InodeRef inode = place.inode;
    if (inode == nullptr) {
        if (place.directory == nullptr || (flags & kOpenCreate) == 0) return -ENOENT;
        inode = std::make_shared<Inode>(++inodes_made_, false);
        assign({.sequence = 0, .assignments = {{place.directory, place.name, inode}}});
    } else {
        if ((flags & kOpenCreate) != 0 && (flags & kOpenExclusive) != 0) return -EEXIST;
        if (inode->directory && (flags & (kOpenWrite | kOpenCreate | kOpenTruncate)) != 0)
            return -EISDIR;
        if ((flags & kOpenTruncate) != 0) truncate(*inode, 0);
    }
    if (preallocate > inode->size) {
        const int32_t result = fallocate(*inode, 0, preallocate);
        if (result < 0) return result;
    }
    ++inode->opens;
    *out = std::move(inode);
    return 0;
}

void Disk::close(Inode& inode) {
    CHECK(inode.opens > 0);
    --inode.opens;
    free_if_dead(inode);
}

int32_t Disk::read(const Inode& inode, uint64_t offset, MutableBytes into) const {
    if (offset >= inode.size) return 0;
    const size_t size = std::min<uint64_t>(into.size(), inode.size - offset);
    for (size_t done = 0; done < size;) {
        const uint64_t at = offset + done;
        const size_t in_page = at % kPageBytes;
        const size_t part = std::min(size - done, kPageBytes - in_page);
        const Inode::Slot& slot = inode.slots[at / kPageBytes];
        if (slot.unreadable)
            return done > 0 && done % kPageBytes == 0 ? static_cast<int32_t>(done) : -EIO;
        std::memcpy(into.data() + done, page_bytes(slot.current).data() + in_page, part);
        done += part;
    }
    return static_cast<int32_t>(size);
}

void Disk::set_size(Inode& inode, uint64_t size) {
    inode.size = size;
    inode.unsynced_sizes.push_back({++sequence_, size});
    if (inode.slots.size() < pages_of(size)) inode.slots.resize(pages_of(size));
}

void Disk::set_page(Inode& inode, size_t page, PageRef content) {
    Inode::Slot& slot = inode.slots[page];
    slot.current = content;
    slot.unreadable = false;
    inode.unsynced.push_back({++sequence_, page, std::move(content)});
}

int32_t Disk::write(Inode& inode, uint64_t offset, Bytes from) {
    if (from.empty()) return 0;
    ++writes_;
    const size_t pages_before = inode.slots.size();
    if (inode.slots.size() < pages_of(offset + from.size()))
        inode.slots.resize(pages_of(offset + from.size()));
    size_t done = 0;
    while (done < from.size()) {
        const uint64_t at = offset + done;
        const size_t in_page = at % kPageBytes;
        const size_t part = std::min(from.size() - done, kPageBytes - in_page);
        Inode::Slot& slot = inode.slots[at / kPageBytes];
        if (!slot.allocated) {
            if (free_bytes() == 0) break;
            slot.allocated = true;
            ++used_pages_;
        }
        auto page = std::make_shared<Page>();
        if (part < kPageBytes)
            std::memcpy(page->data(), page_bytes(slot.current).data(), kPageBytes);
        std::memcpy(page->data() + in_page, from.data() + done, part);
        set_page(inode, at / kPageBytes, std::move(page));
        inode.slots[at / kPageBytes].write = writes_;
        done += part;
    }
    if (done == 0) {
        if (inode.slots.size() > pages_before) inode.slots.resize(pages_before);
        return -ENOSPC;
    }
    if (offset + done > inode.size) set_size(inode, offset + done);
    return static_cast<int32_t>(done);
}

int32_t Disk::fallocate(Inode& inode, uint64_t offset, uint64_t size) {
    if (size == 0) return -EINVAL;
    const size_t first = offset / kPageBytes;
    const size_t end = pages_of(offset + size);
    uint64_t wanted = 0;
    for (size_t page = first; page < end; ++page) {
        if (page >= inode.slots.size() || !inode.slots[page].allocated) ++wanted;
    }
    if (wanted * kPageBytes > free_bytes()) return -ENOSPC;
    if (inode.slots.size() < end) inode.slots.resize(end);
    for (size_t page = first; page < end; ++page) inode.slots[page].allocated = true;
    used_pages_ += wanted;
    if (offset + size > inode.size) set_size(inode, offset + size);
    return 0;
}

void Disk::free_slot(Inode::Slot& slot) {
    if (!slot.allocated) return;
    slot.allocated = false;
    CHECK(used_pages_ > 0);
    --used_pages_;
}

int32_t Disk::truncate(Inode& inode, uint64_t size) {
    if (size == inode.size) return 0;
    for (size_t page = pages_of(size); page < inode.slots.size(); ++page) {
        if (inode.slots[page].current) set_page(inode, page, kZeros);
        free_slot(inode.slots[page]);
    }
    if (size % kPageBytes != 0 && size < inode.size && inode.slots[size / kPageBytes].current) {
        auto page = std::make_shared<Page>();
        std::memcpy(page->data(), page_bytes(inode.slots[size / kPageBytes].current).data(),
                    size % kPageBytes);
        set_page(inode, size / kPageBytes, std::move(page));
    }
    set_size(inode, size);
    return 0;
}

// A file that nobody can reach any more gives its space back. Its content stays: a power cut may
// undo the unlink.
void Disk::free_if_dead(Inode& inode) {
    if (inode.names_held > 0 || inode.opens > 0) return;
    for (Inode::Slot& slot : inode.slots) free_slot(slot);
}

int32_t Disk::rename(std::string_view from, std::string_view to) {
    const Place source = look_up(from);
    const Place target = look_up(to);
    if (source.inode == nullptr) return -ENOENT;
    if (target.directory == nullptr) return -ENOENT;
    if (source.directory == nullptr) return -EBUSY;
    if (source.inode == target.inode) return 0;
    if (target.inode) {
        if (target.inode->directory && !source.inode->directory) return -EISDIR;
        if (!target.inode->directory && source.inode->directory) return -ENOTDIR;
        if (target.inode->directory && !target.inode->names.empty()) return -ENOTEMPTY;
    }
    if (source.inode->directory && holds(source.inode, target.directory)) return -EINVAL;
    assign({.sequence = 0,
            .assignments = {{source.directory, source.name, nullptr},
                            {target.directory, target.name, source.inode}}});
    return 0;
}

int32_t Disk::unlink(std::string_view path) {
    const Place place = look_up(path);
    if (place.inode == nullptr) return -ENOENT;
    if (place.inode->directory) return -EISDIR;
    assign({.sequence = 0, .assignments = {{place.directory, place.name, nullptr}}});
    return 0;
}

int32_t Disk::make_dir(std::string_view path) {
    const Place place = look_up(path);
    if (place.inode != nullptr) return -EEXIST;
    if (place.directory == nullptr) return -ENOENT;
    assign({.sequence = 0,
            .assignments = {
                {place.directory, place.name, std::make_shared<Inode>(++inodes_made_, true)}}});
    return 0;
}

int32_t Disk::remove_dir(std::string_view path) {
    const Place place = look_up(path);
    if (place.inode == nullptr) return -ENOENT;
    if (!place.inode->directory) return -ENOTDIR;
    if (place.directory == nullptr) return -EBUSY;
    if (!place.inode->names.empty()) return -ENOTEMPTY;
    assign({.sequence = 0, .assignments = {{place.directory, place.name, nullptr}}});
    return 0;
}

int32_t Disk::stat(std::string_view path, uint64_t* size) const {
    const InodeRef inode = find(path);
    if (inode == nullptr) return -ENOENT;
    *size = inode->size;
    return 0;
}

int32_t Disk::list(std::string_view path, std::vector<std::string>* names) const {
    const InodeRef inode = find(path);
    if (inode == nullptr) return -ENOENT;
    if (!inode->directory) return -ENOTDIR;
    names->clear();
    for (const auto& [name, child] : inode->names) names->push_back(name);
    return 0;
}

void Disk::sync(Inode& inode, uint64_t barrier) {
    size_t kept = 0;
    uint64_t newest = 0;
    for (Inode::PageVersion& version : inode.unsynced) {
        if (version.sequence <= barrier) {
            newest = std::max(newest, inode.slots[version.page].write);
            inode.slots[version.page].durable = std::move(version.content);
        } else {
            inode.unsynced[kept++] = std::move(version);
        }
    }
    inode.unsynced.resize(kept);
    if (newest > inode.flushed_writes.front()) {
        std::shift_right(inode.flushed_writes.begin(), inode.flushed_writes.end(), 1);
        inode.flushed_writes.front() = newest;
    }
    while (!inode.unsynced_sizes.empty() && inode.unsynced_sizes.front().sequence <= barrier) {
        inode.durable_size = inode.unsynced_sizes.front().size;
        inode.unsynced_sizes.erase(inode.unsynced_sizes.begin());
    }
}

void Disk::sync_dir(Inode& directory, uint64_t barrier) {
    std::erase_if(unsynced_names_, [&](const NameChange& change) {
        const bool covered = change.sequence <= barrier &&
                             std::ranges::any_of(change.assignments, [&](const Assignment& to) {
                                 return to.directory.get() == &directory;
                             });
        if (covered) persist(change);
        return covered;
    });
}

void Disk::fail_sync(Inode& inode, uint64_t barrier, bool visible, Prng& prng) {
    std::map<size_t, bool> kept_pages;
    std::set<size_t> newer;
    for (const Inode::PageVersion& version : inode.unsynced) {
        if (version.sequence > barrier) newer.insert(version.page);
    }
    std::erase_if(inode.unsynced, [&](Inode::PageVersion& version) {
        if (version.sequence > barrier) return false;
        const auto [entry, first] = kept_pages.try_emplace(version.page, false);
        if (first) entry->second = prng.chance(0.5);
        if (entry->second) inode.slots[version.page].durable = std::move(version.content);
        return true;
    });
    if (visible) return;
    for (const auto& [page, kept] : kept_pages) {
        if (!kept && !newer.contains(page)) inode.slots[page].current = inode.slots[page].durable;
    }
}

void Disk::cut_power(Prng& prng, const PowerCut& how) {
    CutPoint cut{.mode = CutPoint::Mode::kIndependent};
    const double drawn = prng.unit();
    if (drawn < 0.1)
        cut.mode = CutPoint::Mode::kKeepAll;
    else if (drawn < 0.25)
        cut.mode = CutPoint::Mode::kDropAll;
    else if (drawn < 0.5)
        cut.mode = CutPoint::Mode::kPrefix;
    cut.keep_chance = prng.unit();

    // Where the prefix ends: at one of the versions, so that no draw is wasted on numbers that
    // belong to synced ones.
    std::vector<uint64_t> sequences;
    std::vector<InodeRef> directories{root_};
    std::set<Inode*> seen;
    const auto collect = [&](const InodeRef& inode) {
        if (!seen.insert(inode.get()).second) return;
        if (inode->directory) directories.push_back(inode);
        for (const auto& version : inode->unsynced) sequences.push_back(version.sequence);
        for (const auto& version : inode->unsynced_sizes) sequences.push_back(version.sequence);
    };
    for (size_t i = 0; i < directories.size(); ++i) {
        const InodeRef directory = directories[i];
        for (const auto& [name, child] : directory->names) collect(child);
        for (const auto& [name, child] : directory->durable_names) collect(child);
    }
    for (const NameChange& change : unsynced_names_) sequences.push_back(change.sequence);
    std::ranges::sort(sequences);
    if (!sequences.empty()) cut.sequence = sequences[prng.below(sequences.size())] - prng.below(2);

    cut_names(prng, how, cut);
    used_pages_ = 0;
    seen.clear();
    directories = {root_};
    for (size_t i = 0; i < directories.size(); ++i) {
        const InodeRef directory = directories[i];
        directory->names.clear();
        directory->opens = 0;
        for (auto& [name, child] : directory->durable_names) {
            directory->names.emplace(name, child);
            CHECK(seen.insert(child.get()).second);
            child->names_held = 1;
            if (child->directory) {
                directories.push_back(child);
            } else {
                settle(*child, prng, how, cut);
            }
        }
    }
}

void Disk::cut_names(Prng& prng, const PowerCut& how, const CutPoint& cut) {
    std::map<uint64_t, InodeRef> touched;
    for (const NameChange& change : unsynced_names_) {
        for (const Assignment& to : change.assignments)
            touched.emplace(to.directory->id, to.directory);
    }
    size_t ordered_end = prng.below(unsynced_names_.size() + 1);
    if (cut.mode == CutPoint::Mode::kKeepAll) ordered_end = unsynced_names_.size();
    if (cut.mode == CutPoint::Mode::kDropAll) ordered_end = 0;
    for (size_t i = 0; i < unsynced_names_.size(); ++i) {
        const NameChange& change = unsynced_names_[i];
        bool kept = i < ordered_end;
        if (cut.mode == CutPoint::Mode::kPrefix) kept = change.sequence <= cut.sequence;
        if (cut.mode == CutPoint::Mode::kIndependent && how.unordered_metadata)
            kept = prng.chance(cut.keep_chance);
        if (!kept) continue;
        for (const Assignment& to : change.assignments) {
            if (!to.inode) continue;
            // Whatever name it had before is gone with this one, even where the change between the
            // two was lost.
            for (auto& [id, directory] : touched) {
                std::erase_if(directory->durable_names,
                              [&](const auto& entry) { return entry.second == to.inode; });
            }
        }
        persist(change);
    }
    unsynced_names_.clear();
}

void Disk::settle(Inode& inode, Prng& prng, const PowerCut& how, const CutPoint& cut) {
    using Mode = CutPoint::Mode;
    inode.opens = 0;
    inode.locked_by = 0;

    // The size: any that it had since it was last durable, in their order.
    uint64_t size = inode.durable_size;
    size_t sizes_kept = prng.below(inode.unsynced_sizes.size() + 1);
    if (cut.mode == Mode::kKeepAll ||
        (cut.mode == Mode::kIndependent && prng.chance(cut.keep_chance))) {
        sizes_kept = inode.unsynced_sizes.size();
    }
    if (cut.mode == Mode::kDropAll) sizes_kept = 0;
    for (size_t i = 0; i < inode.unsynced_sizes.size(); ++i) {
        const bool kept = cut.mode == Mode::kPrefix
                              ? inode.unsynced_sizes[i].sequence <= cut.sequence
                              : i < sizes_kept;
        if (kept) size = inode.unsynced_sizes[i].size;
    }
    inode.unsynced_sizes.clear();

    std::map<size_t, std::vector<const Inode::PageVersion*>> versions;
    for (const Inode::PageVersion& version : inode.unsynced)
        versions[version.page].push_back(&version);
    for (const auto& [page, list] : versions) {
        PageRef& content = inode.slots[page].durable;
        if (cut.mode == Mode::kDropAll) continue;
        if (cut.mode == Mode::kKeepAll) {
            content = list.back()->content;
            continue;
        }
        if (cut.mode == Mode::kPrefix) {
            for (const Inode::PageVersion* version : list) {
                if (version->sequence <= cut.sequence) {
                    content = version->content;
                } else {
                    if (version->sequence <= cut.sequence + 4 && how.torn_sectors &&
                        prng.chance(0.5)) {
                        content = tear(content, version->content, how.garbage_sectors, prng);
                    }
                    break;
                }
            }
            continue;
        }
        // A disk's cache may have written back an earlier version and lost a later one.
        const PageRef before = content;
        size_t version = list.size() - 1;
        if (prng.chance(0.2)) version = prng.below(list.size());
        const PageRef& picked = list[version]->content;
        const PageRef& older =
            version > 0 && prng.chance(0.5) ? list[version - 1]->content : before;
        if (prng.chance(cut.keep_chance)) {
            content = picked;
        } else if (how.torn_sectors && prng.chance(0.4)) {
            content = tear(older, picked, how.garbage_sectors, prng);
        }
    }
    inode.unsynced.clear();

    inode.size = inode.durable_size = size;
    inode.slots.resize(pages_of(size));
    for (Inode::Slot& slot : inode.slots) {
        slot.current = slot.durable;
        slot.allocated = true;
        ++used_pages_;
    }
    if (size % kPageBytes != 0 && inode.slots.back().current) {
        auto page = std::make_shared<Page>();
        std::memcpy(page->data(), inode.slots.back().current->data(), size % kPageBytes);
        inode.slots.back().current = inode.slots.back().durable = std::move(page);
    }
}

void Disk::flip_bit(Inode& inode, Prng& prng) {
    if (inode.size == 0) return;
    const uint64_t at = prng.below(inode.size);
    flip_bit_at(inode, at, static_cast<uint32_t>(prng.below(8)));
}

void Disk::flip_bit_at(Inode& inode, uint64_t at, uint32_t bit) {
    Inode::Slot& slot = inode.slots[at / kPageBytes];
    auto page = std::make_shared<Page>();
    std::memcpy(page->data(), page_bytes(slot.current).data(), kPageBytes);
    (*page)[at % kPageBytes] ^= static_cast<uint8_t>(1u << bit);
    slot.current = slot.durable = std::move(page);
}

void Disk::lose_page(Inode& inode, Prng& prng) {
    if (inode.slots.empty()) return;
    inode.slots[prng.below(inode.slots.size())].unreadable = true;
}

std::string Disk::rot(Prng& prng,
                      const std::function<bool(std::string_view path, bool settled)>& may) {
    struct Candidate {
        std::string path;
        InodeRef inode;
        size_t page;
    };
    std::vector<Candidate> candidates;
    std::vector<std::pair<std::string, InodeRef>> open{{"", root_}};
    while (!open.empty()) {
        const auto [path, inode] = std::move(open.back());
        open.pop_back();
        if (inode->directory) {
            for (const auto& [name, child] : inode->names)
                open.emplace_back(path + "/" + name, child);
            continue;
        }
        for (size_t page = 0; page < pages_of(inode->size); ++page) {
            const uint64_t write = inode->slots[page].write;
            if (write != 0 && may(path, write <= inode->flushed_writes.back()))
                candidates.push_back({path, inode, page});
        }
    }
    if (candidates.empty()) return {};
    const Candidate& picked = candidates[prng.below(candidates.size())];
    const uint64_t begin = picked.page * kPageBytes;
    const uint64_t at =
        begin + prng.below(std::min<uint64_t>(kPageBytes, picked.inode->size - begin));
    flip_bit_at(*picked.inode, at, static_cast<uint32_t>(prng.below(8)));
    return fmt::format("{} at {}", picked.path, at);
}

uint64_t Disk::content_hash() const {
    uint64_t hash = 0;
    std::vector<std::pair<std::string, InodeRef>> open{{"", root_}};
    while (!open.empty()) {
        const auto [path, inode] = std::move(open.back());
        open.pop_back();
        hash = mix64(hash ^ crc32c(as_bytes(path)));
        if (inode->directory) {
            for (const auto& [name, child] : inode->names)
                open.emplace_back(path + "/" + name, child);
            continue;
        }
        hash = mix64(hash ^ inode->size);
        for (size_t page = 0; page < pages_of(inode->size); ++page) {
            hash = mix64(hash ^ crc32c(page_bytes(inode->slots[page].current)));
        }
    }
    return hash;
}

}  // namespace weir::sim
