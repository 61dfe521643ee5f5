"""Settings of CPN: which patches one view hides and another shows alone, the second branch, the losses."""

from wsss_jax.settings import POSITIVE, POSITIVE_SHARE, Section, Setting, one_of

CPN = Section(
    "cpn",
    "CPN",
    patches=Setting("slic", "What is hidden: superpixels or cells of a grid", one_of("slic", "grid")),
    segments=Setting(300, "Superpixels of a crop, about"),
    compactness=Setting(10.0, "Of superpixels"),
    share=Setting(0.5, "Of the superpixels that are drawn, with replacement"),
    cells=Setting((224, 448), "Sides of the grid's cells in pixels, one drawn for each crop"),
    probability=Setting(0.5, "Of each cell to be hidden"),
    branch_width=Setting(1.0, "Multiplier of the second branch's channels; 1: published", POSITIVE),
    hard_share=Setting(0.2, "Of CPCR's errors that count, the largest of all", POSITIVE_SHARE),
)
SECTIONS = (CPN,)
