#!/usr/bin/env python3
"""Compares the schema with Kafka's own message definitions, version by version.

check_schema.py SCHEMA_FOLDER REFERENCE_FOLDER

The reference holds Kafka's *.json, and in older/ those of a release that still had the versions that Kafka 4.0 removed. Both sides
are laid out for each version as the list of fields on the wire, with the facts that matter there: path, type, may it be null, tag;
and, for what has no trace on the wire, each field's default and whether a value may be dropped where a version lacks the field.
Where the reference is absent this exits with 77, which ctest shows as skipped.
"""

import json
import pathlib
import re
import sys

import schema
from schema import Range

SKIPPED = 77

# Versions that both references lack: (API, version) and where the layout is known from.
BEYOND_REFERENCE = {
    ("DescribeLogDirs", 0): "the layout of version 1, which only moved throttling to the client (KIP-219)",
}
# Versions of the newest reference that the schema leaves out on purpose.
LEFT_OUT = {
    ("InitProducerId", 6): "not stable in Kafka yet (KIP-939)",
}


def load_json(path):
    """Kafka's JSON has // comments."""
    text = path.read_text()
    return json.loads(re.sub(r'("(?:[^"\\]|\\.)*")|//[^\n]*', lambda m: m[1] or "", text))


def snake(name):
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name).lower()


def plain_default(text, element, is_array):
    """Defaults in one form, so that "0x7fffffff" is 2147483647 and an absent one is what it stands for."""
    if text == "null":
        return None
    if is_array or element in ("bytes", "uuid", "records") or element[0].isupper():
        return "empty"
    text = str(text).strip('"') if text is not None else ""
    if element == "string":
        return text
    if element == "bool":
        return text.lower() == "true"
    return float(text or 0) if element == "float64" else int(text or "0", 0)


class Fact:
    """What is known of a field in one version."""

    def __init__(self, path, type_name, nullable, tag, default):
        self.wire = (path, type_name, nullable, tag)
        self.default = default


class Ours:
    def __init__(self, api, message):
        self.api, self.message = api, message

    def layout(self, version):
        facts = []

        def walk(struct, prefix):
            present = [f for f in struct.fields if version in f.versions]
            untagged = [f for f in present if f.tag is None]
            tagged = sorted((f for f in present if f.tag is not None), key=lambda f: f.tag)
            for field in untagged + tagged:
                kind = ("[]" if field.is_array else "") + ("struct" if field.struct else field.element)
                facts.append(Fact(prefix + field.name, kind, version in field.nullable, field.tag,
                                  plain_default(field.default, field.element, field.is_array)))
                if field.struct:
                    walk(field.struct, prefix + field.name + ".")

        walk(self.message.root, "")
        return facts

    def droppable(self):
        """By path: may a value be dropped where a version lacks the field? Only fields that some version of their parent lacks."""
        found = {}

        def walk(struct, prefix, versions):
            for field in struct.fields:
                here = field.versions & versions
                if here.first > here.last:
                    continue
                if not here == versions:
                    found[prefix + field.name] = field.ignorable
                if field.struct:
                    walk(field.struct, prefix + field.name + ".", here)

        walk(self.message.root, "", self.api.versions)
        return found


