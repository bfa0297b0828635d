"""The command line of a list of concepts, and what the list may say."""

import json

import pytest
from PIL import Image

from helpers.training_runs import draw_images
from textual_inversion.cli import concept_list, teach
from textual_inversion.system import addresses
from textual_inversion.system.addresses import parsed, stand_for
from textual_inversion.system.errors import SettingsError, TextualInversionError


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("cat toy", "dog", "10_bird"):
        draw_images(tmp_path / "photos" / name, 2)

    def of(*words):
        return teach.prepared(teach.parse(list(words)))

    return of


def table(tmp_path, text):
    (tmp_path / "list.csv").write_text(text)
    return ["--concepts", "list.csv"]


def test_each_folder_is_a_concept(prepared, tmp_path):
    made = prepared("--concepts", "photos", "--max_train_steps", "3")

    (run,) = made.groups
    assert run.tokens == ("<10_bird>", "<cat-toy>", "<dog>") and made.output == tmp_path / "taught"
    assert run.lessons[1].images == str(tmp_path / "photos" / "cat toy")
    assert made.fixed[-2:] == ("--max_train_steps", "3") and made.draws and made.language == "en"
    assert [one.tokens for one in prepared("--concepts", "photos", "--together", "2").groups] == [
        ("<10_bird>", "<cat-toy>"), ("<dog>",)]  # fmt: skip
    assert len(prepared("--concepts", "photos", "--alone", "--no_sheet").groups) == 3


@pytest.fixture
def stored(prepared, tmp_path, monkeypatch):
    """The photos in object storage: each folder of them stands for an address once it is asked for."""
    monkeypatch.setattr(addresses, "_folders", {})

    def read(source, use, parsed):
        path = tmp_path / "photos" if source.name == "photos" else tmp_path / "photos" / source.name
        stand_for(path, source)
        return path

    monkeypatch.setattr("textual_inversion.cli.addresses._read", read)
    return prepared


def test_folders_in_object_storage_are_told_to_every_machine_by_their_address(stored):
    made = stored("--concepts", "s3://bucket/photos", "--max_train_steps", "3")

    (run,) = made.groups
    assert [one.images for one in run.lessons] == [
        "s3://bucket/photos/10_bird", "s3://bucket/photos/cat toy", "s3://bucket/photos/dog"]  # fmt: skip
    assert "s3://bucket/photos/dog" in run.arguments() and made.record["concepts"][2]["images"].startswith("s3://")


def test_a_table_may_name_addresses(stored, tmp_path):
    words = table(tmp_path, "images,word,mask_dir\ns3://bucket/dog,,s3://bucket/masks\nphotos/cat toy,<c>,photos/dog\n")
    lessons = concept_list.read_concepts(words[1])

    assert [(one.token, one.images) for one in lessons] == [
        ("<dog>", "s3://bucket/dog"), ("<c>", str(tmp_path / "photos/cat toy"))]  # fmt: skip
    assert [one.own["mask_dir"] for one in lessons] == ["s3://bucket/masks", str(tmp_path / "photos/dog")]


