"""Data for every host of every inventory here. A host's own data wins over it."""

# A mini-PC that is just waking up, or has just rebooted, gets a second chance.
ssh_connect_retries = 3
