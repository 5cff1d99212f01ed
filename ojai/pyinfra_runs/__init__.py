"""Everything that starts pyinfra, or pytest over its inventory, as a process of its own."""
