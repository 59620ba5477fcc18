/*
 * Usage: stale-reads CPU ROUNDS
 *
 * In each round, a thread on the CPU reads a page again and again until it is denied, and a thread on the other of two
 * CPUs takes the page away with mprotect(2). Prints in how many rounds the page could still be read after mprotect had
 * returned: then the reader's CPU was left out of the flush of TLBs.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, ENOUGH = 1000 };

static volatile char *page;
static int reader_cpu, rounds;

/* The last round in which the page was given, taken away, and found to be denied; and how often it was read so far. */
static atomic_int given, taken, denied, reads;
static int stale_rounds;

static sigjmp_buf fault;

static void on_fault(int signal)
{
    (void)signal;
    siglongjmp(fault, 1);
}

static void pin(int cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0) {
        perror("sched_setaffinity");
        exit(1);
    }
}

static void *read_until_denied(void *unused)
{
    (void)unused;
    pin(reader_cpu);
    for (int round = 1; round <= rounds; round++) {
        volatile int stale = 0;
        while (given != round)
            ;
        if (sigsetjmp(fault, 1) == 0)
            for (;;) {
                int gone = taken == round;
                (void)*page;
                stale |= gone;
                reads++;
            }
        stale_rounds += stale;
        denied = round;
    }
    return NULL;
}

int main(int count, char **words)
{
    pthread_t reader;
    struct sigaction action = {.sa_handler = on_fault};

    if (count != 3)
        return 2;
    reader_cpu = atoi(words[1]);
    rounds = atoi(words[2]);
    page = mmap(NULL, PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED || sigaction(SIGSEGV, &action, NULL) != 0 ||
        pthread_create(&reader, NULL, read_until_denied, NULL) != 0)
        return 1;
    pin(1 - reader_cpu);
    for (int round = 1; round <= rounds; round++) {
        mprotect((void *)page, PAGE, PROT_READ | PROT_WRITE);
        *page = 1;
        reads = 0;
        given = round;
        while (reads < ENOUGH)
            ;
        mprotect((void *)page, PAGE, PROT_NONE);
        taken = round;
        while (denied != round)
            ;
    }
    pthread_join(reader, NULL);
    printf("%d\n", stale_rounds);
    return 0;
}
