"""Settings of the report."""

from wsss_jax.settings import NOT_NEGATIVE, Section, Setting

REPORT = Section("report", "The report", free=True, images=Setting(24, "Images in the gallery", NOT_NEGATIVE))
SECTIONS = (REPORT,)
