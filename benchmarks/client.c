/*
 * Sends requests to several servers on the loopback in turn, as Prometheus does: with gzip and persistent connections.
 *
 * Usage: client REQUESTS PID:PORT:PATH...
 *
 * Prints a line for each server: the CPU time of its process for all requests in nanoseconds, the bytes of one response on
 * the wire, and the latency of each response in nanoseconds, from the first byte sent to the last byte received. It is in C,
 * because a client in Python takes as long as a response, and would dominate the measurement.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_SERVERS 8
#define MOST_BYTES (64 << 20)

struct server {
    clockid_t clock;
    int socket;
    char request[1024];
    int size;
    int64_t cpu;
    size_t bytes;
    int64_t *took;
};

static char answer[MOST_BYTES + 1];

static void fail(const char *why)
{
    perror(why);
    exit(1);
}

static int64_t now(clockid_t clock)
{
    struct timespec time;
    if (clock_gettime(clock, &time))
        fail("client: a clock cannot be read");
    return time.tv_sec * INT64_C(1000000000) + time.tv_nsec;
}

/* Receives a response into answer; returns its bytes, header included. Fails unless it is a 200 with a length or chunks. */
static size_t receive(int from)
{
    size_t have = 0, whole = 0;
    int chunked = 0;
    for (;;) {
        ssize_t more = recv(from, answer + have, MOST_BYTES - have, 0);
        if (more <= 0)
            fail("client: a connection was closed");
        have += more;
        answer[have] = '\0';
        if (!whole && !chunked) {
            char *end = strstr(answer, "\r\n\r\n"), *length = strcasestr(answer, "\r\nContent-Length:");
            if (!end)
                continue;
            if (strncmp(answer, "HTTP/1.1 200", 12)) {
                fprintf(stderr, "client: the response is not a 200: %.200s\n", answer);
                exit(1);
            }
            if (length && length < end)
                whole = (end + 4 - answer) + strtoul(length + 17, NULL, 10);
            else
                chunked = 1;
        }
        if (chunked ? have > 7 && !memcmp(answer + have - 7, "\r\n0\r\n\r\n", 7) : have == whole)
            return have;
    }
}

static void ask(struct server *server, int64_t *took)
{
    int64_t start = now(CLOCK_MONOTONIC);
    if (send(server->socket, server->request, server->size, 0) != server->size)
        fail("client: a request cannot be sent");
    server->bytes = receive(server->socket);
    *took = now(CLOCK_MONOTONIC) - start;
}

static void reach(struct server *server, const char *target)
{
    int pid, port, one = 1;
    char path[256];
    if (sscanf(target, "%d:%d:%255s", &pid, &port, path) != 3 || clock_getcpuclockid(pid, &server->clock)) {
        fprintf(stderr, "client: %s is not PID:PORT:PATH of a running process\n", target);
        exit(2);
    }
    server->size = snprintf(server->request, sizeof server->request,
                            "GET %s HTTP/1.1\r\n"
                            "Host: 127.0.0.1:%d\r\n"
                            "User-Agent: Prometheus/2.42.0\r\n"
                            "Accept: application/openmetrics-text;version=1.0.0,application/openmetrics-text;"
                            "version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1\r\n"
                            "Accept-Encoding: gzip\r\n"
                            "X-Prometheus-Scrape-Timeout-Seconds: 10\r\n"
                            "\r\n",
                            path, port);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
    server->socket = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->socket < 0 || connect(server->socket, (struct sockaddr *)&address, sizeof address)
        || setsockopt(server->socket, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one))
        fail("client: a server cannot be reached");
}

int main(int count, char **words)
{
    long requests = count > 2 ? strtol(words[1], NULL, 10) : 0;
    int servers = count - 2;
    if (requests < 1 || servers < 1 || servers > MOST_SERVERS) {
        fprintf(stderr, "usage: client REQUESTS PID:PORT:PATH...\n");
        return 2;
    }
    struct server server[MOST_SERVERS] = {0};
    for (int i = 0; i < servers; i++) {
        reach(&server[i], words[i + 2]);
        server[i].took = calloc(requests, sizeof *server[i].took);
        ask(&server[i], server[i].took); /* the first request is for warming up and does not count */
        server[i].cpu = -now(server[i].clock);
    }
    for (long n = 0; n < requests; n++)
        for (int i = 0; i < servers; i++)
            ask(&server[i], &server[i].took[n]);
    for (int i = 0; i < servers; i++) {
        printf("%jd %zu", (intmax_t)(server[i].cpu + now(server[i].clock)), server[i].bytes);
        for (long n = 0; n < requests; n++)
            printf(" %jd", (intmax_t)server[i].took[n]);
        printf("\n");
    }
    return 0;
}
