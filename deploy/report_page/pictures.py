"""The pictures of a report: generated pairs per site and, of mock sites alone, made-up cases.

A picture of a real case must never get into a page that is passed around. `Pictures` refuses to
hold one unless the sites are mock sites, so no caller can forget to ask.
"""

import re
from dataclasses import dataclass
from pathlib import Path

_PNG = b"\x89PNG\r\n\x1a\n"
_SITE_FOLDER = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gallery:
    """What the denoiser draws under one site's prompt; PNG bytes, label outlined.

    Attributes:
        site_id: Whose prompt.
        generated: Drawn pairs.
        real: Training cases beside them; mock sites only.
    """

    site_id: str
    generated: tuple[bytes, ...]
    real: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One held-out case of a mock site: PNG bytes of image, label and prediction."""

    site_id: str
    caption: str
    image: bytes
    label: bytes
    prediction: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """All pictures of one report.

    Raises:
        ValueError: The sites are not mock sites and a case is pictured, or bytes are no PNG.
    """

    galleries: tuple[Gallery, ...] = ()
    examples: tuple[Example, ...] = ()
    sites_are_mock: bool

    def __post_init__(self) -> None:
        """Refuse pictures of real cases."""
        if not self.sites_are_mock and (self.examples or any(g.real for g in self.galleries)):
            raise ValueError("pictures of real cases do not go into a report; show generated ones")
        for png in self._all():
            if not png.startswith(_PNG):
                raise ValueError(f"a picture must be PNG bytes, got {png[:8]!r}")

    def _all(self) -> list[bytes]:
        drawn = [png for g in self.galleries for png in (*g.generated, *g.real)]
        return drawn + [p for e in self.examples for p in (e.image, e.label, e.prediction)]


NO_PICTURES = Pictures(sites_are_mock=False)


def write_pictures(pictures: Pictures, study_dir: Path) -> None:
    """Write `replay/SITE/*.png` and, of mock sites, `examples/SITE/*.png` under `study_dir`."""
    for gallery in pictures.galleries:
        folder = study_dir / "replay" / gallery.site_id
        folder.mkdir(parents=True, exist_ok=True)
        for kind, row in (("generated", gallery.generated), ("real", gallery.real)):
            for number, png in enumerate(row, start=1):
                (folder / f"{kind}-{number:02d}.png").write_bytes(png)
    count: dict[str, int] = {}
    for example in pictures.examples:
        number = count[example.site_id] = count.get(example.site_id, 0) + 1
        folder = study_dir / "examples" / example.site_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:02d}-image.png").write_bytes(example.image)
        (folder / f"{number:02d}-label.png").write_bytes(example.label)
        (folder / f"{number:02d}-prediction.png").write_bytes(example.prediction)
        (folder / f"{number:02d}.txt").write_text(example.caption + "\n", encoding="utf-8")


def read_pictures(study_dir: Path, sites: tuple[str, ...], *, sites_are_mock: bool) -> Pictures:
    """Return what `write_pictures` left under `study_dir`, sites in the order given.

    Pictures of cases are left out unless `sites_are_mock`.
    """
    galleries = []
    examples = []
    for site in sites:
        if not _SITE_FOLDER.fullmatch(site):
            continue
        folder = study_dir / "replay" / site
        generated = _read_row(folder, "generated-*.png")
        real = _read_row(folder, "real-*.png") if sites_are_mock else ()
        if generated or real:
            galleries.append(Gallery(site_id=site, generated=generated, real=real))
        captions = sorted((study_dir / "examples" / site).glob("*.txt")) if sites_are_mock else []
        examples += [_read_example(site, caption) for caption in captions]
    return Pictures(
        galleries=tuple(galleries), examples=tuple(examples), sites_are_mock=sites_are_mock
    )


def _read_row(folder: Path, pattern: str) -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for path in sorted(folder.glob(pattern)))


def _read_example(site: str, caption: Path) -> Example:
    def png(kind: str) -> bytes:
        return caption.with_name(f"{caption.stem}-{kind}.png").read_bytes()

    return Example(
        site_id=site,
        caption=caption.read_text(encoding="utf-8").strip(),
        image=png("image"),
        label=png("label"),
        prediction=png("prediction"),
    )
