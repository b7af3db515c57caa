// SPDX-License-Identifier: MIT OR Apache-2.0
/* The device as programs look for it before they open it, and the ways to open it. */
#include <sys/stat.h>
#include <sys/syscall.h>

#include "device.h"

static void works(int fd)
{
    CHECK(fd >= 0);
    GIVES(0, unbind(fd, VALUE(bind_unbound(fd, 1))));
    GIVES(0, close(fd));
}

int main(void)
{
    struct stat status;
    GIVES(0, access(NODE, F_OK));
    GIVES(0, access(NODE, R_OK | W_OK));
    GIVES(0, stat(NODE, &status));
    CHECK(S_ISCHR(status.st_mode));
    works(open(NODE, O_RDWR));
    works(open(NODE, O_RDONLY));                 /* ioctl needs neither read nor write access */
    works(open(NODE, O_WRONLY | O_CLOEXEC));
    works(open("//dev/./xen//evtchn", O_RDWR));
    works(openat(-1, NODE, O_RDWR));
    works(syscall(SYS_openat2, AT_FDCWD, NODE, (uint64_t[3]){ O_RDWR | O_CLOEXEC }, 24));
#ifdef SYS_open
    works(syscall(SYS_open, NODE, O_RDWR));
#endif
    FILE *stream = fopen(NODE, "r+");
    CHECK(stream != NULL);
    GIVES(0, unbind(fileno(stream), VALUE(bind_unbound(fileno(stream), 1))));
    GIVES(0, fclose(stream));
    REFUSED(ENOENT, open("/dev/xen/evtchn-", O_RDWR));
    REFUSED(EEXIST, open(NODE, O_RDWR | O_CREAT | O_EXCL, 0600));
    int fd = device(0);
    GIVES(0, fstat(fd, &status));
    CHECK(S_ISCHR(status.st_mode));
    REFUSED(ESPIPE, lseek(fd, 0, SEEK_SET));
    puts("ok");
    return 0;
}
