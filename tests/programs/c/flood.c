// SPDX-License-Identifier: MIT OR Apache-2.0
/* flood opens: opens until EMFILE. flood ports: binds until ENOSPC. flood processes: many processes at once.
 * What was there before keeps working, and what is given back can be had again. */
#include <sys/resource.h>
#include <sys/wait.h>

#include "device.h"

static void opens(void)
{
    struct rlimit limit = { 100, 100 };
    GIVES(0, setrlimit(RLIMIT_NOFILE, &limit));
    int first = device(0), second = device(0), last = second, fd;
    struct channel c = channel(first, second, 0);
    errno = 0;
    while ((fd = open(NODE, O_RDWR)) >= 0)
        last = fd;
    CHECK(errno == EMFILE);
    GIVES(99, last);
    passes(first, second, c);
    GIVES(0, close(last));
    GIVES(99, open(NODE, O_RDWR));
    passes(first, second, c);
}

static void ports(void)
{
    int fd = device(0), other = device(0), count = 0, last = 0, port;
    struct channel c = channel(fd, other, 0);
    errno = 0;
    while ((port = bind_unbound(fd, 7)) >= 0)
        last = port, count++;
    CHECK(errno == ENOSPC);
    CHECK(count > 3900);
    REFUSED(ENOSPC, bind_virq(fd, 8));
    passes(fd, other, c);
    GIVES(0, unbind(fd, last));
    GIVES(last, bind_virq(fd, 8));
    GIVES(0, close(fd));
    for (int i = 0; i < 100; i++)       /* the close gave everything back */
        VALUE(bind_unbound(other, 7));
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
    CHECK(argc == 2);
    if (!strcmp(argv[1], "opens"))
        opens();
    else if (!strcmp(argv[1], "ports"))
        ports();
    else
        processes();
    puts("ok");
    return 0;
}
