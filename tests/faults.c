/* Fails the n-th change of a file below a folder, or ends the process there: what a test loads into a host (LD_PRELOAD).
 *
 * FAULTS_BELOW is the folder, FAULTS_CONTROL a file of three numbers of 32 bits: how many changes are left until the
 * fault (0: none comes), whether it ends the process, and whether it came. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int *control;
static const char *below;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL");
    below = getenv("FAULTS_BELOW");
    int file = path && below ? open(path, O_RDWR) : -1;
    if (file >= 0) {
        void *mapped = mmap(NULL, 12, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        if (mapped != MAP_FAILED)
            control = mapped;
        close(file);
    }
}

static int is_below(const char *path) {
    return path && strncmp(path, below, strlen(below)) == 0;
}

static int strikes(const char *path) {
    if (!control || control[0] <= 0 || !is_below(path) || __sync_sub_and_fetch(&control[0], 1) != 0)
        return 0;
    control[2] = 1;
    if (control[1])
        kill(getpid(), SIGKILL);
    errno = EIO;
    return 1;
}

static int strikes_at(int file) {
    char link[64], path[PATH_MAX + 1];
    if (!control || control[0] <= 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, PATH_MAX);
    path[length > 0 ? length : 0] = 0;
    return strikes(path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define OPENS(name)                                                        \
    int name(const char *path, int flags, ...) {                           \
        va_list rest;                                                      \
        va_start(rest, flags);                                             \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
        va_end(rest);                                                      \
        return (flags & O_ACCMODE) != O_RDONLY && strikes(path) ? -1 : REAL(name)(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define WRITES(name, parameters, arguments) \
    ssize_t name parameters { return strikes_at(file) ? -1 : REAL(name) arguments; }
WRITES(write, (int file, const void *bytes, size_t length), (file, bytes, length))
WRITES(pwrite, (int file, const void *bytes, size_t length, off_t at), (file, bytes, length, at))
WRITES(pwrite64, (int file, const void *bytes, size_t length, off64_t at), (file, bytes, length, at))

#define CHANGES(name, parameters, arguments, where) \
    int name parameters { return where ? -1 : REAL(name) arguments; }
CHANGES(fsync, (int file), (file), strikes_at(file))
CHANGES(fdatasync, (int file), (file), strikes_at(file))
CHANGES(ftruncate, (int file, off_t length), (file, length), strikes_at(file))
CHANGES(ftruncate64, (int file, off64_t length), (file, length), strikes_at(file))
CHANGES(rename, (const char *from, const char *to), (from, to), strikes(from))
CHANGES(unlink, (const char *path), (path), strikes(path))
