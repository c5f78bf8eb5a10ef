/* A PKCS#11 module that forwards to another and fails where a control file says so: one line, the
 * name of a function and the code it answers, or "hang". MODULE, CONTROL and LOG are paths. */

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long word;

/* CK_FUNCTION_LIST: a version and then pointers, in the order of the standard. */
struct list {
    unsigned char version[2];
    word (*function[68])();
};

static struct list *real;
static struct list ours;

/* Whether the control file names this function, and what it is to answer. */
static int told(const char *name, word *code)
{
    char function[64], answer[64];
    FILE *control = fopen(CONTROL, "r");
    if (!control)
        return 0;
    int fields = fscanf(control, "%63s %63s", function, answer);
    fclose(control);
    if (fields != 2 || strcmp(function, name) != 0)
        return 0;
    *code = strcmp(answer, "hang") == 0 ? 0 : strtoul(answer, NULL, 0);
    return 1;
}

static void note(const char *name)
{
    FILE *log = fopen(LOG, "a");
    if (log) {
        fprintf(log, "%s\n", name);
        fclose(log);
    }
}

static int fails(const char *name, word *code)
{
    while (told(name, code)) {
        if (*code != 0)
            return 1;
        usleep(1000);
    }
    return 0;
}

#define FORWARD(index, name, parameters, arguments, logged) \
    static word name parameters                             \
    {                                                       \
        word code;                                          \
        if (logged)                                         \
            note(#name);                                    \
        if (fails(#name, &code))                            \
            return code;                                    \
        return real->function[index] arguments;             \
    }

FORWARD(0, C_Initialize, (word a), (a), 1)
FORWARD(1, C_Finalize, (word a), (a), 1)
FORWARD(4, C_GetSlotList, (word a, word b, word c), (a, b, c), 0)
FORWARD(6, C_GetTokenInfo, (word a, word b), (a, b), 0)
FORWARD(12, C_OpenSession, (word a, word b, word c, word d, word e), (a, b, c, d, e), 1)
FORWARD(18, C_Login, (word a, word b, word c, word d), (a, b, c, d), 1)
FORWARD(26, C_FindObjectsInit, (word a, word b, word c), (a, b, c), 0)
FORWARD(33, C_DecryptInit, (word a, word b, word c), (a, b, c), 0)
FORWARD(34, C_Decrypt, (word a, word b, word c, word d, word e), (a, b, c, d, e), 0)
FORWARD(42, C_SignInit, (word a, word b, word c), (a, b, c), 0)
FORWARD(43, C_Sign, (word a, word b, word c, word d, word e), (a, b, c, d, e), 1)

word C_GetFunctionList(struct list **list)
{
    void *module = dlopen(MODULE, RTLD_NOW);
    word (*get)(struct list **) = module ? dlsym(module, "C_GetFunctionList") : NULL;
    if (!get || get(&real) != 0)
        return 5; /* CKR_GENERAL_ERROR */
    ours = *real;
    ours.function[0] = C_Initialize;
    ours.function[1] = C_Finalize;
    ours.function[4] = C_GetSlotList;
    ours.function[6] = C_GetTokenInfo;
    ours.function[12] = C_OpenSession;
    ours.function[18] = C_Login;
    ours.function[26] = C_FindObjectsInit;
    ours.function[33] = C_DecryptInit;
    ours.function[34] = C_Decrypt;
    ours.function[42] = C_SignInit;
    ours.function[43] = C_Sign;
    *list = &ours;
    return 0;
}
