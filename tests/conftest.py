"""Settings that every test needs before paddle is imported."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from textual_inversion.runtime import prepare_environment  # noqa: E402

prepare_environment()
