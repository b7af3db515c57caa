// SPDX-License-Identifier: MIT OR Apache-2.0
/* Numbers handed from one program to another through files of a folder. */
#ifndef MEET_H
#define MEET_H

#include <limits.h>
#include <unistd.h>

#include "check.h"

/* Puts a number into DIR/NAME, complete as soon as it is visible. */
static inline void give(const char *dir, const char *name, int value)
{
    char path[PATH_MAX], fresh[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    snprintf(fresh, sizeof fresh, "%s/%s.new", dir, name);
    FILE *file = fopen(fresh, "w");
    CHECK(file != NULL);
    fprintf(file, "%d\n", value);
    GIVES(0, fclose(file));
    GIVES(0, rename(fresh, path));
}

/* Waits for DIR/NAME, at most ten seconds, and reads its number. */
static inline int take(const char *dir, const char *name)
{
    char path[PATH_MAX];
    int value;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    for (int i = 0; i < 2000; i++) {
        FILE *file = fopen(path, "r");
        if (file) {
            GIVES(1, fscanf(file, "%d", &value));
            fclose(file);
            return value;
        }
        usleep(5000);
    }
    fprintf(stderr, "nobody wrote %s\n", path);
    exit(1);
}

#endif
