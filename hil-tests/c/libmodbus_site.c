/*
 * A Modbus server by libmodbus, a second opinion beside this repository's own simulated site.
 *
 * One unit with M holding registers from address 0. Every register names its unit, its address and the time at which it was
 * read, so that a checker can tell a stale, swapped or shifted value from a right one:
 *
 *     register r of unit u = (tick + 40503 * r + 24917 * u) modulo 65536
 *
 * `tick` is the Unix time in units of 100 ms, taken once for each request. Reads of more than the longest are refused with
 * an exception of one's choice; reads that touch a hole with exception 0x02.
 *
 *     libmodbus_site (tcp | rtu PATH BAUD) UNIT M LONGEST TOO_LONG [FIRST-LAST ...]
 *
 * Prints `ready tcp <port>` or `ready rtu <path>` when it can be asked, then `request <address> <count> <exception, 0 for
 * none>` for each read, and ends when its standard input closes, so that it never outlives whoever started it.
 */
#include <errno.h>
#include <modbus/modbus.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_HOLES 64

static int unit, registers, longest, too_long;
static int holes[MOST_HOLES][2];
static int hole_count;

static void *watch_parent(void *unused)
{
    char byte;
    (void)unused;
    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
    _exit(0);
}

static void die(const char *what)
{
    fprintf(stderr, "libmodbus_site: %s: %s\n", what, modbus_strerror(errno));
    exit(1);
}

static int refused(int address, int count)
{
    if (count > longest)
        return too_long;
    if (address + count > registers)
        return MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
    for (int i = 0; i < hole_count; i++)
        if (holes[i][0] <= address + count - 1 && address <= holes[i][1])
            return MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS;
    return 0;
}

/* Answers requests until the connection ends. */
static void serve(modbus_t *context, modbus_mapping_t *mapping, int header)
{
    uint8_t query[MODBUS_MAX_ADU_LENGTH];
    for (;;) {
        int length = modbus_receive(context, query);
        if (length == 0) /* for another unit */
            continue;
        if (length < 0) {
            if (errno == ECONNRESET)
                return;
            continue; /* a spoiled frame */
        }
        int function = query[header];
        if (function == MODBUS_FC_READ_HOLDING_REGISTERS) {
            int address = query[header + 1] << 8 | query[header + 2];
            int count = query[header + 3] << 8 | query[header + 4];
            int exception = refused(address, count);
            printf("request %d %d %d\n", address, count, exception);
            fflush(stdout);
            if (exception) {
                modbus_reply_exception(context, query, exception);
                continue;
            }
            struct timespec now;
            clock_gettime(CLOCK_REALTIME, &now);
            uint64_t tick = (uint64_t)now.tv_sec * 10 + now.tv_nsec / 100000000;
            for (int r = address; r < address + count; r++)
                mapping->tab_registers[r] = (uint16_t)(tick + 40503u * r + 24917u * unit);
        }
        modbus_reply(context, query, length, mapping);
    }
}

static void serve_tcp(modbus_mapping_t *mapping)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    modbus_t *context = modbus_new_tcp("127.0.0.1", 0);
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (context == NULL || listener < 0 || bind(listener, (struct sockaddr *)&address, sizeof address) < 0 ||
        listen(listener, 4) < 0 || getsockname(listener, (struct sockaddr *)&address, &size) < 0)
        die("tcp");
    printf("ready tcp %d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        if (modbus_tcp_accept(context, &listener) < 0)
            die("accept");
        serve(context, mapping, modbus_get_header_length(context));
        modbus_close(context);
    }
}

static void serve_rtu(modbus_mapping_t *mapping, const char *path, int baud)
{
    modbus_t *context = modbus_new_rtu(path, baud, 'N', 8, 1);
    if (context == NULL || modbus_set_slave(context, unit) < 0 || modbus_connect(context) < 0)
        die(path);
    printf("ready rtu %s\n", path);
    fflush(stdout);
    serve(context, mapping, modbus_get_header_length(context));
}

int main(int argc, char **argv)
{
    int rtu = argc > 1 && strcmp(argv[1], "rtu") == 0;
    int at = rtu ? 4 : 2;
    if (argc < at + 4) {
        fprintf(stderr, "libmodbus_site (tcp | rtu PATH BAUD) UNIT M LONGEST TOO_LONG [FIRST-LAST ...]\n");
        return 2;
    }
    unit = atoi(argv[at]);
    registers = atoi(argv[at + 1]);
    longest = atoi(argv[at + 2]);
    too_long = atoi(argv[at + 3]);
    for (int i = at + 4; i < argc && hole_count < MOST_HOLES; i++)
        if (sscanf(argv[i], "%d-%d", &holes[hole_count][0], &holes[hole_count][1]) == 2)
            hole_count++;
    modbus_mapping_t *mapping = modbus_mapping_new(0, 0, registers, 0);
    pthread_t watcher;
    if (mapping == NULL || pthread_create(&watcher, NULL, watch_parent, NULL) != 0)
        die("start");
    if (rtu)
        serve_rtu(mapping, argv[2], atoi(argv[3]));
    else
        serve_tcp(mapping);
    return 0;
}
