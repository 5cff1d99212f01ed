"""For all tests: property tests have no deadline, since a busy machine is not a defect."""

from hypothesis import settings

settings.register_profile("ojai", deadline=None)
settings.load_profile("ojai")
