/* A stand-in for libnvidia-ml: one card with known readings; FAKE_NVML chooses what goes wrong. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned int version; unsigned long long total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int pid; unsigned long long used; unsigned int gpu, compute; } process_t;

static int fault(const char *name) {
    const char *chosen = getenv("FAKE_NVML");
    return chosen && !strcmp(chosen, name);
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return fault("no_driver") ? 9 : 0; }
int nvmlInit_v2(void) { return fault("no_driver") ? 9 : 0; }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) {
    return code == 9 ? "Driver Not Loaded" : code == 3 ? "Not Supported" : code == 4 ? "Insufficient Permissions"
         : code == 6 ? "Not Found" : "Unknown Error";
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { strncpy(text, "999.01", length); return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **handle) {
    if (strcmp(uuid, "GPU-11111111-2222-3333-4444-555555555555")) return 6;
    *handle = (void *)0x1; return 0;
}
int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    (void)handle;
    if (fault("not_supported")) return 3;
    memory->total = 1000; memory->used = 700; memory->free = 300; return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned int *count, process_t *found) {
    (void)handle;
    if (fault("no_permission")) return 4;
    if (fault("other_pids")) { if (!*count) { *count = 1; return 7; } found[0].pid = 1; found[0].used = 5; *count = 1; return 0; }
    if (*count < 2) { *count = 2; return 7; } /* insufficient size */
    memset(found, 0, 2 * sizeof(process_t));
    found[0].pid = 1; found[0].used = 5;
    found[1].pid = getpid(); found[1].used = fault("zero") ? 0 : fault("hidden") ? ~0ULL : 600;
    *count = 2; return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(void *handle, unsigned long long *bits) {
    (void)handle;
    if (fault("not_supported")) return 3;
    *bits = fault("hot") ? 0x4 | 0x20 | 0x40 : 0x4; return 0;
}
int nvmlDeviceGetClockInfo(void *handle, int kind, unsigned int *mhz) { (void)handle; *mhz = kind == 1 ? 1500 : 1; return 0; }
int nvmlDeviceGetMaxClockInfo(void *handle, int kind, unsigned int *mhz) { (void)handle; *mhz = kind == 1 ? 1980 : 1; return 0; }
