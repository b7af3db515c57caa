// SPDX-License-Identifier: MIT OR Apache-2.0
/* flood opens: opens until EMFILE. flood few: the same with a low limit. flood ports N: binds until ENOSPC, at least N ports. flood far N: has
 * events on port N. flood processes: many processes at once.
 * What was there before keeps working, and what is given back can be had again. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "device.h"

static void limit_descriptors(rlim_t count)
{
    struct rlimit limit = { count, count };
    GIVES(0, setrlimit(RLIMIT_NOFILE, &limit));
}

static void opens(void)
{
    limit_descriptors(1024);
    int first = device(0), second = device(0), last = second, count = 2, fd;
    struct channel c = channel(first, second, 0);
    errno = 0;
    while ((fd = open(NODE, O_RDWR)) >= 0)
        last = fd, count++;
    CHECK(errno == EMFILE);
    CHECK(count >= 200);
    passes(first, second, c);
    GIVES(0, close(last));
    GIVES(last, open(NODE, O_RDWR));
    passes(first, second, c);
}

/* Most programs that lower their limit do so first thing. */
static void few_descriptors(void)
{
    limit_descriptors(20);
    moment = 1000;
    int first = device(0), second = device(0), count = 2;
    struct channel c = channel(first, second, 0);
    passes(first, second, c);
    while (open(NODE, O_RDWR) >= 0)
        count++;
    CHECK(errno == EMFILE);
    CHECK(count > 10 && count < 20);
    passes(first, second, c);
}

static void ports(int least)
{
    int fd = device(0), other = device(0), count = 0, last = 0, port;
    struct channel c = channel(fd, other, 0);
    errno = 0;
    while ((port = bind_unbound(fd, 7)) >= 0)
        last = port, count++;
    CHECK(errno == ENOSPC);
    CHECK(count >= least);
    REFUSED(ENOSPC, bind_virq(fd, 8));
    passes(fd, other, c);
    GIVES(0, unbind(fd, last));
    GIVES(last, bind_virq(fd, 8));
    GIVES(0, close(fd));
    for (int i = 0; i < 100; i++)       /* the close gave everything back */
        VALUE(bind_unbound(other, 7));
}

static void far(int port)
{
    int fd = device(0), other = device(0);
    while (VALUE(bind_unbound(fd, 7)) < port - 1)
        ;
    struct channel c = channel(fd, other, 0);
    GIVES(port, c.listener);
    for (int i = 0; i < 3; i++) {
        passes(fd, other, c);
        passes(other, fd, (struct channel){ c.caller, c.listener });
    }
    GIVES(0, unbind(fd, port));
    GIVES(port, bind_unbound(fd, 7));
    GIVES(1, quiet(fd));
}

static void one_of_many(void)
{
    for (int i = 0; i < 20; i++) {
        int first = device(0), second = device(0);
        passes(first, second, channel(first, second, 0));
        GIVES(0, close(first));
        GIVES(0, close(second));
    }
}

static void processes(void)
{
    enum { MANY = 40 };
    for (int i = 0; i < MANY; i++)
        if (VALUE(fork()) == 0) {
            one_of_many();
            exit(0);
        }
    for (int i = 0; i < MANY; i++) {
        int status;
        VALUE(wait(&status));
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    }
}

int main(int argc, char **argv)
{
    CHECK(argc >= 2);
    int number = argc > 2 ? atoi(argv[2]) : 0;
    if (!strcmp(argv[1], "opens"))
        opens();
    else if (!strcmp(argv[1], "few"))
        few_descriptors();
    else if (!strcmp(argv[1], "ports"))
        ports(number);
    else if (!strcmp(argv[1], "far"))
        far(number);
    else
        processes();
    puts("ok");
    return 0;
}
