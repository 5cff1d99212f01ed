"""The lab's stand-in for the Hugging Face hub: its protocol, and files of safetensors form that hold no model.

It answers what the real client asks (read in `huggingface_hub` 0.36.2 and 2.4.0): `/api/models/…` with commit and
siblings, the tree, and `/MODEL/resolve/REVISION/FILE`. A small file is answered after a redirect on the same address; a
large one after a redirect to a second address, where a token must not follow. Gated models, unknown revisions and
tokens are answered with the hub's own codes and messages.

Known differences from the real hub, on purpose:

- commits and git's own ids of the small files are real, trees and history are not: there is no git;
- Xet, the hub's newer transport, is not there, and no file claims to have it;
- which token may read what is decided by how the token begins (`TOKENS`).

It can be told to misbehave, with `POST /lab/faults` (see `faults`), and counts what it sent: `GET /lab/counts`.
Standard library only.
"""
