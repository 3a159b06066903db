"""Reads the protocol schema (schema/*.api) into plain objects. The language: docs/formats/protocol-schema.md."""

import pathlib
import re

FOREVER = 0x7FFF  # the open end of "4+"

# Bytes on the wire: (rigid, flexible) minimum sizes of each primitive.
PRIMITIVES = {
    "bool": (1, 1),
    "int8": (1, 1),
    "int16": (2, 2),
    "uint16": (2, 2),
    "int32": (4, 4),
    "int64": (8, 8),
    "float64": (8, 8),
    "uuid": (16, 16),
    "string": (2, 1),
    "bytes": (4, 1),
    "records": (4, 1),
}


class SchemaError(Exception):
    pass


class Range:
    """An inclusive range of versions; empty when first > last."""

    def __init__(self, first, last):
        self.first, self.last = first, last

    def __contains__(self, version):
        return self.first <= version <= self.last

    def __eq__(self, other):
        return (self.first, self.last) == (other.first, other.last)

    def __and__(self, other):
        return Range(max(self.first, other.first), min(self.last, other.last))

    def covers(self, other):
        return self.first <= other.first and other.last <= self.last

    def versions(self):
        return range(self.first, self.last + 1)

    @staticmethod
    def parse(text):
        if text == "none":
            return Range(1, 0)
        match = re.fullmatch(r"(\d+)(\+|-(\d+))?", text)
        if not match:
            raise SchemaError(f"not a range of versions: {text}")
        first = int(match[1])
        if match[2] == "+":
            return Range(first, FOREVER)
        return Range(first, int(match[3]) if match[3] else first)


class Field:
    """One field. `versions` is already cut to the versions in which its parent exists."""

    def __init__(self, name, element, is_array, versions, nullable, tag, default, ignorable, doc):
        self.name, self.element, self.is_array = name, element, is_array
        self.versions, self.nullable, self.tag = versions, nullable, tag
        self.default, self.ignorable, self.doc = default, ignorable, doc
        self.struct = None  # the Struct of `element`, unless it is a primitive


class Struct:
    def __init__(self, name, fields, versions):
        self.name, self.fields, self.versions = name, fields, versions


class Message:
    """A request, a response, or data that travels inside of other messages."""

    def __init__(self, name, kind, api):
        self.name, self.kind, self.api = name, kind, api
        self.structs = {}  # by name; in the order in which they were read
        self.root = None


class Api:
    """One schema file: an API with its request and response, or one kind of data (key is None)."""

    def __init__(self, stem, key, name, versions, flexible, doc):
        self.stem, self.key, self.name = stem, key, name
        self.versions, self.flexible, self.doc = versions, flexible, doc
        self.messages = []


TOKEN = re.compile(r'\s*(?:([{}=])|("[^"]*")|([^\s{}="#]+))')


def tokens_of(line):
    at, tokens = 0, []
    line = line.rstrip()
    while at < len(line) and line[at:].strip():
        match = TOKEN.match(line, at)
        if not match:
            raise SchemaError(f"cannot read: {line[at:].strip()}")
        tokens.append(match[match.lastindex])
        at = match.end()
    return tokens


