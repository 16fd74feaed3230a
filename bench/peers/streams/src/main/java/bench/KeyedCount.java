package bench;

import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Duration;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.StoreBuilder;
import org.apache.kafka.streams.state.Stores;

/**
 * The Kafka Streams contender: decode a JSON event, count it under its key in a persistent store with a changelog,
 * emit {"count": n} for every event; exactly_once_v2 (whose default commit interval is 100 ms).
 *
 * <p>The Processor API, not count(): with the record cache on, count() would emit one output per key and commit
 * instead of one per event. Here the cache (--caching) only batches store and changelog writes, as it should.
 */
public final class KeyedCount {
    private static final String STORE = "counts";

    /** The input value: every contender decodes it. */
    public static final class Event {
        public long id;
        public String customer;
        public double amount;
        public String note;
    }

    /** The output value. */
    public static final class Counted {
        public final long count;

        Counted(long count) {
            this.count = count;
        }
    }

    private static final class Counter implements Processor<byte[], byte[], byte[], byte[]> {
        private final ObjectMapper mapper = new ObjectMapper();
        private final ObjectReader reader = mapper.readerFor(Event.class);
        private final ObjectWriter writer = mapper.writerFor(Counted.class);
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], Long> counts;

        @Override
        public void init(ProcessorContext<byte[], byte[]> context) {
            this.context = context;
            this.counts = context.getStateStore(STORE);
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            try {
                Event event = reader.readValue(record.value());
                if (event.customer == null) {
                    throw new IllegalArgumentException("event without customer");
                }
                Long before = counts.get(record.key());
                long count = before == null ? 1L : before + 1L;
                counts.put(record.key(), count);
                context.forward(record.withValue(writer.writeValueAsBytes(new Counted(count))));
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }

    /** Arguments: see the usage line; CACHING is true or false. */
    public static void main(String[] args) {
        if (args.length != 8) {
            System.err.println("usage: KeyedCount BOOTSTRAP INPUT OUTPUT APPLICATION_ID STATE_DIR THREADS CACHING COMMIT_INTERVAL_MS");
            System.exit(2);
        }
        Properties config = new Properties();
        config.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, args[0]);
        config.put(StreamsConfig.APPLICATION_ID_CONFIG, args[3]);
        config.put(StreamsConfig.STATE_DIR_CONFIG, args[4]);
        config.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, Integer.parseInt(args[5]));
        config.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
        config.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, Long.parseLong(args[7]));
        config.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");

        StoreBuilder<KeyValueStore<byte[], Long>> store = Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STORE), Serdes.ByteArray(), Serdes.Long()).withLoggingEnabled(Map.of());
        Topology topology = new Topology();
        topology.addSource("events", Serdes.ByteArray().deserializer(), Serdes.ByteArray().deserializer(), args[1]);
        topology.addProcessor("count", Counter::new, "events");
        topology.addStateStore(Boolean.parseBoolean(args[6]) ? store.withCachingEnabled() : store.withCachingDisabled(), "count");
        topology.addSink("counted", args[2], Serdes.ByteArray().serializer(), Serdes.ByteArray().serializer(), "count");

        KafkaStreams streams = new KafkaStreams(topology, config);
        streams.setUncaughtExceptionHandler(error -> {
            error.printStackTrace();
            return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
        streams.setStateListener((now, before) -> {
            if (now == KafkaStreams.State.ERROR) {
                // not exit(): it would wait for the shutdown hook, which waits for this very thread
                Runtime.getRuntime().halt(1);
            }
        });
        Runtime.getRuntime().addShutdownHook(new Thread(() -> streams.close(Duration.ofSeconds(10))));
        streams.start();
    }
}
