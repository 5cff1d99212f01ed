"""The machines of fleet.yaml, none of them real: a dry run of the whole deploy with your own data.

Each answers as a bare Ubuntu 24.04 with the GPU that its data names. Where that has memory of its own, it is 64 GiB;
`fake_host(..., gpu_memory="96GiB")` says otherwise.
"""

from pathlib import Path

from ojai.fake import fake_host
from ojai.settings.fleet import load

fake = [fake_host(_name, _data) for _name, _data in load(Path(__file__).with_name("fleet.yaml")).hosts]
