"""The Kafka protocol by hand, for what no client shows: a codec of its own, so that it shares no mistake with the node's.

A message is described in one string, for all versions:  name:type@FIRST-LAST name:[ fields ]@FIRST+ name:?[ fields ]
Types: i8 i16 i32 i64 u16 bool f64 uuid str bytes. "?[" is one structure that may be null. Strings, bytes and arrays may be null (None). Tagged fields of a flexible
version are kept as they came, in "_tags": {tag: bytes}.
"""

import re
import socket
import struct
import uuid as uuids

# key, first flexible version (request header 2, response header 1), request, response
APIS = {
    "Produce": (0, 9,
        "transactional_id:str@3+ acks:i16 timeout_ms:i32 topics:[ name:str@0-12 topic_id:uuid@13+ partitions:[ index:i32 records:bytes ] ]",
        "topics:[ name:str@0-12 topic_id:uuid@13+ partitions:[ index:i32 error:i16 base_offset:i64 log_append_time:i64@2+ log_start:i64@5+"
        " record_errors:[ batch_index:i32 message:str ]@8+ message:str@8+ ] ] throttle:i32@1+"),
    "Fetch": (1, 12,
        "replica:i32@0-14 max_wait_ms:i32 min_bytes:i32 max_bytes:i32@3+ isolation:i8@4+ session_id:i32@7+ session_epoch:i32@7+"
        " topics:[ name:str@0-12 topic_id:uuid@13+ partitions:[ index:i32 leader_epoch:i32@9+ offset:i64 last_fetched_epoch:i32@12+"
        " log_start:i64@5+ max_bytes:i32 ] ] forgotten:[ name:str@7-12 topic_id:uuid@13+ partitions:[ i32 ] ]@7+ rack:str@11+",
        "throttle:i32@1+ error:i16@7+ session_id:i32@7+ topics:[ name:str@0-12 topic_id:uuid@13+ partitions:[ index:i32 error:i16"
        " high_watermark:i64 last_stable:i64@4+ log_start:i64@5+ aborted:[ producer_id:i64 first_offset:i64 ]@4+"
        " preferred_replica:i32@11+ records:bytes ] ]"),
    "ListOffsets": (2, 6,
        "replica:i32 isolation:i8@2+ topics:[ name:str partitions:[ index:i32 leader_epoch:i32@4+ timestamp:i64 max_offsets:i32@0-0 ] ]"
        " timeout_ms:i32@10+",
        "throttle:i32@2+ topics:[ name:str partitions:[ index:i32 error:i16 old_offsets:[ i64 ]@0-0 timestamp:i64@1+ offset:i64@1+ leader_epoch:i32@4+ ] ]"),
    "Metadata": (3, 9,
        "topics:[ topic_id:uuid@10+ name:str ] auto_create:bool@4+ cluster_ops:bool@8-10 topic_ops:bool@8+",
        "throttle:i32@3+ brokers:[ id:i32 host:str port:i32 rack:str@1+ ] cluster_id:str@2+ controller:i32@1+"
        " topics:[ error:i16 name:str topic_id:uuid@10+ internal:bool@1+ partitions:[ error:i16 index:i32 leader:i32 leader_epoch:i32@7+"
        " replicas:[ i32 ] isr:[ i32 ] offline:[ i32 ]@5+ ] ops:i32@8+ ] cluster_ops:i32@8-10 error:i16@13+"),
    "OffsetCommit": (8, 8,
        "group:str generation:i32@1+ member:str@1+ instance:str@7+ retention_ms:i64@2-4 topics:[ name:str@0-9 topic_id:uuid@10+ partitions:[ index:i32"
        " offset:i64 timestamp:i64@1-1 leader_epoch:i32@6+ metadata:str ] ]",
        "throttle:i32@3+ topics:[ name:str@0-9 topic_id:uuid@10+ partitions:[ index:i32 error:i16 ] ]"),
    "OffsetFetch": (9, 6,
        "group:str@0-7 topics:[ name:str partitions:[ i32 ] ]@0-7 groups:[ group:str member:str@9+ epoch:i32@9+ topics:[ name:str@8-9"
        " topic_id:uuid@10+ partitions:[ i32 ] ] ]@8+ stable:bool@7+",
        "throttle:i32@3+ topics:[ name:str partitions:[ index:i32 offset:i64 leader_epoch:i32@5+ metadata:str error:i16 ] ]@0-7"
        " error:i16@2-7 groups:[ group:str topics:[ name:str@8-9 topic_id:uuid@10+ partitions:[ index:i32 offset:i64 leader_epoch:i32"
        " metadata:str error:i16 ] ] error:i16 ]@8+"),
    "FindCoordinator": (10, 3,
        "key:str@0-3 type:i8@1+ keys:[ str ]@4+",
        "throttle:i32@1+ error:i16@0-3 message:str@1-3 node:i32@0-3 host:str@0-3 port:i32@0-3 coordinators:[ key:str node:i32 host:str"
        " port:i32 error:i16 message:str ]@4+"),
    "JoinGroup": (11, 6,
        "group:str session_ms:i32 rebalance_ms:i32@1+ member:str instance:str@5+ protocol_type:str protocols:[ name:str metadata:bytes ]"
        " reason:str@8+",
        "throttle:i32@2+ error:i16 generation:i32 protocol_type:str@7+ protocol:str leader:str skip_assignment:bool@9+ member:str"
        " members:[ member:str instance:str@5+ metadata:bytes ]"),
    "Heartbeat": (12, 4, "group:str generation:i32 member:str instance:str@3+", "throttle:i32@1+ error:i16"),
    "LeaveGroup": (13, 4,
        "group:str member:str@0-2 members:[ member:str instance:str reason:str@5+ ]@3+",
        "throttle:i32@1+ error:i16 members:[ member:str instance:str error:i16 ]@3+"),
    "SyncGroup": (14, 4,
        "group:str generation:i32 member:str instance:str@3+ protocol_type:str@5+ protocol:str@5+ assignments:[ member:str"
        " assignment:bytes ]",
        "throttle:i32@1+ error:i16 protocol_type:str@5+ protocol:str@5+ assignment:bytes"),
    "DescribeGroups": (15, 5,
        "groups:[ str ] ops:bool@3+",
        "throttle:i32@1+ groups:[ error:i16 message:str@6+ group:str state:str protocol_type:str protocol:str members:[ member:str"
        " instance:str@4+ client_id:str client_host:str metadata:bytes assignment:bytes ] ops:i32@3+ ]"),
    "ListGroups": (16, 3,
        "states:[ str ]@4+ types:[ str ]@5+",
        "throttle:i32@1+ error:i16 groups:[ group:str protocol_type:str state:str@4+ type:str@5+ ]"),
    "ApiVersions": (18, 3,
        "software_name:str@3+ software_version:str@3+ cluster_id:str@5+ node_id:i32@5+",
        "error:i16 apis:[ key:i16 min:i16 max:i16 ] throttle:i32@1+"),
    "CreateTopics": (19, 5,
        "topics:[ name:str partitions:i32 replicas:i16 assignments:[ index:i32 brokers:[ i32 ] ] configs:[ name:str value:str ] ]"
        " timeout_ms:i32 validate_only:bool@1+",
        "throttle:i32@2+ topics:[ name:str topic_id:uuid@7+ error:i16 message:str@1+ partitions:i32@5+ replicas:i16@5+ configs:[ name:str"
        " value:str read_only:bool source:i8 sensitive:bool ]@5+ ]"),
    "DeleteTopics": (20, 4,
        "topics:[ name:str topic_id:uuid ]@6+ names:[ str ]@0-5 timeout_ms:i32",
        "throttle:i32@1+ topics:[ name:str topic_id:uuid@6+ error:i16 message:str@5+ ]"),
    "DeleteRecords": (21, 2,
        "topics:[ name:str partitions:[ index:i32 offset:i64 ] ] timeout_ms:i32",
        "throttle:i32 topics:[ name:str partitions:[ index:i32 low_watermark:i64 error:i16 ] ]"),
    "InitProducerId": (22, 2,
        "transactional_id:str timeout_ms:i32 producer_id:i64@3+ epoch:i16@3+",
        "throttle:i32 error:i16 producer_id:i64 epoch:i16"),
    "OffsetForLeaderEpoch": (23, 4,
        "replica:i32@3+ topics:[ name:str partitions:[ index:i32 current_epoch:i32@2+ epoch:i32 ] ]",
        "throttle:i32@2+ topics:[ name:str partitions:[ error:i16 index:i32 epoch:i32@1+ end:i64 ] ]"),
    "DescribeAcls": (29, 2,
        "resource_type:i8 resource:str pattern_type:i8@1+ principal:str host:str operation:i8 permission:i8",
        "throttle:i32 error:i16 message:str resources:[ type:i8 name:str pattern_type:i8@1+ acls:[ principal:str host:str operation:i8"
        " permission:i8 ] ]"),
    "CreateAcls": (30, 2,
        "creations:[ type:i8 name:str pattern_type:i8@1+ principal:str host:str operation:i8 permission:i8 ]",
        "throttle:i32 results:[ error:i16 message:str ]"),
    "DeleteAcls": (31, 2,
        "filters:[ type:i8 name:str pattern_type:i8@1+ principal:str host:str operation:i8 permission:i8 ]",
        "throttle:i32 results:[ error:i16 message:str acls:[ error:i16 message:str type:i8 name:str pattern_type:i8@1+ principal:str host:str"
        " operation:i8 permission:i8 ] ]"),
    "AlterReplicaLogDirs": (34, 2,
        "dirs:[ path:str topics:[ name:str partitions:[ i32 ] ] ]",
        "throttle:i32 topics:[ name:str partitions:[ index:i32 error:i16 ] ]"),
    "ListConfigResources": (74, 0,
        "types:[ i8 ]@1+",
        "throttle:i32 error:i16 resources:[ name:str type:i8@1+ ]"),
    "DescribeConfigs": (32, 4,
        "resources:[ type:i8 name:str keys:[ str ] ] synonyms:bool@1+ docs:bool@3+",
        "throttle:i32 resources:[ error:i16 message:str type:i8 name:str configs:[ name:str value:str read_only:bool is_default:bool@0-0 source:i8@1+"
        " sensitive:bool synonyms:[ name:str value:str source:i8 ]@1+ type:i8@3+ doc:str@3+ ] ]"),
    "AlterConfigs": (33, 2,
        "resources:[ type:i8 name:str configs:[ name:str value:str ] ] validate_only:bool",
        "throttle:i32 resources:[ error:i16 message:str type:i8 name:str ]"),
    "DescribeLogDirs": (35, 2,
        "topics:[ name:str partitions:[ i32 ] ]",
        "throttle:i32 error:i16@3+ dirs:[ error:i16 path:str topics:[ name:str partitions:[ index:i32 size:i64 lag:i64 future:bool ] ]"
        " total:i64@4+ usable:i64@4+ cordoned:bool@5+ ]"),
    "CreatePartitions": (37, 2,
        "topics:[ name:str count:i32 assignments:[ brokers:[ i32 ] ] ] timeout_ms:i32 validate_only:bool",
        "throttle:i32 results:[ name:str error:i16 message:str ]"),
    "ElectLeaders": (43, 2,
        "type:i8@1+ topics:[ name:str partitions:[ i32 ] ] timeout_ms:i32",
        "throttle:i32 error:i16@1+ topics:[ name:str partitions:[ index:i32 error:i16 message:str ] ]"),
    "AlterPartitionReassignments": (45, 0,
        "timeout_ms:i32 may_change_count:bool@1+ topics:[ name:str partitions:[ index:i32 replicas:[ i32 ] ] ]",
        "throttle:i32 may_change_count:bool@1+ error:i16 message:str topics:[ name:str partitions:[ index:i32 error:i16 message:str ] ]"),
    "ListPartitionReassignments": (46, 0,
        "timeout_ms:i32 topics:[ name:str partitions:[ i32 ] ]",
        "throttle:i32 error:i16 message:str topics:[ name:str partitions:[ index:i32 replicas:[ i32 ] adding:[ i32 ] removing:[ i32 ] ] ]"),
    "DescribeQuorum": (55, 0,
        "topics:[ name:str partitions:[ index:i32 ] ]",
        "error:i16 message:str@2+ topics:[ name:str partitions:[ index:i32 error:i16 message:str@2+ leader:i32 epoch:i32 high_watermark:i64"
        " voters:[ node:i32 directory:uuid@2+ end:i64 fetched:i64@1+ caught_up:i64@1+ ]"
        " observers:[ node:i32 directory:uuid@2+ end:i64 fetched:i64@1+ caught_up:i64@1+ ] ] ]"
        " nodes:[ node:i32 listeners:[ name:str host:str port:u16 ] ]@2+"),
    "UpdateFeatures": (57, 0,
        "timeout_ms:i32 updates:[ feature:str level:i16 may_downgrade:bool@0-0 type:i8@1+ ] validate_only:bool@1+",
        "throttle:i32 error:i16 message:str results:[ feature:str error:i16 message:str ]@0-1"),
    "UnregisterBroker": (64, 0, "node:i32", "throttle:i32 error:i16 message:str"),
    "DeleteGroups": (42, 2, "groups:[ str ]", "throttle:i32 groups:[ group:str error:i16 message:str@3+ ]"),
    "IncrementalAlterConfigs": (44, 1,
        "resources:[ type:i8 name:str configs:[ name:str op:i8 value:str ] ] validate_only:bool",
        "throttle:i32 resources:[ error:i16 message:str type:i8 name:str ]"),
    "OffsetDelete": (47, 1,
        "group:str topics:[ name:str partitions:[ index:i32 ] ]",
        "error:i16 throttle:i32 topics:[ name:str partitions:[ index:i32 error:i16 ] ]"),
    "DescribeCluster": (60, 0,
        "ops:bool endpoint_type:i8@1+ fenced:bool@2+",
        "throttle:i32 error:i16 message:str endpoint_type:i8@1+ cluster_id:str controller:i32 brokers:[ id:i32 host:str port:i32 rack:str"
        " fenced:bool@2+ ] ops:i32"),
    "DescribeProducers": (61, 0,
        "topics:[ name:str partitions:[ i32 ] ]",
        "throttle:i32 topics:[ name:str partitions:[ index:i32 error:i16 message:str producers:[ id:i64 epoch:i32 last_sequence:i32"
        " last_timestamp:i64 coordinator_epoch:i32 transaction_start:i64 ] ] ]"),
    "DescribeTopicPartitions": (75, 0,
        "topics:[ name:str ] limit:i32 cursor:?[ name:str partition:i32 ]",
        "throttle:i32 topics:[ error:i16 name:str topic_id:uuid internal:bool partitions:[ error:i16 index:i32 leader:i32"
        " leader_epoch:i32 replicas:[ i32 ] isr:[ i32 ] eligible:[ i32 ] last_known:[ i32 ] offline:[ i32 ] ] ops:i32 ] cursor:?[ name:str partition:i32 ]"),
}
KEYS = {name: api[0] for name, api in APIS.items()}

