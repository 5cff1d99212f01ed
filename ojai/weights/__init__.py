"""The weights of a model, fetched on the host by the hub's own client.

- `program`: what runs on the host; it knows no other part of ojai;
- `pack`: that program with the client, as one file;
- `errors`: what can go wrong, in words.
"""

#: The oldest Python that the client runs on.
PYTHON = (3, 11)
