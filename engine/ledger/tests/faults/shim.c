/* Stands between a process and the C library (LD_PRELOAD): writes down, in order, what is done to the
 * files below SHIM_ROOT and what is printed, and lets one call fail.
 *
 * SHIM_LOG    the file of records: "OP\tPATH\tARGUMENT\tLENGTH\tRESULT\n", then LENGTH bytes
 * SHIM_FAULT  "OP PATH-ENDING COUNT ERRNO FORM": the COUNTth such call after ARM was printed fails with
 *             ERRNO, not done (FORM failed) or done all the same (FORM persisted); later ones fail too
 *             where COUNT ends with +
 * SHIM_SKIP   an ending: a sync of such a path is not done and not written down, and yet succeeds
 * SHIM_SLOW   "ENDING MILLISECONDS": a sync of such a path takes so much longer; with a third word
 *             only while there is a file of this name
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096
static char *paths[FDS];
static int log_fd = -1, armed = 0;
static char fault_op[16], fault_ending[128], fault_form[16];
static int fault_count = 0, fault_onwards = 0, fault_errno = 0;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void start(void) {
    const char *log = getenv("SHIM_LOG"), *fault = getenv("SHIM_FAULT");
    if (log) log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    char count[16] = "";
    if (fault && sscanf(fault, "%15s %127s %15s %d %15s", fault_op, fault_ending, count, &fault_errno,
                        fault_form) == 5) {
        fault_count = atoi(count);
        fault_onwards = count[strlen(count) - 1] == '+';
    }
}

static int ends_with(const char *text, const char *ending) {
    size_t a = strlen(text), b = strlen(ending);
    return a >= b && strcmp(text + a - b, ending) == 0;
}

static int is_watched(const char *path) {
    const char *root = getenv("SHIM_ROOT");
    return root && path && strncmp(path, root, strlen(root)) == 0;
}

static void put(const void *bytes, size_t length) {
    const char *at = bytes;
    while (length > 0) {
        ssize_t written = syscall(SYS_write, log_fd, at, length);
        if (written <= 0) abort();
        at += written, length -= written;
    }
}

static void record(const char *op, const char *path, const char *argument, const void *bytes, size_t length,
                   long result) {
    char header[2048];
    if (log_fd < 0) return;
    int size = snprintf(header, sizeof header, "%s\t%s\t%s\t%zu\t%ld\n", op, path, argument, length, result);
    put(header, size);
    put(bytes, length);
}

/* 0: the call goes on; 1: it fails undone; 2: it is done and fails. */
static int fails(const char *op, const char *path) {
    if (!armed || fault_count == 0 || strcmp(op, fault_op) || !ends_with(path, fault_ending)) return 0;
    if (fault_count > 1) { fault_count--; return 0; }
    if (!fault_onwards) fault_count = 0;
    return strcmp(fault_form, "persisted") ? 1 : 2;
}

static const char *path_of(int fd) { return fd >= 0 && fd < FDS ? paths[fd] : NULL; }

static int opened(int (*real)(const char *, int, mode_t), const char *path, int flags, mode_t mode) {
    pthread_once(&once, start);
    if (!is_watched(path)) {
        int fd = real(path, flags, mode);
        pthread_mutex_lock(&mutex);
        if (fd >= 0 && fd < FDS) paths[fd] = NULL;
        pthread_mutex_unlock(&mutex);
        return fd;
    }
    pthread_mutex_lock(&mutex);
    int fault = fails("open", path);
    int existed = access(path, F_OK) == 0;
    int fd = fault == 1 ? -1 : real(path, flags, mode);
    if (fd >= 0 && fd < FDS) paths[fd] = strdup(path);
    if (fd >= 0 && !existed) record("create", path, "", "", 0, 0);
    if (fd >= 0 && (flags & O_TRUNC)) record("truncate", path, "0", "", 0, 0);
    if (fault == 2 && fd >= 0) { close(fd); fd = -1; }
    pthread_mutex_unlock(&mutex);
    if (fault) errno = fault_errno;
    return fd;
}

static int real_open(const char *path, int flags, mode_t mode) {
    return syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}
#define MODE() ({ va_list list; va_start(list, flags); mode_t mode = va_arg(list, mode_t); va_end(list); mode; })
int open(const char *path, int flags, ...) { return opened(real_open, path, flags, MODE()); }
int open64(const char *path, int flags, ...) { return opened(real_open, path, flags | O_LARGEFILE, MODE()); }
int openat64(int at, const char *path, int flags, ...) {
    mode_t mode = MODE();
    if (at == AT_FDCWD || path[0] == '/') return opened(real_open, path, flags, mode);
    return syscall(SYS_openat, at, path, flags, mode);
}

