// How the client programs of this folder and the tests exchange records: one a line, tab-separated, bytes in hex.
//   produce reads   partition  timestamp  key  value  headers
//   consume writes  offset  partition  timestamp  key  value  headers
// Bytes are "=" and hex, null is "-"; headers are NAME:BYTES, the name in hex too, with commas between.

import { readFileSync } from 'node:fs'

const bytes = text => (text === '-' ? null : Buffer.from(text.slice(1), 'hex'))
const text = data => (data === null || data === undefined ? '-' : '=' + Buffer.from(data).toString('hex'))

export function read_records () {
  return readFileSync(0, 'utf8').split('\n').filter(Boolean).map(line => {
    const [partition, timestamp, key, value, headers] = line.split('\t')
    return {
      partition: Number(partition),
      timestamp,
      key: bytes(key),
      value: bytes(value),
      headers: headers.split(',').filter(Boolean).map(pair => {
        const [name, content] = pair.split(':')
        return [Buffer.from(name, 'hex').toString(), bytes(content)]
      })
    }
  })
}

export function write_records (records) {
  const lines = records.map(r =>
    [r.offset, r.partition, r.timestamp ?? -1, text(r.key), text(r.value),
      r.headers.map(([name, content]) => Buffer.from(name).toString('hex') + ':' + text(content)).join(',')].join('\t'))
  process.stdout.write(lines.map(line => line + '\n').join(''))
}

// Runs one command of `commands`: node client.mjs BROKERS COMMAND arguments
export async function main (commands) {
  const [brokers, command, ...rest] = process.argv.slice(2)
  try {
    await commands[command](brokers, ...rest)
    process.stdout.write('', () => process.exit(0))
  } catch (error) {
    console.error(error, error.errors ?? '', error.cause ?? '')
    process.exit(1)
  }
}
