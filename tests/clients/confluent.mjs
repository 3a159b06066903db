// @confluentinc/kafka-javascript: a current librdkafka with the interface of kafkajs. WEIR_CONFLUENT_JS is the folder it was installed in.

import { createRequire } from 'node:module'
import { main, read_records, write_records } from './lines.mjs'

const { Kafka, logLevel } = createRequire(process.env.WEIR_CONFLUENT_JS + '/')('@confluentinc/kafka-javascript').KafkaJS
const connect = brokers => new Kafka({ kafkaJS: { clientId: 'confluent-js', brokers: [brokers], logLevel: logLevel.ERROR } })

const to_headers = pairs => pairs.reduce((all, [name, content]) => {
  all[name] = name in all ? [].concat(all[name], content) : content
  return all
}, {})
const from_headers = headers => Object.entries(headers ?? {}).flatMap(([name, content]) => [].concat(content).map(c => [name, c]))

async function consume (brokers, topic, groupId, count, { position, commit }) {
  const consumer = connect(brokers).consumer({ kafkaJS: { groupId, fromBeginning: true, autoCommit: false, sessionTimeout: 10000 } })
  const records = []
  await consumer.connect()
  await consumer.subscribe({ topics: [topic] })
  let finish
  const finished = new Promise(resolve => { finish = resolve })
  consumer.run({
    eachMessage: async ({ partition, message }) => {
      if (position && (partition !== position.partition || BigInt(message.offset) < BigInt(position.offset))) return
      if (records.length < count) records.push({ ...message, partition, headers: from_headers(message.headers) })
      if (records.length === count) finish()
    }
  })
  while (consumer.assignment().length === 0) await new Promise(resolve => setTimeout(resolve, 100))
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
    await admin.createTopics({ topics: [{ topic, numPartitions: Number(partitions), replicationFactor: 1 }] })
    await admin.disconnect()
  },
  async produce (brokers, topic, codec) {
    const producer = connect(brokers).producer({
      kafkaJS: { idempotent: codec !== 'none', acks: -1, compression: codec }, 'linger.ms': 20, 'batch.num.messages': 100
    })
    await producer.connect()
    const messages = read_records().map(r => ({ ...r, headers: to_headers(r.headers) }))
    await producer.send({ topic, messages })
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
