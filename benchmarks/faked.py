"""OJAI_BENCH_FAKED hosts that do not exist, for a dry run."""

import os

from ojai.fake import fake_host

faked = [fake_host(f"mini-{number:03}", {}) for number in range(int(os.environ["OJAI_BENCH_FAKED"]))]
