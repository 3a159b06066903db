#!/usr/bin/env python3
"""Generates the C++ codecs of the protocol from schema/*.api.

generate.py SCHEMA_FOLDER OUTPUT_FOLDER            a header and a source for each schema, and the table of APIs
generate.py --testing SCHEMA_FOLDER OUTPUT_FOLDER  what fills messages with random values, for tests and fuzzing

A file is written only where its text changes, so that a change to one schema compiles one source.
"""

import pathlib
import re
import sys

import schema
from schema import FOREVER, PRIMITIVES

TESTING_PARTS = 4  # sources of --testing: they are slow to compile

CPP_TYPES = {
    "bool": "bool",
    "int8": "int8_t",
    "int16": "int16_t",
    "uint16": "uint16_t",
    "int32": "int32_t",
    "int64": "int64_t",
    "float64": "double",
    "uuid": "Uuid",
    "string": "std::string",
    "bytes": "std::vector<uint8_t>",
    "records": "Records",
}
NUMBERS = ("int8", "int16", "uint16", "int32", "int64", "float64")
KEYWORDS = {"bool", "break", "case", "class", "const", "default", "delete", "enum", "explicit", "export", "for",
            "namespace", "new", "operator", "private", "public", "register", "struct", "switch", "template", "this",
            "union", "version", "encode", "decode"}
CLASHES = {"Result", "Error", "Bytes", "Uuid", "Records", "ApiKey"}
BANNER = "// Generated from src/kafka/protocol/schema/{}: change that, not this.\n"


def cpp_type(field):
    base = field.struct.name if field.struct else CPP_TYPES[field.element]
    if field.is_array:
        base = f"std::vector<{base}>"
    if is_optional(field):
        base = f"std::optional<{base}>"
    return base


def is_nullable(field):
    return field.nullable.first <= field.nullable.last


def is_optional(field):
    return is_nullable(field) and not (field.element == "records" and not field.is_array)


def cpp_integer(text):
    value = int(text, 0)
    return {-(2**31): "INT32_MIN", 2**31 - 1: "INT32_MAX", -(2**63): "INT64_MIN", 2**63 - 1: "INT64_MAX"}.get(value, str(value))


def initializer(field):
    """What follows the name in the declaration of a field."""
    default = field.default
    if is_optional(field):
        if default == "null":
            return ""
        if default is None and (field.is_array or not field.struct):
            return f" = {cpp_type(field)[len('std::optional<'):-1]}()"
        raise schema.SchemaError(f"{field.name}: a default for this type is not supported")
    if field.is_array or field.struct or field.element in ("uuid", "bytes", "records"):
        if default is not None:
            raise schema.SchemaError(f"{field.name}: a default for this type is not supported")
        return ""
    if field.element == "string":
        return f" = {default}" if default else ""
    if field.element == "bool":
        return f" = {default or 'false'}"
    return f" = {cpp_integer(default or '0')}"


def not_default(field):
    """An expression: the field of `v` differs from its default."""
    v = f"v.{field.name}"
    if is_optional(field):
        if field.default == "null":
            return f"{v}.has_value()"
        return f"!{v} || !{v}->empty()"
    if field.is_array or field.element in ("bytes",):
        return f"!{v}.empty()"
    if field.struct:
        return f"{v} != decltype({v})()"
    if field.element == "uuid":
        return f"!{v}.is_zero()"
    if field.element == "records":
        return f"{v}.null || {v}.size() != 0"
    if field.element == "string":
        return f"{v} != {field.default}" if field.default else f"!{v}.empty()"
    if field.element == "bool":
        return f"!{v}" if field.default == "true" else v
    return f"{v} != {cpp_integer(field.default or '0')}"


def condition(versions, known, of):
    """The test that a version lies in a range, of those that are known; None if it always does."""
    tests = []
    if versions.first > versions.last:
        return "false"
    if versions.first == versions.last and known.first < versions.first and known.last > versions.last:
        return f"{of}.version == {versions.first}"
    if versions.first > known.first:
        tests.append(f"{of}.version >= {versions.first}")
    if versions.last < known.last:
        tests.append(f"{of}.version <= {versions.last}")
    return " && ".join(tests) or None


