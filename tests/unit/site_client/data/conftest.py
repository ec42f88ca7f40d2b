"""A small sound site of PNG files, to be spoilt by the tests."""

from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

Writer = Callable[..., Path]


@pytest.fixture
def write_png() -> Writer:
    """Return a function that writes an array as PNG and makes the folder."""

    def write(file: Path, values: np.ndarray) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file, format="PNG")
        return file

    return write


@pytest.fixture
def write_nifti() -> Writer:
    """Return a function that writes an array as NIfTI and makes the folder."""

    def write(file: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
        file.parent.mkdir(parents=True, exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), file)
        return file

    return write


@pytest.fixture
def site(tmp_path: Path, write_png: Writer) -> Path:
    """Return a plain site of four grey 10 x 12 cases named a, b, c, d with labels 0 and 1."""
    folder = tmp_path / "ada"
    for number, name in enumerate("abcd"):
        image = np.arange(120, dtype=np.uint8).reshape(10, 12) + number
        label = np.zeros((10, 12), dtype=np.uint8)
        label[2:6, 3:8] = 1
        write_png(folder / "images" / f"{name}.png", image)
        write_png(folder / "labels" / f"{name}.png", label)
    return folder
