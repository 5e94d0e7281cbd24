import pytest
from hypothesis import HealthCheck, given, settings
from PIL import Image

from locvlm.data.readers import VisualGenomeReader
from locvlm.data.readers.visual_genome import unique_phrases
from locvlm.errors import ConfigError, DataError
from locvlm.objectives import nameable_instances
from locvlm.types import Box, Instance
from tests.data.readers.fuzz import JSON, broken, read_all, read_or_refuse, write

HERE, NEAR, THERE = Box(0, 0, 10, 10), Box(1, 1, 11, 11), Box(20, 10, 40, 30)
BESIDE, BELOW = Box(20, 0, 30, 10), Box(0, 20, 10, 30)


def region(phrase, x=2, y=3, width=10, height=5):
    return {
        "region_id": 1382,
        "image_id": 1,
        "phrase": phrase,
        "x": x,
        "y": y,
        "width": width,
        "height": height,
    }


def record(id_, *regions):
    return {"id": id_, "regions": list(regions)}


def about(id_, name="VG_100K_2/1.jpg", width=40, height=30):
    url = f"https://cs.stanford.edu/people/rak248/{name}"
    return {"image_id": id_, "url": url, "width": width, "height": height, "coco_id": None}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("visual_genome")
    for name in ("VG_100K", "VG_100K_2"):
        (path / name).mkdir()
        Image.new("RGB", (40, 30)).save(path / name / "1.jpg")
    return path


@pytest.fixture
def read(folder):
    """Reads regions and image data; gives samples by key and the quarantine."""

    def run(records, image_data, **options):
        files = write(folder / "regions.json", records), write(folder / "images.json", image_data)
        return read_all(VisualGenomeReader(*files, str(folder), **options))

    return run


def test_regions_become_instances_with_descriptions(read):
    regions = [region("the clock is green."), region("tall tree", 20, 0, 30, 40)]
    samples, quarantine = read([record(1, *regions)], [about(1)])
    assert samples["1"].instances == (
        Instance("region", Box(2, 3, 12, 8), "clock that is green", unique=True),
        Instance("region", Box(20, 0, 40, 30), "tall tree", unique=True),
    )
    assert samples["1"].extra == {"image": "VG_100K_2/1.jpg"}  # the audit tells leaks by it
    assert (samples["1"].size, len(quarantine)) == ((40, 30), 0)


@pytest.mark.parametrize(
    ("regions", "unique"),
    [
        ([("tree", HERE), ("tree", THERE)], [False, False]),
        ([("tree", HERE), ("Tree", THERE)], [False, False]),
        ([("tree", HERE), ("tall tree", THERE)], [False, True]),
        ([("tree", HERE), ("tall tree", NEAR)], [True, True]),
        ([("tree", HERE), ("tree", NEAR)], [True, True]),
        ([("tree", HERE), ("tree", BESIDE)], [False, False]),
        ([("tree", HERE), ("tree", BELOW)], [False, False]),
        ([("man in red", HERE), ("man in blue", THERE)], [True, True]),
        ([("tree", HERE), ("street", THERE)], [True, True]),
        ([], []),
    ],
)
def test_a_phrase_is_unique_where_it_fits_no_other_place(regions, unique):
    assert unique_phrases(regions) == unique


def test_only_unique_phrases_are_asked_for(read):
    regions = [region("tree"), region("tree", 20, 10), region("red car")]
    samples, _ = read([record(1, *regions)], [about(1)])
    asked = nameable_instances(samples["1"].instances)
    assert [one.description for one in asked] == ["red car"]


def test_images_lie_where_their_address_says(read):
    records = [record(1, region("tree")), record(2, region("tree"))]
    image_data = [about(1), about(2, "VG_100K/1.jpg")]
    samples, _ = read(records, image_data)
    assert list(samples) == ["1", "2"]
    assert not read(records, [about(1, "VG/2.jpg"), about(2, "../1.jpg")])[0]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (region(" "), "record without phrase"),
        (region("."), "phrase without words"),
        (region(None), "record without phrase"),
        (region("x" * 20_000), "phrase is too long"),
        (region("tree", width=0), "box without area"),
        (region("tree", x=41), "box outside its image"),
        (region("tree", x=None), "box without four numbers"),
        (7, "record without phrase"),
    ],
)
def test_a_bad_region_is_set_aside_and_the_others_stay(read, bad, reason):
    samples, quarantine = read([record(1, bad, region("dog"))], [about(1)])
    assert [one.description for one in samples["1"].instances] == ["dog"]
    assert list(quarantine.reasons) == [reason]


@pytest.mark.parametrize(
    ("records", "image_data", "reason"),
    [
        ([record(1)], [], "regions of no image"),
        ([record(2), record(2)], [about(2)], "regions of no image"),
        ([record(1)], [about(1, "VG_100K/9.jpg")], "image file is missing"),
        ([record(1)], [about(1, width=80)], "image size differs"),
        ([{"id": 1}], [about(1)], "record without a list of regions"),
        ([{}], [], "record without id"),
        ([], [about(1) | {"url": None}], "record without url"),
    ],
)
def test_a_bad_image_is_set_aside_and_the_others_stay(read, records, image_data, reason):
    good = 10**6
    samples, quarantine = read([*records, record(good)], [*image_data, about(good)])
    assert str(good) in samples
    assert list(quarantine.reasons) == [reason]


def test_reads_version_1_0_where_images_have_an_id_and_regions_another_name_for_theirs(read):
    old = about(1)
    old["id"] = old.pop("image_id")
    samples, quarantine = read([record(1, region("cat") | {"id": 7, "image": 1})], [old])
    assert [one.description for one in samples["1"].instances] == ["cat"]
    assert len(quarantine) == 0


def test_a_limit_stops_early(read):
    assert list(read([record(1), record(2)], [about(1), about(2)], limit=1)[0]) == ["1"]


def test_refuses_what_is_missing_or_something_else(folder):
    with pytest.raises(ConfigError, match="a file of regions is needed"):
        VisualGenomeReader(None, "b", str(folder))
    with pytest.raises(ConfigError, match="a file about the images is needed"):
        VisualGenomeReader("a", None, str(folder))
    file = write(folder / "x.json", {})
    with pytest.raises(DataError):
        read_all(VisualGenomeReader(file, file, str(folder)))


def good(n):
    return record(10**6 + n, region("dog"), region("tree")), about(10**6 + n)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(broken(list(good(3))))
def test_any_record_may_be_broken_and_the_good_ones_around_it_stay(read, folder, bad):
    bad = bad if isinstance(bad, list) and len(bad) == 2 else [bad, bad]
    records, image_data = zip(good(1), bad, good(2), strict=True)
    samples, _ = read(list(records), list(image_data))
    for n in (1, 2):
        instances = samples[str(10**6 + n)].instances
        assert [one.description for one in instances] == ["dog", "tree"]
    names = {path.name for path in folder.iterdir()}
    assert names <= {"VG_100K", "VG_100K_2", "regions.json", "images.json", "x.json"}


@given(JSON, JSON)
def test_nothing_but_a_data_error_comes_of_any_file(folder, first, second):
    files = write(folder / "regions.json", first), write(folder / "images.json", second)
    read_or_refuse(VisualGenomeReader(*files, str(folder)))
