// SPDX-License-Identifier: MIT OR Apache-2.0
/* poll, select, epoll in both modes and SIGIO report an event; each once for a ring that was empty. */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/epoll.h>
#include <sys/select.h>

#include "device.h"

static volatile sig_atomic_t signals;
static void caught(int signal) { (void)signal; signals++; }

static int selected(int fd)
{
    fd_set set;
    FD_ZERO(&set);
    FD_SET(fd, &set);
    struct timeval limit = { 5, 0 };
    return select(fd + 1, &set, NULL, NULL, &limit);
}

static int in_epoll(int fd, uint32_t events)
{
    int epoll = VALUE(epoll_create1(EPOLL_CLOEXEC));
    struct epoll_event event = { events, { .fd = fd } };
    GIVES(0, epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event));
    return epoll;
}

static void asynchronous(int fd)
{
    struct sigaction action = { .sa_handler = caught, .sa_flags = SA_RESTART };
    GIVES(0, sigaction(SIGIO, &action, NULL));
    GIVES(0, fcntl(fd, F_SETOWN, getpid()));
    GIVES(0, fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
}

int main(void)
{
    int fd = device(O_NONBLOCK), other = device(0);
    struct channel c = channel(fd, other, 0), d = channel(fd, other, 0);
    struct epoll_event event;
    int level = in_epoll(fd, EPOLLIN), edge = in_epoll(fd, EPOLLIN | EPOLLET);
    asynchronous(fd);
    GIVES(0, epoll_wait(edge, &event, 1, 0));
    GIVES(0, notify(other, c.caller));
    GIVES(1, readable(fd, 5000));
    GIVES(1, selected(fd));
    GIVES(1, epoll_wait(level, &event, 1, 5000));
    GIVES(1, epoll_wait(level, &event, 1, 0));
    GIVES(1, epoll_wait(edge, &event, 1, 5000));
    GIVES(0, epoll_wait(edge, &event, 1, 0));
    for (int i = 0; i < 1000 && signals < 1; i++)
        usleep(1000);
    GIVES(1, signals);

    GIVES(0, notify(other, d.caller));           /* a second event while the first is unread: no edge, no signal */
    usleep(50000);
    GIVES(0, epoll_wait(edge, &event, 1, 0));
    GIVES(1, signals);
    uint32_t ports[2];
    GIVES(sizeof ports, read(fd, ports, sizeof ports));
    CHECK(ports[0] == (uint32_t)c.listener && ports[1] == (uint32_t)d.listener);
    GIVES(0, epoll_wait(level, &event, 1, 0));
    GIVES(sizeof ports, write(fd, ports, sizeof ports));
    GIVES(0, notify(other, d.caller));
    GIVES(1, epoll_wait(edge, &event, 1, 5000));
    struct pollfd entry = { other, POLLIN | POLLOUT, 0 };
    GIVES(1, poll(&entry, 1, 0));
    GIVES(POLLOUT, entry.revents);
    puts("ok");
    return 0;
}
