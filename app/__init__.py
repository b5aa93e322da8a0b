"""The command line and the report: thin faces of the functions in `mscrenal.scenarios`."""