# Error codes that the tests speak of.
NONE, OFFSET_OUT_OF_RANGE, CORRUPT_MESSAGE, UNKNOWN_TOPIC = 0, 1, 2, 3
LEADER_NOT_AVAILABLE, NOT_LEADER, REQUEST_TIMED_OUT = 5, 6, 7
MESSAGE_TOO_LARGE, OFFSET_METADATA_TOO_LARGE, INVALID_TOPIC = 10, 12, 17
COORDINATOR_LOADING, COORDINATOR_NOT_AVAILABLE, NOT_COORDINATOR = 14, 15, 16
INVALID_REQUIRED_ACKS, ILLEGAL_GENERATION, INCONSISTENT_GROUP_PROTOCOL = 21, 22, 23
INVALID_GROUP_ID, UNKNOWN_MEMBER_ID, INVALID_SESSION_TIMEOUT, REBALANCE_IN_PROGRESS = 24, 25, 26, 27
INVALID_TIMESTAMP, UNSUPPORTED_VERSION, TOPIC_ALREADY_EXISTS, INVALID_PARTITIONS = 32, 35, 36, 37
INVALID_REPLICATION_FACTOR, INVALID_CONFIG, INVALID_REQUEST = 38, 40, 42
OUT_OF_ORDER_SEQUENCE, DUPLICATE_SEQUENCE, INVALID_PRODUCER_EPOCH = 45, 46, 47
UNSUPPORTED_FOR_MESSAGE_FORMAT, POLICY_VIOLATION = 43, 44
RECORD_LIST_TOO_LARGE, INVALID_REPLICA_ASSIGNMENT, GROUP_SUBSCRIBED_TO_TOPIC = 18, 39, 86
NON_EMPTY_GROUP, GROUP_ID_NOT_FOUND, FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH = 68, 69, 70, 71
FENCED_LEADER_EPOCH, UNKNOWN_LEADER_EPOCH, UNSUPPORTED_COMPRESSION = 74, 75, 76
MEMBER_ID_REQUIRED, GROUP_MAX_SIZE, FENCED_INSTANCE_ID, INVALID_RECORD = 79, 81, 82, 87
PREFERRED_LEADER_NOT_AVAILABLE, ELIGIBLE_LEADERS_NOT_AVAILABLE, ELECTION_NOT_NEEDED, NO_REASSIGNMENT = 80, 83, 84, 85
INVALID_UPDATE_VERSION, BROKER_ID_NOT_REGISTERED = 95, 102
UNKNOWN_TOPIC_ID, REBOOTSTRAP_REQUIRED = 100, 129
REPLICA_NOT_AVAILABLE, TRANSACTIONAL_ID_AUTHORIZATION_FAILED, SECURITY_DISABLED, LOG_DIR_NOT_FOUND = 9, 53, 54, 57

