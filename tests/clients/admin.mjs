// Administration by two clients: kafkajs moves replicas, @platformatic/kafka does what kafkajs has no words for, through its own codecs.
// node admin.mjs BROKER WORD [JSON]: prints what came back as one line of JSON; an error of the protocol is {"error": ...}.

import * as platformatic from '@platformatic/kafka'
import kafkajs from 'kafkajs'

const { Kafka, logLevel } = kafkajs
const [broker, word, text] = process.argv.slice(2)
const asked = JSON.parse(text ?? '{}')

async function with_kafkajs (run) {
  const admin = new Kafka({ clientId: 'kafkajs', brokers: [broker], logLevel: logLevel.NOTHING }).admin()
  await admin.connect()
  try { return await run(admin) } finally { await admin.disconnect() }
}

// One request on one connection.
async function ask ({ api }, ...values) {
  const [host, port] = broker.split(':')
  const connection = new platformatic.Connection('platformatic')
  await connection.connect(host, Number(port))
  try { return await api.async(connection, ...values) } finally { await connection.close() }
}

const metadata_log = [{ topicName: '__cluster_metadata', partitions: [{ partitionIndex: 0 }] }]
const words = {
  move: () => with_kafkajs(admin => admin.alterPartitionReassignments({ topics: asked.topics, timeout: 10000 })),
  moves: () => with_kafkajs(admin => admin.listPartitionReassignments({ topics: asked.topics ?? null, timeout: 10000 })),
  cancel: () => ask(platformatic.alterPartitionReassignmentsV1, 10000, true, [{ name: asked.topic, partitions: [{ partitionIndex: asked.partition, replicas: null }] }]),
  move_keeping_count: () => ask(platformatic.alterPartitionReassignmentsV1, 10000, false,
    [{ name: asked.topic, partitions: [{ partitionIndex: asked.partition, replicas: asked.replicas }] }]),
  quorum: () => ask([platformatic.describeQuorumV0, platformatic.describeQuorumV1, platformatic.describeQuorumV2][asked.version], metadata_log),
  features: () => ask([platformatic.apiVersionsV3, platformatic.apiVersionsV4][asked.version - 3], 'platformatic', '1'),
  finalize: () => ask(platformatic.updateFeaturesV1, 10000,
    [{ feature: asked.feature, maxVersionLevel: asked.level, upgradeType: asked.type ?? 1 }], asked.validate_only ?? false),
  unregister: () => ask(platformatic.unregisterBrokerV0, asked.node)
}

let answer
try {
  answer = await words[word]() ?? {}
} catch (e) {
  const codes = e.response?.errorCode || e.errors?.map?.(each => each.apiCode ?? each.code)
  answer = { error: e.type ?? codes ?? e.code, message: e.message, response: e.response }
}
console.log(JSON.stringify(answer, (_, value) => typeof value === 'bigint' ? Number(value) : value))
process.exit(0)
