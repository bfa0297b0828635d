"""Files as strangers send them: valid ones of every kind, crafted attacks, and a watch that sees code being run."""

import io
import pickle
import struct
import sys
import zipfile
from pathlib import Path

import numpy as np

from helpers.torch_samples import TORCH_FILES
from textual_inversion.formats.paddle_file import pdparams_bytes
from textual_inversion.formats.safetensors_file import safetensors_bytes
from textual_inversion.formats.torch_writer import torch_bytes
from textual_inversion.formats.webui_png import png_bytes

VECTORS = np.arange(8, dtype=np.float32).reshape(2, 4)


def zip_of(*entries: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in entries:
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return buffer.getvalue()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def array(shape: bytes, data: bytes, code: str = "f4") -> bytes:
    """A pickled NumPy array whose shape is given as opcodes."""
    return (
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R(K\x01"
        + shape
        + b"cnumpy\ndtype\n"
        + text(code)
        + b"\x89\x88\x87R\x89B"
        + struct.pack("<I", len(data))
        + data
        + b"tb"
    )


def tensor(size: bytes, stride: bytes, *, length: int = 8, key: str = "0", offset: int = 0) -> bytes:
    """A pickled PyTorch tensor whose size and stride are given as opcodes."""
    storage = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text(key) + text("cpu")
    storage += b"\x8a\x08" + struct.pack("<q", length) + b"tQ"
    place = b"\x8a\x08" + struct.pack("<q", offset)
    return b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + place + size + stride + b"\x89NtR"


def archive(pickled: bytes, *more: tuple[str, bytes]) -> bytes:
    return zip_of(("a/data.pkl", pickled), ("a/byteorder", b"little"), ("a/data/0", VECTORS.tobytes()), *more)


def entry(value: bytes, name: str = "<t>") -> bytes:
    return b"\x80\x02}" + text(name) + value + b"s."


def huge(number: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", number)


def numpy_pickles() -> dict[str, bytes]:
    table = {"<cat>": VECTORS[:1], "<cat>_1": VECTORS[1:], "StructuredToParameterName@@": {"<cat>": "x"}}
    return {f"numpy_protocol_{protocol}": pickle.dumps(table, protocol) for protocol in (2, 3, 4, 5)}


def valid_files() -> dict[str, bytes]:
    """One file of every kind that can be read."""
    written = {
        "pdparams": pdparams_bytes({"<cat>": VECTORS[:1], "<cat>_1": VECTORS[1:]}),
        "pdparams_sdxl": pdparams_bytes({"clip_l": {"<cat>": VECTORS[:1]}, "clip_g": {"<cat>": VECTORS[1:]}}),
        "safetensors": safetensors_bytes({"<cat>": VECTORS}, {"base_model": "sd"}),
        "safetensors_sdxl": safetensors_bytes({"clip_l": VECTORS, "clip_g": VECTORS}, {}),
    }
    readable = {name: TORCH_FILES[name] for name in TORCH_FILES if name not in ("integer_bin", "whole_model_pt")}
    return written | of_other_programs() | numpy_pickles() | readable | webui_images()


def webui_images() -> dict[str, bytes]:
    """An embedding in the text and in the pixels of an image, as AUTOMATIC1111's web UI saves it."""
    content = {"string_to_param": {"*": VECTORS}, "name": "<cat>", "step": 3}
    whole = png_bytes(content, np.full((24, 8, 3), 200, np.uint8))
    text_at, pixels_at = whole.index(b"tEXt") - 4, whole.index(b"IDAT") - 4
    return {"webui_png": whole, "webui_png_of_pixels": whole[:text_at] + whole[pixels_at:]}


def of_other_programs() -> dict[str, bytes]:
    """The layouts of other programs in safetensors and pickles, in every precision."""
    two = {"clip_l": VECTORS, "clip_g": VECTORS}
    return {
        "ppdiffusers": pickle.dumps({"<cat>": VECTORS[0]}, 4),
        "diffusers_safetensors": safetensors_bytes({"<cat>": VECTORS[:1]}, {"format": "pt"}),
        "invoke": safetensors_bytes({"emb_params": VECTORS}, {}),
        "onetrainer": safetensors_bytes({"emp_params": VECTORS, "emp_params_out": VECTORS}, {}),
        "onetrainer_sdxl": safetensors_bytes(two | {"clip_l_out": VECTORS, "clip_g_out": VECTORS}, {}),
        "determined": torch_bytes({"<cat>": {"initializer_strs": "a cat", "learned_embeddings": VECTORS}}),
        "half": pickle.dumps({"<cat>": VECTORS.astype(np.float16)}, 4),
        "bfloat16": _safetensors_of("BF16", (VECTORS.view(np.uint32) >> 16).astype("<u2").tobytes()),
        "half_safetensors": _safetensors_of("F16", VECTORS.astype("<f2").tobytes()),
        "double_safetensors": _safetensors_of("F64", VECTORS.astype("<f8").tobytes()),
    }


def _safetensors_of(kind: str, values: bytes) -> bytes:
    head = f'{{"<cat>":{{"dtype":"{kind}","shape":[2,4],"data_offsets":[0,{len(values)}]}}}}'.encode()
    return struct.pack("<Q", len(head)) + head + values


def attacks_by_global(mark: Path) -> dict[str, tuple[bytes, str]]:
    """Pickles that would run code that creates `mark`, with the name that the refusal must give."""
    command = f"touch {mark}"
    write = f"open({str(mark)!r}, 'w').close()"

    def call(module: str, name: str, argument: str) -> bytes:
        return f"c{module}\n{name}\n".encode() + text(argument) + b"\x85R"

    stack_global = b"\x80\x04\x8c\x02os\x8c\x06system\x93" + text(command) + b"\x85R."
    dotted = b"\x80\x04" + text("builtins") + text("object.__subclasses__") + b"\x93)R."
    dotted_numpy = b"\x80\x04" + text("numpy") + text("ndarray.tofile") + b"\x93" + text(str(mark)) + b"\x85R."
    return {
        "os.system": (b"\x80\x02" + call("os", "system", command) + b".", "os.system"),
        "posix.system": (b"\x80\x02" + call("posix", "system", command) + b".", "posix.system"),
        "text protocol": (b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.", "os.system"),
        "builtins.eval": (b"\x80\x02" + call("builtins", "eval", write) + b".", "builtins.eval"),
        "builtins.exec": (b"\x80\x03" + call("__builtin__", "exec", write) + b".", "__builtin__.exec"),
        "getattr": (b"\x80\x02cbuiltins\ngetattr\n", "builtins.getattr"),
        "stack global": (stack_global, "os.system"),
        "dotted global": (dotted, "builtins.object.__subclasses__"),
        "dotted numpy": (dotted_numpy, "numpy.ndarray.tofile"),
        "instance": (b"(S'" + command.encode() + b"'\nios\nsystem\n.", "os.system"),
        "old object": (b"(cos\nsystem\n" + text(command) + b"o.", "os.system"),
        "new object": (b"\x80\x02csubprocess\nPopen\n" + text(command) + b"\x85\x81.", "subprocess.Popen"),
        "nested reduce": (entry(array(b"(" + call("os", "system", command) + b"t", b"")), "os.system"),
        "after a valid array": (
            entry(array(b"(K\x01t", b"1234"))[:-1] + call("os", "system", command) + b".",
            "os.system",
        ),
        "paddle's eval": (b"\x80\x02c__builtin__\neval\n", "__builtin__.eval"),
        "torch's nested load": (
            b"\x80\x02ctorch.storage\n_load_from_bytes\nC\x01a\x85R.",
            "torch.storage._load_from_bytes",
        ),
        "numpy.load": (b"\x80\x02" + call("numpy", "load", "x.npy") + b".", "numpy.load"),
        "runpy": (b"\x80\x02" + call("runpy", "run_path", "x.py") + b".", "runpy.run_path"),
        "archive": (archive(entry(call("os", "system", command))), "os.system"),
        "terminal escape": (b"\x80\x02cos\x1b[31m\nsystem\n.", "os\N{REPLACEMENT CHARACTER}[31m.system"),
    }  # fmt: skip


def attacks_by_structure() -> dict[str, tuple[bytes, str]]:
    """Files that misuse the format itself, with the name of the error that must come."""
    doubled = b"](h%ch%ceq%c0"  # a list that holds the one before it twice; 2 ** 60 elements for who counts them
    lists = b"]q\x000" + b"".join(doubled % (i, i, i + 1) for i in range(60)) + b"h\x3c"
    tuples = b")q\x000" + b"".join(b"h%ch%c\x86q%c0" % (i, i, i + 1) for i in range(60)) + b"h\x3c"
    elements = b"(" + b"J\xff\xff\xff\x7f" * 4 + b"t"
    bomb = zip_of(("a/data.pkl", b"\x80\x02}."), ("a/data/0", bytes(1 << 22)), compression=zipfile.ZIP_DEFLATED)
    twice = zip_of(("a/data.pkl", b"\x80\x02}."), ("b/data.pkl", b"\x80\x02}."))
    header = b'{"a":{"dtype":"F32","shape":[1000000000,1000],"data_offsets":[0,4]}}'
    gap = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}'
    one = b'"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    overlap, twin = b"{" + one + b"," + one.replace(b"a", b"b", 1) + b"}", b"{" + one + b"," + one + b"}"

    def safetensors(head: bytes, values: bytes = bytes(4)) -> bytes:
        return struct.pack("<Q", len(head)) + head + values

    return {
        "extension 1": (b"\x80\x02\x82\x01.", "RefusedFile"),
        "extension 2": (b"\x80\x02\x83\x01\x01.", "RefusedFile"),
        "extension 4": (b"\x80\x02\x84\x01\x00\x00\x00.", "RefusedFile"),
        "persistent id": (entry(text("x") + b"Q"), "RefusedFile"),
        "persistent line": (b"\x80\x02Phttp://x\n.", "RefusedFile"),
        "persistent id in an archive": (archive(entry(text("x") + b"Q")), "RefusedFile"),
        "persistent id of a type": (
            archive(entry(b"(" + text("storage") + b"cnumpy\ndtype\n" + text("0") + text("cpu") + b"K\x08tQ")),
            "RefusedFile",
        ),
        "out-of-band buffer": (b"\x80\x05\x97.", "RefusedFile"),
        "call of text": (b"\x80\x02" + text("x") + b")R.", "RefusedFile"),
        "call of an array": (entry(array(b"(K\x01t", b"1234") + b")R"), "RefusedFile"),
        "call of a type": (b"\x80\x02cnumpy\nndarray\n)R.", "RefusedFile"),
        "state of a list": (b"\x80\x02]}b.", "RefusedFile"),
        "state of a builder": (b"\x80\x02cnumpy\ndtype\n}" + text("build") + b"NsbN.", "RefusedFile"),
        "keyword arguments": (b"\x80\x04cnumpy\ndtype\n)}" + text("a") + b"Ns\x92.", "RefusedFile"),
        "array of objects": (entry(array(b"(K\x01t", b"12345678", "O8")), "WrongValues"),
        "array of records": (entry(array(b"(K\x01t", b"12345678", "V8")), "WrongValues"),
        "tuple as a key": (b"\x80\x02})" + b"Ns.", "RefusedFile"),
        "exponential key": (b"\x80\x02}" + tuples + b"Ns.", "RefusedFile"),
        "colliding keys": (b"\x80\x02}\x8a\x09" + (2**61 - 1).to_bytes(9, "little") + b"Ns.", "RefusedFile"),
        "billion laughs of lists": (b"\x80\x02" + lists + b".", "NotAnEmbedding"),
        "billion laughs of tuples": (b"\x80\x02" + tuples + b".", "NotAnEmbedding"),
        "billion laughs as vectors": (entry(lists), "NotAnEmbedding"),
        "billion laughs as parameters": (
            b"\x80\x02}" + text("string_to_param") + b"}" + text("*") + tuples + b"ss.",
            "NotAnEmbedding",
        ),
        "deep nesting": (b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b".", "NotAnEmbedding"),
        "list within itself": (b"\x80\x02]q\x00h\x00a.", "NotAnEmbedding"),
        "too many steps": (b"\x80\x02" + b"]0" * 600_000 + b"N.", "AsksTooMuch"),
        "memo bomb": (b"\x80\x02Nr\xff\xff\xff\xff.", "NotAnEmbedding"),
        "text memo bomb": (b"Np99999999999999999999\n.", "NotAnEmbedding"),
        "unknown memo": (b"\x80\x02j\xff\xff\xff\xff.", "BrokenFile"),
        "huge bytes": (b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b".", "BrokenFile"),
        "huge text": (b"\x80\x04\x8d" + struct.pack("<Q", 2**40) + b".", "BrokenFile"),
        "huge bytearray": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "BrokenFile"),
        "huge frame": (b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N.", "BrokenFile"),
        "huge integer": (b"\x80\x02\x8b" + struct.pack("<i", 2**31 - 1) + b".", "BrokenFile"),
        "integer of many digits": (b"\x80\x02L" + b"9" * 900 + b"L\n.", "BrokenFile"),
        "protocol of the future": (b"\x80\x09N.", "BrokenFile"),
        "no opcode": (b"\x80\x02\xfe.", "BrokenFile"),
        "nothing on the stack": (b"\x80\x02.", "BrokenFile"),
        "mark as a value": (b"\x80\x02(.", "BrokenFile"),
        "broken UTF-8": (b"\x80\x02X\x02\x00\x00\x00\xff\xfe.", "BrokenFile"),
        "huge array": (entry(array(elements, b"1234")), "BrokenFile"),
        "many dimensions": (entry(array(b"(" + b"K\x01" * 5000 + b"t", b"1234")), "BrokenFile"),
        "negative dimension": (entry(array(b"(J\xff\xff\xff\xfft", b"1234")), "BrokenFile"),
        "empty but wide": (entry(array(b"(K\x00" + huge(2**47) * 2 + b"t", b"")), "BrokenFile"),
        "huge tensor": (archive(entry(tensor(b"(" + huge(2**40) + b"t", b"(K\x01t"))), "BrokenFile"),
        "tensor of stride zero": (
            archive(entry(tensor(b"(" + huge(2**30) + b"K\x04t", b"(K\x00K\x01t"))),
            "BrokenFile",
        ),
        "tensor beyond its values": (archive(entry(tensor(b"(K\x02K\x04t", b"(K\x04K\x01t", offset=1))), "BrokenFile"),
        "tensor before its values": (archive(entry(tensor(b"(K\x01K\x04t", b"(K\x04K\x01t", offset=-4))), "BrokenFile"),
        "tensor of a huge storage": (archive(entry(tensor(b"(K\x04t", b"(K\x01t", length=2**40))), "BrokenFile"),
        "tensor of an absent storage": (archive(entry(tensor(b"(K\x04t", b"(K\x01t", key="7"))), "BrokenFile"),
        "path as a storage key": (
            archive(entry(tensor(b"(K\x04t", b"(K\x01t", key="../../../etc/passwd"))),
            "BrokenFile",
        ),
        "zip bomb": (bomb, "RefusedFile"),
        "zip without a pickle": (zip_of(("../../escape.txt", b"x")), "NotAnEmbedding"),
        "zip with two pickles": (twice, "NotAnEmbedding"),
        "zip without an end": (archive(b"\x80\x02}.")[:-30], "BrokenFile"),
        "empty zip": (zip_of(), "NotAnEmbedding"),
        "huge safetensors shape": (safetensors(header), "BrokenFile"),
        "safetensors with a gap": (safetensors(gap, bytes(8)), "BrokenFile"),
        "safetensors that overlap": (safetensors(overlap), "BrokenFile"),
        "safetensors name twice": (safetensors(twin), "BrokenFile"),
        "safetensors with a tail": (
            safetensors(b"{" + one + b"}", bytes(9)),
            "BrokenFile",
        ),
        "safetensors nested header": (safetensors(b'{"a":' + b"[" * 100_000), "BrokenFile"),
        "safetensors of 8-bit floats": (
            safetensors(b'{"a":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}}'),
            "WrongValues",
        ),
        "empty file": (b"", "BrokenFile"),
    }  # fmt: skip


class ExecutionWatch:
    """Records what only running code can cause: an import, a process, compiled code, a changed file, a connection.

    Python cannot remove an audit hook, so one hook serves all and records only while a watch is active.
    """

    FORBIDDEN = ("import", "exec", "compile", "pickle.find_class", "os.system", "os.exec", "os.posix_spawn", "os.fork",
                 "subprocess.Popen", "os.remove", "os.rename", "os.mkdir", "os.chmod", "socket.connect",
                 "ctypes.dlopen", "shutil.rmtree", "marshal.loads", "code.__new__")  # fmt: skip
    active: "ExecutionWatch | None" = None
    hooked = False

    def __init__(self) -> None:
        self.seen: list[str] = []

    def __enter__(self) -> "ExecutionWatch":
        if not ExecutionWatch.hooked:
            sys.addaudithook(ExecutionWatch._hook)
            ExecutionWatch.hooked = True
        ExecutionWatch.active = self
        return self

    def __exit__(self, *_: object) -> None:
        ExecutionWatch.active = None

    @staticmethod
    def _hook(event: str, args: tuple) -> None:
        watch = ExecutionWatch.active
        if watch is None:
            return
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if event in ExecutionWatch.FORBIDDEN or writes:
            watch.seen.append(f"{event} {str(args[:1])[:80]}")
