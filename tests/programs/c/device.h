// SPDX-License-Identifier: MIT OR Apache-2.0
/* /dev/xen/evtchn with bare system calls; the numbers are those of Linux's xen/evtchn.h. */
#ifndef DEVICE_H
#define DEVICE_H

#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "check.h"

#define NODE "/dev/xen/evtchn"

enum {
    BIND_VIRQ = 0x44500,
    BIND_INTERDOMAIN = 0x84501,
    BIND_UNBOUND_PORT = 0x44502,
    UNBIND = 0x44503,
    NOTIFY = 0x44504,
    RESET = 0x4505,
    RESTRICT_DOMID = 0x24506,
};

static inline int device(int flags) { return VALUE(open(NODE, O_RDWR | flags)); }

static inline int bind_virq(int fd, uint32_t virq) { return ioctl(fd, BIND_VIRQ, &virq); }
static inline int bind_unbound(int fd, uint32_t domain) { return ioctl(fd, BIND_UNBOUND_PORT, &domain); }
static inline int unbind(int fd, uint32_t port) { return ioctl(fd, UNBIND, &port); }
static inline int notify(int fd, uint32_t port) { return ioctl(fd, NOTIFY, &port); }
static inline int restrict_to(int fd, uint16_t domain) { return ioctl(fd, RESTRICT_DOMID, &domain); }

static inline int bind_interdomain(int fd, uint32_t domain, uint32_t port)
{
    uint32_t argument[2] = { domain, port };
    return ioctl(fd, BIND_INTERDOMAIN, argument);
}

/* Reads one port; blocks as the descriptor does. */
static inline int pending(int fd)
{
    uint32_t port;
    long got = read(fd, &port, sizeof port);
    return got == sizeof port ? (int)port : -1;
}

/* Enables a port again. */
static inline int unmask(int fd, uint32_t port) { return write(fd, &port, sizeof port) == sizeof port ? 0 : -1; }

/* Whether the descriptor is readable within so many milliseconds. */
static inline int readable(int fd, int milliseconds)
{
    struct pollfd entry = { fd, POLLIN, 0 };
    return poll(&entry, 1, milliseconds) == 1 && (entry.revents & POLLIN);
}

/* How long a descriptor may still look readable after a write. 0 but for descriptors that the launcher's filter does not know: there
 * a write lands in the pipe behind the descriptor first, and is taken out a moment later. */
static int moment = 0;

static inline int quiet(int fd)
{
    for (int waited = 0; readable(fd, 0); waited++) {
        if (waited >= moment)
            return 0;
        usleep(1000);
    }
    return 1;
}

/* A channel between two ports of one domain, `domain` its number. The initial event of the second port is taken. */
struct channel { int listener, caller; };

static inline struct channel channel(int listener_fd, int caller_fd, uint32_t domain)
{
    struct channel c;
    c.listener = VALUE(bind_unbound(listener_fd, domain));
    c.caller = VALUE(bind_interdomain(caller_fd, domain, c.listener));
    GIVES(1, readable(caller_fd, 5000));
    GIVES(c.caller, pending(caller_fd));
    GIVES(0, unmask(caller_fd, c.caller));
    return c;
}

/* An event goes through the channel and arrives once. */
static inline void passes(int listener_fd, int caller_fd, struct channel c)
{
    GIVES(0, notify(caller_fd, c.caller));
    GIVES(1, readable(listener_fd, 5000));
    GIVES(c.listener, pending(listener_fd));
    GIVES(0, unmask(listener_fd, c.listener));
    GIVES(1, quiet(listener_fd));
}

#endif
