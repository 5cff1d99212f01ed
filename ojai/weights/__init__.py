"""The weights of a model, fetched on the host by the hub's own client.

- `program`: what fetches on the host; it knows no other part of ojai;
- `pull`: what has Docker pull an image there, and tells how far it is;
- `pack`: these programs with the client, as one file;
- `errors`: what can go wrong, in words.
"""

#: The oldest Python that the client runs on.
PYTHON = (3, 11)

#: The programs on the host, in one file.
CLIENT = "/var/lib/ojai/hub-client.pyz"
