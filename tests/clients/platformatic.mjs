// @platformatic/kafka: a client that uses flexible versions alone, and does not fall back from them.

import { Admin, Consumer, Producer } from '@platformatic/kafka'
import { main, read_records, write_records } from './lines.mjs'

const base = brokers => ({ clientId: 'platformatic', bootstrapBrokers: [brokers], retries: 5 })

const group_options = { sessionTimeout: 10000, rebalanceTimeout: 10000, heartbeatInterval: 500, maxWaitTime: 200 }

async function consume (brokers, topic, groupId, count, { offsets, commit }) {
  const consumer = new Consumer({ ...base(brokers), ...group_options, groupId, autocommit: false })
  const stream = await consumer.consume({
    topics: [topic],
    autocommit: false,
    ...(offsets ? { mode: 'manual', offsets } : { mode: 'committed', fallbackMode: 'earliest' })
  })
  const records = []
  const next = new Map()
  const only = offsets && offsets.wanted
  for await (const m of stream) {
    if (only !== undefined && m.partition !== only) continue
    records.push({ ...m, offset: m.offset, partition: m.partition, timestamp: m.timestamp, key: m.key, value: m.value, headers: m.headerEntries })
    next.set(m.partition, { topic, partition: m.partition, offset: m.offset + 1n, leaderEpoch: m.leaderEpoch })
    if (records.length === count) break
  }
  if (commit) await consumer.commit({ offsets: [...next.values()] })
  await consumer.close(true)
  write_records(records)
}

// Where to start: at `offset` in one partition, at the end of all others.
async function start_at (brokers, topic, partition, offset) {
  const consumer = new Consumer({ ...base(brokers), ...group_options, groupId: `latest-${topic}` })
  const latest = (await consumer.listOffsets({ topics: [topic], timestamp: -1n })).get(topic)
  await consumer.close(true)
  const offsets = latest.map((end, index) => ({ topic, partition: index, offset: index === partition ? offset : end }))
  offsets.wanted = partition
  return offsets
}

await main({
  async create (brokers, topic, partitions) {
    const admin = new Admin(base(brokers))
    await admin.createTopics({ topics: [topic], partitions: Number(partitions), replicas: 1 })
    await admin.close()
  },
  async produce (brokers, topic, codec) {
    const producer = new Producer({ ...base(brokers), idempotent: codec !== 'none', compression: codec })
    const messages = read_records().map(r => ({
      topic,
      partition: r.partition,
      timestamp: BigInt(r.timestamp),
      key: r.key,
      value: r.value,
      headers: new Map(r.headers.map(([name, content]) => [Buffer.from(name), content]))
    }))
    for (let at = 0; at < messages.length; at += 100) {
      await producer.send({ acks: -1, messages: messages.slice(at, at + 100) })
    }
    await producer.close()
  },
  async offset (brokers, topic, partition, offset, count) {
    const offsets = await start_at(brokers, topic, Number(partition), BigInt(offset))
    await consume(brokers, topic, `offset-${topic}`, Number(count), { offsets })
  },
  async timestamp (brokers, topic, partition, timestamp, count) {
    const consumer = new Consumer({ ...base(brokers), ...group_options, groupId: `find-${topic}` })
    const found = await consumer.listOffsetsWithTimestamps({ topics: [topic], timestamp: BigInt(timestamp) })
    await consumer.close(true)
    const { offset } = found.get(topic).get(Number(partition))
    const offsets = await start_at(brokers, topic, Number(partition), offset)
    await consume(brokers, topic, `timestamp-${topic}`, Number(count), { offsets })
  },
  async group (brokers, topic, group, count) {
    await consume(brokers, topic, group, Number(count), { commit: true })
  }
})
