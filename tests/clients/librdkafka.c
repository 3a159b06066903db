// librdkafka 2.0.2 from C. lines.mjs says what a line of records is.
//   librdkafka BROKERS create TOPIC PARTITIONS
//   librdkafka BROKERS produce TOPIC CODEC                       lines on stdin
//   librdkafka BROKERS offset TOPIC PARTITION FIRST COUNT        lines on stdout
//   librdkafka BROKERS timestamp TOPIC PARTITION MS COUNT
//   librdkafka BROKERS group TOPIC GROUP COUNT

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void die(const char *what, const char *why) {
    fprintf(stderr, "%s: %s\n", what, why);
    exit(1);
}

static void set(rd_kafka_conf_t *conf, const char *name, const char *value) {
    char why[256];
    if (rd_kafka_conf_set(conf, name, value, why, sizeof why) != RD_KAFKA_CONF_OK) die(name, why);
}

static rd_kafka_t *connect_to(rd_kafka_type_t type, rd_kafka_conf_t *conf, const char *brokers) {
    char why[256];
    set(conf, "bootstrap.servers", brokers);
    rd_kafka_t *kafka = rd_kafka_new(type, conf, why, sizeof why);
    if (!kafka) die("connect", why);
    return kafka;
}

// ---- lines

static int digit(int c) { return c <= '9' ? c - '0' : c - 'a' + 10; }

// "=hex" or "-" into *data (NULL for null); returns the length.
static size_t parse_hex(const char *text, size_t length, void **data) {
    size_t size = length / 2;
    unsigned char *bytes = malloc(size + 1);
    for (size_t i = 0; i < size; i++) bytes[i] = (unsigned char)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
    bytes[size] = 0;
    *data = bytes;
    return size;
}

static size_t parse_bytes(const char *text, size_t length, void **data) {
    *data = NULL;
    return *text == '-' ? 0 : parse_hex(text + 1, length - 1, data);
}

static void print_bytes(const void *data, size_t size) {
    if (!data) {
        putchar('-');
        return;
    }
    putchar('=');
    for (size_t i = 0; i < size; i++) printf("%02x", ((const unsigned char *)data)[i]);
}

static void print_message(const rd_kafka_message_t *m) {
    printf("%lld\t%d\t%lld\t", (long long)m->offset, m->partition, (long long)rd_kafka_message_timestamp(m, NULL));
    print_bytes(m->key, m->key_len);
    putchar('\t');
    print_bytes(m->payload, m->len);
    putchar('\t');
    rd_kafka_headers_t *headers = NULL;
    const char *name;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(m, &headers) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        for (size_t i = 0; rd_kafka_header_get_all(headers, i, &name, &value, &size) == RD_KAFKA_RESP_ERR_NO_ERROR; i++) {
            if (i) putchar(',');
            for (const char *c = name; *c; c++) printf("%02x", (unsigned char)*c);
            putchar(':');
            print_bytes(value, size);
        }
    }
    putchar('\n');
}

// ---- commands

static void create(const char *brokers, const char *topic, int partitions) {
    char why[256];
    rd_kafka_t *kafka = connect_to(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), brokers);
    rd_kafka_queue_t *queue = rd_kafka_queue_new(kafka);
    rd_kafka_NewTopic_t *wanted = rd_kafka_NewTopic_new(topic, partitions, 1, why, sizeof why);
    rd_kafka_CreateTopics(kafka, &wanted, 1, NULL, queue);
    rd_kafka_event_t *event = rd_kafka_queue_poll(queue, 20000);
    if (!event || rd_kafka_event_error(event)) die("create", event ? rd_kafka_event_error_string(event) : "no answer");
    size_t count;
    const rd_kafka_topic_result_t **results = rd_kafka_CreateTopics_result_topics(rd_kafka_event_CreateTopics_result(event), &count);
    if (count != 1 || rd_kafka_topic_result_error(results[0])) die("create", rd_kafka_topic_result_error_string(results[0]));
    rd_kafka_event_destroy(event);
    rd_kafka_NewTopic_destroy(wanted);
    rd_kafka_queue_destroy(queue);
    rd_kafka_destroy(kafka);
}

static int undelivered = 0;

static void delivered(rd_kafka_t *kafka, const rd_kafka_message_t *m, void *opaque) {
    (void)kafka, (void)opaque;
    if (m->err) {
        fprintf(stderr, "not delivered: %s\n", rd_kafka_err2str(m->err));
        undelivered++;
    }
}

