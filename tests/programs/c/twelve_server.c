// SPDX-License-Identifier: MIT OR Apache-2.0
/* twelve_server DIR PEER: the half of a conversation over libxenevtchn that offers a port to the domain PEER. See twelve_client.c. */
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <xenevtchn.h>

#include "meet.h"

/* Waits for one event, which must be that port's, and enables the port again. */
static void event(xenevtchn_handle *h, int port)
{
    GIVES(port, xenevtchn_pending(h));
    GIVES(0, xenevtchn_unmask(h, port));
}

static void virqs(xenevtchn_handle *h)
{
    int virq = VALUE(xenevtchn_bind_virq(h, 3));
    REFUSED(EEXIST, xenevtchn_bind_virq(h, 3));
    REFUSED(EINVAL, xenevtchn_bind_virq(h, 24));
    GIVES(0, xenevtchn_unbind(h, virq));
    REFUSED(ENOTCONN, xenevtchn_unbind(h, virq));
}

static void restriction(void)
{
    xenevtchn_handle *h = xenevtchn_open(NULL, 0);
    CHECK(h != NULL);
    GIVES(0, xenevtchn_restrict(h, 7));
    REFUSED(EACCES, xenevtchn_restrict(h, 7));
    REFUSED(EACCES, xenevtchn_bind_virq(h, 3));
    REFUSED(EACCES, xenevtchn_bind_interdomain(h, 8, 1));
    GIVES(0, xenevtchn_close(h));
}

static void adopted_descriptor(void)
{
    int fd = VALUE(open("/dev/xen/evtchn", O_RDWR | O_CLOEXEC));
    xenevtchn_handle *h = xenevtchn_fdopen(NULL, fd, 0);
    CHECK(h != NULL);
    GIVES(fd, xenevtchn_fd(h));
    GIVES(0, xenevtchn_unbind(h, VALUE(xenevtchn_bind_virq(h, 8))));
    GIVES(0, xenevtchn_close(h));
    REFUSED(EBADF, fcntl(fd, F_GETFD));
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    const char *dir = argv[1];
    int peer = atoi(argv[2]);
    xenevtchn_handle *h = xenevtchn_open(NULL, 0);
    CHECK(h != NULL);
    GIVES(FD_CLOEXEC, fcntl(xenevtchn_fd(h), F_GETFD));

    int port = VALUE(xenevtchn_bind_unbound_port(h, peer));
    struct pollfd quiet = { xenevtchn_fd(h), POLLIN, 0 };
    GIVES(0, poll(&quiet, 1, 0));
    give(dir, "port", port);
    event(h, port);                        /* the client's first event */
    GIVES(0, xenevtchn_notify(h, port));
    event(h, port);                        /* from its second binding, after it had closed the first */
    give(dir, "served", 1);
    take(dir, "gone");
    GIVES(0, xenevtchn_notify(h, port));   /* nobody there: still no error */
    GIVES(0, xenevtchn_unbind(h, port));

    virqs(h);
    restriction();
    adopted_descriptor();
    GIVES(0, xenevtchn_close(h));
    puts("server done");
    return 0;
}
