"""`ojai` for a container of the lab, without what preflight asks of a GPU (contained_deploy.py)."""

from ojai.cli import run
from ojai.preflight import gpu
from ojai.preflight import host as judged

judged.AREAS = tuple(area for area in judged.AREAS if area is not gpu)
run()
