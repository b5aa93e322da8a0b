"""A COMBINE archive: the SBML of one subject with the simulation that reproduces the run, in one file.

Both are written as the formats say: SED-ML Level 1 Version 3 (the newest that most simulators read), and a
zip file with a manifest. No program but the one that reads them is needed.
"""

from __future__ import annotations

import zipfile
from html import escape
from io import BytesIO

from mscrenal.model import OBSERVABLES
from mscrenal.model.sbml import observable_id

__all__ = ["archive", "sedml_document"]

MODEL_FILE, SIMULATION_FILE = "model.xml", "simulation.sedml"
MANIFEST = """<?xml version="1.0" encoding="UTF-8"?>
<omexManifest xmlns="http://identifiers.org/combine.specifications/omex-manifest">
  <content location="." format="http://identifiers.org/combine.specifications/omex"/>
  <content location="./manifest.xml" format="http://identifiers.org/combine.specifications/omex-manifest"/>
  <content location="./{model}" format="http://identifiers.org/combine.specifications/sbml.level-3.version-2"/>
  <content location="./{simulation}" format="http://identifiers.org/combine.specifications/sed-ml.level-1.version-3" master="true"/>
</omexManifest>
"""
SEDML = """<?xml version="1.0" encoding="UTF-8"?>
<sedML xmlns="http://sed-ml.org/sed-ml/level1/version3" xmlns:sbml="http://www.sbml.org/sbml/level3/version2/core" level="1" version="3">
  <listOfSimulations>
    <uniformTimeCourse id="simulation" name="the whole horizon" initialTime="0" outputStartTime="0" outputEndTime="{end!r}" numberOfPoints="{points}">
      <algorithm kisaoID="KISAO:0000{algorithm}">
        <listOfAlgorithmParameters>
          <algorithmParameter kisaoID="KISAO:0000209" value="{rtol!r}"/>
          <algorithmParameter kisaoID="KISAO:0000211" value="{atol!r}"/>
          <algorithmParameter kisaoID="KISAO:0000415" value="{most_steps}"/>
        </listOfAlgorithmParameters>
      </algorithm>
    </uniformTimeCourse>
  </listOfSimulations>
  <listOfModels>
    <model id="model" name="{title}" language="urn:sedml:language:sbml.level-3.version-2" source="{source}"/>
  </listOfModels>
  <listOfTasks>
    <task id="run" modelReference="model" simulationReference="simulation"/>
  </listOfTasks>
  <listOfDataGenerators>
{generators}
  </listOfDataGenerators>
  <listOfOutputs>
    <report id="observables" name="observables over time">
      <listOfDataSets>
{data_sets}
      </listOfDataSets>
    </report>
  </listOfOutputs>
</sedML>
"""
GENERATOR = """    <dataGenerator id="data_{name}" name="{meaning}">
      <listOfVariables>
        <variable id="value_{name}" taskReference="run" {where}/>
      </listOfVariables>
      <math xmlns="http://www.w3.org/1998/Math/MathML"><ci> value_{name} </ci></math>
    </dataGenerator>"""
DATA_SET = '        <dataSet id="set_{name}" label="{label}" dataReference="data_{name}"/>'
PARAMETER = "/sbml:sbml/sbml:model/sbml:listOfParameters/sbml:parameter[@id='{id}']"
# In the ontology of algorithms. At these tolerances COPASI lies within 1e-6 of the package (tests/test_export.py).
LSODA = 88
RTOL, ATOL, MOST_STEPS = 1e-9, 1e-12, 100_000
MOST_POINTS = 2_000
# Files of the same content are the same to the last byte: the archive says no time of its making.
NO_DATE = (1980, 1, 1, 0, 0, 0)


def sedml_document(duration_days: float, *, title: str, source: str = MODEL_FILE) -> str:
    """SED-ML that simulates an SBML file of `mscrenal.model.sbml` and reports every observable.

    Parameters
    ----------
    duration_days : float
        From time 0 of the file to the horizon; a point a day, at most `MOST_POINTS`.
    title : str
    source : str
        The SBML file, as seen from this one.
    """
    # Months and years are no whole days: as many equal intervals as come near to a day.
    points = max(1, min(round(duration_days), MOST_POINTS))
    said = {"time": ("time, days", 'symbol="urn:sedml:symbol:time"')}
    for o in OBSERVABLES:
        where = escape(PARAMETER.format(id=observable_id(o.name)), quote=False)
        said[o.name] = (f"{o.meaning}, {o.unit}", f'target="{where}"')
    return SEDML.format(
        end=float(duration_days),
        points=points,
        algorithm=f"{LSODA:03d}",
        rtol=RTOL,
        atol=ATOL,
        most_steps=MOST_STEPS,
        title=escape(title),
        source=escape(source),
        generators="\n".join(
            GENERATOR.format(name=n, meaning=escape(meaning), where=where)
            for n, (meaning, where) in said.items()
        ),
        data_sets="\n".join(DATA_SET.format(name=n, label=n) for n in said),
    )


def archive(sbml: str, duration_days: float, *, title: str) -> bytes:
    """The bytes of a COMBINE archive with the model, the simulation and the manifest."""
    files = {
        "manifest.xml": MANIFEST.format(model=MODEL_FILE, simulation=SIMULATION_FILE),
        MODEL_FILE: sbml,
        SIMULATION_FILE: sedml_document(duration_days, title=title),
    }
    held = BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, text in files.items():
            zipped.writestr(zipfile.ZipInfo(name, NO_DATE), text.encode(), compress_type=zipfile.ZIP_DEFLATED)
    return held.getvalue()
