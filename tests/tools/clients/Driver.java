import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Base64;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.Future;
import java.util.function.BooleanSupplier;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** Apache Kafka's own Java clients behind the drivers' common command line (see README.md). */
public class Driver {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final long PATIENCE_MS = 60_000;
    private static final Duration POLL = Duration.ofMillis(50);

    private final String bootstrap;

    private Driver(String bootstrap) {
        this.bootstrap = bootstrap;
    }

    public static void main(String[] args) throws Exception {
        Driver driver = new Driver(args[0]);
        List<String> rest = Arrays.asList(args).subList(1, args.length);
        while (!rest.isEmpty()) {
            int end = rest.indexOf(",");
            driver.run(end < 0 ? rest : rest.subList(0, end));
            rest = end < 0 ? List.of() : rest.subList(end + 1, rest.size());
        }
    }

    private void run(List<String> command) throws Exception {
        String topic = command.get(1);
        switch (command.get(0)) {
            case "produce" -> produce(topic, command.get(2), Path.of(command.get(3)));
            case "consume" -> consume(topic, Integer.parseInt(command.get(2)), null);
            case "group" -> consume(topic, Integer.parseInt(command.get(2)), command.get(3));
            case "seek" -> seek(topic, Long.parseLong(command.get(2)));
            case "pair" -> pair(topic, Integer.parseInt(command.get(2)), command.get(3));
            case "static" -> staticMembers(topic, command.get(2));
            default -> throw new IllegalArgumentException(command.get(0));
        }
    }

    private static byte[] bytes(JsonNode node) {
        return node == null || node.isNull() ? null : Base64.getDecoder().decode(node.asText());
    }

