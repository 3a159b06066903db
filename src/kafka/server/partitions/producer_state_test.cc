#include "kafka/server/partitions/producer_state.h"

#include <gtest/gtest.h>

#include <deque>

#include "base/byte_writer.h"
#include "base/prng.h"
#include "kafka/records/batch.h"

namespace weir::kafka {
namespace {

using Verdict = ProducerStates::Verdict;

BatchHeader batch(int64_t producer, int16_t epoch, int32_t sequence, int32_t count,
                  int64_t base_offset = 0) {
    BatchHeader header;
    header.producer_id = producer;
    header.producer_epoch = epoch;
    header.base_sequence = sequence;
    header.last_offset_delta = count - 1;
    header.records_count = count;
    header.base_offset = base_offset;
    header.max_timestamp = {base_offset + 1000};
    return header;
}

TEST(ProducerStates, an_unknown_producer_may_begin_anywhere) {
    ProducerStates states(10);
    EXPECT_EQ(states.check(batch(1, 0, 0, 1)).verdict, Verdict::kAppend);
    EXPECT_EQ(states.check(batch(1, 3, 77, 1)).verdict, Verdict::kAppend);
}

TEST(ProducerStates, the_next_sequence_is_the_last_one_and_one) {
    ProducerStates states(10);
    states.append(batch(1, 0, 0, 3), {});
    EXPECT_EQ(states.check(batch(1, 0, 3, 1)).verdict, Verdict::kAppend);
    EXPECT_EQ(states.check(batch(1, 0, 4, 1)).verdict, Verdict::kOutOfOrder);
    EXPECT_EQ(states.check(batch(1, 0, 2, 1)).verdict, Verdict::kOutOfOrder);
    EXPECT_EQ(states.check(batch(1, 0, 0, 2)).verdict, Verdict::kOutOfOrder)
        << "the same start with another end is not the same batch";
}

TEST(ProducerStates, each_of_the_last_five_batches_is_known_again_with_its_offset_and_time) {
    ProducerStates states(10);
    for (int32_t i = 0; i < 8; ++i) states.append(batch(1, 0, i * 10, 10, i * 100), {});
    for (int32_t i = 0; i < 8; ++i) {
        const auto answer = states.check(batch(1, 0, i * 10, 10));
        if (i < 3) {
            EXPECT_EQ(answer.verdict, Verdict::kOutOfOrder) << i;
        } else {
            EXPECT_EQ(answer.verdict, Verdict::kDuplicate) << i;
            EXPECT_EQ(answer.base_offset, i * 100);
            EXPECT_EQ(answer.next_offset, i * 100 + 10);
            EXPECT_EQ(answer.timestamp_ms, i * 100 + 1000);
        }
    }
    EXPECT_EQ(states.check(batch(1, 0, 80, 10)).verdict, Verdict::kAppend);
}

// A client's first batch is lost with a leader, and its second reaches the next leader first. An
// answer that the first was written already would lose it in silence (librdkafka and Java's client
// take DUPLICATE_SEQUENCE_NUMBER for success).
TEST(ProducerStates, what_comes_before_a_producers_first_batch_is_not_said_to_be_written) {
    ProducerStates states(10);
    states.append(batch(1, 0, 24, 10), {});
    EXPECT_EQ(states.check(batch(1, 0, 0, 24)).verdict, Verdict::kOutOfOrder);
    EXPECT_EQ(states.check(batch(1, 0, 34, 1)).verdict, Verdict::kAppend);
}

TEST(ProducerStates, sequences_wrap_from_the_largest_to_zero) {
    ProducerStates states(10);
    states.append(batch(1, 0, INT32_MAX - 1, 2), {});
    EXPECT_EQ(states.check(batch(1, 0, 0, 5)).verdict, Verdict::kAppend);
    states.append(batch(1, 0, 0, 5, 10), {});
    EXPECT_EQ(states.check(batch(1, 0, INT32_MAX - 1, 2)).verdict, Verdict::kDuplicate);
    // A batch that wraps within.
    ProducerStates wrapping(10);
    wrapping.append(batch(1, 0, INT32_MAX - 1, 4), {});
    EXPECT_EQ(wrapping.check(batch(1, 0, 2, 1)).verdict, Verdict::kAppend);
    EXPECT_EQ(wrapping.check(batch(1, 0, 3, 1)).verdict, Verdict::kOutOfOrder);
    EXPECT_EQ(wrapping.check(batch(1, 0, INT32_MAX - 1, 4)).verdict, Verdict::kDuplicate);
}

TEST(ProducerStates, a_new_epoch_begins_at_zero_and_an_old_one_is_refused) {
    ProducerStates states(10);
    states.append(batch(1, 5, 0, 3), {});
    EXPECT_EQ(states.check(batch(1, 4, 3, 1)).verdict, Verdict::kOldEpoch);
    EXPECT_EQ(states.check(batch(1, 6, 3, 1)).verdict, Verdict::kOutOfOrder);
    EXPECT_EQ(states.check(batch(1, 6, 0, 1)).verdict, Verdict::kAppend);
    states.append(batch(1, 6, 0, 1), {});
    EXPECT_EQ(states.check(batch(1, 6, 0, 3)).verdict, Verdict::kOutOfOrder)
        << "batches of the epoch before are forgotten";
    EXPECT_EQ(states.check(batch(1, 5, 0, 3)).verdict, Verdict::kOldEpoch);
}

TEST(ProducerStates, expiry_goes_by_the_last_write) {
    ProducerStates states(10);
    states.append(batch(1, 0, 0, 1, 0), {.ms = 1000});
    states.append(batch(2, 0, 0, 1, 1), {.ms = 1500});
    states.append(batch(1, 0, 1, 1, 2), {.ms = 2000});
    states.commit(3);
    states.expire({.ms = 2500}, 1000);
    EXPECT_EQ(states.size(), 1u);
    EXPECT_EQ(states.list()[0].id, 1);
    EXPECT_EQ(states.list()[0].last_sequence, 1);
}

TEST(ProducerStates, a_producer_whose_batch_may_be_taken_back_does_not_expire) {
    ProducerStates states(10);
    states.append(batch(1, 0, 0, 1, 0), {.ms = 1000});
    states.append(batch(2, 0, 0, 1, 1), {.ms = 1000});
    states.append(batch(1, 0, 1, 1, 2), {.ms = 1000});
    states.commit(2);
    states.expire({.ms = 9000}, 1000);
    ASSERT_EQ(states.size(), 1u);
    states.truncate(2);
    EXPECT_EQ(states.check(batch(1, 0, 0, 1)).verdict, Verdict::kDuplicate);
    EXPECT_EQ(states.check(batch(1, 0, 1, 1)).verdict, Verdict::kAppend);
}

// Cluster seed 30000392: all nodes lost their power, and a relaxed log came back shorter than the
// snapshot's state tells of.
TEST(ProducerStates, what_is_lost_below_the_floor_is_not_told_of_any_more) {
    ProducerStates states(10);
    states.append(batch(1, 0, 0, 1, 0), {.ms = 1000});
    states.append(batch(2, 0, 0, 1, 1), {.ms = 1000});
    states.append(batch(1, 0, 1, 1, 2), {.ms = 1000});
    states.commit(3);
    states.append(batch(1, 0, 2, 1, 3), {.ms = 1000});
    states.truncate(1);
    EXPECT_EQ(states.floor(), 1);
    ASSERT_EQ(states.size(), 1u);
    EXPECT_EQ(states.check(batch(1, 0, 0, 1)).verdict, Verdict::kDuplicate);
    EXPECT_EQ(states.check(batch(1, 0, 1, 1)).verdict, Verdict::kAppend);
    states.append(batch(1, 0, 1, 1, 1), {.ms = 1000});
    states.commit(2);
    EXPECT_EQ(states.check(batch(1, 0, 1, 1)).verdict, Verdict::kDuplicate);
}

TEST(ProducerStates, the_one_whose_last_batch_is_the_oldest_gives_way) {
    ProducerStates states(2);
    states.append(batch(1, 0, 0, 1, 0), {.ms = 3});
    states.append(batch(2, 0, 0, 1, 1), {.ms = 2});
    states.append(batch(1, 0, 1, 1, 2), {.ms = 1});
    states.append(batch(3, 0, 0, 1, 3), {.ms = 2});
    ASSERT_EQ(states.size(), 2u);
    EXPECT_EQ(states.list()[0].id, 1);
    EXPECT_EQ(states.list()[1].id, 3);
}

// The plainest rendering of the rules: everything of the present epoch is remembered, and the
// window is counted off it.
struct Model {
    int16_t epoch = -1;
    std::vector<std::pair<int64_t, int64_t>> batches;  // first and last, not wrapped