static ssize_t written(int fd, const void *bytes, size_t length, off_t offset, int positioned) {
    pthread_once(&once, start);
    if (fd == 1) {
        pthread_mutex_lock(&mutex);
        if (memmem(bytes, length, "ARM", 3)) armed = 1;
        record("print", "", "", bytes, length, length);
        pthread_mutex_unlock(&mutex);
    }
    const char *path = path_of(fd);
    if (!path) {
        return positioned ? syscall(SYS_pwrite64, fd, bytes, length, offset) : syscall(SYS_write, fd, bytes, length);
    }
    pthread_mutex_lock(&mutex);
    if (!positioned) offset = syscall(SYS_lseek, fd, 0, SEEK_CUR);
    int fault = fails("write", path);
    ssize_t result = -1;
    if (fault != 1) {
        result = positioned ? syscall(SYS_pwrite64, fd, bytes, length, offset) : syscall(SYS_write, fd, bytes, length);
        char argument[32];
        snprintf(argument, sizeof argument, "%lld", (long long)offset);
        if (result > 0) record("write", path, argument, bytes, result, result);
    }
    pthread_mutex_unlock(&mutex);
    if (fault) { errno = fault_errno; return -1; }
    return result;
}
ssize_t write(int fd, const void *bytes, size_t length) { return written(fd, bytes, length, 0, 0); }
ssize_t pwrite64(int fd, const void *bytes, size_t length, off_t offset) { return written(fd, bytes, length, offset, 1); }

static void wait_if_slow(const char *path) {
    const char *slow = getenv("SHIM_SLOW");
    char ending[128], only_with[256];
    long milliseconds;
    int words = slow ? sscanf(slow, "%127s %ld %255s", ending, &milliseconds, only_with) : 0;
    if (words < 2 || !ends_with(path, ending)) return;
    if (words == 3 && access(only_with, F_OK) != 0) return;
    struct timespec wait = {milliseconds / 1000, milliseconds % 1000 * 1000000};
    nanosleep(&wait, NULL);
}

static int synced(long call, int fd) {
    pthread_once(&once, start);
    const char *path = path_of(fd), *skip = getenv("SHIM_SKIP");
    if (!path) return syscall(call, fd);
    wait_if_slow(path);
    if (skip && ends_with(path, skip)) return 0;
    pthread_mutex_lock(&mutex);
    int fault = fails("sync", path);
    int result = fault == 1 ? -1 : syscall(call, fd);
    if (fault != 1) record("sync", path, "", "", 0, result);
    pthread_mutex_unlock(&mutex);
    if (fault) { errno = fault_errno; return -1; }
    return result;
}

/* SQLite calls the second, which leaves out only the file's times. */
int fsync(int fd) { return synced(SYS_fsync, fd); }
int fdatasync(int fd) { return synced(SYS_fdatasync, fd); }

int ftruncate64(int fd, off_t length) {
    pthread_once(&once, start);
    const char *path = path_of(fd);
    if (!path) return syscall(SYS_ftruncate, fd, length);
    pthread_mutex_lock(&mutex);
    int fault = fails("truncate", path);
    int result = fault == 1 ? -1 : syscall(SYS_ftruncate, fd, length);
    char argument[32];
    snprintf(argument, sizeof argument, "%lld", (long long)length);
    if (result == 0) record("truncate", path, argument, "", 0, 0);
    pthread_mutex_unlock(&mutex);
    if (fault) { errno = fault_errno; return -1; }
    return result;
}

int rename(const char *from, const char *to) {
    pthread_once(&once, start);
    if (!is_watched(to)) return syscall(SYS_rename, from, to);
    pthread_mutex_lock(&mutex);
    int fault = fails("rename", to);
    int result = fault == 1 ? -1 : syscall(SYS_rename, from, to);
    if (result == 0) record("rename", from, to, "", 0, 0);
    pthread_mutex_unlock(&mutex);
    if (fault) { errno = fault_errno; return -1; }
    return result;
}

int unlink(const char *path) {
    pthread_once(&once, start);
    if (!is_watched(path)) return syscall(SYS_unlink, path);
    pthread_mutex_lock(&mutex);
    int result = syscall(SYS_unlink, path);
    if (result == 0) record("unlink", path, "", "", 0, 0);
    pthread_mutex_unlock(&mutex);
    return result;
}