class Reference:
    def __init__(self, path):
        self.json = load_json(path)
        self.versions = Range.parse(self.json["validVersions"])
        self.flexible = Range.parse(self.json.get("flexibleVersions", "none"))
        self.common = {s["name"]: s["fields"] for s in self.json.get("commonStructs", [])}

    def parts(self, field):
        is_array = field["type"].startswith("[]")
        element = field["type"].removeprefix("[]")
        fields = field.get("fields", self.common.get(element)) if element[0].isupper() else None
        return is_array, element, fields

    def layout(self, version):
        facts = []

        def walk(fields, prefix):
            present = [f for f in fields if version in Range.parse(f["versions"])]
            untagged = [f for f in present if "tag" not in f]
            tagged = sorted((f for f in present if "tag" in f), key=lambda f: f["tag"])
            for field in untagged + tagged:
                is_array, element, inner = self.parts(field)
                nullable = version in Range.parse(field.get("nullableVersions", "none"))
                kind = ("[]" if is_array else "") + ("struct" if inner is not None else element)
                name = prefix + snake(field["name"])
                facts.append(Fact(name, kind, nullable, field.get("tag"),
                                  plain_default(field.get("default"), element, is_array)))
                if inner is not None:
                    walk(inner, name + ".")

        walk(self.json["fields"], "")
        return facts

    def droppable(self, versions):
        found = {}

        def walk(fields, prefix, parent):
            for field in fields:
                here = Range.parse(field["versions"]) & parent
                if here.first > here.last:
                    continue
                name = prefix + snake(field["name"])
                if not here == parent:
                    found[name] = field.get("ignorable", False) in (True, "true")
                inner = self.parts(field)[2]
                if inner is not None:
                    walk(inner, name + ".", here)

        walk(self.json["fields"], "", versions)
        return found


def compare_layouts(where, ours, theirs):
    problems = []
    for mine, other in zip(ours, theirs):
        if mine.wire != other.wire:
            problems.append(f"{where}: schema has {mine.wire}, reference {other.wire}")
            break
        if mine.default != other.default:
            problems.append(f"{where}: {mine.wire[0]} defaults to {mine.default!r}, in the reference to {other.default!r}")
    if not problems and len(ours) != len(theirs):
        extra = max(ours, theirs, key=len)[min(len(ours), len(theirs))]
        problems.append(f"{where}: only one side has {extra.wire[0]}")
    return problems


def check(api, message, folder, counts):
    name = message.name
    path = folder / f"{name}.json"
    if not path.exists():
        path = folder / "coordinator-records" / f"{name}.json"
    newest = Reference(path)
    older_path = folder / "older" / f"{name}.json"
    older = Reference(older_path) if older_path.exists() else None
    problems = []
    if api.key is not None and newest.json.get("apiKey") != api.key:
        problems.append(f"{name}: key {api.key}, in the reference {newest.json.get('apiKey')}")
    mine = Ours(api, message)
    for version in api.versions.versions():
        reference = newest if version in newest.versions else older if older and version in older.versions else None
        if reference is None:
            if (api.name, version) not in BEYOND_REFERENCE:
                problems.append(f"{name} version {version} is in no reference")
            continue
        if (version in api.flexible) != (version in reference.flexible):
            problems.append(f"{name} version {version}: flexible on one side alone")
        problems += compare_layouts(f"{name} version {version}", mine.layout(version), reference.layout(version))
        counts["versions"] += 1
    for version in newest.versions.versions():
        if version not in api.versions and (api.name, version) not in LEFT_OUT:
            problems.append(f"{name}: version {version} of the reference is missing")
    # What may be dropped is judged by the newest reference; fields that only old versions had, by the older one.
    theirs = newest.droppable(api.versions)
    if older:
        theirs = older.droppable(api.versions) | theirs
    for path, ignorable in mine.droppable().items():
        if path not in theirs:
            problems.append(f"{name}: {path} is not there in all versions, unlike in the reference")
        elif theirs[path] != ignorable:
            problems.append(f"{name}: {path} is {'' if ignorable else 'not '}ignorable, unlike in the reference")
    counts["messages"] += 1
    return problems


def main():
    schema_folder, reference = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    if not reference.is_dir():
        print(f"skipped: Kafka's message definitions are not at {reference}")
        sys.exit(SKIPPED)
    counts = {"messages": 0, "versions": 0}
    problems = []
    try:
        for api in schema.load(schema_folder):
            for message in api.messages:
                problems += check(api, message, reference, counts)
    except schema.SchemaError as error:
        problems.append(str(error))
    for problem in problems:
        print(problem)
    print(f"{counts['messages']} messages in {counts['versions']} versions compared: {len(problems)} differences")
    sys.exit(1 if problems or not counts["versions"] else 0)


if __name__ == "__main__":
    main()
