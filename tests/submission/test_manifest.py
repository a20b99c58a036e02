"""The manifest: writing is canonical, reading accepts exactly what is written."""

import json
from dataclasses import replace

import pytest

from facesr.errors import SubmissionError
from facesr.guard import Fallback, GuardRecord, Replaced
from facesr.methods.record import parse_restoration, restoration_bytes
from facesr.snapshots.interpolation_parts import InterpolationParts
from facesr.submission.manifest import is_team, manifest_bytes, max_manifest_bytes, parse_manifest


def test_round_trip(bench):
    data = manifest_bytes(bench.manifest)
    assert parse_manifest(data, "m") == bench.manifest
    assert manifest_bytes(parse_manifest(data, "m")) == data
    record = restoration_bytes(bench.manifest.restoration)
    assert parse_restoration(record, "r") == bench.manifest.restoration
    assert bench.manifest.ids == ("301", "302", "303")


def test_equal_manifests_give_equal_bytes(bench):
    record = bench.record()
    shuffled = {key: record[key] for key in sorted(record, reverse=True)}
    shuffled["files"] = dict(sorted(record["files"].items(), reverse=True))
    assert manifest_bytes(parse_manifest(json.dumps(shuffled).encode(), "m")) == manifest_bytes(bench.manifest)


def test_a_restoration_is_no_manifest(bench):
    with pytest.raises(SubmissionError, match="format 'facesr-restoration-1'"):
        parse_manifest(restoration_bytes(bench.manifest.restoration), "m")


BLEND = {"weights_sha256": ["1" * 64, "2" * 64], "config_sha256": ["3" * 64, ""], "weight": 0.25}
WRONG = [
    ({"format": "facesr-submission-3"}, "format 'facesr-submission-3' where 'facesr-submission-1' or"),
    ({"blend": BLEND}, "unknown key 'blend'"),
    ({"format": "facesr-submission-2", "extra": 1}, "unknown key 'extra'"),
    ({"format": 1}, "format none"),
    ({"team": ""}, "'team'"),
    ({"team": 7}, "'team'"),
    ({"team": "a\u202eb"}, "'team'"),
    ({"protocol": "a\nb"}, "'protocol'"),
    ({"protocol": "\ud800"}, "'protocol'"),
    ({"model": "x" * 201}, "'model'"),
    ({"device": "<script>"}, "'device'"),
    ({"weights_sha256": "A" * 64}, "'weights_sha256'"),
    ({"low_sha256": ""}, "'low_sha256'"),
    ({"seconds": "1"}, "'seconds'"),
    ({"seconds": True}, "'seconds'"),
    ({"seconds": -1}, "'seconds'"),
    ({"seconds": 10**400}, "'seconds'"),
    ({"energy_joules": []}, "'energy_joules'"),
    ({"flip_ensemble": 1}, "'flip_ensemble'"),
    ({"dirty": "no"}, "'dirty'"),
    ({"commit": "HEAD"}, "'commit'"),
    ({"loss_judges": "builtin"}, "'loss_judges'"),
    ({"loss_judges": [None]}, "'loss_judges'"),
    ({"packages": {"torch": 2}}, "'packages'"),
    ({"files": {}}, "'files'"),
    ({"files": []}, "'files'"),
    ({"files": {"../301.png": "a" * 64}}, "'files'"),
    ({"files": {"301.jpg": "a" * 64}}, "'files'"),
    ({"files": {"301.png": "a" * 63}}, "'files'"),
    ({"files": {"301.png": None}}, "'files'"),
    ({"extra": 1}, "unknown key 'extra'"),
    ({"attachments": {"model/a.json": "a" * 64}}, "unknown key 'attachments'"),
]


@pytest.mark.parametrize(("changes", "word"), WRONG, ids=[str(number) for number in range(len(WRONG))])
def test_wrong_values(bench, changes, word):
    with pytest.raises(SubmissionError) as caught:
        parse_manifest(json.dumps(bench.record(**changes)).encode(), "manifest.json of x.zip")
    assert word in str(caught.value) and str(caught.value).isprintable()


