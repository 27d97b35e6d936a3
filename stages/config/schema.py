"""Root of the params schema; type, unit, range and default of every key are in the modules `schema_*`."""

from stages.config.schema_base import Section
from stages.config.schema_data import Audit, Checks, Gate, Ingest, Prepare, Split
from stages.config.schema_export import Benchmark, Export
from stages.config.schema_search import Tune
from stages.config.schema_task import Evaluate, Objective, Representation, Task
from stages.config.schema_training import Augment, Network, Tracking, Train


class Params(Section):
    """All params. `ingest.name` and `ingest.source` are required; every other key has a default."""

    task: Task = Task()
    representation: Representation = Representation()
    objective: Objective = Objective()
    ingest: Ingest
    split: Split = Split()
    checks: Checks = Checks()
    audit: Audit = Audit()
    gate: Gate = Gate()
    prepare: Prepare = Prepare()
    augment: Augment = Augment()
    network: Network = Network()
    train: Train = Train()
    tracking: Tracking = Tracking()
    tune: Tune = Tune()
    evaluate: Evaluate = Evaluate()
    export: Export = Export()
    benchmark: Benchmark = Benchmark()
