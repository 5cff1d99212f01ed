"""A real machine to try the deploy on: a virtual machine, stand-ins for the outside, a stand-in model server."""
