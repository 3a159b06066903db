// kafka-crab-js: a current librdkafka, bound to JavaScript by way of Rust. Its producer takes neither partition nor timestamp,
// and its messages carry no timestamp, so it is tested on topics of one partition.

import { KafkaClient } from 'kafka-crab-js'
import { main, read_records, write_records } from './lines.mjs'

const connect = brokers => new KafkaClient({ brokers, clientId: 'crab', configuration: { 'topic.metadata.refresh.interval.ms': 1000 } })

async function consume (brokers, groupId, subscription, count, commit) {
  const consumer = connect(brokers).createConsumer({
    groupId,
    enableAutoCommit: false,
    configuration: { 'auto.offset.reset': 'earliest', 'session.timeout.ms': 10000, 'fetch.wait.max.ms': 200 }
  })
  await consumer.subscribe(subscription)
  const records = []
  while (records.length < count) {
    for (const m of await consumer.recvBatch(Math.min(500, count - records.length), 500)) {
      records.push({ ...m, value: m.isTombstone ? null : m.payload, headers: Object.entries(m.headers ?? {}) })
    }
  }
  if (commit) {
    const last = records.at(-1)
    await consumer.commit(last.topic, last.partition, Number(last.offset) + 1, 'Sync')
  }
  await consumer.disconnect()
  write_records(records)
}

await main({
  async create (brokers, topic, partitions) {
    const consumer = connect(brokers).createConsumer({ groupId: `create-${topic}` })
    await consumer.subscribe([{ topic, createTopic: true, numPartitions: Number(partitions), replicas: 1 }])
    await consumer.disconnect()
  },
  async produce (brokers, topic, codec) {
    const producer = connect(brokers).createProducer({
      configuration: { acks: 'all', 'enable.idempotence': codec !== 'none', 'compression.codec': codec, 'batch.num.messages': 100, 'linger.ms': 20 }
    })
    const messages = read_records().map(r => ({
      ...(r.value === null ? { isTombstone: true } : { payload: r.value }),
      ...(r.key === null ? {} : { key: r.key }),
      headers: Object.fromEntries(r.headers)
    }))
    const sent = await producer.send({ topic, messages })
    if (sent.length !== messages.length || sent.some(s => s.error)) throw new Error(`not all sent: ${JSON.stringify(sent.filter(s => s.error))}`)
  },
  async offset (brokers, topic, partition, offset, count) {
    const at = [{ topic, partitionOffset: [{ partition: Number(partition), offset: { offset: Number(offset) } }] }]
    await consume(brokers, `offset-${topic}`, at, Number(count), false)
  },
  async group (brokers, topic, group, count) {
    await consume(brokers, group, topic, Number(count), true)
  }
})
