"""The Python clients behind the drivers' common command line (see README.md).

Usage: driver.py confluent|kafka-python|aiokafka BOOTSTRAP COMMAND ...
"""

import asyncio
import base64
import json
import sys
import threading
import time

PATIENCE_S = 60


def b64(data):
    return None if data is None else base64.b64encode(bytes(data)).decode()


def unb64(text):
    return None if text is None else base64.b64decode(text)


def read_records(path):
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            headers = [(key, unb64(value)) for key, value in record.get("headers", [])]
            yield (
                record["partition"],
                record["timestamp"],
                unb64(record["key"]),
                unb64(record["value"]),
                headers,
            )


def show(value):
    print(json.dumps(value), flush=True)


def show_record(topic, partition, offset, timestamp, key, value, headers):
    show(
        {
            "topic": topic,
            "partition": partition,
            "offset": offset,
            "timestamp": timestamp,
            "key": b64(key),
            "value": b64(value),
            "headers": [[name, b64(data)] for name, data in headers or []],
        }
    )


def show_kafka_python_record(record):
    """kafka-python and aiokafka name a record's fields alike."""
    show_record(
        record.topic,
        record.partition,
        record.offset,
        record.timestamp,
        record.key,
        record.value,
        record.headers,
    )


def too_few(got, count):
    sys.exit(f"only {got} of {count} records")


class Member:
    """A member of a group on a thread of its own; `opened` is poll, assignment, commit and close of a consumer."""

    def __init__(self, opened):
        self.poll, self.assignment, self.commit, self.close = opened
        self.partitions = set()
        self.records = []
        self.polls = 0
        self.changes = 0
        self.failure = None
        self.stopping = False
        self.committed = False
        self.leaving = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        try:
            while not self.stopping:
                self.records += self.poll()
                now = set(self.assignment())
                self.changes += now != self.partitions
                self.partitions = now
                self.polls += 1
            self.commit()
            self.committed = True
            self.leaving.wait(PATIENCE_S)
            self.close()
        except Exception as error:
            self.failure = error


def stop(members):
    """All commit before the first leaves: that would take the others' partitions away."""
    for member in members:
        member.stopping = True
    until("all have committed", lambda: all(member.committed for member in members), members)
    for member in members:
        member.leaving.set()
        member.thread.join(PATIENCE_S)
        if member.failure is not None:
            raise member.failure


def until(what, condition, members):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        for member in members:
            if member.failure is not None:
                raise member.failure
        if time.monotonic() > end:
            sys.exit(f"{what}: not in time; {[sorted(member.partitions) for member in members]}")
        time.sleep(0.02)


def share(one, two, count):
    return (
        one.partitions
        and two.partitions
        and len(one.partitions) + len(two.partitions) == count
        and len(one.partitions | two.partitions) == count
    )


def show_pair(members):
    """After both have committed and left: whoever waits for these lines may go on to write."""
    for number, member in enumerate(members, 1):
        show({"member": number, "partitions": sorted(member.partitions), "records": member.records})


def pair(count, partitions, group, join):
    members = [join(None)]
    until("the first member has all", lambda: len(members[0].partitions) == partitions, members)
    members.append(join(None))
    until("both have partitions", lambda: share(*members, partitions), members)
    show({"ready": group})
    until(f"{count} records", lambda: sum(len(member.records) for member in members) >= count, members)
    stop(members)
    show_pair(members)


def static_members(partitions, group, join):
    one = join(f"{group}-1")
    until("the first member has all", lambda: len(one.partitions) == partitions, [one])
    two = join(f"{group}-2")
    until("both have partitions", lambda: share(one, two, partitions), [one, two])
    assignments = [sorted(one.partitions), sorted(two.partitions)]
    changes = one.changes
    stop([two])
    back = join(f"{group}-2")
    until("the second is back", lambda: back.partitions, [one, back])
    # Some polls and heartbeats more: a rebalance would show by now.
    polls = one.polls + 3
    until("some polls more", lambda: one.polls >= polls, [one, back])
    assignments.append(sorted(back.partitions))
    show({"assignments": assignments, "disturbed": one.changes - changes})
    stop([one, back])


