// SPDX-License-Identifier: MIT OR Apache-2.0
/* blocked readers: two readers and one event. blocked signal: a signal breaks a read. blocked exit: a process ends while a thread of
 * it is blocked in a read. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include "device.h"

static int fd, other;
static struct channel c;
static atomic_int woken;

static void *reader(void *unused)
{
    (void)unused;
    GIVES(c.listener, pending(fd));
    woken++;
    return NULL;
}

static void wait_for(int count)
{
    for (int i = 0; i < 1000 && woken < count; i++)
        usleep(5000);
    GIVES(count, woken);
}

static void readers(void)
{
    pthread_t threads[2];
    for (int i = 0; i < 2; i++)
        GIVES(0, pthread_create(&threads[i], NULL, reader, NULL));
    usleep(100000);
    for (int event = 1; event <= 2; event++) {
        GIVES(0, notify(other, c.caller));       /* other calls are served while both are blocked */
        wait_for(event);
        usleep(100000);
        GIVES(event, woken);                     /* one event wakes one reader */
        GIVES(0, unmask(fd, c.listener));
    }
    for (int i = 0; i < 2; i++)
        GIVES(0, pthread_join(threads[i], NULL));
}

static void caught(int signal) { (void)signal; woken++; }

static void broken_by_a_signal(void)
{
    struct sigaction action = { .sa_handler = caught };
    GIVES(0, sigaction(SIGALRM, &action, NULL));
    alarm(1);
    REFUSED(EINTR, pending(fd));
    GIVES(1, woken);
    passes(fd, other, c);
}

int main(int argc, char **argv)
{
    CHECK(argc == 2);
    fd = device(0), other = device(0), c = channel(fd, other, 0);
    if (!strcmp(argv[1], "readers"))
        readers();
    else if (!strcmp(argv[1], "signal"))
        broken_by_a_signal();
    else {
        pthread_t thread;
        GIVES(0, pthread_create(&thread, NULL, reader, NULL));
        usleep(100000);
    }
    puts("ok");
    return 0;
}