WRONG_ATTACHMENTS = [
    *(None, [], {}, "model/a.json", {"model/a.json": 1}, {"model/a.json": "A" * 64}, {"a.json": "a" * 64}),
    *(
        {f"{name}": "a" * 64}
        for name in ("model/", "HR_images/a.json", "model/../a.json", "/model/a.json", "script/a ")
    ),
]


@pytest.mark.parametrize("value", WRONG_ATTACHMENTS, ids=range(len(WRONG_ATTACHMENTS)))
def test_wrong_attachments(foldered, value):
    with pytest.raises(SubmissionError, match="wrong kind for 'attachments'"):
        parse_manifest(json.dumps(foldered.record(attachments=value)).encode(), "m", has_attachments=True)


def test_attachments_are_there_exactly_where_there_are_folders(foldered):
    data = json.dumps(foldered.record()).encode()
    manifest = parse_manifest(data, "m", has_attachments=True)
    assert parse_manifest(manifest_bytes(manifest), "m", has_attachments=True) == manifest
    assert sorted(manifest.attachments) == sorted(foldered.attachments)
    with pytest.raises(SubmissionError, match="unknown key 'attachments'"):
        parse_manifest(data, "m")
    with pytest.raises(SubmissionError, match="lacks the key 'attachments'"):
        parse_manifest(manifest_bytes(replace(manifest, attachments=None)), "m", has_attachments=True)


def test_the_longest_names_fit_the_limit(foldered):
    """Names of 200 bytes whose letters take six characters each in ASCII JSON."""
    names = [f"script/{number:03d}{chr(0xE9) * 95}" for number in range(1000)]
    pictures = [f"{number:04d}{'x' * 192}.png" for number in range(100)]
    record = replace(foldered.manifest.restoration, files=dict.fromkeys(pictures, "a" * 64))
    data = manifest_bytes(replace(foldered.manifest, restoration=record, attachments=dict.fromkeys(names, "a" * 64)))
    assert len(data) < max_manifest_bytes(100, 1000)
    assert len(parse_manifest(data, "m", has_attachments=True).attachments or {}) == 1000


def test_missing_key(bench):
    record = bench.record()
    del record["device"]
    with pytest.raises(SubmissionError, match="lacks the key 'device'"):
        parse_manifest(json.dumps(record).encode(), "m")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (b"", "not valid JSON"),
        (b"[]", "no JSON object"),
        (b"null", "no JSON object"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b"\xef\xbb\xbf{}", "format none"),
        (b'{"format": "a", "format": "b"}', "'format' comes twice"),
        (b'{"seconds": NaN}', "NaN is no number"),
        (b'{"seconds": -Infinity}', "-Infinity is no number"),
        (b'{"seconds": ' + b"9" * 5000 + b"}", r"not valid JSON \(it holds a number of 5000 digits\); pack"),
        (b'{"seconds": -' + b"9" * 50_000 + b"}", r"not valid JSON \(it holds a number of 50000 digits\); pack"),
        (b'{"seconds": 0.' + b"9" * 50_000 + b"}", "format none"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 50 + b"1" + b"}" * 50, "format none"),
        (b"{} {}", "not valid JSON"),
    ],
    ids=range(14),
)
def test_odd_json(data, word):
    with pytest.raises(SubmissionError, match=word):
        parse_manifest(data, "m")


def test_repeated_keys_are_named_whole():
    pairs = ", ".join(f'"{letter * 60}": 1' for letter in "abab")
    with pytest.raises(SubmissionError, match=f"\\(the key '{'a' * 60}' comes twice\\); pack"):
        parse_manifest(f"{{{pairs}}}".encode(), "m")


def of_a_blend(bench, **changes):
    """Returns the record of an interpolation whose digests follow from its parts, with changes."""
    parts = InterpolationParts(tuple(BLEND["weights_sha256"]), tuple(BLEND["config_sha256"]), BLEND["weight"])
    digests = {"weights_sha256": parts.interpolated_weights_sha256, "config_sha256": parts.interpolated_config_sha256}
    return bench.record(**{"format": "facesr-submission-2", "blend": BLEND, **digests, **changes})


