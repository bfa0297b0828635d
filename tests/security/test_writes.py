"""Everything is written through `system/atomic.py` and `system/links.py`: a look for code that goes around them."""

import ast

import pytest

from helpers.paths import ROOT

# Module -> calls that it may make, and why.
ALLOWED = {
    "system/atomic.py": {"*"},
    "system/temporary_files.py": {"unlink", "rmtree"},  # of files and folders that `atomic` has made
    "system/links.py": {"*"},
    "system/output_lock.py": {"unlink"},  # of the lock that it holds
    "system/output_folder.py": {"mkdir"},  # the folder that the user names
    "data/latent_files.py": {"mkdir"},  # the folder that the user names
    "system/journal.py": {"open", "unlink"},  # of a file that it has made new
    "cluster/pool.py": {"mkdtemp", "rmtree"},  # a new folder of this process alone, for Ray's sockets and logs
    "system/home.py": {"mkdir", "mkdtemp"},  # folders of libraries in the user's own home, or a new one
    "system/written_files.py": {"open", "unlink", "link", "touch"},  # temporary files that `atomic` has made
    "models/weight_files.py": {"open"},  # a temporary file that `atomic` has made
    "models/single_file/convert.py": {"open", "mkdir"},  # inside a folder that `atomic` is filling
    "models/single_file/vae.py": {"open"},  # the same
    "models/tokenizers.py": {"TemporaryDirectory"},  # a new folder of this process alone
    "evaluation/leave_one_out_measuring.py": {"TemporaryDirectory"},  # likewise
    "verify.py": {"TemporaryDirectory"},  # likewise
    "training/artifacts.py": {"mkdtemp"},  # likewise
    "storage/mirror.py": {"mkdir"},  # a folder among the user's caches that only the user may enter
    "studio/children.py": {"open"},  # the file that `atomic` has just made, without following a link
    "system/log_files.py": {
        "open",
        "LogWriter",
        "SummaryWriter",
    },  # `atomic`'s temporary file; names never used before
}
WRITERS = set(
    """write_text write_bytes mkdir makedirs unlink remove rmdir removedirs rmtree rename renames symlink
    symlink_to link hardlink_to copy copy2 copyfile copytree move touch truncate mkdtemp mkstemp
    TemporaryDirectory NamedTemporaryFile TemporaryFile LogWriter SummaryWriter mkfifo mknod chmod savez
    savetxt save_pretrained""".split()
)
# Names that are imported without the module that they come from.
PLAIN = {"open", "mkdtemp", "mkstemp", "TemporaryDirectory", "NamedTemporaryFile", "TemporaryFile", "LogWriter",
         "SummaryWriter", "rmtree", "copyfile", "copytree"}  # fmt: skip
# Methods of these names that write no file: of lists, dictionaries, tensors, copies in memory.
HARMLESS = {"copy", "remove", "truncate", "move", "link"}
FILES = [*sorted((ROOT / "textual_inversion").rglob("*.py")), *(ROOT / name for name in
         ("train_textual_inversion.py", "infer.py", "score.py", "convert.py", "compare.py", "verify.py", "sweep.py",
          "teach.py"))]  # fmt: skip
NULL = "os.devnull"


def writes(source: str) -> list[tuple[str, int]]:
    """(call, line) of each call in a module that can write, make, rename or remove a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        owner = ast.unparse(function.value) if isinstance(function, ast.Attribute) else ""
        if owner == "atomic" or (not owner and name not in PLAIN):
            continue  # a function of `atomic`, or one of ours that has the name of a method of files
        if name in WRITERS and (name not in HARMLESS or owner in ("os", "shutil")):
            found.append((name, node.lineno))
        if name == "replace" and (owner == "os" or (len(node.args) == 1 and not node.keywords)):
            found.append((name, node.lineno))
        if name == "open" and owner != "Image" and opens_for_writing(node, owner):
            found.append((name, node.lineno))
    return found


def opens_for_writing(call: ast.Call, owner: str) -> bool:
    if owner == "os":
        return NULL not in ast.unparse(call) and any(
            word in ast.unparse(call) for word in ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "access")
        )
    position = 0 if owner not in ("", "io", "codecs", "gzip") else 1
    modes = [keyword.value for keyword in call.keywords if keyword.arg == "mode"] + call.args[position : position + 1]
    return any(not isinstance(mode, ast.Constant) or set("wax+") & set(str(mode.value)) for mode in modes)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_nothing_is_written_around_the_functions_that_follow_no_link(path):
    inside = path.relative_to(ROOT / "textual_inversion").as_posix() if "textual_inversion" in path.parts else path.name
    allowed = ALLOWED.get(inside, set())

    strange = [call for call in writes(path.read_text("utf-8")) if not {"*", call[0]} & allowed]

    assert not strange, f"{inside}: write through textual_inversion.system.atomic, not {strange}"


@pytest.mark.parametrize(
    "code",
    ["open(p, 'w')", "open(p, mode='ab')", "p.open('x')", "open(p, how)", "p.write_text('')", "os.open(p, os.O_CREAT)",
     "os.remove(p)", "p.unlink()", "shutil.rmtree(p)", "shutil.copy(p, q)", "os.replace(p, q)", "p.replace(q)",
     "p.symlink_to(q)", "os.link(p, q)", "tempfile.mkdtemp()", "os.makedirs(p)", "io.open(p, 'r+')"],
)  # fmt: skip
def test_the_look_finds_what_writes(code):
    assert writes(code)


@pytest.mark.parametrize(
    "code", ["open(p)", "open(p, 'rb')", "p.open()", "items.remove(x)", "d.copy()", "s.replace('a', 'b')",
             "os.open(os.devnull, os.O_WRONLY)", "os.open(p, os.O_RDONLY)", "Image.open(p)"]
)  # fmt: skip
def test_the_look_passes_what_reads(code):
    assert not writes(code)