def conjunct(test):
    return f"({test})" if "||" in test else test


def negated(test):
    """The opposite of a condition() of one comparison."""
    for operator, opposite in [(">=", "<"), ("<=", ">"), ("==", "!=")]:
        if "&&" not in test and operator in test:
            return test.replace(operator, opposite)
    return f"!({test})"


def context(struct, api):
    return struct.versions & api.versions


def nullable_argument(field, api, of):
    """The argument that says in which versions the field may be null; none for a type that never is."""
    if field.element == "records" and not is_nullable(field):
        return ", false"
    return ", " + (condition(field.nullable, field.versions & api.versions, of) or "true") if is_nullable(field) else ""


def read_statement(field, api, of):
    v = f"v.{field.name}"
    nullable = nullable_argument(field, api, of)
    if field.is_array:
        element = f"read({of}, element)" if field.struct else f"{of}.read(element)"
        size = schema.element_size_min(field, api)
        return [f"for (auto& element : {of}.array({v}, {size}{nullable})) {element};"]
    if field.struct and is_nullable(field):
        rule = nullable[2:]
        if rule != "true":
            raise schema.SchemaError(f"{field.name}: a struct is nullable in all versions or in none")
        # Not emplace(): a nested struct's initializers are not known yet where the optional of it is declared.
        return [f"if ({of}.read_presence()) {{", f"    {v} = decltype({v})::value_type();", f"    read({of}, *{v});", "}"]
    if field.struct:
        return [f"read({of}, {v});"]
    return [f"{of}.read({v}{nullable});"]


def write_statement(field, api, path, of):
    v = f"v.{field.name}"
    name = f'"{path}{field.name}"'
    nullable = nullable_argument(field, api, of)
    if field.is_array:
        element = f"write({of}, element)" if field.struct else f"{of}.write(element)"
        if field.element == "string":
            element = f"{of}.write(element, {name})"
        return [f"for (const auto& element : {of}.array({v}{nullable}, {name})) {element};"]
    if field.struct and is_nullable(field):
        return [f"{of}.write_presence({v}.has_value());", f"if ({v}) write({of}, *{v});"]
    if field.struct:
        return [f"write({of}, {v});"]
    if field.element in ("string", "bytes", "records"):
        return [f"{of}.write({v}{nullable}, {name});"]
    return [f"{of}.write({v});"]


def guarded(test, statements, otherwise=None):
    """Lines of `if (test) statements`, and of an `else if` where otherwise = (its test, its statements)."""
    if test is None:
        return statements
    brace = len(statements) > 1 or otherwise or statements[0].startswith(("if", "for"))
    if not brace:
        return [f"if ({test}) {statements[0]}"]
    lines = [f"if ({test}) {{", *("    " + s for s in statements)]
    if otherwise:
        other_test, other_statements = otherwise
        lines += [f"}} else if ({other_test}) {{", *("    " + s for s in other_statements)]
    return lines + ["}"]


def structs_inner_first(message):
    """The structs of a message, each after those that it uses, then the message itself."""
    done, order = set(), []

    def visit(struct):
        if struct.name in done:
            return
        done.add(struct.name)
        for field in struct.fields:
            if field.struct:
                visit(field.struct)
        order.append(struct)

    visit(message.root)
    for struct in message.structs.values():
        if struct.name not in done:
            raise schema.SchemaError(f"{message.name}: struct {struct.name} is not used")
    return order


def check_names(message):
    for struct in [message.root, *message.structs.values()]:
        if struct.name in CLASHES:
            raise schema.SchemaError(f"{message.name}: struct {struct.name} would hide a name of base")
        for field in struct.fields:
            if field.name in KEYWORDS:
                raise schema.SchemaError(f"{message.name}: {field.name} is a word of C++ or of the generator")


def paths(message):
    """For each struct, where its first use lies: a prefix for the names of its fields in errors."""
    found = {}

    def visit(struct, prefix):
        if struct.name in found:
            return
        found[struct.name] = prefix
        for field in struct.fields:
            if field.struct:
                visit(field.struct, f"{prefix}{field.name}.")

    visit(message.root, "")
    return found


