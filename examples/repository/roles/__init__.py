"""Your own roles, a module each: what should be on the machine, and beside it how that is removed."""
