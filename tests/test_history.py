"""The checker of histories finds what it is there to find."""

import unittest

from weirtest.history import ELSEWHERE, OUT_OF_ORDER, History, value_of


def history(final=((0, 1, 0), (1, 1, 1), (2, 2, 0)), sent=((1, 2), (2, 1))):
    h = History()
    for writer, count in sent:
        for _ in range(count):
            h.next_number(writer, 0)
    h.final[0] = list(final)
    for offset, writer, number in final:
        h.acknowledge(writer, 0, number, offset)
    return h


class Checker(unittest.TestCase):
    def wrong(self, h, part):
        found = h.check()
        self.assertTrue(any(part in sentence for sentence in found), found)

    def test_a_right_history_passes(self):
        h = history()
        for offset, writer, number in h.final[0]:
            h.read("r", 0, offset, value_of(writer, number))
        self.assertEqual([], h.check())

    def test_what_was_not_acknowledged_may_be_there_or_not(self):
        h = history()
        h.next_number(2, 0)
        self.assertEqual([], h.check())
        h.final[0].append((3, 2, 1))
        self.assertEqual([], h.check())

    def test_a_lost_record_is_found(self):
        h = history()
        h.final[0].pop()
        self.wrong(h, "is lost")

    def test_a_record_that_is_there_twice_is_found(self):
        h = history()
        h.final[0].append((3, 1, 1))
        self.wrong(h, "and at 3")

    def test_a_record_that_its_client_wrote_again_as_another_is_the_client_s(self):
        h = history()
        h.final[0].append((3, 1, 1))
        h.acknowledge(1, 0, 1, 3)
        self.assertEqual({0: [(1, 3)]}, h.twice())
        self.assertEqual([], h.check(renumbered=[(0, 3)]))
        h.final[0].append((4, 1, 1))
        self.assertTrue(h.check(renumbered=[(0, 3)]))

    def test_records_out_of_order_are_found(self):
        self.wrong(history(final=((0, 1, 1), (1, 1, 0), (2, 2, 0))), "expected #0")

    def test_a_record_that_was_never_sent_is_found(self):
        h = history()
        h.final[0].append((3, 7, 0))
        self.wrong(h, "never sent")

    def test_a_record_at_another_offset_than_was_told_is_found(self):
        h = history()
        h.acknowledge(1, 0, 1, 2)
        self.wrong(h, "and is at 1")

    def test_a_gap_in_the_offsets_is_found(self):
        self.wrong(history(final=((0, 1, 0), (2, 1, 1))), "holds no record")

    def test_a_reader_that_goes_back_is_found(self):
        h = history()
        h.read("r", 0, 1, value_of(1, 1))
        h.read("r", 0, 0, value_of(1, 0))
        self.wrong(h, "went back")

    def test_a_reader_that_skips_is_found(self):
        h = history()
        h.read("r", 0, 0, value_of(1, 0))
        h.read("r", 0, 2, value_of(2, 0))
        self.wrong(h, "went from offset 0 to 2")

    def test_a_read_of_what_did_not_stay_is_found(self):
        h = history()
        h.read("r", 0, 1, value_of(2, 0))
        self.wrong(h, "which holds")

    def gave_up(self, there, failed, error=OUT_OF_ORDER):
        """Writer 5 sent six records and gave up; those of these numbers are there, and these failed."""
        h = history(final=[(i, 5, number) for i, number in enumerate(there)], sent=((5, 6),))
        for number, why in failed.items():
            h.fail(5, 0, number, why)
        h.give_up(5, error, "out of sequence")
        return h

    def test_who_sent_a_record_before_the_one_before_it_was_there_gave_up_by_itself(self):
        h = self.gave_up(there=(0, 1), failed={2: "_PURGE_QUEUE", 3: OUT_OF_ORDER, 4: OUT_OF_ORDER, 5: "_PURGE_QUEUE"})
        self.assertEqual([], h.check())
        self.assertEqual(1, len(h.client_gave_up))
        self.assertIn("#3 to partition 0 before #2", h.client_gave_up[0])

    def test_a_node_that_calls_a_record_out_of_order_though_all_before_it_is_there_is_found(self):
        h = self.gave_up(there=(0, 1, 2), failed={3: OUT_OF_ORDER, 4: "_PURGE_QUEUE", 5: "_PURGE_QUEUE"})
        self.wrong(h, "#3 of writer 5 to partition 0 was called out of order")
        self.assertEqual([], h.client_gave_up)
        # Also if nobody said that they are there.
        del h.acknowledged[5, 0, 2]
        h.fail(5, 0, 2, "_PURGE_INFLIGHT")
        self.wrong(h, "called out of order")

    def test_a_node_that_refuses_the_first_record_of_all_is_found(self):
        self.wrong(self.gave_up(there=(), failed=dict.fromkeys(range(6), OUT_OF_ORDER)), "#0 of writer 5 to partition 0 was called out of order")

    def test_who_sent_a_later_record_before_the_first_of_all_gave_up_by_itself(self):
        h = self.gave_up(there=(), failed={0: OUT_OF_ORDER, 1: OUT_OF_ORDER, 4: "_PURGE_QUEUE", 5: "_PURGE_QUEUE"})
        h.final[0] = [(0, 5, 2), (1, 5, 3)]
        h.acknowledge(5, 0, 2, 0)
        h.acknowledge(5, 0, 3, 1)
        self.assertEqual([], h.check())
        self.assertIn("#2 to partition 0 before #0", h.client_gave_up[0])

    def test_a_producer_that_gives_up_for_something_else_is_found(self):
        failed = {2: "_PURGE_QUEUE", 3: OUT_OF_ORDER, 4: "_PURGE_QUEUE", 5: "_PURGE_QUEUE"}
        self.wrong(self.gave_up(there=(0, 1), failed=failed, error="INVALID_PRODUCER_EPOCH"), "gave up: INVALID_PRODUCER_EPOCH")
        self.wrong(self.gave_up(there=(0, 1), failed=dict.fromkeys(range(2, 6), "_PURGE_QUEUE")), "no record of it was refused")

    def test_a_producer_that_was_abandoned_for_what_it_did_is_told(self):
        h = self.gave_up(there=(0, 1), failed=dict.fromkeys(range(2, 6), "_PURGE_QUEUE"), error=ELSEWHERE)
        self.assertEqual([], h.check())
        self.assertEqual(["writer 5: out of sequence"], h.client_gave_up)

    def test_what_was_acknowledged_before_its_producer_gave_up_must_be_there(self):
        h = self.gave_up(there=(0,), failed={2: "_PURGE_QUEUE", 3: OUT_OF_ORDER, 4: "_PURGE_QUEUE", 5: "_PURGE_QUEUE"})
        h.acknowledge(5, 0, 1, 1)
        self.wrong(h, "is lost")

    def test_a_record_that_failed_may_be_missing_and_is_told_while_its_producer_goes_on(self):
        h = history(final=((0, 1, 0), (1, 1, 2)), sent=((1, 3),))
        self.wrong(h, "expected #1")
        h.fail(1, 0, 1, "INVALID_TIMESTAMP")
        self.assertEqual(["#1 of writer 1 to partition 0 was given up: INVALID_TIMESTAMP"], h.check())


if __name__ == "__main__":
    unittest.main()
