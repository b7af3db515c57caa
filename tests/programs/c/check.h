// SPDX-License-Identifier: MIT OR Apache-2.0
/* Checks that end the program with the line, the call and errno when they fail. */
#ifndef CHECK_H
#define CHECK_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAIL(what, got) do { \
    fprintf(stderr, "%s:%d: %s: got %ld, errno %d (%s)\n", __FILE__, __LINE__, what, (long)(got), errno, strerror(errno)); \
    exit(1); \
} while (0)

/* The condition holds. */
#define CHECK(condition) do { if (!(condition)) FAIL(#condition, 0); } while (0)

/* The call gives exactly this. */
#define GIVES(expected, call) do { \
    errno = 0; \
    long got_ = (call), expected_ = (expected); \
    if (got_ != expected_) FAIL(#call " should give " #expected, got_); \
} while (0)

/* The call gives -1 and this errno. */
#define REFUSED(error, call) do { \
    errno = 0; \
    long got_ = (call); \
    if (got_ != -1 || errno != (error)) FAIL(#call " should be refused with " #error, got_); \
} while (0)

/* The call gives something that is not negative, which is the value of this expression. */
#define VALUE(call) ({ errno = 0; long got_ = (call); if (got_ < 0) FAIL(#call, got_); (int)got_; })

#endif