def test_a_table_in_object_storage_names_what_lies_beside_it(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(addresses, "_folders", {})
    stand_for(tmp_path, parsed("s3://bucket/lists"))
    table(tmp_path, "images,word\nphotos/dog,\n")

    (one,) = concept_list.read_concepts(str(tmp_path / "list.csv"))

    assert (one.token, one.images) == ("<dog>", "s3://bucket/lists/photos/dog")


def test_without_arguments_the_demos_concepts_are_learned(prepared):
    (run,) = prepared().groups

    assert run.tokens == ("<cat-toy>", "<rabbit-toy>", "<toy-style>")
    assert "--learnable_property object object style" in " ".join(run.arguments())


def test_a_table_has_flags_of_each_concept_and_of_its_run(prepared, tmp_path):
    words = table(tmp_path, "images,word,initializer,property,captions,num_vectors,resolution\n"
                            "photos/dog,<d>,dog,object,no,2,64\nphotos/cat toy,<c>,cat,style,no,3,64\n"
                            "photos/10_bird,,bird,,yes,,\n")  # fmt: skip
    made = prepared(*words)

    assert [run.tokens for run in made.groups] == [("<d>", "<c>"), ("<10_bird>",)]
    line = " ".join(made.groups[0].arguments())
    assert "--initializer_token dog cat --learnable_property object style --num_vectors 2 3" in line
    assert "--no_captions=true --resolution=64" in line
    assert "captions" not in " ".join(made.groups[1].arguments())


REFUSED = {
    "word\n<a>\n": "there is no column images",
    "images\n": "has no line below its columns",
    "images,word\n,<a>\n": "line 2: it names no folder of images",
    "images,colour\nphotos/dog,red\n": "colour cannot be a column: it is no flag of the training command",
    "images,output_dir\nphotos/dog,x\n": "output_dir cannot be a column: every run gets a folder of its own",
    "images,placeholder_token\nphotos/dog,x\n": "its column is called word",
    "images,config\nphotos/dog,x\n": "config cannot be a column",
    "images,images\nphotos/dog,x\n": "the column images is there twice",
    "images,word\nphotos/dog,<a>,b\n": "line 2: it has more cells than there are columns",
    'images\n"photos/dog\n': "this is not CSV",
    "images,captions\nphotos/dog,maybe\n": "captions is yes or no, not maybe",
    "images,initializer\nphotos/dog,--x\n": "would be read as a flag",
    "images,word\nphotos/dog,<a>\nphotos/dog,<a>\n": "<a> is there twice",
    "images,word\nphotos/dog,<a>\nphotos/dog,A\n": "would have the same file names",
    "images,word\nphotos/none,<a>\n": "<a> cannot be learned: folder of training images photos/none",
    "images,word\nphotos/dog,a b\n": "a b cannot be learned",
    "images,num_vectors\nphotos/dog,0\n": "<dog> cannot be learned: --num_vectors: must be at least 1",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_list_that_cannot_be_learned_is_refused_before_anything_starts(prepared, tmp_path, text):
    with pytest.raises(SettingsError) as caught:
        prepared(*table(tmp_path, text))
    said = str(caught.value).replace(str(tmp_path) + "/", "").replace("train_data_dir", "folder of training images")
    assert REFUSED[text].replace("folder of training images photos/none", "") in said and "\n" not in said
    assert not (tmp_path / "taught").exists()


def test_a_broken_concept_is_named_and_can_be_left_out(prepared, tmp_path):
    (tmp_path / "photos" / "dog" / "1.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (tmp_path / "photos" / "empty").mkdir()

    with pytest.raises(SettingsError) as caught:
        prepared("--concepts", "photos")
    assert "<dog> cannot be learned (and 1 more)" in str(caught.value) and "--skip_broken" in str(caught.value)

    made = prepared("--concepts", "photos", "--skip_broken")
    assert [one.token for one in made.left_out] == ["<dog>", "<empty>"]
    assert [run.tokens for run in made.groups] == [("<10_bird>", "<cat-toy>")]
    assert made.notes[0].startswith("<dog> is left out: ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--concepts", "none"], "--concepts none cannot be read"),
        (["--concepts", "empty"], "has no folders"),
        (["--concepts", "photos", "--alone", "--together", "2"], "--alone and --together contradict each other"),
        (["--concepts", "photos", "--placeholder_token", "<a>"], "--placeholder_token is what the list says"),
        (["--concepts", "photos", "--train_data_dir=x"], "--train_data_dir is what the list says"),
        (["--concepts", "photos", "--optimizer", "foo"], "invalid choice: 'foo'"),
        (["--resume", "none"], "--resume none holds nothing that could go on (teach.json"),
        (["--resume", "none", "--alone"], "--alone has no effect"),
    ],
)
def test_bad_flags_are_refused_in_one_line(prepared, tmp_path, words, said):
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError) as caught:
        prepared(*words)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_a_list_goes_on_as_it_was_when_it_began(prepared, tmp_path):
    made = prepared("--concepts", "photos", "--together", "2", "--output_dir", "o", "--max_train_steps", "3")
    made.output.mkdir()
    teach.write_record(made)
    (made.output / "concepts.json").write_text(json.dumps(
        {"dog": {"status": "taught", "error": None, "figures": {"seconds": 1.0}}}))  # fmt: skip
    draw_images(tmp_path / "photos" / "new", 2)

    again = prepared("--resume", "o")

    assert again.groups == made.groups and again.fixed == made.fixed and again.record is None
    assert again.known["dog"].status == "taught"
    with pytest.raises(SettingsError, match="holds teach.json of an earlier start"):
        prepared("--concepts", "photos", "--output_dir", "o")


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (lambda r: r["concepts"][0]["own"].update(output_dir="/x"), "holds output_dir, which no list has"),
        (lambda r: r["concepts"][0].update(images="--output_dir"), "holds --output_dir, which no list has"),
        (lambda r: r["concepts"][0].update(token="../x y"), "holds blanks"),
        (lambda r: r.update(concepts=[]), "holds no concept"),
        (lambda r: r.update(training=["--hub_token", "x"]), "--hub_token cannot be given"),
        (lambda r: r.update(folder=3), "folder"),
    ],
)
def test_a_record_that_was_changed_is_refused(prepared, edit, said):
    made = prepared("--concepts", "photos", "--output_dir", "o")
    made.output.mkdir()
    teach.write_record(made)
    record = json.loads((made.output / "teach.json").read_text())
    edit(record)
    (made.output / "teach.json").write_text(json.dumps(record))

    with pytest.raises(TextualInversionError) as caught:
        prepared("--resume", "o")
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_concepts_that_cannot_share_are_learned_alone_and_that_is_said(prepared):
    made = prepared("--concepts", "photos", "--optimizer", "sgd")

    assert len(made.groups) == 3 and "with --optimizer sgd" in made.notes[0]


def test_an_image_is_looked_at_before_anything_starts(tmp_path):
    (tmp_path / "a").mkdir()
    Image.new("RGB", (64, 64)).save(tmp_path / "a" / "x.png")
    (tmp_path / "a" / "x.png").write_bytes((tmp_path / "a" / "x.png").read_bytes()[:60])

    lessons = concept_list.read_concepts(str(tmp_path))
    good, _, broken = concept_list.looked_at(lessons, [])
    assert good == [] and broken[0].token == "<a>" and "x.png" in broken[0].reason
