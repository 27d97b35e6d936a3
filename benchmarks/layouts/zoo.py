"""The layouts of the zoo by name."""

from benchmarks.layouts.damaged_layouts import DAMAGED
from benchmarks.layouts.document_layouts import DOCUMENTS
from benchmarks.layouts.export_layouts import EXPORTS
from benchmarks.layouts.industry_layouts import INDUSTRY
from benchmarks.layouts.layout_answers import Layout
from benchmarks.layouts.medical_layouts import MEDICAL
from benchmarks.layouts.microscopy_layouts import MICROSCOPY
from benchmarks.layouts.nature_layouts import NATURE
from benchmarks.layouts.satellite_layouts import SATELLITES
from benchmarks.layouts.table_layouts import TABLES
from benchmarks.layouts.video_layouts import VIDEO

ZOO: dict[str, Layout] = (
    MEDICAL | NATURE | INDUSTRY | SATELLITES | DOCUMENTS | MICROSCOPY | VIDEO | EXPORTS | TABLES | DAMAGED
)