class Parser:
    def __init__(self, path):
        self.path = path
        self.lines = []  # (number, tokens, comment)
        for number, text in enumerate(path.read_text().splitlines(), 1):
            code, hash_sign, comment = text.partition("#")
            try:
                self.lines.append((number, tokens_of(code), comment.strip() if hash_sign else ""))
            except SchemaError as error:
                raise SchemaError(f"{path}:{number}: {error}") from None
        self.at = 0

    def fail(self, number, what):
        raise SchemaError(f"{self.path}:{number}: {what}")

    def next(self):
        """The next line with tokens, with the comment lines that precede it joined to its own comment."""
        comments = []
        while self.at < len(self.lines):
            number, tokens, comment = self.lines[self.at]
            self.at += 1
            if tokens:
                if comment:
                    comments.append(comment)
                return number, tokens, " ".join(comments)
            comments = comments + [comment] if comment else []
        return None

    def parse(self):
        number, tokens, doc = self.next()
        words = iter(tokens)
        kind = next(words)
        if kind not in ("api", "data"):
            self.fail(number, "a schema opens with 'api KEY NAME versions V' or 'data NAME versions V'")
        key = int(next(words)) if kind == "api" else None
        name = next(words)
        versions, flexible = None, Range(1, 0)
        for word in words:
            if word == "versions":
                versions = Range.parse(next(words))
            elif word == "flexible":
                flexible = Range.parse(next(words))
            else:
                self.fail(number, f"unknown word {word}")
        if versions is None or versions.last == FOREVER:
            self.fail(number, "the versions must be stated, with their end")
        api = Api(self.path.stem, key, name, versions, flexible & versions, doc)
        expected = ["request", "response"] if kind == "api" else ["data"]
        for part in expected:
            line = self.next()
            if line is None or line[1][0] != part:
                self.fail(line[0] if line else number, f"expected {part}")
            message = Message(name + {"request": "Request", "response": "Response", "data": ""}[part], part, api)
            fields = []
            if line[1][1:] == ["{"]:
                fields = self.fields(message, versions)
            elif line[1][1:] != ["{", "}"]:
                self.fail(line[0], "expected {")
            message.root = Struct(message.name, fields, versions)
            message.root.doc = line[2]
            self.resolve(message, line[0])
            api.messages.append(message)
        if self.next() is not None:
            self.fail(self.lines[self.at - 1][0], "text after the end")
        return api

    def fields(self, message, parent_versions):
        fields = []
        while True:
            line = self.next()
            if line is None:
                self.fail(self.lines[-1][0], "a { is not closed")
            number, tokens, doc = line
            if tokens == ["}"]:
                return fields
            if tokens[0] == "struct" and len(tokens) == 3 and tokens[2] == "{":
                self.add_struct(message, tokens[1], Range(0, FOREVER), number)
                continue
            fields.append(self.field(message, number, tokens, doc, parent_versions))
            if any(other.name == fields[-1].name for other in fields[:-1]):
                self.fail(number, f"{fields[-1].name} twice")

    def add_struct(self, message, name, versions, number):
        if name in message.structs:
            self.fail(number, f"struct {name} twice in {message.name}")
        message.structs[name] = None  # keeps the place of the outer struct
        fields = self.fields(message, versions)
        message.structs[name] = Struct(name, fields, versions)

    def field(self, message, number, tokens, doc, parent_versions):
        words = list(tokens)
        if len(words) < 2 or not re.fullmatch(r"[a-z][a-z0-9_]*", words[0]):
            self.fail(number, "expected: name type …")
        name, type_text = words[0], words[1]
        match = re.fullmatch(r"(\[\])?([A-Za-z0-9]+)(\?([0-9+-]*))?", type_text)
        if not match:
            self.fail(number, f"not a type: {type_text}")
        words = words[2:]
        versions, tag, default, ignorable, opens = parent_versions, None, None, False, False
        while words:
            word = words.pop(0)
            if word == "ignorable":
                ignorable = True
            elif word == "tag":
                tag = int(words.pop(0))
            elif word == "=":
                default = words.pop(0)
            elif word == "{":
                opens = True
            elif word[0].isdigit():
                own = Range.parse(word)
                versions = own & parent_versions
                if versions == parent_versions:
                    self.fail(number, f"{name}: {word} says nothing that its parent does not")
            else:
                self.fail(number, f"unknown word {word}")
        if versions.first > versions.last:
            self.fail(number, f"{name} exists in no version")
        nullable = Range(1, 0)
        if match[3]:
            nullable = Range.parse(match[4]) & versions if match[4] else versions
        if tag is not None and not message.api.flexible.covers(versions & message.api.versions):
            self.fail(number, f"{name} is tagged in a version that is not flexible")
        if default == "null" and not (nullable == versions):
            self.fail(number, f"{name} defaults to null but is not nullable in every version")
        field = Field(name, match[2], bool(match[1]), versions, nullable, tag, default, ignorable, doc)
        if opens:
            if field.element in PRIMITIVES:
                self.fail(number, f"{field.element} has no fields")
            self.add_struct(message, field.element, versions, number)
        return field

    def resolve(self, message, number):
        """Joins fields to their structs, whose names may be used before they are defined."""
        for struct in [message.root, *message.structs.values()]:
            tags = sorted(f.tag for f in struct.fields if f.tag is not None)
            if tags != list(range(len(tags))):
                self.fail(number, f"the tags of {struct.name} are not 0, 1, …")
            for field in struct.fields:
                if field.element not in PRIMITIVES:
                    if field.element not in message.structs:
                        self.fail(number, f"{message.name}: no struct {field.element}")
                    field.struct = message.structs[field.element]


def size_min(struct, version, flexible):
    """The fewest bytes that a struct can take on the wire in a version."""
    total = 1 if flexible else 0
    for field in struct.fields:
        if version not in field.versions or field.tag is not None:
            continue
        if field.is_array:
            total += 1 if flexible else 4
        elif field.struct:
            total += 1 if version in field.nullable else size_min(field.struct, version, flexible)
        else:
            total += PRIMITIVES[field.element][1 if flexible else 0]
    return total


def element_size_min(field, api):
    """The fewest bytes of one element of an array field, over all versions that have the field."""
    sizes = []
    for version in (field.versions & api.versions).versions():
        flexible = version in api.flexible
        if field.struct:
            sizes.append(size_min(field.struct, version, flexible))
        else:
            sizes.append(PRIMITIVES[field.element][1 if flexible else 0])
    if min(sizes) < 1:
        raise SchemaError(f"{api.name}: an element of {field.name} can be empty, so its count would be unbounded")
    return min(sizes)


def load(folder):
    """All schemas of a folder, APIs by key, then data by name."""
    apis = [Parser(path).parse() for path in sorted(pathlib.Path(folder).glob("*.api"))]
    apis.sort(key=lambda api: (api.key is None, api.key, api.name))
    keys = [api.key for api in apis if api.key is not None]
    if len(set(keys)) != len(keys):
        raise SchemaError("two schemas have one key")
    return apis
