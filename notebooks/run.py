"""Execute the notebooks and write what they show into them, for those who read them without running them.

    python notebooks/run.py                       both, a minute and a half each on two cores
    python notebooks/run.py textual_inversion_zh.ipynb

A notebook then names the hash of the demo model that its outputs are of, as every figure of the project does.
"""

import argparse
import base64
import io
import os
import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import machine  # noqa: E402

FOLDER = Path(__file__).resolve().parent
NAMES = ("textual_inversion.ipynb", "textual_inversion_zh.ipynb")
WEIGHTS = "demo_model"  # key of a notebook's metadata
MOST_SECONDS = 1800  # of one cell
QUALITY = 80  # of JPEGs


def executed(path: Path, folder: Path) -> nbformat.NotebookNode:
    """The notebook with its outputs.

    Args:
        folder: that it is executed in, as if it lay there.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell failed.
    """
    notebook = nbformat.read(path, as_version=4)
    # Where the environment names a backend that draws into files, no curve would be shown.
    environment = {name: value for name, value in os.environ.items() if name != "MPLBACKEND"}
    client = NotebookClient(notebook, timeout=MOST_SECONDS, resources={"metadata": {"path": str(folder)}})
    client.execute(env=environment)
    return notebook


def settled(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The notebook without what is another on each run and tells readers nothing."""
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({})
        if cell.cell_type == "code":
            cell.outputs = [_small(output) for output in cell.outputs if not _is_noise(output)]
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
            WEIGHTS: machine.weights(),
        }
    )
    return notebook


def _is_noise(output: nbformat.NotebookNode) -> bool:
    """Warnings of packages, and sliders, which need a running kernel; what they show stays."""
    if output.output_type == "stream":
        return output.name == "stderr"
    return any("widget" in kind for kind in output.get("data", {}))


def _small(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An output whose images are JPEGs: a sheet of drawings takes a sixth of its PNG."""
    data = output.get("data", {})
    if "image/png" in data:
        encoded = io.BytesIO()
        image = Image.open(io.BytesIO(base64.b64decode(data.pop("image/png")))).convert("RGB")
        image.save(encoded, "JPEG", quality=QUALITY)
        data["image/jpeg"] = base64.b64encode(encoded.getvalue()).decode("ascii")
        output.metadata = nbformat.from_dict({})
    return output


def main(argv: list[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description="Executes the notebooks and keeps their outputs in them.")
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NOTEBOOK", help="default: all")
    for name in parser.parse_args(argv).names:
        path = FOLDER / Path(name).name
        nbformat.write(settled(executed(path, FOLDER)), path)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
