"""One module a role: what a part of the machine should be, and how it is taken away again."""