    private void produce(String topic, String codec, Path file) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("key.serializer", ByteArraySerializer.class);
        config.put("value.serializer", ByteArraySerializer.class);
        config.put("compression.type", codec);
        config.put("acks", "all");
        config.put("linger.ms", "5");
        config.put("max.request.size", String.valueOf(8 << 20));
        try (KafkaProducer<byte[], byte[]> producer = new KafkaProducer<>(config)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            for (String line : Files.readAllLines(file)) {
                JsonNode record = JSON.readTree(line);
                List<Header> headers = new ArrayList<>();
                for (JsonNode header : record.path("headers")) {
                    headers.add(new RecordHeader(header.get(0).asText(), bytes(header.get(1))));
                }
                sent.add(producer.send(new ProducerRecord<>(
                    topic,
                    record.get("partition").asInt(),
                    record.get("timestamp").asLong(),
                    bytes(record.get("key")),
                    bytes(record.get("value")),
                    headers)));
            }
            for (Future<RecordMetadata> one : sent) {
                one.get();
            }
        }
    }

    private KafkaConsumer<byte[], byte[]> consumer(String group, String instance) {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("key.deserializer", ByteArrayDeserializer.class);
        config.put("value.deserializer", ByteArrayDeserializer.class);
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", "false");
        config.put("heartbeat.interval.ms", "200");
        if (group != null) {
            config.put("group.id", group);
        }
        if (instance != null) {
            config.put("group.instance.id", instance);
        }
        return new KafkaConsumer<>(config);
    }

    private static List<TopicPartition> partitions(KafkaConsumer<byte[], byte[]> consumer, String topic) {
        return consumer.partitionsFor(topic).stream()
            .map(info -> new TopicPartition(topic, info.partition()))
            .toList();
    }

    /** Repeats a step until the condition holds. */
    private static void until(String what, BooleanSupplier done, Runnable step) {
        long end = System.currentTimeMillis() + PATIENCE_MS;
        while (!done.getAsBoolean()) {
            if (System.currentTimeMillis() > end) {
                throw new IllegalStateException(what + ": not in time");
            }
            step.run();
        }
    }

    private void consume(String topic, int count, String group) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(group, null)) {
            if (group == null) {
                List<TopicPartition> partitions = partitions(consumer, topic);
                consumer.assign(partitions);
                consumer.seekToBeginning(partitions);
            } else {
                consumer.subscribe(List.of(topic));
            }
            List<ConsumerRecord<byte[], byte[]>> records = new ArrayList<>();
            until(count + " records of " + topic, () -> records.size() >= count, () ->
                consumer.poll(POLL).forEach(records::add));
            if (group != null) {
                consumer.commitSync();
            }
            for (ConsumerRecord<byte[], byte[]> record : records) {
                System.out.println(JSON.writeValueAsString(json(record)));
            }
        }
    }

    private static ObjectNode json(ConsumerRecord<byte[], byte[]> record) {
        ObjectNode node = JSON.createObjectNode();
        node.put("topic", record.topic());
        node.put("partition", record.partition());
        node.put("offset", record.offset());
        node.put("timestamp", record.timestamp());
        put(node, "key", record.key());
        put(node, "value", record.value());
        ArrayNode headers = node.putArray("headers");
        for (Header header : record.headers()) {
            ArrayNode pair = headers.addArray().add(header.key());
            if (header.value() == null) {
                pair.addNull();
            } else {
                pair.add(Base64.getEncoder().encodeToString(header.value()));
            }
        }
        return node;
    }

    private static void put(ObjectNode node, String name, byte[] bytes) {
        if (bytes == null) {
            node.putNull(name);
        } else {
            node.put(name, Base64.getEncoder().encodeToString(bytes));
        }
    }

    private void seek(String topic, long timestamp) throws Exception {
        try (KafkaConsumer<byte[], byte[]> consumer = consumer(null, null)) {
            Map<TopicPartition, Long> query = new HashMap<>();
            for (TopicPartition partition : partitions(consumer, topic)) {
                query.put(partition, timestamp);
            }
            var found = consumer.offsetsForTimes(query);
            for (TopicPartition partition : query.keySet()) {
                var at = found.get(partition);
                ObjectNode node = JSON.createObjectNode();
                node.put("topic", topic);
                node.put("partition", partition.partition());
                node.put("offset", at == null ? -1 : at.offset());
                System.out.println(node);
            }
        }
    }

    /** A consumer in a group, with what it has been given and has read. */
    private final class Member implements ConsumerRebalanceListener, AutoCloseable {
        private final KafkaConsumer<byte[], byte[]> consumer;
        private final ArrayNode records = JSON.createArrayNode();
        private int rebalances = 0;

        Member(String topic, String group, String instance) {
            consumer = consumer(group, instance);
            consumer.subscribe(List.of(topic), this);
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            rebalances++;
        }

        void poll() {
            for (ConsumerRecord<byte[], byte[]> record : consumer.poll(POLL)) {
                records.addArray().add(record.partition()).add(record.offset());
            }
        }

        Set<Integer> assignment() {
            Set<Integer> numbers = new HashSet<>();
            consumer.assignment().forEach(partition -> numbers.add(partition.partition()));
            return numbers;
        }

        ArrayNode assignmentJson() {
            ArrayNode node = JSON.createArrayNode();
            assignment().stream().sorted().forEach(node::add);
            return node;
        }

        @Override
        public void close() {
            consumer.close();
        }
    }

    private static boolean share(Member one, Member two, int partitions) {
        Set<Integer> all = new HashSet<>(one.assignment());
        all.addAll(two.assignment());
        return !one.assignment().isEmpty()
            && !two.assignment().isEmpty()
            && one.assignment().size() + two.assignment().size() == partitions
            && all.size() == partitions;
    }

    private void pair(String topic, int count, String group) {
        List<ObjectNode> shares = new ArrayList<>();
        try (Member one = new Member(topic, group, null)) {
            int partitions = partitions(one.consumer, topic).size();
            until("the first member has all", () -> one.assignment().size() == partitions, one::poll);
            try (Member two = new Member(topic, group, null)) {
                Runnable step = () -> {
                    one.poll();
                    two.poll();
                };
                until("both have partitions", () -> share(one, two, partitions), step);
                System.out.println("{\"ready\":\"" + group + "\"}");
                until(count + " records", () -> one.records.size() + two.records.size() >= count, step);
                int number = 0;
                for (Member member : List.of(one, two)) {
                    member.consumer.commitSync();
                    ObjectNode node = JSON.createObjectNode();
                    node.put("member", ++number);
                    node.set("partitions", member.assignmentJson());
                    node.set("records", member.records);
                    shares.add(node);
                }
            }
        }
        // Whoever waits for these lines may go on to write.
        shares.forEach(System.out::println);
    }

    private void staticMembers(String topic, String group) {
        ObjectNode node = JSON.createObjectNode();
        ArrayNode assignments = node.putArray("assignments");
        try (Member one = new Member(topic, group, group + "-1")) {
            int partitions = partitions(one.consumer, topic).size();
            try (Member two = new Member(topic, group, group + "-2")) {
                until("both have partitions", () -> share(one, two, partitions), () -> {
                    one.poll();
                    two.poll();
                });
                assignments.add(one.assignmentJson());
                assignments.add(two.assignmentJson());
            }
            int before = one.rebalances;
            try (Member back = new Member(topic, group, group + "-2")) {
                until("the second is back", () -> !back.assignment().isEmpty(), () -> {
                    one.poll();
                    back.poll();
                });
                // Some heartbeats more: a rebalance would show by now.
                for (int i = 0; i < 10; i++) {
                    one.poll();
                }
                assignments.add(back.assignmentJson());
            }
            node.put("disturbed", one.rebalances - before);
        }
        System.out.println(node);
    }
}