class Confluent:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def produce(self, topic, codec, path):
        from confluent_kafka import Producer

        failures = []

        def delivered(error, _message):
            if error is not None:
                failures.append(str(error))

        producer = Producer(
            {
                "bootstrap.servers": self.bootstrap,
                "compression.codec": codec,
                "enable.idempotence": True,
                "message.max.bytes": 8 << 20,
                "linger.ms": 5,
            }
        )
        for partition, timestamp, key, value, headers in read_records(path):
            producer.produce(
                topic,
                value,
                key,
                partition,
                on_delivery=delivered,
                timestamp=timestamp,
                headers=headers,
            )
            producer.poll(0)
        left = producer.flush(PATIENCE_S)
        if left or failures:
            sys.exit(f"{left} records not delivered; {failures[:3]}")

    def _consumer(self, group, instance=None):
        from confluent_kafka import Consumer

        config = {
            "bootstrap.servers": self.bootstrap,
            "group.id": group or "unused",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "heartbeat.interval.ms": 200,
        }
        if instance is not None:
            config["group.instance.id"] = instance
        return Consumer(config)

    def _partitions(self, consumer, topic):
        return sorted(consumer.list_topics(topic, timeout=PATIENCE_S).topics[topic].partitions)

    def consume(self, topic, count, group=None):
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition

        consumer = self._consumer(group)
        if group is None:
            consumer.assign(
                [
                    TopicPartition(topic, partition, OFFSET_BEGINNING)
                    for partition in self._partitions(consumer, topic)
                ]
            )
        else:
            consumer.subscribe([topic])
        got = 0
        end = time.monotonic() + PATIENCE_S
        while got < count:
            if time.monotonic() > end:
                too_few(got, count)
            message = consumer.poll(0.5)
            if message is None:
                continue
            if message.error():
                sys.exit(str(message.error()))
            show_record(
                message.topic(),
                message.partition(),
                message.offset(),
                message.timestamp()[1],
                message.key(),
                message.value(),
                message.headers(),
            )
            got += 1
        if group is not None:
            consumer.commit(asynchronous=False)
        consumer.close()

    def seek(self, topic, timestamp):
        from confluent_kafka import TopicPartition

        consumer = self._consumer(None)
        query = [
            TopicPartition(topic, partition, timestamp)
            for partition in self._partitions(consumer, topic)
        ]
        for found in consumer.offsets_for_times(query, timeout=PATIENCE_S):
            show({"topic": topic, "partition": found.partition, "offset": max(found.offset, -1)})
        consumer.close()

    def _join(self, topic, group):
        def join(instance):
            consumer = self._consumer(group, instance)
            consumer.subscribe([topic])

            def poll():
                message = consumer.poll(0.2)
                if message is None:
                    return []
                if message.error():
                    raise RuntimeError(str(message.error()))
                return [[message.partition(), message.offset()]]

            def commit():
                if any(found.offset >= 0 for found in consumer.position(consumer.assignment())):
                    consumer.commit(asynchronous=False)

            return Member(
                (
                    poll,
                    lambda: [partition.partition for partition in consumer.assignment()],
                    commit,
                    consumer.close,
                )
            )

        return join

    def _count(self, topic):
        consumer = self._consumer(None)
        count = len(self._partitions(consumer, topic))
        consumer.close()
        return count

    def pair(self, topic, count, group):
        pair(count, self._count(topic), group, self._join(topic, group))

    def static(self, topic, group):
        static_members(self._count(topic), group, self._join(topic, group))