static void produce(const char *brokers, const char *topic, const char *codec) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "compression.codec", codec);
    set(conf, "enable.idempotence", strcmp(codec, "none") ? "true" : "false");
    set(conf, "acks", "all");
    set(conf, "linger.ms", "20");
    set(conf, "batch.num.messages", "100");
    rd_kafka_conf_set_dr_msg_cb(conf, delivered);
    rd_kafka_t *kafka = connect_to(RD_KAFKA_PRODUCER, conf, brokers);
    char *line = NULL;
    size_t room = 0;
    ssize_t length;
    while ((length = getline(&line, &room, stdin)) > 0) {
        if (line[length - 1] == '\n') line[--length] = 0;
        char *rest = line, *partition = strsep(&rest, "\t"), *timestamp = strsep(&rest, "\t");
        char *key_text = strsep(&rest, "\t"), *value_text = strsep(&rest, "\t"), *headers_text = rest, *pair;
        void *key, *value;
        size_t key_size = parse_bytes(key_text, strlen(key_text), &key);
        size_t value_size = parse_bytes(value_text, strlen(value_text), &value);
        rd_kafka_headers_t *headers = rd_kafka_headers_new(4);
        while ((pair = strsep(&headers_text, ",")) && *pair) {
            char *content_text = pair, *name_text = strsep(&content_text, ":");
            void *name, *content;
            size_t name_size = parse_hex(name_text, strlen(name_text), &name);
            size_t content_size = parse_bytes(content_text, strlen(content_text), &content);
            rd_kafka_header_add(headers, name, (ssize_t)name_size, content, (ssize_t)content_size);
            free(name);
            free(content);
        }
        rd_kafka_resp_err_t error = rd_kafka_producev(
            kafka, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(atoi(partition)), RD_KAFKA_V_TIMESTAMP(atoll(timestamp)),
            RD_KAFKA_V_KEY(key, key_size), RD_KAFKA_V_VALUE(value, value_size), RD_KAFKA_V_HEADERS(headers),
            RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY | RD_KAFKA_MSG_F_BLOCK), RD_KAFKA_V_END);
        if (error) die("produce", rd_kafka_err2str(error));
        free(key);
        free(value);
        rd_kafka_poll(kafka, 0);
    }
    free(line);
    if (rd_kafka_flush(kafka, 30000)) die("produce", "not everything was acknowledged in time");
    rd_kafka_destroy(kafka);
    if (undelivered) exit(1);
}

static rd_kafka_t *consumer(const char *brokers, const char *group) {
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    set(conf, "group.id", group);
    set(conf, "enable.auto.commit", "false");
    set(conf, "auto.offset.reset", "earliest");
    set(conf, "session.timeout.ms", "10000");
    set(conf, "fetch.wait.max.ms", "200");
    rd_kafka_t *kafka = connect_to(RD_KAFKA_CONSUMER, conf, brokers);
    rd_kafka_poll_set_consumer(kafka);
    return kafka;
}

static void take(rd_kafka_t *kafka, int count) {
    while (count > 0) {
        rd_kafka_message_t *m = rd_kafka_consumer_poll(kafka, 500);
        if (!m) continue;
        if (m->err) die("consume", rd_kafka_message_errstr(m));
        print_message(m);
        rd_kafka_message_destroy(m);
        count--;
    }
}

static void consume_from(const char *brokers, const char *topic, int partition, int64_t offset, int64_t timestamp, int count) {
    rd_kafka_t *kafka = consumer(brokers, "by-position");
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_t *at = rd_kafka_topic_partition_list_add(list, topic, partition);
    at->offset = offset;
    if (timestamp >= 0) {
        at->offset = timestamp;
        rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(kafka, list, 20000);
        if (error || at->err) die("offsets for times", rd_kafka_err2str(error ? error : at->err));
    }
    rd_kafka_assign(kafka, list);
    take(kafka, count);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(kafka);
    rd_kafka_destroy(kafka);
}

static void consume_in_group(const char *brokers, const char *topic, const char *group, int count) {
    rd_kafka_t *kafka = consumer(brokers, group);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, RD_KAFKA_PARTITION_UA);
    rd_kafka_subscribe(kafka, list);
    take(kafka, count);
    rd_kafka_resp_err_t error = rd_kafka_commit(kafka, NULL, 0);
    if (error) die("commit", rd_kafka_err2str(error));
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(kafka);
    rd_kafka_destroy(kafka);
}

int main(int argc, char **argv) {
    if (argc < 5) die("usage", "librdkafka BROKERS COMMAND TOPIC ...");
    const char *brokers = argv[1], *command = argv[2], *topic = argv[3];
    if (!strcmp(command, "create")) create(brokers, topic, atoi(argv[4]));
    else if (!strcmp(command, "produce")) produce(brokers, topic, argv[4]);
    else if (!strcmp(command, "offset") && argc == 7) consume_from(brokers, topic, atoi(argv[4]), atoll(argv[5]), -1, atoi(argv[6]));
    else if (!strcmp(command, "timestamp") && argc == 7) consume_from(brokers, topic, atoi(argv[4]), 0, atoll(argv[5]), atoi(argv[6]));
    else if (!strcmp(command, "group") && argc == 6) consume_in_group(brokers, topic, argv[4], atoi(argv[5]));
    else die("usage", "create, produce, offset, timestamp or group");
    return 0;
}