# ---------------------------------------------------------------- descriptions


class Field:
    def __init__(self, name, kind, children, first, last):
        self.name, self.kind, self.children, self.first, self.last = name, kind, children, first, last


def parse(text):
    tokens = text.split()
    position = 0

    def versions(suffix):
        match = re.fullmatch(r"@(\d+)(?:\+|-(\d+))", suffix)
        return int(match[1]), int(match[2]) if match[2] else 999

    def fields():
        nonlocal position
        result = []
        while position < len(tokens) and not tokens[position].startswith("]"):
            token = tokens[position]
            position += 1
            name, _, kind = token.rpartition(":")
            kind, at, range_ = kind.partition("@")
            children = None
            if kind in ("[", "?["):
                children = fields()
                closing = tokens[position]
                position += 1
                at, range_ = (closing[1:2], closing[2:])
                if len(children) == 1 and not children[0].name:
                    children = children[0].kind
            first, last = versions("@" + range_) if at else (0, 999)
            result.append(Field(name, kind, children, first, last))
        return result

    return fields()


PARSED = {name: (parse(api[2]), parse(api[3])) for name, api in APIS.items()}
FIXED = {"i8": ">b", "i16": ">h", "i32": ">i", "i64": ">q", "u16": ">H", "bool": ">?", "f64": ">d"}

