"""What the schema's language means, and that mistakes in it are named with their line."""

import pathlib
import tempfile
import unittest

import generate
import schema

OPENING = "api 1 Thing versions 0-5 flexible 3+\n"


def parse(text):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "thing.api")
        path.write_text(text)
        return schema.Parser(path).parse()


def request(fields):
    return parse(OPENING + "request {\n" + fields + "\n}\nresponse {}\n")


class SchemaTest(unittest.TestCase):
    def test_a_field_has_versions_null_default_and_tag(self):
        api = request("a string?2+ 1+ ignorable # why\nb int32 3+ tag 0 = -1")
        a, b = api.messages[0].root.fields
        self.assertEqual((a.versions.first, a.nullable.first, a.ignorable, a.doc), (1, 2, True, "why"))
        self.assertEqual((b.tag, b.default, b.is_array), (0, "-1", False))

    def test_fields_inherit_the_versions_of_the_struct_around_them(self):
        api = request("list []Item 2-4 {\nx int8\ny int8 3+\n}")
        x, y = api.messages[0].structs["Item"].fields
        self.assertEqual((x.versions.first, x.versions.last), (2, 4))
        self.assertEqual((y.versions.first, y.versions.last), (3, 4))

    def test_the_least_size_of_an_element_is_that_of_its_smallest_version(self):
        api = request("list []Item {\nx string\ny int64 4+\n}")
        self.assertEqual(schema.element_size_min(api.messages[0].root.fields[0], api), 2)

    def test_conditions_leave_out_what_is_always_true(self):
        known = schema.Range(2, 7)
        for versions, expected in [("2+", None), ("0+", None), ("4+", "in.version >= 4"), ("2-5", "in.version <= 5"),
                                   ("3-5", "in.version >= 3 && in.version <= 5"), ("4", "in.version == 4")]:
            self.assertEqual(generate.condition(schema.Range.parse(versions), known, "in"), expected, versions)

    def test_mistakes_are_named(self):
        for fields, problem in [
            ("a", "expected: name type"),
            ("a int32 nonsense", "unknown word nonsense"),
            ("a int32 7+", "exists in no version"),
            ("a int32 0+", "says nothing that its parent does not"),
            ("a int32\na int32", "a twice"),
            ("a Missing", "no struct Missing"),
            ("a int32 2+ tag 0", "tagged in a version that is not flexible"),
            ("a int32 3+ tag 1", "are not 0, 1"),
            ("a string = null", "defaults to null but is not nullable"),
            ("a int32 {\nb int8\n}", "int32 has no fields"),
            ("a []Item {\nb int8\n}\nc []Item {\nd int8\n}", "struct Item twice"),
        ]:
            with self.assertRaises(schema.SchemaError, msg=fields) as raised:
                request(fields)
            self.assertIn(problem, str(raised.exception))
            self.assertIn("thing.api:", str(raised.exception))

    def test_what_cannot_become_safe_code_is_refused(self):
        for fields, problem in [
            ("list []Item {\nx int8 1-2\n}", "can be empty"),
            ("operator int8", "is a word of C++"),
            ("struct Result {\nx int8\n}\na Result", "would hide a name"),
            ("struct Item {\nx int8\n}", "is not used"),
        ]:
            with self.assertRaises(schema.SchemaError, msg=fields) as raised:
                api = request(fields)
                generate.header_of(api)
                generate.source_of(api)
            self.assertIn(problem, str(raised.exception))


if __name__ == "__main__":
    unittest.main()
