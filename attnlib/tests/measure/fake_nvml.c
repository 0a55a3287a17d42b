/* A stand-in for libnvidia-ml: cards and faults from the profile file that FAKE_NVML names, read at every nvmlInit.
 *
 *   card UUID                       begins a card, in NVML's order; what follows is about it
 *   slice UUID                      begins a MIG slice of the card before
 *   used 700 | reserved 50 | sm 1500 | reasons 4 | power 200000 (mW) | energy 1000 (mJ) | mig 1
 *   grows 500                       mJ that every reading of the energy adds
 *   process self 600                a process and its bytes; none: the driver hides them
 *   fail nvmlX CODE                 the call fails, on every card
 *   from 3 reasons 0x40             from the third nvmlInit of the process on
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long u64;
typedef struct { u64 total, free, used; } memory_t;
typedef struct { unsigned int version; u64 total, reserved, free, used; } memory_v2_t;
typedef struct { unsigned int pid; u64 used; unsigned int gpu, compute; } process_t;
typedef struct { unsigned int version; int sensor, degrees; } temperature_t;
typedef struct {
    char uuid[96];
    int parent;
    u64 used, reserved, sm, reasons, power, energy, grows, mig;
    int processes;
    process_t process[8];
} card_t;

static card_t cards[8];
static struct { char name[96]; int code; } faults[32];
static int n_cards, n_faults, inits;

static u64 *field(card_t *card, const char *name) {
    if (!strcmp(name, "used")) return &card->used;
    if (!strcmp(name, "reserved")) return &card->reserved;
    if (!strcmp(name, "sm")) return &card->sm;
    if (!strcmp(name, "reasons")) return &card->reasons;
    if (!strcmp(name, "power")) return &card->power;
    if (!strcmp(name, "energy")) return &card->energy;
    if (!strcmp(name, "grows")) return &card->grows;
    if (!strcmp(name, "mig")) return &card->mig;
    return NULL;
}

static void one_line(char *line) {
    char name[96], value[96];
    int from, skip;
    if (sscanf(line, "from %d %n", &from, &skip) == 1) { if (inits < from) return; line += skip; }
    if (sscanf(line, "card %95s", value) == 1 || sscanf(line, "slice %95s", value) == 1) {
        card_t *card = &cards[n_cards];
        memset(card, 0, sizeof *card);
        strcpy(card->uuid, value);
        card->parent = line[0] == 's' ? n_cards - 1 : n_cards;
        while (cards[card->parent].parent != card->parent) card->parent--;
        card->sm = 1500; card->power = 200000;
        n_cards++;
    } else if (sscanf(line, "process %95s %95s", name, value) == 2) {
        process_t *process = &cards[n_cards - 1].process[cards[n_cards - 1].processes++];
        process->pid = strcmp(name, "self") ? (unsigned)atoi(name) : (unsigned)getpid();
        process->used = strcmp(value, "none") ? strtoull(value, NULL, 0) : ~0ULL;
    } else if (sscanf(line, "fail %95s %95s", name, value) == 2) {
        strcpy(faults[n_faults].name, name);
        faults[n_faults++].code = atoi(value);
    } else if (sscanf(line, "%95s %95s", name, value) == 2 && n_cards && field(&cards[n_cards - 1], name)) {
        *field(&cards[n_cards - 1], name) = strtoull(value, NULL, 0);
    }
}

static int fault(const char *name) {
    for (int i = 0; i < n_faults; i++) if (!strcmp(faults[i].name, name)) return faults[i].code;
    return 0;
}
#define FAULTY if (fault(__func__)) return fault(__func__)

static int load(void) {
    char line[256];
    FILE *profile = getenv("FAKE_NVML") ? fopen(getenv("FAKE_NVML"), "r") : NULL;
    n_cards = n_faults = 0;
    inits++;
    while (profile && fgets(line, sizeof line, profile)) one_line(line);
    if (profile) fclose(profile);
    return fault("nvmlInit");
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return load(); }
int nvmlShutdown(void) { return 0; }
const char *nvmlErrorString(int code) {
    switch (code) {
        case 3: return "Not Supported"; case 4: return "Insufficient Permissions"; case 6: return "Not Found";
        case 9: return "Driver Not Loaded"; case 15: return "GPU is lost"; case 25: return "Argument Version Mismatch";
        default: return "Unknown Error";
    }
}
int nvmlSystemGetDriverVersion(char *text, unsigned int length) { FAULTY; strncpy(text, "999.01", length); return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, card_t **handle) {
    FAULTY;
    for (int i = 0; i < n_cards; i++) if (!strcmp(uuid, cards[i].uuid)) { *handle = &cards[i]; return 0; }
    return 6;
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(card_t *slice, card_t **handle) { FAULTY; *handle = &cards[slice->parent]; return 0; }
int nvmlDeviceGetMemoryInfo(card_t *card, memory_t *memory) { FAULTY; memory->used = card->used + card->reserved; return 0; }
int nvmlDeviceGetMemoryInfo_v2(card_t *card, memory_v2_t *memory) {
    FAULTY;
    memory->used = card->used; memory->reserved = card->reserved; return 0;
}
int nvmlDeviceGetComputeRunningProcesses_v3(card_t *card, unsigned int *count, process_t *found) {
    FAULTY;
    if (card->processes && *count < (unsigned)card->processes) { *count = card->processes; return 7; }
    memcpy(found, card->process, card->processes * sizeof(process_t));
    *count = card->processes; return 0;
}
int nvmlDeviceGetCurrentClocksEventReasons(card_t *card, u64 *bits) { FAULTY; *bits = card->reasons; return 0; }
int nvmlDeviceGetClockInfo(card_t *card, int kind, unsigned int *mhz) { FAULTY; *mhz = kind == 1 ? card->sm : 2600; return 0; }
int nvmlDeviceGetMaxClockInfo(card_t *card, int kind, unsigned int *mhz) { FAULTY; (void)card; *mhz = kind == 1 ? 1980 : 1; return 0; }
int nvmlDeviceGetTemperature(card_t *card, int sensor, int *degrees) { FAULTY; (void)card; (void)sensor; *degrees = 55; return 0; }
int nvmlDeviceGetTemperatureV(card_t *card, temperature_t *asked) { FAULTY; (void)card; asked->degrees = 55; return 0; }
int nvmlDeviceGetPowerUsage(card_t *card, unsigned int *mw) { FAULTY; *mw = card->power; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(card_t *card, u64 *mj) { FAULTY; *mj = card->energy; card->energy += card->grows; return 0; }
int nvmlDeviceGetMigMode(card_t *card, unsigned int *now, unsigned int *next) { FAULTY; *now = *next = card->mig; return 0; }