# ---------------------------------------------------------------- encode and decode


def uvarint(value):
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return uvarint(((value << 1) ^ (value >> 63)) & 0xFFFFFFFFFFFFFFFF)


def encode_length(size, flexible, short):
    if flexible:
        return uvarint(0 if size is None else size + 1)
    return struct.pack(">h" if short else ">i", -1 if size is None else size)


def encode_value(kind, value, flexible):
    if kind in FIXED:
        return struct.pack(FIXED[kind], value)
    if kind == "uuid":
        return (value or uuids.UUID(int=0)).bytes
    if kind in ("str", "bytes"):
        data = value.encode() if isinstance(value, str) else value
        return encode_length(None if data is None else len(data), flexible, kind == "str") + (data or b"")
    raise KeyError(kind)


DEFAULTS = {"bool": False, "f64": 0.0, "str": None, "bytes": None, "uuid": None}


def encode(fields, values, version, flexible):
    unknown = set(values) - {f.name for f in fields} - {"_tags"}
    assert not unknown, f"no such field: {unknown}"
    out = bytearray()
    for field in fields:
        if not field.first <= version <= field.last:
            continue
        if field.kind == "?[":
            value = values.get(field.name)
            out += b"\xff" if value is None else b"\1" + encode(field.children, value, version, flexible)
            continue
        if field.kind != "[":
            value = values.get(field.name, DEFAULTS.get(field.kind, 0))
            out += encode_value(field.kind, value, flexible)
            continue
        items = values.get(field.name, ())
        out += encode_length(None if items is None else len(items), flexible, False)
        for item in items or ():
            if isinstance(field.children, str):
                out += encode_value(field.children, item, flexible)
            else:
                out += encode(field.children, item, version, flexible)
    if flexible:
        tags = values.get("_tags", {})
        out += uvarint(len(tags))
        for tag, data in sorted(tags.items()):
            out += uvarint(tag) + uvarint(len(data)) + data
    return bytes(out)


