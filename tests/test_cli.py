"""The commands of `weir`, against a running node."""

import glob
import json
import os
import subprocess
import unittest

from weirtest.kafka import fetch_all
from weirtest.node import Node, NodeTest, binary


class Cli(NodeTest):
    def weir(self, *arguments, stdin="", code=0, brokers=True):
        where = ["--brokers", self.node.kafka] if brokers else []
        done = subprocess.run([binary(), *arguments, *where], input=stdin, capture_output=True, text=True, timeout=60)
        self.assertEqual(code, done.returncode, f"{arguments}: {done.stderr}")
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments, **more):
        return json.loads(self.weir(*arguments, "--output", "json", **more))

    def test_a_topic_from_creation_to_deletion(self):
        name = self.topic_name()
        self.weir("topic", "create", name, "--partitions", "3", "--replicas", "1", "-c", "retention.ms=123456", "-c", "max.message.bytes=5000")
        found = {t["name"]: t for t in self.json("topic", "list")}
        self.assertEqual((3, 1), (found[name]["partitions"], found[name]["replicas"]))
        described = self.json("topic", "describe", name)
        self.assertEqual({"retention.ms": "123456", "max.message.bytes": "5000"}, described["configs"])
        self.assertEqual([0, 1, 2], [p["partition"] for p in described["partitions"]])
        self.assertIn(name, self.weir("topic", "list"))
        self.assertIn("retention.ms=123456", self.weir("topic", "describe", name))
        self.weir("topic", "delete", name)
        self.assertNotIn(name, [t["name"] for t in self.json("topic", "list")])
        self.assertIn(name, self.weir("topic", "describe", name, code=1))

    def test_lines_in_lines_out(self):
        name = self.topic_name()
        self.weir("topic", "create", name)
        text = "".join(f"line {i}: größer\n" for i in range(5000))
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            with self.subTest(codec):
                self.weir("topic", "produce", name, "-z", codec, stdin=text)
                end = self.json("topic", "describe", name)["partitions"][0]["high_watermark"]
                self.assertEqual(text, self.weir("topic", "consume", name, "--from", str(end - 5000), "-n", "5000"))
        self.assertEqual(text * 5, self.weir("topic", "consume", name))

    def test_keys_and_headers(self):
        name = self.topic_name()
        self.weir("topic", "create", name, "--partitions", "4")
        self.weir("topic", "produce", name, "-K", ":", "-H", "origin=test", stdin="a:1\nb:2\na:3\n")
        stored = [r for p in fetch_all(self.node, name, 4) for r in p]
        self.assertEqual({(b"a", b"1"), (b"b", b"2"), (b"a", b"3")}, {(r.key, r.value) for r in stored})
        self.assertEqual([("origin", b"test")], stored[0].headers)
        got = [json.loads(line) for line in self.weir("topic", "consume", name, "--output", "json").splitlines()]
        self.assertEqual({("a", "1"), ("b", "2"), ("a", "3")}, {(r["key"], r["value"]) for r in got})
        self.assertEqual({"a\t1", "b\t2", "a\t3"}, set(self.weir("topic", "consume", name, "-k").splitlines()))

    def test_the_version(self):
        text = self.weir("version", brokers=False)
        self.assertRegex(text, r"^weir \d+\.\d+\.\d+\n$")
        self.assertEqual({"version": text.split()[1]}, self.json("version", brokers=False))

    def test_errors_are_one_line_and_a_code(self):
        message = self.weir("topic", "describe", "no-such-topic", code=1)
        self.assertEqual(1, len(message.strip().splitlines()), message)
        self.assertIn("no-such-topic", message)
        message = self.weir("topic", "list", "--brokers", "127.0.0.1:1", code=1, brokers=False)
        self.assertEqual(1, len(message.strip().splitlines()), message)
        self.assertIn("127.0.0.1:1", message)

    def test_brokers_come_from_the_environment_too(self):
        done = subprocess.run([binary(), "topic", "list"], capture_output=True, text=True, env={"WEIR_BROKERS": self.node.kafka}, timeout=30)
        self.assertEqual(0, done.returncode, done.stderr)

    def test_groups_are_listed_and_described(self):
        name = self.topic_name()
        self.weir("topic", "produce", self.made(name), stdin="one\ntwo\nthree\n")
        done = subprocess.run(["kcat", "-b", self.node.kafka, "-G", "cli-group", "-X", "auto.offset.reset=earliest", "-c", "2", "-q", name],
                              capture_output=True, text=True, timeout=60)
        self.assertEqual(0, done.returncode, done.stderr)
        self.assertIn("cli-group", [g["group"] for g in self.json("group", "list")])
        described = self.json("group", "describe", "cli-group")
        self.assertEqual([(name, 0, 3)], [(o["topic"], o["partition"], o["end"]) for o in described["offsets"]])
        self.assertIn("cli-group", self.weir("group", "describe", "cli-group"))

    def made(self, name):
        self.weir("topic", "create", name)
        return name

    def test_bench_prints_figures(self):
        for arguments in (("produce", "--bytes", "4000000"), ("consume",), ("latency", "--rate", "200", "--seconds", "1", "--warmup", "0")):
            with self.subTest(arguments[0]):
                found = self.json("bench", *arguments, "--topic", "bench")
                self.assertTrue(found)


class Debug(unittest.TestCase):
    def test_journals_and_segments_are_printed_for_a_person(self):
        with Node() as node:
            # So much that the journal hands some of it over to segments.
            lines = ("text " * 100 + "\n") * 40_000
            for arguments, stdin in ((("topic", "create", "topic"), ""), (("topic", "produce", "topic"), lines)):
                subprocess.run([binary(), *arguments, "--brokers", node.kafka], input=stdin, text=True, capture_output=True, check=True)
            node.stop()
            for kind in ("journal", "segment"):
                with self.subTest(kind):
                    files = [p for p in glob.glob(node.data + "/**", recursive=True) if os.path.isfile(p) and kind in p]
                    self.assertTrue(files, [p for p in glob.glob(node.data + "/**", recursive=True)])
                    printed = 0
                    for path in files:
                        done = subprocess.run([binary(), "debug", kind, path], capture_output=True, text=True, timeout=60)
                        self.assertEqual(0, done.returncode, f"{path}: {done.stderr}")
                        printed += len(done.stdout.splitlines())
                    self.assertGreater(printed, len(files))


if __name__ == "__main__":
    unittest.main()