class KafkaPython:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def produce(self, topic, codec, path):
        from kafka import KafkaProducer

        producer = KafkaProducer(
            bootstrap_servers=self.bootstrap,
            compression_type=None if codec == "none" else codec,
            acks="all",
            max_request_size=8 << 20,
            linger_ms=5,
        )
        sent = [
            producer.send(
                topic,
                value=value,
                key=key,
                headers=headers,
                partition=partition,
                timestamp_ms=timestamp,
            )
            for partition, timestamp, key, value, headers in read_records(path)
        ]
        for future in sent:
            future.get(PATIENCE_S)
        producer.close()

    def _consumer(self, group, instance=None):
        from kafka import KafkaConsumer

        return KafkaConsumer(
            bootstrap_servers=self.bootstrap,
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
        )

    def _partitions(self, consumer, topic):
        from kafka import TopicPartition

        return [TopicPartition(topic, partition) for partition in consumer.partitions_for_topic(topic)]

    def consume(self, topic, count, group=None):
        consumer = self._consumer(group)
        if group is None:
            partitions = self._partitions(consumer, topic)
            consumer.assign(partitions)
            consumer.seek_to_beginning(*partitions)
        else:
            consumer.subscribe([topic])
        got = 0
        end = time.monotonic() + PATIENCE_S
        while got < count:
            if time.monotonic() > end:
                too_few(got, count)
            for records in consumer.poll(timeout_ms=500).values():
                for record in records:
                    show_kafka_python_record(record)
                    got += 1
        if group is not None:
            consumer.commit()
        consumer.close()

    def seek(self, topic, timestamp):
        consumer = self._consumer(None)
        query = {partition: timestamp for partition in self._partitions(consumer, topic)}
        for partition, found in consumer.offsets_for_times(query).items():
            show(
                {
                    "topic": topic,
                    "partition": partition.partition,
                    "offset": -1 if found is None else found.offset,
                }
            )
        consumer.close()

    def _join(self, topic, group):
        def join(instance):
            consumer = self._consumer(group, instance)
            # The client knows the topic before it joins, and polls are long enough for a join to fit: otherwise version 3.0
            # can join without partitions and stay so.
            consumer.partitions_for_topic(topic)
            consumer.subscribe([topic])

            def poll():
                batches = consumer.poll(timeout_ms=500).values()
                return [[record.partition, record.offset] for batch in batches for record in batch]

            return Member(
                (
                    poll,
                    lambda: [partition.partition for partition in consumer.assignment()],
                    consumer.commit,
                    consumer.close,
                )
            )

        return join

    def _count(self, topic):
        consumer = self._consumer(None)
        count = len(consumer.partitions_for_topic(topic))
        consumer.close()
        return count

    def pair(self, topic, count, group):
        pair(count, self._count(topic), group, self._join(topic, group))

    def static(self, topic, group):
        static_members(self._count(topic), group, self._join(topic, group))


