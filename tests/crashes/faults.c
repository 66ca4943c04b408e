// A library that is preloaded before the C library. It counts the writes, syncs and renames in one folder,
// makes one of them fail, and lets the clocks jump.
//
// FAULT_FOLDER: the folder, as an absolute path without links. Calls on other files are passed on.
// FAULT_AT: the number of the call that fails, from 1 on; 0 or missing if none does.
// FAULT_ERROR: EIO, of this call alone; or ENOSPC, of this call and of all that follow. A full disk still
//     takes the first half of the bytes of the first write.
// FAULT_COUNT: a file into which the number of calls is written at the end.
// FAULT_CLOCK: if set, the clocks jump.
// FAULT_LOCK: if set, no file of the folder can be locked, as on a file system without locks.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static atomic_long calls;
static atomic_int was_full;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static int is_in_folder(const char *path) {
    const char *folder = getenv("FAULT_FOLDER");
    size_t length = folder == NULL ? 0 : strlen(folder);
    return length > 0 && strncmp(path, folder, length) == 0 && (path[length] == '/' || path[length] == 0);
}

static int is_counted(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return is_in_folder(path);
}

// The path of a new name: that of its folder, which exists, and links are resolved.
static int is_counted_name(const char *name) {
    char path[PATH_MAX], folder[PATH_MAX];
    snprintf(path, sizeof path, "%s", name);
    char *slash = strrchr(path, '/');
    if (slash != NULL) *slash = 0;
    return realpath(slash == NULL ? "." : path, folder) != NULL && is_in_folder(folder);
}

static int is_full(void) {
    const char *error = getenv("FAULT_ERROR");
    return error != NULL && strcmp(error, "ENOSPC") == 0;
}

// Counts a call. Sets errno and returns 1 if it fails.
static int fails(void) {
    const char *text = getenv("FAULT_AT");
    long number = ++calls, at = text == NULL ? 0 : atol(text);
    if (at == 0 || number < at || (number > at && !is_full())) return 0;
    errno = is_full() ? ENOSPC : EIO;
    return 1;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    if (!is_counted(fd) || !fails()) return REAL(write)(fd, bytes, count);
    if (is_full() && count > 1 && !atomic_exchange(&was_full, 1)) return REAL(write)(fd, bytes, count / 2);
    errno = is_full() ? ENOSPC : EIO;
    return -1;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    return is_counted(fd) && fails() ? -1 : REAL(writev)(fd, parts, count);
}

int fsync(int fd) { return is_counted(fd) && fails() ? -1 : REAL(fsync)(fd); }

int fdatasync(int fd) { return is_counted(fd) && fails() ? -1 : REAL(fdatasync)(fd); }

int rename(const char *from, const char *to) { return is_counted_name(to) && fails() ? -1 : REAL(rename)(from, to); }

int flock(int fd, int operation) {
    if (getenv("FAULT_LOCK") == NULL || !is_counted(fd)) return REAL(flock)(fd, operation);
    errno = ENOLCK;
    return -1;
}

// The clock of the day jumps by a year, forwards and back. The steady clock only jumps forwards, by an hour.
int clock_gettime(clockid_t clock, struct timespec *now) {
    static atomic_long reads;
    int code = REAL(clock_gettime)(clock, now);
    if (code == 0 && getenv("FAULT_CLOCK") != NULL) {
        long jump = ++reads / 5;
        if (clock == CLOCK_REALTIME) now->tv_sec += (jump % 3 - 1) * 31536000L;
        if (clock == CLOCK_MONOTONIC) now->tv_sec += jump * 3600L;
    }
    return code;
}

__attribute__((destructor)) static void report(void) {
    const char *path = getenv("FAULT_COUNT");
    if (path == NULL) return;
    FILE *file = fopen(path, "w");
    if (file == NULL) return;
    fprintf(file, "%ld\n", (long)calls);
    fclose(file);
}
