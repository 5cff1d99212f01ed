"""A single machine, without fleet.yaml: two lines to edit, its name (or address) and your account on it.

Do not call an inventory ojai.py: Python would take it for the package.
"""

HOST = "mini.local"
USER = "ojai"

mini = [(HOST, {"ssh_user": USER, "gpu_users": [USER]})]
