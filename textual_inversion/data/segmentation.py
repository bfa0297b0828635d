"""What stands before any background, found by a segmentation model of the package rembg, where that is installed.

The model is an ONNX file of the user's: the one that is named, or the one in rembg's own folder. Nothing is downloaded.
"""

import os
from pathlib import Path

from PIL import Image

from textual_inversion.system import user_files
from textual_inversion.system.errors import SettingsError
from textual_inversion.system.home import home_folder

INSTALL = "pip install rembg onnxruntime"
_MODEL = "u2net"
_LONGEST = 2 << 30  # bytes of a model
_WAY_OUT = "or use --mask_dir, or --mask_from plain_background"


class Segmenter:
    """Finds masks with a model, which is loaded at once.

    Args:
        model: an ONNX file of the U2-Net kind; None: rembg's own, which must be on this machine.

    Raises:
        SettingsError: the package or the model is not there, or cannot be used.
    """

    def __init__(self, model: str | None = None):
        try:
            import onnxruntime
            from rembg.sessions.u2net import U2netSession
        except ImportError as error:
            raise SettingsError(
                f"--mask_from background needs packages that are not installed ({error}): {INSTALL}; {_WAY_OUT}"
            ) from None
        path = _own_model() if model is None else Path(model).expanduser()
        _check(path, is_named=model is not None)

        class Session(U2netSession):
            """It takes the model that is there, and fetches none."""

            @classmethod
            def download_models(cls, *args, **kwargs) -> str:
                return str(path)

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only
        try:
            self._session = Session(_MODEL, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # whatever a runtime raises for a file that is no model
            raise SettingsError(f"{path} is no model that onnxruntime can load ({_first_line(error)})") from error
        self._path = path

    def mask(self, image: Image.Image) -> Image.Image:
        """What stands before the background of an RGB image: mode "L", as large; raises SettingsError."""
        try:
            return self._session.predict(image)[0].convert("L")
        except Exception as error:  # a model for something else
            raise SettingsError(
                f"{self._path} finds no mask: {_first_line(error)}; name another --mask_model"
            ) from error


def _own_model() -> Path:
    """Where rembg keeps its default model: in the folder of today's versions or, where it is there, of earlier ones."""
    own, data, home = os.environ.get("U2NET_HOME"), os.environ.get("XDG_DATA_HOME"), home_folder() or Path()
    today = Path(own or os.environ.get("REMBG_HOME") or (Path(data, "rembg") if data else Path(home, ".rembg")))
    earlier = Path(own or Path(data or home, ".u2net"))
    places = [earlier / f"{_MODEL}.onnx", today / "models" / _MODEL / f"{_MODEL}.onnx"]
    return next((place for place in places if place.expanduser().exists()), places[-1]).expanduser()


def _check(path: Path, *, is_named: bool) -> None:
    """Make sure that a model is there; raises SettingsError."""
    try:
        with user_files.opened(path, _LONGEST):
            return
    except OSError as error:
        reason = error.strerror or str(error)
    if is_named:
        raise SettingsError(f"--mask_model {path} cannot be read ({reason}); name an ONNX file")
    raise SettingsError(
        f"--mask_from background needs a model, and there is no {path}: fetch it with `rembg d {_MODEL}`, name another "
        f"with --mask_model, {_WAY_OUT}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
