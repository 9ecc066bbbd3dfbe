/* The executable of the self-contained folder: Python, its modules and their libraries, which runs confpy.
 *
 * It finds the folder from where it lies itself (FOLDER/bin/confpy), also through a symbolic link, and takes modules from
 * FOLDER/lib alone: no variable and no module of the machine changes what is imported, as with "python3 -IS".
 * Called by the name "python" it is that interpreter, by which confpy starts the program of -exec (sys.executable).
 */
#include <Python.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define COMMAND L"import sys\nfrom confpy.__main__ import main\nsys.exit(main())\n"

/* Write the folder in which bin/confpy lies; 0 if it cannot be found. */
static int find_folder(char folder[PATH_MAX])
{
    const char *self = "/proc/self/exe";
    if (access(self, F_OK) != 0) { /* no /proc: the name by which the kernel was asked to execute it */
        self = (const char *)getauxval(AT_EXECFN);
    }
    if (self == NULL || realpath(self, folder) == NULL) {
        return 0;
    }
    for (int i = 0; i < 2; i++) {
        char *slash = strrchr(folder, '/');
        if (slash == NULL) {
            return 0;
        }
        *slash = '\0';
    }
    return 1;
}

/* Set one of the configuration's strings to FOLDER/name. */
static PyStatus set_path(PyConfig *config, wchar_t **setting, const char *folder, const char *name)
{
    char path[PATH_MAX + 32];
    snprintf(path, sizeof(path), "%s%s", folder, name);
    return PyConfig_SetBytesString(config, setting, path);
}

static PyStatus configure(PyConfig *config, const char *folder, int argc, char **argv)
{
    const char *name = strrchr(argv[0], '/');
    int is_python = strcmp(name == NULL ? argv[0] : name + 1, "python") == 0;
    PyPreConfig before;

    PyPreConfig_InitIsolatedConfig(&before);
    before.utf8_mode = 1; /* images rarely have locales */
    PyStatus status = Py_PreInitialize(&before);
    if (PyStatus_Exception(status)) {
        return status;
    }
    PyConfig_InitIsolatedConfig(config);
    config->site_import = 0;
    config->write_bytecode = 0; /* all of it is compiled */
    config->install_signal_handlers = 1;
    config->parse_argv = is_python;
    config->buffered_stdio = 1;
#define TRY(call) status = (call); if (PyStatus_Exception(status)) { return status; }
    TRY(PyConfig_SetBytesArgv(config, argc, argv));
    TRY(set_path(config, &config->executable, folder, "/bin/python"));
    TRY(set_path(config, &config->prefix, folder, ""));
    TRY(set_path(config, &config->exec_prefix, folder, ""));
    TRY(set_path(config, &config->base_prefix, folder, ""));
    TRY(set_path(config, &config->base_exec_prefix, folder, ""));
    TRY(set_path(config, &config->base_executable, folder, "/bin/python"));
    TRY(set_path(config, &config->stdlib_dir, folder, "/lib"));
    config->module_search_paths_set = 1;
    TRY(PyWideStringList_Append(&config->module_search_paths, config->stdlib_dir));
    if (!is_python) {
        TRY(PyConfig_SetString(config, &config->run_command, COMMAND));
    }
#undef TRY
    return status;
}

int main(int argc, char **argv)
{
    char folder[PATH_MAX];
    PyConfig config;

    if (argc < 1 || !find_folder(folder)) {
        fputs("confpy: its own folder is not found: mount /proc, or call it by its path\n", stderr);
        return 1;
    }
    PyStatus status = configure(&config, folder, argc, argv);
    if (!PyStatus_Exception(status)) {
        status = Py_InitializeFromConfig(&config);
    }
    PyConfig_Clear(&config);
    if (PyStatus_Exception(status)) {
        Py_ExitStatusException(status);
    }
    return Py_RunMain();
}
