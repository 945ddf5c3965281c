// tardis-dev in the benchmarks; benchmarks/peers.py says what comes on standard input.
const readline = require('node:readline')
const { normalizeBookChanges, normalizeTrades } = require('tardis-dev')

const NAMES = { okx: 'okex' }

function round(workload, times) {
  const exchange = NAMES[workload.exchange] ?? workload.exchange
  // It chooses mappers by the time of the frames. Of the recorded times it would look for channels that only its own
  // recordings have; those of now read the channels a client gets, which is what was recorded.
  const now = new Date()
  const plays = []
  for (let play = 0; play < times; play++) {
    plays.push([normalizeTrades(exchange, now), normalizeBookChanges(exchange, now)])
  }
  let events = 0
  const before = process.cpuUsage()
  for (const mappers of plays) {
    for (const text of workload.frames) {
      const message = JSON.parse(text)
      for (const mapper of mappers) {
        if (mapper.canHandle(message)) {
          for (const _ of mapper.map(message, now) ?? []) events++
        }
      }
    }
  }
  const used = process.cpuUsage(before)
  return { seconds: (used.user + used.system) / 1e6, events }
}

let workloads = null
readline.createInterface({ input: process.stdin }).on('line', (line) => {
  const read = JSON.parse(line)
  if (workloads === null) workloads = read
  else console.log(JSON.stringify(round(workloads[read.name], read.times)))
})
