#!/usr/bin/env bash
# Versions:  great-expectations 1.24.1, pandas 3.1.1, CPython 3.11
# Behaviour: pandas 3 stores text in a column of dtype `str`. ExpectColumnValuesToBeOfType with type_="str" holds for such a
#            column, but ExpectColumnValuesToBeInTypeList fails with type_list=["str"] and with ["str", "object"], although
#            the observed value that it reports is `str`. For a column of dtype `object` all three hold. A suite with such a
#            list fails on tables that pandas 3 reads.
# Remedy:    Use ExpectColumnValuesToBeOfType, or check the dtype in an expectation of your own.
# Output:    str column: of type str: True; in the list [str]: False, observed str; in the list [str, object]: False
#            object column: of type str: True; in the list [str]: True; in the list [str, object]: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3.11 -m venv env
env/bin/pip install --quiet --disable-pip-version-check great-expectations==1.24.1 pandas==3.1.1

cat > check_types.py <<'PYTHON'
import great_expectations as gx
import great_expectations.expectations as gxe
import pandas as pd

context = gx.get_context(mode="ephemeral")
context.variables.progress_bars = {"globally": False}
table = pd.DataFrame({"str": ["cat", "dog"], "object": pd.Series(["cat", "dog"], dtype=object)})
assert [str(dtype) for dtype in table.dtypes] == ["str", "object"]
asset = context.data_sources.add_pandas("tables").add_dataframe_asset("animals")
batch = asset.add_batch_definition_whole_dataframe("all").get_batch({"dataframe": table})
for column in table:
    of_type = batch.validate(gxe.ExpectColumnValuesToBeOfType(column=column, type_="str"))
    line = f"{column} column: of type str: {of_type.success}"
    for types in (["str"], ["str", "object"]):
        listed = batch.validate(gxe.ExpectColumnValuesToBeInTypeList(column=column, type_list=types))
        assert not listed.exception_info["raised_exception"]
        line += f"; in the list [{', '.join(types)}]: {listed.success}"
        if not listed.success and types == ["str"]:
            line += f", observed {listed.result['observed_value']}"
    print(line)
PYTHON

GX_ANALYTICS_ENABLED=false env/bin/python -W ignore check_types.py 2> messages.txt | tee seen.txt
diff seen.txt - <<'EXPECTED'
str column: of type str: True; in the list [str]: False, observed str; in the list [str, object]: False
object column: of type str: True; in the list [str]: True; in the list [str, object]: True
EXPECTED
