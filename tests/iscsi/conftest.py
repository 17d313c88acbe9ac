"""Property tests here are not about speed: no deadline for one example, whatever else the machine does."""

from hypothesis import settings

settings.register_profile("lunette", deadline=None)
settings.load_profile("lunette")
