// SPDX-License-Identifier: MIT OR Apache-2.0
/* Arguments at addresses that cannot be read or written: EFAULT, and nothing happens. */
#include <sys/mman.h>

#include "device.h"

static const unsigned long ioctls[] = { BIND_VIRQ, BIND_INTERDOMAIN, BIND_UNBOUND_PORT, UNBIND, NOTIFY, RESTRICT_DOMID };

/* Two bytes before a page that is not mapped. */
static char *edge(void)
{
    char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(pages != MAP_FAILED);
    GIVES(0, munmap(pages + 4096, 4096));
    return pages + 4094;
}

static void ioctls_at(int fd, void *address)
{
    for (unsigned i = 0; i < sizeof ioctls / sizeof *ioctls; i++)
        REFUSED(EFAULT, ioctl(fd, ioctls[i], address));
}

/* A failed copy consumes nothing: the event is still there afterwards. */
static void failed_reads_keep_events(int fd, struct channel c, void *bad)
{
    GIVES(0, notify(fd, c.caller));
    GIVES(1, readable(fd, 5000));
    REFUSED(EFAULT, read(fd, bad, 4));
    REFUSED(EFAULT, read(fd, (void *)"text", 4));
    GIVES(c.listener, pending(fd));
    GIVES(0, unmask(fd, c.listener));
}

/* Addresses of the kernel's half are refused before the driver sees the call. */
static void outside(int fd, void *bad)
{
    ioctls_at(fd, bad);
    for (int length = 3; length <= 4; length++) {
        REFUSED(EFAULT, read(fd, bad, length));
        REFUSED(EFAULT, write(fd, bad, length));
    }
}

/* Addresses where nothing is mapped are the driver's own business. */
static void unmapped(int fd, struct channel c, void *bad)
{
    ioctls_at(fd, bad);
    REFUSED(EAGAIN, read(fd, bad, 4));            /* an empty ring comes before the buffer */
    GIVES(0, read(fd, bad, 3));                   /* no whole port: nothing is touched */
    GIVES(0, write(fd, bad, 3));
    REFUSED(EFAULT, write(fd, bad, 4));
    failed_reads_keep_events(fd, c, bad);
}

int main(void)
{
    int fd = device(O_NONBLOCK);
    struct channel c = channel(fd, fd, 0);
    char *hole = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *half = edge();
    unmapped(fd, c, NULL);
    unmapped(fd, c, (void *)8);
    unmapped(fd, c, hole);
    outside(fd, (void *)0xffff800000000000UL);
    outside(fd, (void *)-4096L);
    REFUSED(EFAULT, ioctl(fd, BIND_VIRQ, half));
    REFUSED(EFAULT, ioctl(fd, BIND_INTERDOMAIN, half - 4));
    GIVES(0, ioctl(fd, RESTRICT_DOMID, memcpy(half, "\7", 2)));
    REFUSED(EFAULT, ioctl(fd, BIND_INTERDOMAIN, hole));    /* copied before the restriction is looked at */
    REFUSED(EACCES, ioctl(fd, BIND_VIRQ, hole));           /* here the restriction comes first */
    REFUSED(ENOSYS, ioctl(fd, 0x44505, hole));
    GIVES(0, ioctl(fd, RESET, hole));
    passes(fd, fd, c);
    puts("ok");
    return 0;
}
