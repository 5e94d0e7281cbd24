import json

from locvlm.data.audit import Supervision
from locvlm.data.split_audit import Audit, SourceAudit
from locvlm.data.survey import survey
from locvlm.data.verdict import Finding
from locvlm.report.audit_figures import figures


def test_figures_are_json_and_name_leaked_samples(audit):
    found = json.loads(json.dumps(figures(audit, [Finding("bad", "mend it")]), allow_nan=False))
    assert found["warnings"] == [{"what": "bad", "fix": "mend it"}]
    assert found["bad_samples"] == 2
    assert found["leaks"][0]["samples"][0]["key"] == "image 0"
    assert found["tokenized"]["kinds"]["talk"]["tokens"]["p95"] == 95
    source = found["sources"]["data.train.b"]
    assert source["examples"] == {"bad": ["damaged"]}
    assert source["lost_samples"] == ["x"]
    assert found["sources"]["data.train.a"]["categories"] == {"circle": 2}


def test_figures_of_nothing_are_json_too():
    audit = Audit("train", [SourceAudit("a", "a", 1.0, survey([]))], Supervision(()))
    json.dumps(figures(audit, []), allow_nan=False)