def qualified(message, struct):
    return message.name if struct is message.root else f"{message.name}::{struct.name}"


def wrap_comment(text, indent):
    lines, line = [], ""
    for word in text.split():
        if line and len(indent) + 3 + len(line) + 1 + len(word) > 100:
            lines.append(line)
            line = word
        else:
            line = f"{line} {word}".strip()
    return [f"{indent}// {l}" for l in (lines + [line] if line else lines)]


def version_note(field, known):
    if field.versions.covers(known):
        return ""
    v = field.versions & known
    if v.last >= known.last:
        return f"{v.first}+"
    return f"{v.first}" if v.first == v.last else f"{v.first}-{v.last}"


def declare_fields(struct, api, indent):
    lines = []
    for field in struct.fields:
        if field.doc:
            lines += wrap_comment(field.doc, indent)
        note = version_note(field, api.versions & struct.versions)
        lines.append(f"{indent}{cpp_type(field)} {field.name}{initializer(field)};" + (f"  // {note}" if note else ""))
    return lines


def header_of(api):
    text = []
    uses = {cpp_type(f) for m in api.messages for s in [m.root, *m.structs.values()] for f in s.fields}
    for message in api.messages:
        check_names(message)
        order = structs_inner_first(message)
        if message.kind in ("request", "data") and api.doc:
            text += wrap_comment(api.doc, "")
        if message.root.doc:
            text += wrap_comment(message.root.doc, "")
        text.append(f"struct {message.name} {{")
        if api.key is not None:
            text.append(f"    static constexpr ApiKey kApiKey = ApiKey::k{api.name};")
        text.append(f"    static constexpr int16_t kVersionMin = {api.versions.first};")
        text.append(f"    static constexpr int16_t kVersionMax = {api.versions.last};")
        text.append("")
        for struct in order[:-1]:
            text.append(f"    struct {struct.name} {{")
            text += declare_fields(struct, api, " " * 8)
            text.append(f"        bool operator==(const {struct.name}&) const = default;")
            text += ["    };", ""]
        text += declare_fields(message.root, api, " " * 4)
        if message.root.fields:
            text.append("")
        text.append(f"    static Result<{message.name}> decode(ByteReader& in, int16_t version);")
        text.append("    [[nodiscard]] Result<void> encode(ByteWriter& out, int16_t version) const;")
        text.append(f"    bool operator==(const {message.name}&) const = default;")
        text += ["};", ""]
    system = [h for h, needle in [("cstdint", ""), ("optional", "optional"), ("string", "string"), ("vector", "vector")]
              if any(needle in u for u in uses) or not needle]
    own = ["base/result.h"] + (["base/uuid.h"] if any("Uuid" in u for u in uses) else [])
    own += (["kafka/protocol/api.h"] if api.key is not None else []) + ["kafka/protocol/types.h"]
    lines = [BANNER.format(api.stem + ".api"), "#pragma once", ""]
    lines += [f"#include <{h}>" for h in system] + [""] + [f'#include "{h}"' for h in own]
    lines += ["", "namespace weir::kafka {", "", *text, "}  // namespace weir::kafka", ""]
    return "\n".join(lines)


def read_function(message, struct, api):
    known = context(struct, api)
    body, tagged = [], []
    for field in struct.fields:
        test = condition(field.versions, known, "in")
        if field.tag is not None:
            tagged.append((field, test))
        else:
            body += guarded(test, read_statement(field, api, "in"))
    flexible = condition(api.flexible, known, "in") if api.flexible.first <= api.flexible.last else "false"
    if flexible != "false" and not (api.flexible & known).first > (api.flexible & known).last:
        if tagged:
            loop = ["uint32_t count = in.read_tag_count();", "int64_t tag = -1;", "ByteReader content({});",
                    "while (in.next_tag(count, tag, content)) {", "    Decoder field(content, in);"]
            word = "if"
            for field, test in tagged:
                inner = api.flexible & known
                test = condition(field.versions, inner, "in")
                loop.append(f"    {word} (tag == {field.tag}" + (f" && {test}" if test else "") + ") {")
                loop += ["        " + s for s in read_statement(field, api, "field")]
                word = "} else if"
            loop += ["    } else {", "        continue;", "    }", "    in.end_tag(field);", "}"]
            body += guarded(flexible and "in.flexible", loop) if flexible else ["{", *("    " + l for l in loop), "}"]
        else:
            body += guarded(flexible and "in.flexible", ["in.skip_tags();"])
    arguments = f"Decoder& in, {qualified(message, struct)}& v"
    if not any("v." in line for line in body):
        arguments = arguments[:-1].rstrip()
    if not body:
        arguments = f"Decoder&, {qualified(message, struct)}&"
    return [f"void read({arguments}) {{", *("    " + line for line in body), "}", ""]