def test_a_blend_states_its_parts(bench):
    manifest = parse_manifest(json.dumps(of_a_blend(bench)).encode(), "m")
    assert manifest.restoration.blend == InterpolationParts(("1" * 64, "2" * 64), ("3" * 64, ""), 0.25)
    assert parse_manifest(manifest_bytes(manifest), "m") == manifest
    assert b'"format": "facesr-submission-2"' in manifest_bytes(manifest)
    record = restoration_bytes(manifest.restoration)
    assert b'"format": "facesr-restoration-2"' in record
    assert parse_restoration(record, "r") == manifest.restoration


@pytest.mark.parametrize(
    "changes",
    [
        {"weights_sha256": "a" * 64},
        {"config_sha256": "a" * 64},
        {"blend": {**BLEND, "weight": 0.26}},
        {"blend": {**BLEND, "weights_sha256": ["2" * 64, "1" * 64]}},
        {"blend": {**BLEND, "config_sha256": ["3" * 64, "3" * 64]}},
    ],
)
def test_a_blend_whose_digests_do_not_follow(bench, changes):
    with pytest.raises(SubmissionError, match="does not follow from the parts and the weight of its interpolation"):
        parse_manifest(json.dumps(of_a_blend(bench, **changes)).encode(), "m")


@pytest.mark.parametrize(
    "blend",
    [
        *(None, [], {}, {**BLEND, "more": 1}, {**BLEND, "weight": 1.5}, {**BLEND, "weight": True}),
        *({**BLEND, "weight": "0.25"}, {**BLEND, "weights_sha256": ["1" * 64]}, {**BLEND, "weights_sha256": "1" * 64}),
        *({**BLEND, "weights_sha256": ["1" * 64, ""]}, {**BLEND, "config_sha256": ["x", ""]}),
    ],
    ids=range(11),
)
def test_odd_blends(bench, blend):
    with pytest.raises(SubmissionError, match="wrong kind for 'blend'"):
        parse_manifest(json.dumps(of_a_blend(bench, blend=blend)).encode(), "m")


def test_infinite_seconds_written_as_a_large_number(bench):
    text = json.dumps(bench.record()).replace('"seconds": 0.5', '"seconds": 1e999')
    with pytest.raises(SubmissionError, match="'seconds'"):
        parse_manifest(text.encode(), "m")


def test_repeated_keys_inside(bench):
    text = json.dumps(bench.record()).replace('"301.png"', '"302.png"')
    with pytest.raises(SubmissionError, match=r"'302\.png' comes twice"):
        parse_manifest(text.encode(), "m")


@pytest.mark.parametrize("team", ["A", "Team 1", "thu-scc_2.0", "\u6e05\u534e\u5927\u5b66", "\u00c9quipe", "x" * 64])
def test_good_teams(team):
    assert is_team(team)


@pytest.mark.parametrize(
    "team",
    ["", " ", " a", "a ", "-a", ".a", "a/b", "a\\b", "<b>a</b>", "a\nb", "a\tb", "x" * 65, "E\u0301", "a\u200bb"],
)
def test_bad_teams(team):
    assert not is_team(team)


@pytest.mark.parametrize("number", [0x034F, 0x1160, 0x17B4, 0x180B, 0x180F, 0x3164, 0xFE0F, 0xFFA0, 0xE0101])
def test_nothing_of_a_team_is_unseen(number):
    assert not is_team(f"Al{chr(number)}pha") and not is_team(f"Alpha{chr(number)}") and not is_team(chr(number))


# How large the network is


def test_the_number_of_parameters_round_trip(bench):
    stated = replace(bench.manifest, restoration=replace(bench.manifest.restoration, num_parameters=1_544_000))
    data = manifest_bytes(stated)
    assert json.loads(data)["format"] == "facesr-submission-2" and json.loads(data)["num_parameters"] == 1_544_000
    assert parse_manifest(data, "m") == stated
    assert b"num_parameters" not in manifest_bytes(bench.manifest)
    assert parse_manifest(manifest_bytes(bench.manifest), "m").restoration.num_parameters is None


