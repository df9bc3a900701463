/* LD_PRELOAD: every file that is opened to write below the directory that DISK_SHIM names lets its
   writer wait for ever: a disk that hangs. With DISK_SHIM_OPENS=1
   even opening one waits. The writer sees a pipe that nobody reads. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int hangs(const char *path) {
  const char *directory = getenv("DISK_SHIM");
  return path && directory && !strncmp(path, directory, strlen(directory));
}

static int full_pipe(void) {
  static const char bytes[4096];
  int ends[2];
  if (getenv("DISK_SHIM_OPENS"))
    for (;;) pause();
  if (pipe(ends)) return -1;
  fcntl(ends[1], F_SETPIPE_SZ, (int)sizeof bytes);
  if (write(ends[1], bytes, sizeof bytes) < 0) return -1;
  return ends[1];
}

#define OPEN(name)                                                    \
  int name(const char *path, int flags, ...) {                        \
    static int (*real)(const char *, int, ...);                       \
    va_list rest;                                                     \
    int mode = 0;                                                     \
    if (flags & O_CREAT) {                                            \
      va_start(rest, flags);                                          \
      mode = va_arg(rest, int);                                       \
      va_end(rest);                                                   \
    }                                                                 \
    if (!real) real = dlsym(RTLD_NEXT, #name);                        \
    if ((flags & O_ACCMODE) && hangs(path)) return full_pipe();       \
    return real(path, flags, mode);                                   \
  }
OPEN(open)
OPEN(open64)

#define FOPEN(name)                                                   \
  FILE *name(const char *path, const char *mode) {                    \
    static FILE *(*real)(const char *, const char *);                 \
    if (!real) real = dlsym(RTLD_NEXT, #name);                        \
    if (*mode != 'r' && hangs(path)) return fdopen(full_pipe(), "w"); \
    return real(path, mode);                                          \
  }
FOPEN(fopen)
FOPEN(fopen64)