def write_function(message, struct, api, prefix):
    known = context(struct, api)
    body, tagged = [], []
    for field in struct.fields:
        test = condition(field.versions, known, "out")
        # A server says all that it knows and each client gets what its version has a place for; a request must be served as it was meant.
        ignorable = field.ignorable or message.kind == "response"
        reject = [f'out.reject("{prefix}{field.name}");']
        if field.tag is not None:
            tagged.append((field, test))
            if test and not ignorable:
                body += guarded(f"{negated(test)} && {conjunct(not_default(field))}", reject)
        else:
            lost = None if ignorable else (not_default(field), reject)
            body += guarded(test, write_statement(field, api, prefix, "out"), lost if test else None)
    within = api.flexible & known
    if within.first <= within.last:
        if tagged:
            tags = []
            for field, _ in tagged:
                test = condition(field.versions, within, "out")
                present = conjunct(not_default(field))
                tags.append(f"const bool has_{field.name} = " + (f"{test} && " if test else "") + f"{present};")
            total = " + ".join(f"uint32_t{{has_{field.name}}}" for field, _ in tagged)
            tags.append(f"out.write_tag_count({total});")
            for field, _ in sorted(tagged, key=lambda pair: pair[0].tag):
                tags += [f"if (has_{field.name}) {{", "    ByteWriter content;", "    Encoder field(content, out);"]
                tags += ["    " + s for s in write_statement(field, api, prefix, "field")]
                tags += [f"    out.write_tag({field.tag}, content, field);", "}"]
            body += ["if (out.flexible) {" if not within.covers(known) else "{", *("    " + l for l in tags), "}"]
        else:
            body += guarded(None if within.covers(known) else "out.flexible", ["out.write_tag_count(0);"])
    arguments = f"Encoder& out, const {qualified(message, struct)}& v"
    if not any("v." in line for line in body):
        arguments = arguments[:-1].rstrip()
    if not body:
        arguments = f"Encoder&, const {qualified(message, struct)}&"
    return [f"void write({arguments}) {{", *("    " + line for line in body), "}", ""]


def source_of(api):
    lines = [BANNER.format(api.stem + ".api")]
    lines += [f'#include "kafka/protocol/{api.stem}.h"', "", '#include "kafka/protocol/codec.h"', ""]
    lines += ["namespace weir::kafka {", "", "namespace {", ""]
    for message in api.messages:
        prefix = paths(message)
        for struct in structs_inner_first(message):
            lines += read_function(message, struct, api)
            lines += write_function(message, struct, api, prefix[struct.name])
    lines += ["}  // namespace", ""]
    none = api.flexible.first > api.flexible.last
    flexible = "false" if none else (
        "true" if api.flexible.covers(api.versions) else f"version >= {api.flexible.first}")
    for message in api.messages:
        name = message.name
        # A response that is longer than it should be is a mistake of ours or of a broker. A request may be: librdkafka 2.12 ends
        # Metadata 13 for all topics with three bytes that mean nothing, and Kafka's own brokers let that pass.
        may_trail = "false" if message.kind == "response" else "true"
        lines += [
            f"Result<{name}> {name}::decode(ByteReader& reader, int16_t version) {{",
            f"    TRY(check_version(\"{name}\", version, kVersionMin, kVersionMax));",
            f"    Decoder in(reader, version, {flexible});",
            f"    {name} v;",
            "    read(in, v);",
            f"    TRY(in.finish(\"{name}\", {may_trail}));",
            "    return v;",
            "}",
            "",
            f"Result<void> {name}::encode(ByteWriter& writer, int16_t version) const {{",
            f"    TRY(check_version(\"{name}\", version, kVersionMin, kVersionMax));",
            f"    Encoder out(writer, version, {flexible});",
            "    write(out, *this);",
            f"    return out.finish(\"{name}\");",
            "}",
            "",
        ]
    lines += ["}  // namespace weir::kafka", ""]
    return "\n".join(lines)


