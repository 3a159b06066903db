"""Record batches by hand: v2 with every codec, and the older message sets, both whole and broken on purpose."""

import gzip
import io
import struct
import zlib

from .wire import Reader, varint

NO_CODEC, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = {"none": NO_CODEC, "gzip": GZIP, "snappy": SNAPPY, "lz4": LZ4, "zstd": ZSTD}


def _crc32c_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc32c_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def xerial(data):
    """snappy in the frames that the Java client writes."""
    import snappy
    out = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1)
    for at in range(0, len(data), 32768):
        block = snappy.compress(data[at:at + 32768])
        out += struct.pack(">i", len(block)) + block
    return out


def compress(codec, data):
    if codec == GZIP:
        return gzip.compress(data, 6)
    if codec == SNAPPY:
        return xerial(data)
    if codec == LZ4:
        import lz4.frame
        return lz4.frame.compress(data)
    if codec == ZSTD:
        import zstandard
        return zstandard.ZstdCompressor().compress(data)
    return data


def decompress(codec, data):
    if codec == GZIP:
        return gzip.decompress(data)
    if codec == SNAPPY:
        import snappy
        if data[:8] != b"\x82SNAPPY\x00":
            return snappy.decompress(data)
        out, at = b"", 16
        while at < len(data):
            size = struct.unpack_from(">i", data, at)[0]
            out += snappy.decompress(data[at + 4:at + 4 + size])
            at += 4 + size
        return out
    if codec == LZ4:
        import lz4.frame
        return lz4.frame.decompress(data)
    if codec == ZSTD:
        import zstandard
        with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data)) as reader:
            return reader.read()
    return data


def sized(data):
    return varint(-1) if data is None else varint(len(data)) + data


def record(index, key=None, value=b"", headers=(), timestamp_delta=0):
    body = b"\x00" + varint(timestamp_delta) + varint(index) + sized(key) + sized(value) + varint(len(headers))
    for name, content in headers:
        body += sized(name.encode()) + sized(content)
    return varint(len(body)) + body


def batch(records, codec=NO_CODEC, base_timestamp=1_700_000_000_000, producer_id=-1, epoch=-1, sequence=-1, attributes=0,
          timestamps=None, magic=2, count=None, last_delta=None, crc=None, base_offset=0, payload=None, squeeze=compress):
    """A batch of `records`: values, or (key, value), or (key, value, headers). What is given beside is put in as it is, right or
    wrong: `count`, `last_delta`, `crc`, or a `payload` in place of the records."""
    deltas = [t - base_timestamp for t in timestamps] if timestamps else [0] * len(records)
    body = b""
    for index, item in enumerate(records):
        item = item if isinstance(item, tuple) else (None, item)
        key, value, headers = (*item, ())[:3]
        body += record(index, key, value, headers, deltas[index])
    if payload is not None:
        body = payload
    elif codec:
        body = squeeze(codec, body)
    count = len(records) if count is None else count
    last_delta = count - 1 if last_delta is None else last_delta
    checked = struct.pack(">hiqqqhii", attributes | codec, last_delta, base_timestamp, base_timestamp + max(deltas, default=0),
                          producer_id, epoch, sequence, count) + body
    crc = crc32c(checked) if crc is None else crc
    rest = struct.pack(">ibI", -1, magic, crc) + checked
    return struct.pack(">qi", base_offset, len(rest)) + rest


def message(magic, key, value, timestamp=0, attributes=0, offset=0):
    """One message of the formats before record batches (magic 0 and 1)."""

    def bytes32(data):
        return struct.pack(">i", -1) if data is None else struct.pack(">i", len(data)) + data

    body = struct.pack(">bb", magic, attributes) + (struct.pack(">q", timestamp) if magic else b"") + bytes32(key) + bytes32(value)
    body = struct.pack(">I", zlib.crc32(body)) + body
    return struct.pack(">qi", offset, len(body)) + body


class Record:
    def __init__(self, offset, timestamp, key, value, headers, codec, producer_id, sequence):
        self.offset, self.timestamp, self.key, self.value, self.headers = offset, timestamp, key, value, headers
        self.codec, self.producer_id, self.sequence = codec, producer_id, sequence

    def __repr__(self):
        return f"Record({self.offset}, {self.timestamp}, {self.key}, {self.value[:20] if self.value else self.value}, {self.headers})"


class Batch:
    """One batch as a fetch returned it; a wrong checksum is an AssertionError."""

    def __init__(self, data):
        self.base_offset, length, self.leader_epoch, self.magic, crc = struct.unpack_from(">qiibI", data)
        self.data = data
        (self.attributes, self.last_delta, self.base_timestamp, self.max_timestamp, self.producer_id, self.epoch, self.sequence,
         self.count) = struct.unpack_from(">hiqqqhii", data, 21)
        assert self.magic == 2, f"magic {self.magic}"
        assert crc == crc32c(data[21:]), f"the checksum of the batch at {self.base_offset} is wrong"

    @property
    def codec(self):
        return self.attributes & 7

    @property
    def last_offset(self):
        return self.base_offset + self.last_delta

    def records(self):
        reader = Reader(decompress(self.codec, self.data[61:]))
        for _ in range(self.count):
            size = reader.varint()
            end = reader.at + size
            reader.take(1)
            timestamp_delta, offset_delta = reader.varint(), reader.varint()

            def chunk():
                length = reader.varint()
                return None if length < 0 else reader.take(length)

            key, value = chunk(), chunk()
            headers = [(chunk().decode(), chunk()) for _ in range(reader.varint())]
            assert reader.at == end, "a record is longer than its fields"
            stamp = self.max_timestamp if self.attributes & 8 else self.base_timestamp + timestamp_delta
            yield Record(self.base_offset + offset_delta, stamp, key, value, headers, self.codec, self.producer_id, self.sequence)


def batches(data):
    """The whole batches in what a fetch returned; a cut one at the end is left out."""
    at = 0
    data = data or b""
    while at + 12 <= len(data):
        length = struct.unpack_from(">i", data, at + 8)[0]
        if at + 12 + length > len(data):
            break
        yield Batch(data[at:at + 12 + length])
        at += 12 + length


def records(data):
    return [r for b in batches(data) for r in b.records()]
