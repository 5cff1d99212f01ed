"""The command line of ojai: one module a command, each exporting ``command``."""
