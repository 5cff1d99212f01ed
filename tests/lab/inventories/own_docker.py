"""The lab's hosts, with Docker from an archive of its own: what is different is in ``OJAI_OWN_DOCKER``, as JSON."""

import json
import os
import runpy

_HOSTS = runpy.run_path("inventory/lab.py")["lab"]

lab = [(_name, {**_data, **json.loads(os.environ["OJAI_OWN_DOCKER"])}) for _name, _data in _HOSTS]