    Verdict check(int16_t e, int64_t first, int64_t last) const {
        if (epoch < 0) return Verdict::kAppend;
        if (e < epoch) return Verdict::kOldEpoch;
        if (e > epoch) return first == 0 ? Verdict::kAppend : Verdict::kOutOfOrder;
        const size_t begin = batches.size() > 5 ? batches.size() - 5 : 0;
        for (size_t i = begin; i < batches.size(); ++i) {
            if (batches[i] == std::pair(first, last)) return Verdict::kDuplicate;
        }
        if (first == batches.back().second + 1) return Verdict::kAppend;
        return Verdict::kOutOfOrder;
    }
};

TEST(ProducerStates, every_batch_near_the_window_gets_the_verdict_of_the_model) {
    // Histories of up to seven batches of one to three records, started at 0 or just below the
    // wrap; then every batch around them.
    for (const int64_t start : {int64_t{0}, int64_t{INT32_MAX} - 6}) {
        for (uint32_t history = 0; history < 3 * 3 * 3 * 3 * 3 * 3 * 3; ++history) {
            ProducerStates states(10);
            Model model;
            model.epoch = 2;
            int64_t next = start;
            uint32_t sizes = history;
            for (int i = 0; i < 7; ++i, sizes /= 3) {
                const int64_t count = 1 + sizes % 3;
                states.append(batch(1, 2, static_cast<int32_t>(next & INT32_MAX),
                                    static_cast<int32_t>(count)),
                              {});
                model.batches.emplace_back(next, next + count - 1);
                next += count;
            }
            for (int64_t first = std::max(start, next - 12); first < next + 4; ++first) {
                for (int32_t count = 1; count <= 4; ++count) {
                    const auto verdict =
                        states.check(batch(1, 2, static_cast<int32_t>(first & INT32_MAX), count))
                            .verdict;
                    ASSERT_EQ(verdict, model.check(2, first, first + count - 1))
                        << history << " " << first << " " << count;
                }
            }
        }
    }
}

TEST(ProducerStates, state_survives_encoding_and_replay_gives_the_same_as_living) {
    Prng prng(3);
    ProducerStates live(50);
    std::vector<std::pair<BatchHeader, WallTime>> log;
    for (int64_t i = 0; i < 2000; ++i) {
        const BatchHeader header = batch(prng.between(1, 40), static_cast<int16_t>(i / 700),
                                         static_cast<int32_t>(prng.below(1000)),
                                         static_cast<int32_t>(prng.between(1, 5)), i * 10);
        const WallTime now{i};
        live.append(header, now);
        log.emplace_back(header, now);
    }
    auto half = ProducerStates(50);
    for (size_t i = 0; i < 1000; ++i) half.append(log[i].first, log[i].second);
    auto recovered = ProducerStates::decode(half.encode(), 50, INT64_MAX);
    ASSERT_TRUE(recovered);
    for (size_t i = 1000; i < log.size(); ++i) recovered->append(log[i].first, log[i].second);
    EXPECT_EQ(recovered->encode(), live.encode());
}

// A replica appends, commits, is cut and starts again; each time the states are those of a fold of
// the log as it is then, which the bytes show, byte for byte.
TEST(ProducerStates, what_is_cut_off_leaves_no_trace) {
    for (uint64_t seed = 1; seed <= 60; ++seed) {
        Prng prng(seed);
        constexpr size_t kMax = 6;  // few, so that producers give way, and come back
        std::vector<std::pair<BatchHeader, WallTime>> log;
        const auto end = [&log] { return log.empty() ? 0 : log.back().first.next_offset(); };
        const auto fold = [&log](int64_t committed) {
            ProducerStates states(kMax);
            for (const auto& [header, time] : log) {
                states.append(header, time);
                if (header.next_offset() <= committed) states.commit(header.next_offset());
            }
            states.commit(committed);
            return states;
        };
        ProducerStates states(kMax);
        int64_t committed = 0;
        for (int step = 0; step < 400; ++step) {
            switch (prng.below(8)) {
                default: {
                    const BatchHeader header =
                        batch(prng.between(1, 9), static_cast<int16_t>(step / 150 + prng.below(2)),
                              static_cast<int32_t>(prng.below(100)),
                              static_cast<int32_t>(prng.between(1, 3)), end());
                    log.emplace_back(header, WallTime{step});
                    states.append(header, WallTime{step});
                    break;
                }
                case 5: {
                    size_t behind = prng.below(6);
                    int64_t to = end();
                    for (size_t i = log.size(); behind > 0 && i-- > 0; --behind)
                        to = log[i].first.base_offset;
                    committed = std::max(committed, to);
                    states.commit(committed);
                    break;
                }
                case 6: {
                    size_t cut = prng.below(7);
                    while (cut-- > 0 && !log.empty() && log.back().first.base_offset >= committed)
                        log.pop_back();
                    states.truncate(end());
                    break;
                }
                case 7: {
                    const auto bytes = states.encode();
                    auto read = ProducerStates::decode(bytes, kMax, INT64_MAX);
                    ASSERT_TRUE(read);
                    ASSERT_EQ(read->encode(), bytes);
                    if (!bytes.empty()) states = std::move(*read);  // a start
                    break;
                }
            }
            ASSERT_EQ(states.encode(), fold(committed).encode()) << "seed " << seed << " " << step;
        }
    }
}

TEST(ProducerStates, a_start_leaves_out_what_was_cut_off_since) {
    for (uint64_t seed = 1; seed <= 200; ++seed) {
        Prng prng(seed);
        constexpr size_t kMax = 4;
        std::vector<BatchHeader> log;
        ProducerStates states(kMax);
        const size_t count = prng.between(1, 40);
        const size_t committed = prng.below(count + 1);
        for (size_t i = 0; i < count; ++i) {
            log.push_back(batch(prng.between(1, 7), static_cast<int16_t>(prng.below(3)),
                                static_cast<int32_t>(i), 2, static_cast<int64_t>(i) * 2));
            states.append(log.back(), {.ms = static_cast<int64_t>(i)});
            if (i + 1 == committed) states.commit(log.back().next_offset());
        }
        const auto bytes = states.encode();
        for (size_t kept = committed; kept <= count; ++kept) {
            ProducerStates fold(kMax);
            for (size_t i = 0; i < kept; ++i) {
                fold.append(log[i], {.ms = static_cast<int64_t>(i)});
                if (i + 1 == committed) fold.commit(log[i].next_offset());
            }
            const auto read = ProducerStates::decode(bytes, kMax, static_cast<int64_t>(kept) * 2);
            ASSERT_TRUE(read);
            ASSERT_EQ(read->encode(), fold.encode()) << seed << " " << kept;
        }
    }
}

TEST(ProducerStates, bytes_of_a_node_alone_are_read_and_all_of_it_stays) {
    // Format 1: producer 7 in epoch 1, sequences 0 to 2 at offset 100.
    const std::vector<uint8_t> bytes = {0x01, 0x01, 0x0e, 0x00, 0x01, 0x80, 0x01, 0x01,
                                        0x00, 0x04, 0xc8, 0x01, 0x06, 0x98, 0x11};
    const auto states = ProducerStates::decode(bytes, 10, 103);
    ASSERT_TRUE(states);
    EXPECT_EQ(states->floor(), 103);
    EXPECT_EQ(states->check(batch(7, 1, 0, 3)).base_offset, 100);
}

TEST(ProducerStates, damaged_state_is_refused_and_never_crashes) {
    ProducerStates states(10);
    for (int64_t i = 0; i < 5; ++i) states.append(batch(i, 0, 0, 1, i), {.ms = i});
    states.commit(3);
    const auto whole = states.encode();
    for (size_t size = 1; size < whole.size(); ++size)
        EXPECT_FALSE(ProducerStates::decode(Bytes(whole).first(size), 10, INT64_MAX)) << size;
    Prng prng(1);
    for (int i = 0; i < 50'000; ++i) {
        auto bytes = whole;
        for (uint64_t flips = prng.between(1, 4); flips > 0; --flips)
            bytes[prng.below(bytes.size())] = static_cast<uint8_t>(prng.next());
        (void)ProducerStates::decode(bytes, 10, INT64_MAX);
    }
}

TEST(ProducerStates, offsets_that_cannot_be_are_refused) {
    // Found by fuzzing: a width beyond what an offset can be overflowed when it was written again.
    const auto state = [](int64_t base_offset, int64_t width) {
        ByteWriter out;
        out.write_bytes(std::vector<uint8_t>{2, 0, 1, 0x0e, 0, 1, 0, 1, 0, 4});
        out.write_varlong(base_offset);
        out.write_varlong(width);
        out.write_varlong(0);
        out.write_u8(0);
        return ProducerStates::decode(out.flatten(), 10, INT64_MAX).has_value();
    };
    EXPECT_TRUE(state(100, 3));
    EXPECT_TRUE(state(0, INT64_MAX));
    EXPECT_FALSE(state(1, INT64_MAX));
    EXPECT_FALSE(state(100, 0));
    EXPECT_FALSE(state(100, -3));
    EXPECT_FALSE(state(-1, 3));
    EXPECT_FALSE(state(INT64_MIN, INT64_MIN));
}

TEST(ProducerStates, the_format_is_the_one_in_the_docs) {
    ProducerStates states(10);
    states.append(batch(7, 1, 0, 3, 100), {.ms = 64});
    states.commit(103);
    states.append(batch(7, 1, 3, 1, 103), {.ms = 65});
    // docs/formats/producer-state.md, the worked example.
    const std::vector<uint8_t> expected = {
        0x02, 0xce, 0x01, 0x01, 0x0e, 0x00, 0x01, 0x80, 0x01, 0x01, 0x00, 0x04, 0xc8, 0x01, 0x06,
        0x98, 0x11, 0x01, 0x0e, 0x00, 0x01, 0x82, 0x01, 0x06, 0x06, 0xce, 0x01, 0x02, 0x9e, 0x11};
    EXPECT_EQ(states.encode(), expected);
}

// The second look: 100,000 producers a partition were outside of the memory budget.
TEST(ProducerStates, a_partition_forgets_its_oldest_when_the_shards_share_is_used_up) {
    ProducerShare share{.used = 0, .limit = 300};
    {
        ProducerStates busy(1000, &share);
        ProducerStates other(1000, &share);
        for (int64_t id = 0; id < 280; ++id) busy.append(batch(id, 0, 0, 1, id), {});
        for (int64_t id = 0; id < 140; ++id) other.append(batch(id, 0, 0, 1, id), {});
        EXPECT_EQ(share.used, busy.size() + other.size());
        EXPECT_EQ(busy.size(), 280u);
        EXPECT_EQ(other.size(), ProducerStates::kProducersMin);
        busy.append(batch(500, 0, 0, 1, 500), {});
        EXPECT_EQ(busy.size(), 280u);
        EXPECT_EQ(busy.check(batch(0, 0, 7, 1)).verdict, Verdict::kAppend);  // forgotten
        EXPECT_EQ(busy.check(batch(1, 0, 7, 1)).verdict, Verdict::kOutOfOrder);
        // Taken back, all is as it was.
        busy.truncate(500);
        EXPECT_EQ(busy.size(), 280u);
        EXPECT_EQ(share.used, busy.size() + other.size());
        ProducerStates moved = std::move(busy);
        EXPECT_EQ(share.used, moved.size() + other.size());
        moved.commit(1000);
        moved.expire({1'000'000}, 1);
        EXPECT_EQ(share.used, other.size());
    }
    EXPECT_EQ(share.used, 0u);
}

}  // namespace
}  // namespace weir::kafka
