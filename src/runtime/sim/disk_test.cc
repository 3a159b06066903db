#include "runtime/sim/disk.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <set>

#include "runtime/driver.h"

namespace weir::sim {
namespace {

using namespace weir::runtime;

constexpr uint32_t kCreate = kOpenRead | kOpenWrite | kOpenCreate;
constexpr Disk::PowerCut kHarsh{};

std::vector<uint8_t> page_of(uint8_t value, size_t pages = 1) {
    return std::vector<uint8_t>(pages * kPageBytes, value);
}

class DiskTest : public testing::Test {
  protected:
    InodeRef create(std::string_view path) {
        InodeRef inode;
        EXPECT_EQ(disk.open(path, kCreate, 0, &inode), 0);
        return inode;
    }
    void sync_names(std::string_view path) { disk.sync_dir(*disk.find(path), disk.barrier()); }
    std::vector<uint8_t> content(std::string_view path) {
        const InodeRef inode = disk.find(path);
        std::vector<uint8_t> bytes(inode->size);
        EXPECT_EQ(disk.read(*inode, 0, bytes), static_cast<int32_t>(bytes.size()));
        return bytes;
    }
    Disk disk{1 << 20};
    Prng prng{1};
};

TEST_F(DiskTest, what_was_written_is_read_and_the_end_of_the_file_cuts_reads_short) {
    const InodeRef file = create("a");
    EXPECT_EQ(disk.write(*file, 0, page_of(1, 2)), 8192);
    EXPECT_EQ(disk.write(*file, 100, as_bytes("hello")), 5);
    std::vector<uint8_t> bytes(12288);
    EXPECT_EQ(disk.read(*file, 0, bytes), 8192);
    EXPECT_EQ(as_text(Bytes(bytes).subspan(99, 7)), "\1hello\1");
    EXPECT_EQ(disk.read(*file, 8192, bytes), 0);
}

TEST_F(DiskTest, a_synced_write_survives_every_power_cut) {
    const InodeRef file = create("a");
    sync_names("");
    disk.write(*file, 0, page_of(7, 3));
    disk.sync(*file, disk.barrier());
    for (int i = 0; i < 50; ++i) {
        disk.cut_power(prng, kHarsh);
        EXPECT_EQ(content("a"), page_of(7, 3));
    }
}

TEST_F(DiskTest, an_unsynced_write_may_stay_vanish_or_tear) {
    std::set<std::string> kinds;
    for (int i = 0; i < 300; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        disk.write(*file, 0, page_of(1));
        disk.sync(*file, disk.barrier());
        sync_names("");
        disk.write(*file, 0, page_of(2));
        disk.cut_power(prng,
                       {.torn_sectors = true, .garbage_sectors = true, .unordered_metadata = true});
        const std::vector<uint8_t> bytes = content("a");
        std::set<uint8_t> values(bytes.begin(), bytes.end());
        if (values == std::set<uint8_t>{1})
            kinds.insert("old");
        else if (values == std::set<uint8_t>{2})
            kinds.insert("new");
        else if (values == std::set<uint8_t>{1, 2})
            kinds.insert("torn");
        else
            kinds.insert("garbage");
        for (size_t sector = 0; sector < bytes.size() && values.size() == 2;
             sector += kSectorBytes) {
            EXPECT_EQ(bytes[sector], bytes[sector + kSectorBytes - 1]) << "a sector is whole";
        }
    }
    EXPECT_EQ(kinds, (std::set<std::string>{"garbage", "new", "old", "torn"}));
}

TEST_F(DiskTest, without_torn_sectors_a_page_is_old_or_new) {
    for (int i = 0; i < 100; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        sync_names("");
        disk.write(*file, 0, page_of(1));
        disk.sync(*file, disk.barrier());
        disk.write(*file, 0, page_of(2));
        disk.cut_power(
            prng, {.torn_sectors = false, .garbage_sectors = false, .unordered_metadata = true});
        const std::vector<uint8_t> bytes = content("a");
        EXPECT_EQ(std::set<uint8_t>(bytes.begin(), bytes.end()).size(), 1u);
    }
}

TEST_F(DiskTest, a_flush_covers_only_what_completed_before_its_barrier) {
    bool lost = false;
    for (int i = 0; i < 50; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        sync_names("");
        disk.write(*file, 0, page_of(1, 2));
        const uint64_t barrier = disk.barrier();
        disk.write(*file, kPageBytes, page_of(2));
        disk.sync(*file, barrier);
        disk.cut_power(
            prng, {.torn_sectors = false, .garbage_sectors = false, .unordered_metadata = true});
        const std::vector<uint8_t> bytes = content("a");
        ASSERT_EQ(bytes.size(), 8192u);
        EXPECT_EQ(bytes[0], 1);
        lost |= bytes[kPageBytes] == 1;
    }
    EXPECT_TRUE(lost);
}

TEST_F(DiskTest, an_unsynced_extension_may_be_lost_and_a_flush_makes_the_size_durable) {
    std::set<uint64_t> sizes;
    for (int i = 0; i < 100; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        sync_names("");
        disk.write(*file, 0, page_of(1));
        disk.sync(*file, disk.barrier());
        disk.write(*file, kPageBytes, page_of(2));
        disk.cut_power(prng, kHarsh);
        EXPECT_EQ(content("a")[0], 1);
        sizes.insert(disk.find("a")->size);
    }
    EXPECT_EQ(sizes, (std::set<uint64_t>{4096, 8192}));
}

TEST_F(DiskTest, a_preallocated_range_reads_as_zeros) {
    const InodeRef file = create("a");
    EXPECT_EQ(disk.fallocate(*file, 0, 3 * kPageBytes), 0);
    EXPECT_EQ(content("a"), page_of(0, 3));
    EXPECT_EQ(disk.used_bytes(), 3 * kPageBytes);
}

TEST_F(DiskTest, a_file_whose_directory_was_not_synced_may_vanish) {
    std::set<bool> there;
    for (int i = 0; i < 50; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        disk.write(*file, 0, page_of(1));
        disk.sync(*file, disk.barrier());
        disk.cut_power(prng, kHarsh);
        there.insert(disk.find("a") != nullptr);
    }
    EXPECT_EQ(there, (std::set<bool>{false, true}));
}

TEST_F(DiskTest, a_rename_is_atomic_and_may_vanish_until_the_directory_is_synced) {
    std::set<uint8_t> seen;
    for (int i = 0; i < 100; ++i) {
        disk.wipe();
        const InodeRef old = create("name");
        disk.write(*old, 0, page_of(1));
        disk.sync(*old, disk.barrier());
        const InodeRef fresh = create("name.tmp");
        disk.write(*fresh, 0, page_of(2));
        disk.sync(*fresh, disk.barrier());
        sync_names("");
        EXPECT_EQ(disk.rename("name.tmp", "name"), 0);
        disk.cut_power(prng, kHarsh);
        ASSERT_NE(disk.find("name"), nullptr);
        seen.insert(content("name")[0]);
        EXPECT_EQ(content("name")[0] == 1, disk.find("name.tmp") != nullptr);
    }
    EXPECT_EQ(seen, (std::set<uint8_t>{1, 2}));
}

TEST_F(DiskTest, a_synced_rename_stays) {
    const InodeRef file = create("a");
    disk.rename("a", "b");
    sync_names("");
    disk.cut_power(prng, kHarsh);
    EXPECT_EQ(disk.find("a"), nullptr);
    EXPECT_NE(disk.find("b"), nullptr);
}

TEST_F(DiskTest, no_file_ever_has_two_names) {
    for (int i = 0; i < 200; ++i) {
        disk.wipe();
        create("a");
        sync_names("");
        disk.make_dir("d");
        disk.rename("a", "b");
        disk.rename("b", "d/c");
        disk.rename("d/c", "a");
        disk.cut_power(prng, kHarsh);  // CHECKs it
        const int names = (disk.find("a") != nullptr) + (disk.find("b") != nullptr) +
                          (disk.find("d/c") != nullptr);
        EXPECT_LE(names, 1);
    }
}

TEST_F(DiskTest, an_unlinked_file_may_come_back_with_its_content) {
    std::set<bool> there;
    for (int i = 0; i < 50; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        disk.write(*file, 0, page_of(9));
        disk.sync(*file, disk.barrier());
        sync_names("");
        disk.close(*file);
        disk.unlink("a");
        EXPECT_EQ(disk.used_bytes(), 0u);
        disk.cut_power(prng, kHarsh);
        const bool back = disk.find("a") != nullptr;
        if (back) {
            EXPECT_EQ(content("a"), page_of(9));
            EXPECT_EQ(disk.used_bytes(), kPageBytes);
        }
        there.insert(back);
    }
    EXPECT_EQ(there, (std::set<bool>{false, true}));
}

TEST_F(DiskTest, a_failed_flush_loses_data_that_the_next_flush_does_not_bring_back) {
    bool lost = false;
    for (int i = 0; i < 50; ++i) {
        disk.wipe();
        const InodeRef file = create("a");
        sync_names("");
        disk.write(*file, 0, page_of(1));
        disk.sync(*file, disk.barrier());
        disk.write(*file, 0, page_of(2));
        disk.fail_sync(*file, disk.barrier(), true, prng);
        EXPECT_EQ(content("a"), page_of(2)) << "the page cache still has it";
        disk.sync(*file, disk.barrier());
        disk.cut_power(prng, kHarsh);
        lost |= content("a") == page_of(1);
    }
    EXPECT_TRUE(lost);
}

TEST_F(DiskTest, a_full_disk_writes_short_then_refuses) {
    disk.set_capacity(4 * kPageBytes);
    const InodeRef file = create("a");
    EXPECT_EQ(disk.write(*file, 0, page_of(1, 6)), static_cast<int32_t>(4 * kPageBytes));
    EXPECT_EQ(disk.write(*file, 4 * kPageBytes, page_of(1)), -ENOSPC);
    EXPECT_EQ(disk.write(*file, 0, page_of(2)), static_cast<int32_t>(kPageBytes))
        << "overwriting needs no space";
    EXPECT_EQ(disk.fallocate(*file, 0, 5 * kPageBytes), -ENOSPC);
    EXPECT_EQ(disk.truncate(*file, kPageBytes), 0);
    EXPECT_EQ(disk.free_bytes(), 3 * kPageBytes);
}

TEST_F(DiskTest, a_renamed_file_keeps_its_space) {
    disk.set_capacity(4 * kPageBytes);
    const InodeRef file = create("a");
    EXPECT_EQ(disk.write(*file, 0, page_of(1, 4)), static_cast<int32_t>(4 * kPageBytes));
    disk.close(*file);
    EXPECT_EQ(disk.rename("a", "b"), 0);
    EXPECT_EQ(disk.free_bytes(), 0u);
    EXPECT_EQ(disk.write(*file, 0, page_of(2)), static_cast<int32_t>(kPageBytes));
}

TEST_F(DiskTest, a_shrunk_file_grows_again_with_zeros) {
    const InodeRef file = create("a");
    disk.write(*file, 0, page_of(5, 2));
    disk.truncate(*file, 10);
    disk.truncate(*file, 2 * kPageBytes);
    std::vector<uint8_t> expected(2 * kPageBytes, 0);
    std::fill_n(expected.begin(), 10, 5);
    EXPECT_EQ(content("a"), expected);
}

TEST_F(DiskTest, directories_answer_as_the_kernel_does) {
    EXPECT_EQ(disk.make_dir("x/y"), -ENOENT);
    EXPECT_EQ(disk.make_dir("/x"), 0);
    EXPECT_EQ(disk.make_dir("x"), -EEXIST);
    create("x/f");
    EXPECT_EQ(disk.remove_dir("x"), -ENOTEMPTY);
    EXPECT_EQ(disk.unlink("x"), -EISDIR);
    EXPECT_EQ(disk.remove_dir("x/f"), -ENOTDIR);
    EXPECT_EQ(disk.rename("x", "x/z"), -EINVAL);
    std::vector<std::string> names;
    EXPECT_EQ(disk.list("x", &names), 0);
    EXPECT_EQ(names, std::vector<std::string>{"f"});
    EXPECT_EQ(disk.unlink("x/f"), 0);
    EXPECT_EQ(disk.remove_dir("x"), 0);
    EXPECT_EQ(disk.unlink("x/f"), -ENOENT);
    InodeRef inode;
    EXPECT_EQ(disk.open("nowhere", kOpenRead, 0, &inode), -ENOENT);
}

TEST_F(DiskTest, a_lost_page_gives_an_error_until_it_is_written_again) {
    const InodeRef file = create("a");
    disk.write(*file, 0, page_of(1));
    disk.lose_page(*file, prng);
    std::vector<uint8_t> bytes(kPageBytes);
    EXPECT_EQ(disk.read(*file, 0, bytes), -EIO);
    disk.write(*file, 0, page_of(2));
    EXPECT_EQ(disk.read(*file, 0, bytes), static_cast<int32_t>(kPageBytes));
}

}  // namespace
}  // namespace weir::sim