class Short(Exception):
    """The answer ends before the message does."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, size):
        if self.at + size > len(self.data):
            raise Short(f"{size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]

    def uvarint(self):
        value = shift = 0
        while True:
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def varint(self):
        value = self.uvarint()
        return (value >> 1) ^ -(value & 1)

    def fixed(self, kind):
        return struct.unpack(FIXED[kind], self.take(struct.calcsize(FIXED[kind])))[0]

    def length(self, flexible, short):
        if flexible:
            return self.uvarint() - 1
        return self.fixed("i16" if short else "i32")

    def value(self, kind, flexible):
        if kind in FIXED:
            return self.fixed(kind)
        if kind == "uuid":
            return uuids.UUID(bytes=self.take(16))
        size = self.length(flexible, kind == "str")
        if size < 0:
            return None
        data = self.take(size)
        return data.decode() if kind == "str" else data

    def tags(self):
        return {tag: data for tag, data in ((self.uvarint(), self.take(self.uvarint())) for _ in range(self.uvarint()))}

    def struct(self, fields, version, flexible):
        result = {}
        for field in fields:
            if not field.first <= version <= field.last:
                continue
            if field.kind == "?[":
                result[field.name] = None if self.fixed("i8") < 0 else self.struct(field.children, version, flexible)
                continue
            if field.kind != "[":
                result[field.name] = self.value(field.kind, flexible)
                continue
            size = self.length(flexible, False)
            if size < 0:
                result[field.name] = None
            elif isinstance(field.children, str):
                result[field.name] = [self.value(field.children, flexible) for _ in range(size)]
            else:
                result[field.name] = [self.struct(field.children, version, flexible) for _ in range(size)]
        if flexible:
            result["_tags"] = self.tags()
        return result


def leader_hints(api, answer):
    """(the current leader and its epoch of the first partition, or None; the endpoints) of an answer to Produce or Fetch (KIP-951)."""
    leader = answer["topics"][0]["partitions"][0]["_tags"].get({"Produce": 0, "Fetch": 1}[api])
    endpoints, reader = [], Reader(answer["_tags"].get(0, b"\1"))
    for _ in range(reader.uvarint() - 1):
        endpoints.append((reader.fixed("i32"), reader.value("str", True), reader.fixed("i32"), reader.value("str", True)))
        reader.tags()
    return leader and struct.unpack(">ii", leader[:8]), endpoints


def features(answer):
    """(supported, finalized) of an answer to ApiVersions from version 3 on: {name: (first, last)}, {name: level}; and the epoch."""
    def rows(data):
        reader = Reader(data)
        found = {}
        for _ in range(reader.uvarint() - 1):
            name = reader.value("str", True)
            found[name] = (reader.fixed("i16"), reader.fixed("i16"))
            reader.tags()
        return found

    tags = answer["_tags"]
    finalized = {name: last for name, (last, _) in rows(tags[2]).items()} if 2 in tags else {}
    return rows(tags[0]) if 0 in tags else {}, finalized, struct.unpack(">q", tags[1])[0]


def request_frame(api, version, values, correlation, client="weir-test", header_tags=None):
    key, flexible_from, *_ = APIS[api]
    flexible = version >= flexible_from
    head = struct.pack(">hhi", key, version, correlation) + encode_value("str", client, False)
    if flexible:
        head += encode([], {"_tags": header_tags or {}}, version, True)
    body = head + encode(PARSED[api][0], values, version, flexible)
    return struct.pack(">i", len(body)) + body


def decode_response(api, version, data):
    """(correlation id, values). Bytes left over are an error, as they are for strict clients."""
    flexible = version >= APIS[api][1]
    reader = Reader(data)
    correlation = reader.fixed("i32")
    if flexible and api != "ApiVersions":
        reader.tags()
    values = reader.struct(PARSED[api][1], version, flexible)
    if reader.at != len(data):
        raise AssertionError(f"{api} {version}: {len(data) - reader.at} bytes too many in the answer")
    return correlation, values


# ---------------------------------------------------------------- connection


class Closed(ConnectionError):
    """The node has closed the connection."""


class Connection:
    def __init__(self, node, timeout=20, client="weir-test"):
        self.socket = socket.create_connection((node.host, node.port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.correlation = 0
        self.client = client
        self.waiting = []  # (correlation, api, version), in the order they were sent

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send_raw(self, data):
        self.socket.sendall(data)

    def send(self, api, version, values=None, expect=True, **more):
        """Without waiting for the answer; `expect=False` when none will come."""
        self.correlation += 1
        self.socket.sendall(request_frame(api, version, dict(values or {}, **more), self.correlation, self.client))
        if expect:
            self.waiting.append((self.correlation, api, version))
        return self.correlation

    def exactly(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                piece = self.socket.recv(min(size - len(data), 1 << 20))
            except (ConnectionResetError, BrokenPipeError):
                raise Closed() from None
            if not piece:
                raise Closed()
            data += piece
        return bytes(data)

    def frame(self):
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def receive(self):
        """The next answer, which must be to the oldest request that waits."""
        correlation, api, version = self.waiting.pop(0)
        got, values = decode_response(api, version, self.frame())
        if got != correlation:
            raise AssertionError(f"the answer is to request {got}, not to {correlation}")
        return values

    def call(self, api, version, values=None, **more):
        self.send(api, version, values, **more)
        return self.receive()

    def closed_by_node(self, seconds=10):
        """True when the node closes the connection within that time; whatever else it sends is dropped."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(65536):
                pass
            return True
        except (ConnectionResetError, BrokenPipeError):
            return True
        except (TimeoutError, socket.timeout):
            return False
