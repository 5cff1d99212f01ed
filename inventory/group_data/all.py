"""Data for every host of every inventory here. A host's own data wins over it, and so does its group's file.

Settings are declared, with their defaults, in ojai/settings/ (docs/reference/settings.md lists them): say here
only what all of *your* machines have in common, such as a mirror.
"""

# A mini-PC that is just waking up, or just rebooted, gets a second chance.
ssh_connect_retries = 3
