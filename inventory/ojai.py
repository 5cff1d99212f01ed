# The one mini-PC of the guides. Two lines to edit: its name (or address), and your account on it.
# Every other setting has a default; docs/reference/settings.md lists them.
HOST = "ojai.local"
USER = "ojai"

ojai = [
    (
        HOST,
        {
            "ssh_user": USER,
            "gpu_users": [USER],
        },
    ),
]