def table_of(apis):
    lines = [BANNER.format("*.api"), '#include "kafka/protocol/api.h"', "", "namespace weir::kafka {", "", "namespace {", ""]
    lines.append("constexpr ApiInfo kApis[] = {")
    checks = []
    for api in apis:
        if api.key is None:
            continue
        flexible = api.flexible.first if api.flexible.first <= api.flexible.last else "ApiInfo::kNeverFlexible"
        lines.append(f'    {{ApiKey::k{api.name}, "{api.name}", {api.versions.first}, {api.versions.last}, {flexible}}},')
        checks.append(f"static_assert(static_cast<int16_t>(ApiKey::k{api.name}) == {api.key});")
    lines += ["};", ""] + checks + ["", "}  // namespace", ""]
    lines += ["std::span<const ApiInfo> all_apis() { return kApis; }", "", "}  // namespace weir::kafka", ""]
    return "\n".join(lines)


def fill_function(message, struct, api):
    known = context(struct, api)
    body = []
    for field in struct.fields:
        test = condition(field.versions, known, "f")
        v = f"v.{field.name}"
        value = f"fill(f, {{}})" if field.struct else "f.fill({})"
        if field.is_array:
            nullable = nullable_argument(field, api, "f")
            statements = [f"for (auto& element : f.array({v}{nullable})) {value.format('element')};"]
        elif field.struct and is_nullable(field):
            statements = [f"if (f.presence({v})) fill(f, *{v});"]
        elif field.struct:
            statements = [f"fill(f, {v});"]
        else:
            statements = [f"f.fill({v}{nullable_argument(field, api, 'f')});"]
        body += guarded(test, statements)
    arguments = f"Filler& f, {qualified(message, struct)}& v" if body else f"Filler&, {qualified(message, struct)}&"
    return [f"void fill({arguments}) {{", *("    " + line for line in body), "}", ""]


def testing_part(apis, part):
    mine = [api for index, api in enumerate(apis) if index % TESTING_PARTS == part]
    lines = [BANNER.format("*.api")]
    lines += [f'#include "kafka/protocol/{api.stem}.h"' for api in mine]
    lines += ['#include "kafka/protocol/message_kinds.h"', "", "namespace weir::kafka {", "", "namespace {", ""]
    for api in mine:
        for message in api.messages:
            for struct in structs_inner_first(message):
                lines += fill_function(message, struct, api)
    lines += ["constexpr MessageKind kKinds[] = {"]
    for api in mine:
        for message in api.messages:
            key = api.key if api.key is not None else -1
            lines.append(f'    message_kind<{message.name}, fill>("{message.name}", {key}),')
    lines += ["};", "", "}  // namespace", ""]
    lines += [f"std::span<const MessageKind> message_kinds_{part}() {{ return kKinds; }}", ""]
    lines += ["}  // namespace weir::kafka", ""]
    return "\n".join(lines)


def write_if_changed(path, text):
    if not path.exists() or path.read_text() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main():
    arguments = sys.argv[1:]
    testing = arguments[:1] == ["--testing"]
    source, output = arguments[1:] if testing else arguments
    output = pathlib.Path(output) / "kafka/protocol"
    try:
        apis = schema.load(source)
        if testing:
            for part in range(TESTING_PARTS):
                write_if_changed(output / f"message_kinds_{part}.cc", testing_part(apis, part))
            return
        for api in apis:
            write_if_changed(output / f"{api.stem}.h", header_of(api))
            write_if_changed(output / f"{api.stem}.cc", source_of(api))
        write_if_changed(output / "api_table.cc", table_of(apis))
    except schema.SchemaError as error:
        sys.exit(f"schema: {error}")


if __name__ == "__main__":
    main()
