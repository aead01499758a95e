// KafkaJS behind the drivers' common command line (see README.md). NODE_PATH points at the installed packages.
'use strict';

process.env.KAFKAJS_NO_PARTITIONER_WARNING = '1';
const fs = require('fs');
const { Kafka, CompressionTypes, CompressionCodecs, logLevel } = require('kafkajs');
CompressionCodecs[CompressionTypes.Snappy] = require('kafkajs-snappy');

const PATIENCE_MS = 60_000;
const CODECS = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
};

const b64 = (data) => (data === null || data === undefined ? null : Buffer.from(data).toString('base64'));
const unb64 = (text) => (text === null ? null : Buffer.from(text, 'base64'));
const print = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);

/** A promise that another place fulfils, within the patience. */
function expectation(what) {
  let done;
  const promise = new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${what()}: not in time`)), PATIENCE_MS);
    done = () => {
      clearTimeout(timer);
      resolve();
    };
  });
  return { promise, done };
}

async function produce(kafka, topic, codec, file) {
  const messages = fs
    .readFileSync(file, 'utf8')
    .split('\n')
    .filter((line) => line)
    .map((line) => {
      const record = JSON.parse(line);
      const headers = {};
      for (const [name, value] of record.headers) headers[name] = unb64(value);
      return {
        partition: record.partition,
        timestamp: String(record.timestamp),
        key: unb64(record.key),
        value: unb64(record.value),
        headers,
      };
    });
  const producer = kafka.producer({ allowAutoTopicCreation: false });
  await producer.connect();
  await producer.send({ topic, acks: -1, compression: CODECS[codec], messages });
  await producer.disconnect();
}

// Names that occur more than once come as an array.
function headersOf(message) {
  const headers = [];
  for (const [name, value] of Object.entries(message.headers || {})) {
    for (const one of Array.isArray(value) ? value : [value]) headers.push([name, b64(one)]);
  }
  return headers;
}

// KafkaJS reads only as a group member: `consume` takes a group of its own.
async function consume(kafka, topic, count, group, commit) {
  const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100, heartbeatInterval: 200 });
  const records = [];
  const ends = new Map();
  const enough = expectation(() => `${records.length} of ${count} records of ${topic}`);
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({
    autoCommit: false,
    eachMessage: async ({ partition, message }) => {
      records.push({
        topic,
        partition,
        offset: Number(message.offset),
        timestamp: Number(message.timestamp),
        key: b64(message.key),
        value: b64(message.value),
        headers: headersOf(message),
      });
      ends.set(partition, Number(message.offset) + 1);
      if (records.length === count) enough.done();
    },
  });
  await enough.promise;
  if (commit) await consumer.commitOffsets([...ends].map(([partition, end]) => ({ topic, partition, offset: String(end) })));
  await consumer.disconnect();
  records.forEach(print);
}

async function seek(kafka, topic, timestamp) {
  const admin = kafka.admin();
  await admin.connect();
  const ends = new Map();
  for (const { partition, offset } of await admin.fetchTopicOffsets(topic)) ends.set(partition, offset);
  for (const { partition, offset } of await admin.fetchTopicOffsetsByTimestamp(topic, timestamp)) {
    // KafkaJS answers with the end where there is no such record.
    const none = offset === '-1' || offset === ends.get(partition);
    print({ topic, partition, offset: none ? -1 : Number(offset) });
  }
  await admin.disconnect();
}

async function pair(kafka, topic, count, group) {
  const admin = kafka.admin();
  await admin.connect();
  const all = (await admin.fetchTopicOffsets(topic)).length;
  await admin.disconnect();
  const members = [];
  let read = 0;
  const alone = expectation(() => 'the first member has all');
  const shared = expectation(() => 'both have partitions');
  const enough = expectation(() => `${read} of ${count} records`);
  const look = () => {
    const sizes = members.map((member) => member.partitions.length);
    if (sizes[0] === all) alone.done();
    if (sizes.length === 2 && sizes[0] > 0 && sizes[1] > 0 && sizes[0] + sizes[1] === all) shared.done();
  };
  const join = async () => {
    const consumer = kafka.consumer({ groupId: group, maxWaitTimeInMs: 100, heartbeatInterval: 200 });
    const member = { consumer, partitions: [], records: [], ends: new Map() };
    members.push(member);
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      member.partitions = payload.memberAssignment[topic] || [];
      look();
    });
    await consumer.connect();
    await consumer.subscribe({ topics: [topic], fromBeginning: true });
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        member.records.push([partition, Number(message.offset)]);
        member.ends.set(partition, Number(message.offset) + 1);
        read += 1;
        if (read === count) enough.done();
      },
    });
  };
  await join();
  await alone.promise;
  await join();
  await shared.promise;
  print({ ready: group });
  await enough.promise;
  for (const { consumer, ends } of members) {
    await consumer.commitOffsets([...ends].map(([partition, end]) => ({ topic, partition, offset: String(end) })));
  }
  const shares = members.map(({ partitions, records }, index) => ({ member: index + 1, partitions, records }));
  for (const { consumer } of members) await consumer.disconnect();
  // Whoever waits for these lines may go on to write.
  shares.forEach(print);
}

async function run(kafka, [command, topic, ...rest]) {
  if (command === 'produce') await produce(kafka, topic, rest[0], rest[1]);
  else if (command === 'consume') await consume(kafka, topic, Number(rest[0]), `driver-${process.pid}-${topic}`, false);
  else if (command === 'group') await consume(kafka, topic, Number(rest[0]), rest[1], true);
  else if (command === 'seek') await seek(kafka, topic, Number(rest[0]));
  else if (command === 'pair') await pair(kafka, topic, Number(rest[0]), rest[1]);
  else throw new Error(`unknown command ${command}`);
}

async function main() {
  const [bootstrap, ...words] = process.argv.slice(2);
  const kafka = new Kafka({ brokers: [bootstrap], logLevel: logLevel.ERROR });
  while (words.length > 0) {
    const end = words.indexOf(',');
    const command = words.splice(0, end < 0 ? words.length : end);
    words.shift();
    await run(kafka, command);
  }
}

// Standard output may be a pipe: let it drain before the end.
main().then(
  () => process.stdout.write('', () => process.exit(0)),
  (error) => {
    console.error(error);
    process.exit(1);
  }
);
