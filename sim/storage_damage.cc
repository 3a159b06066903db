#include "storage_damage.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/check.h"

namespace weir::sim {

using storage::LogId;

namespace {

std::string_view name_of(DamageKind kind) {
    constexpr std::string_view kNames[kDamageKinds] = {
        "is deleted",          "is emptied",          "is shortened",
        "is zeros to its end", "has a page of zeros", "has another's content",
        "is an older copy"};
    return kNames[static_cast<size_t>(kind)];
}

// Of a journal the last files may be without blocks, and the newest that has some can be an older
// copy of itself without anything that tells (docs/formats/journal.md).
constexpr uint64_t kNewestFiles = 2;

bool is_settled(const Inode& inode, size_t page) {
    const uint64_t write = inode.slots[page].write;
    return write != 0 && write <= inode.flushed_writes.back();
}

}  // namespace

std::string FileDamage::to_string() const { return fmt::format("{} {}", path, name_of(kind)); }

std::vector<FileDamager::File> FileDamager::files() const {
    std::vector<File> found;
    std::vector<std::string> open{directory_};
    while (!open.empty()) {
        const std::string directory = std::move(open.back());
        open.pop_back();
        std::vector<std::string> names;
        (void)disk_.list(directory, &names);
        std::ranges::sort(names);
        std::vector<File> journals;
        for (const std::string& name : names) {
            const std::string path = directory + "/" + name;
            const InodeRef inode = disk_.find(path);
            if (inode == nullptr) continue;
            if (inode->directory) {
                open.push_back(path);
                continue;
            }
            File file{.path = path, .name = name, .sort = {}, .log = {}, .newest = 0};
            uint64_t sequence = 0;
            int64_t base = 0;
            uint32_t segment = 0;
            LogId log;
            if (storage::parse_journal_name(name, &sequence)) {
                file.sort = DamagedFile::kJournal;
                journals.push_back(std::move(file));
            } else if (name == "checkpoint") {
                file.sort = DamagedFile::kCheckpoint;
                found.push_back(std::move(file));
            } else if (storage::parse_segment_name(name, &base, &segment) &&
                       storage::parse_log_directory_name(directory.substr(directory.rfind('/') + 1),
                                                         &log)) {
                file.sort = DamagedFile::kSegment;
                file.log = log;
                found.push_back(std::move(file));
            } else if (name == "layout" || name == "history") {
                file.sort = DamagedFile::kNode;
                found.push_back(std::move(file));
            }
        }
        for (size_t i = 0; i < journals.size(); ++i) {
            journals[i].newest = journals.size() - 1 - i;
            found.push_back(std::move(journals[i]));
        }
    }
    return found;
}

std::vector<uint8_t> FileDamager::bytes_of(const std::string& path) const {
    const InodeRef inode = disk_.find(path);
    CHECK(inode != nullptr);
    std::vector<uint8_t> bytes(inode->size);
    CHECK(disk_.read(*inode, 0, bytes) == static_cast<int64_t>(bytes.size()));
    return bytes;
}

// False, and nothing is changed, if the disk has no room for it.
bool FileDamager::replace(const std::string& path, const std::vector<uint8_t>& bytes) {
    const InodeRef inode = disk_.find(path);
    if (disk_.free_bytes() < bytes.size() + kPageBytes) return false;
    CHECK(disk_.truncate(*inode, 0) == 0);
    if (!bytes.empty()) {
        CHECK(disk_.write(*inode, 0, bytes) == static_cast<int64_t>(bytes.size()));
    }
    return true;
}

void FileDamager::remember() {
    older_.clear();
    for (const File& file : files()) older_[file.path] = bytes_of(file.path);
}

bool FileDamager::apply(DamageKind kind, const File& file, const std::vector<File>& all,
                        Prng& prng) {
    const InodeRef inode = disk_.find(file.path);
    const uint64_t size = inode->size;
    const uint64_t pages = (size + kPageBytes - 1) / kPageBytes;
    switch (kind) {
        case DamageKind::kDeleted:
            return disk_.unlink(file.path) == 0;
        case DamageKind::kEmptied:
            return size > 0 && disk_.truncate(*inode, 0) == 0;
        case DamageKind::kShortened:
            return size > 0 && disk_.truncate(*inode, prng.below(size)) == 0;
        case DamageKind::kZeroedToEnd: {
            if (size == 0) return false;
            const uint64_t from = prng.below(pages) * kPageBytes;
            const std::vector<uint8_t> zeros(size - from);
            return disk_.write(*inode, from, zeros) == static_cast<int64_t>(zeros.size());
        }
        case DamageKind::kZeroedInside: {
            std::vector<size_t> settled;
            for (size_t page = 0; page < size / kPageBytes; ++page) {
                if (is_settled(*inode, page)) settled.push_back(page);
            }
            if (settled.empty()) return false;
            const std::vector<uint8_t> zeros(kPageBytes);
            return disk_.write(*inode, settled[prng.below(settled.size())] * kPageBytes, zeros) ==
                   static_cast<int64_t>(kPageBytes);
        }
        case DamageKind::kAnothers: {
            std::vector<const File*> others;
            for (const File& other : all) {
                if (other.sort == file.sort && other.path != file.path &&
                    (file.sort != DamagedFile::kNode))
                    others.push_back(&other);
            }
            if (others.empty()) return false;
            return replace(file.path, bytes_of(others[prng.below(others.size())]->path));
        }
        case DamageKind::kOlder: {
            const auto older = older_.find(file.path);
            if (older == older_.end() || older->second == bytes_of(file.path)) return false;
            if (file.sort == DamagedFile::kJournal && file.newest < kNewestFiles) return false;
            return replace(file.path, older->second);
        }
    }
    return false;
}

std::optional<FileDamage> FileDamager::damage(Prng& prng) {
    const std::vector<File> all = files();
    // A sort first: there are many more segments than checkpoints.
    const auto sort =
        static_cast<DamagedFile>(std::array{0, 0, 0, 0, 1, 2, 2, 2, 3}[prng.below(9)]);
    std::vector<const File*> some;
    for (const File& file : all) {
        if (file.sort == sort) some.push_back(&file);
    }
    for (int attempt = 0; attempt < 10 && !some.empty(); ++attempt) {
        const File& file = *some[prng.below(some.size())];
        const auto kind = static_cast<DamageKind>(prng.below(kDamageKinds));
        if (!apply(kind, file, all, prng)) continue;
        // No power cut takes it back.
        if (const InodeRef inode = disk_.find(file.path)) disk_.sync(*inode, disk_.barrier());
        disk_.sync_dir(*disk_.find(file.path.substr(0, file.path.rfind('/'))), disk_.barrier());
        return FileDamage{.kind = kind, .file = file.sort, .path = file.path, .log = file.log};
    }
    return std::nullopt;
}

}  // namespace weir::sim
