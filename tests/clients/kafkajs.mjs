// kafkajs: a client that never uses flexible versions. It consumes only in groups, so reading by offset is a seek.

import { zstdCompressSync, zstdDecompressSync } from 'node:zlib'
import { lz4Compress, lz4Decompress } from '@platformatic/wasm-utils'
import kafkajs from 'kafkajs'
import SnappyCodec from 'kafkajs-snappy'
import { main, read_records, write_records } from './lines.mjs'

const { CompressionCodecs, CompressionTypes, Kafka, logLevel } = kafkajs
CompressionCodecs[CompressionTypes.Snappy] = SnappyCodec
CompressionCodecs[CompressionTypes.LZ4] = () => ({
  compress: async encoder => Buffer.from(lz4Compress(encoder.buffer)),
  decompress: async buffer => Buffer.from(lz4Decompress(buffer))
})
CompressionCodecs[CompressionTypes.ZSTD] = () => ({
  compress: async encoder => zstdCompressSync(encoder.buffer),
  decompress: async buffer => zstdDecompressSync(buffer)
})
const codecs = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

const connect = brokers => new Kafka({ clientId: 'kafkajs', brokers: [brokers], logLevel: logLevel.ERROR })

// Headers of one name come as an array, in order.
const to_headers = pairs => pairs.reduce((all, [name, content]) => {
  all[name] = name in all ? [].concat(all[name], content) : content
  return all
}, {})
const from_headers = headers => Object.entries(headers ?? {}).flatMap(([name, content]) => [].concat(content).map(c => [name, c]))

async function consume (brokers, topic, groupId, count, { position, commit }) {
  const consumer = connect(brokers).consumer({ groupId, sessionTimeout: 10000, heartbeatInterval: 500, maxWaitTimeInMs: 200 })
  const records = []
  await consumer.connect()
  await consumer.subscribe({ topics: [topic], fromBeginning: true })
  const joined = new Promise(resolve => consumer.on(consumer.events.GROUP_JOIN, resolve))
  let finish
  const finished = new Promise(resolve => { finish = resolve })
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      if (position && (partition !== position.partition || BigInt(message.offset) < BigInt(position.offset))) return
      if (records.length < count) records.push({ ...message, partition, headers: from_headers(message.headers) })
      if (records.length === count) finish()
    }
  })
  await joined
  if (position) consumer.seek({ topic, partition: position.partition, offset: String(position.offset) })
  await finished
  if (commit) {
    const next = new Map()
    for (const r of records) next.set(r.partition, String(BigInt(r.offset) + 1n))
    await consumer.commitOffsets([...next].map(([partition, offset]) => ({ topic, partition, offset })))
  }
  await consumer.disconnect()
  write_records(records)
}

await main({
  async create (brokers, topic, partitions) {
    const admin = connect(brokers).admin()
    await admin.connect()
    await admin.createTopics({ waitForLeaders: true, topics: [{ topic, numPartitions: Number(partitions), replicationFactor: 1 }] })
    await admin.disconnect()
  },
  async produce (brokers, topic, codec) {
    const producer = connect(brokers).producer({ idempotent: codec !== 'none', maxInFlightRequests: 1 })
    await producer.connect()
    const messages = read_records().map(r => ({ ...r, headers: to_headers(r.headers) }))
    // Several requests, so that there are several batches.
    for (let at = 0; at < messages.length; at += 100) {
      await producer.send({ topic, acks: -1, compression: codecs[codec], messages: messages.slice(at, at + 100) })
    }
    await producer.disconnect()
  },
  async offset (brokers, topic, partition, offset, count) {
    await consume(brokers, topic, `offset-${topic}-${process.pid}`, Number(count), { position: { partition: Number(partition), offset } })
  },
  async timestamp (brokers, topic, partition, timestamp, count) {
    const admin = connect(brokers).admin()
    await admin.connect()
    const found = await admin.fetchTopicOffsetsByTimestamp(topic, Number(timestamp))
    await admin.disconnect()
    const offset = found.find(p => p.partition === Number(partition)).offset
    await consume(brokers, topic, `timestamp-${topic}-${process.pid}`, Number(count), { position: { partition: Number(partition), offset } })
  },
  async group (brokers, topic, group, count) {
    await consume(brokers, topic, group, Number(count), { commit: true })
  }
})