@pytest.mark.parametrize("value", [0, -1, 1.5, True, "1", None, 10**12 + 1, [1]])
def test_wrong_numbers_of_parameters(bench, value):
    record = {**bench.record(), "format": "facesr-submission-2", "num_parameters": value}
    with pytest.raises(SubmissionError, match="'num_parameters'"):
        parse_manifest(json.dumps(record).encode(), "m")


# What the guard did


@pytest.fixture
def guarded(bench):
    """The honest manifest of a guarded snapshot, one picture replaced."""
    record = GuardRecord(True, 43.6, (Fallback("bicubic", ""),), {"302.png": Replaced(33.8125, "bicubic")})
    return replace(bench.manifest, restoration=replace(bench.manifest.restoration, guard=record))


def test_the_guard_round_trip(guarded):
    data = manifest_bytes(guarded)
    assert parse_manifest(data, "m") == guarded and manifest_bytes(parse_manifest(data, "m")) == data
    assert json.loads(data)["guard"]["replaced"] == {"302.png": {"consistency_db": 33.8125, "restored_by": "bicubic"}}
    for state in (GuardRecord(True), GuardRecord(False)):
        other = replace(guarded, restoration=replace(guarded.restoration, guard=state))
        assert parse_manifest(manifest_bytes(other), "m") == other


WRONG_GUARDS = [
    {"on": 1},
    {"on": False},
    {"bound_db": None},
    {"bound_db": 100.5},
    {"bound_db": -1},
    {"bound_db": "43"},
    {"fallbacks": []},
    {"fallbacks": [{"name": "<b>", "weights_sha256": ""}]},
    {"fallbacks": [{"name": "bicubic", "weights_sha256": "x"}]},
    {"fallbacks": [{"name": "bicubic", "weights_sha256": ""}] * 9},
    {"fallbacks": [{"name": "bicubic"}]},
    {"replaced": []},
    {"replaced": {"302.png": 33.8}},
    {"replaced": {"302.png": {"consistency_db": 50, "restored_by": "bicubic"}}},
    {"replaced": {"302.png": {"consistency_db": True, "restored_by": "bicubic"}}},
    {"replaced": {"302.png": {"consistency_db": 30, "restored_by": "nearest"}}},
    {"replaced": {"302.png": {"consistency_db": 30, "restored_by": ["bicubic"]}}},
    {"extra": 1},
]


@pytest.mark.parametrize("change", WRONG_GUARDS, ids=[str(number) for number in range(len(WRONG_GUARDS))])
def test_wrong_guards(guarded, change):
    record = json.loads(manifest_bytes(guarded))
    with pytest.raises(SubmissionError, match="'guard'"):
        parse_manifest(json.dumps({**record, "guard": {**record["guard"], **change}}).encode(), "m")


def test_a_guard_names_only_pictures_of_the_archive(guarded):
    record = json.loads(manifest_bytes(guarded))
    record["guard"]["replaced"]["\x1b[2J.png"] = record["guard"]["replaced"]["302.png"]
    with pytest.raises(SubmissionError, match=r"replaced .*none of its files") as caught:
        parse_manifest(json.dumps(record).encode(), "m")
    assert str(caught.value).isprintable()


def test_a_manifest_whose_guard_replaced_everything_is_small_enough(guarded):
    names = [f"{i:06}{chr(0x1F600) * 47}.png" for i in range(600)]
    files = dict.fromkeys(names, "a" * 64)
    fallbacks = (Fallback("pretrained:asc19_psnr", "b" * 64), Fallback("bicubic", ""))
    guard = GuardRecord(True, 43.6, fallbacks, dict.fromkeys(names, Replaced(33.8125, "pretrained:asc19_psnr")))
    manifest = replace(guarded, restoration=replace(guarded.restoration, files=files, guard=guard))
    assert len(manifest_bytes(manifest)) <= max_manifest_bytes(600)