class AioMember:
    """What `Member` is, as a task."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.partitions = set()
        self.records = []
        self.polls = 0
        self.changes = 0
        self.stopping = False
        self.committed = asyncio.Event()
        self.leaving = asyncio.Event()

    async def run(self):
        while not self.stopping:
            for batch in (await self.consumer.getmany(timeout_ms=50)).values():
                self.records += [[record.partition, record.offset] for record in batch]
            now = {partition.partition for partition in self.consumer.assignment()}
            self.changes += now != self.partitions
            self.partitions = now
            self.polls += 1
        await self.consumer.commit()
        self.committed.set()
        await self.leaving.wait()
        await self.consumer.stop()


async def aio_stop(members):
    for member in members:
        member.stopping = True
    for member in members:
        await asyncio.wait_for(member.committed.wait(), PATIENCE_S)
    for member in members:
        member.leaving.set()
        await asyncio.wait_for(member.task, PATIENCE_S)


async def aio_until(what, condition, members):
    end = time.monotonic() + PATIENCE_S
    while not condition():
        for member in members:
            if member.task.done():
                member.task.result()
        if time.monotonic() > end:
            sys.exit(f"{what}: not in time; {[sorted(member.partitions) for member in members]}")
        await asyncio.sleep(0.02)


class Aiokafka:
    def __init__(self, bootstrap):
        self.bootstrap = bootstrap

    def produce(self, topic, codec, path):
        from aiokafka import AIOKafkaProducer

        async def run():
            producer = AIOKafkaProducer(
                bootstrap_servers=self.bootstrap,
                compression_type=None if codec == "none" else codec,
                enable_idempotence=True,
                max_request_size=8 << 20,
                linger_ms=5,
            )
            await producer.start()
            sent = [
                await producer.send(
                    topic,
                    value=value,
                    key=key,
                    partition=partition,
                    timestamp_ms=timestamp,
                    headers=headers,
                )
                for partition, timestamp, key, value, headers in read_records(path)
            ]
            await asyncio.wait_for(asyncio.gather(*sent), PATIENCE_S)
            await producer.stop()

        asyncio.run(run())

    def consume(self, topic, count, group=None):
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def run():
            consumer = AIOKafkaConsumer(
                *([topic] if group else []),
                bootstrap_servers=self.bootstrap,
                group_id=group,
                auto_offset_reset="earliest",
                enable_auto_commit=False,
            )
            await consumer.start()
            if group is None:
                await consumer._client.set_topics([topic])
                partitions = [
                    TopicPartition(topic, partition)
                    for partition in consumer.partitions_for_topic(topic)
                ]
                consumer.assign(partitions)
                await consumer.seek_to_beginning(*partitions)
            got = 0
            end = time.monotonic() + PATIENCE_S
            while got < count:
                if time.monotonic() > end:
                    too_few(got, count)
                for records in (await consumer.getmany(timeout_ms=500)).values():
                    for record in records:
                        show_kafka_python_record(record)
                        got += 1
            if group is not None:
                await consumer.commit()
            await consumer.stop()

        asyncio.run(run())

    def seek(self, topic, timestamp):
        from aiokafka import AIOKafkaConsumer, TopicPartition

        async def run():
            consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
            await consumer.start()
            await consumer._client.set_topics([topic])
            query = {
                TopicPartition(topic, partition): timestamp
                for partition in consumer.partitions_for_topic(topic)
            }
            for partition, found in (await consumer.offsets_for_times(query)).items():
                show(
                    {
                        "topic": topic,
                        "partition": partition.partition,
                        "offset": -1 if found is None else found.offset,
                    }
                )
            await consumer.stop()

        asyncio.run(run())

    async def _join(self, topic, group, instance=None):
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(
            topic,
            bootstrap_servers=self.bootstrap,
            group_id=group,
            group_instance_id=instance,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            heartbeat_interval_ms=200,
        )
        member = AioMember(consumer)

        async def start_and_run():
            await consumer.start()
            await member.run()

        member.task = asyncio.create_task(start_and_run())
        return member

    async def _count(self, topic):
        from aiokafka import AIOKafkaConsumer

        consumer = AIOKafkaConsumer(bootstrap_servers=self.bootstrap)
        await consumer.start()
        await consumer._client.set_topics([topic])
        count = len(consumer.partitions_for_topic(topic))
        await consumer.stop()
        return count

    def pair(self, topic, count, group):
        async def run():
            partitions = await self._count(topic)
            members = [await self._join(topic, group)]
            await aio_until("the first has all", lambda: len(members[0].partitions) == partitions, members)
            members.append(await self._join(topic, group))
            await aio_until("both have partitions", lambda: share(*members, partitions), members)
            show({"ready": group})
            await aio_until(
                f"{count} records", lambda: sum(len(member.records) for member in members) >= count, members
            )
            await aio_stop(members)
            show_pair(members)

        asyncio.run(run())

    def static(self, topic, group):
        async def run():
            partitions = await self._count(topic)
            one = await self._join(topic, group, f"{group}-1")
            await aio_until("the first has all", lambda: len(one.partitions) == partitions, [one])
            two = await self._join(topic, group, f"{group}-2")
            await aio_until("both have partitions", lambda: share(one, two, partitions), [one, two])
            assignments = [sorted(one.partitions), sorted(two.partitions)]
            changes = one.changes
            await aio_stop([two])
            back = await self._join(topic, group, f"{group}-2")
            await aio_until("the second is back", lambda: back.partitions, [one, back])
            polls = one.polls + 20
            await aio_until("some polls more", lambda: one.polls >= polls, [one, back])
            assignments.append(sorted(back.partitions))
            show({"assignments": assignments, "disturbed": one.changes - changes})
            await aio_stop([one, back])

        asyncio.run(run())


CLIENTS = {"confluent": Confluent, "kafka-python": KafkaPython, "aiokafka": Aiokafka}


def run(driver, command, topic, *rest):
    if command == "produce":
        driver.produce(topic, rest[0], rest[1])
    elif command == "consume":
        driver.consume(topic, int(rest[0]))
    elif command == "group":
        driver.consume(topic, int(rest[0]), rest[1])
    elif command == "seek":
        driver.seek(topic, int(rest[0]))
    elif command == "pair":
        driver.pair(topic, int(rest[0]), rest[1])
    elif command == "static":
        driver.static(topic, rest[0])
    else:
        sys.exit(f"unknown command {command}")


def main():
    client, bootstrap, *words = sys.argv[1:]
    driver = CLIENTS[client](bootstrap)
    while words:
        end = words.index(",") if "," in words else len(words)
        run(driver, *words[:end])
        words = words[end + 1 :]


if __name__ == "__main__":
    main()
