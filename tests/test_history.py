"""The checker of histories finds what it is there to find."""

import unittest

from weirtest.history import History, value_of


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


if __name__ == "__main__":
    unittest.main()
