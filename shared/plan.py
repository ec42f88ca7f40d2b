"""The study plan: one TOML file that says what is trained where, in which order and how.

A plan is data. It is validated strictly: an unknown key is an error, so a misspelt setting is never
silently ignored, and nothing in it is ever imported or called. Its digest (over everything but the
`[simulation]` table, which only says where one machine finds the sites' files) is what a site
approves.
"""

import hashlib
import json
import tomllib
from math import prod
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from wardround.shared import plan_faults
from wardround.shared.errors import PlanError
from wardround.shared.plan_absence import Absence
from wardround.shared.plan_audit import Audit
from wardround.shared.plan_method import GROWS_DECODERS, Method
from wardround.shared.plan_override import apply_override
from wardround.shared.plan_privacy import Privacy
from wardround.shared.plan_registration import Registration, expect_registrable
from wardround.shared.plan_release import Release
from wardround.shared.plan_section import Count, Rate, Section, SiteId
from wardround.shared.plan_simulation import Simulation

PER_SITE = "per-site"  # the method whose sites are each judged by a model of their own
MOST_JITTER = 0.5  # samples moved farther show less of what they are of
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_ -]{1,32}$")]
LabelValue = Annotated[int, Field(ge=1, le=255)]


class Task(Section):
    """What is segmented or registered, and on which grid the networks work."""

    kind: Literal["segmentation", "registration"] = Field(
        "segmentation",
        description="segmentation: label each image; registration: bring one onto another",
    )
    dims: Literal["2d", "2.5d", "3d"] = Field(
        "2d", description="2d: slice by slice; 2.5d: a slice with its two neighbours; 3d: volumes"
    )
    channels: Literal[1, 3] = Field(1, description="image channels: 1 grey, 3 RGB")
    classes: Annotated[tuple[ClassName, ...], Field(min_length=1, max_length=16)] = Field(
        description="foreground names in label order: the first is label value 1"
    )
    labels: dict[SiteId, Annotated[dict[ClassName, LabelValue], Field(min_length=1)]] = Field(
        default_factory=dict,
        description="site = { class = its value there }, where a site labels some of the classes "
        "or numbers them otherwise; its other values count as background",
    )
    working_size: tuple[Count, ...] = Field(
        (64, 64), description="every slice (2-D) or volume (3-D) is resampled to this many pixels"
    )
    patch_size: tuple[Count, ...] | None = Field(
        None, description="train and generate crops of this size; whole images when left out"
    )
    normalisation: Literal["percentile", "range"] = Field(
        "percentile",
        description="percentile: 0.5 to 99.5 of each image to [-1, 1]; range: 0..255 to [-1, 1]",
    )

    @property
    def spatial_dims(self) -> int:
        """Return 3 for volumes, else 2."""
        return 3 if self.dims == "3d" else 2

    @property
    def num_images(self) -> int:
        """Return how many images a sample shows: a fixed and a moving one where they register."""
        return 2 if self.kind == "registration" else 1

    @property
    def input_channels(self) -> int:
        """Return how many channels a network sees: 2.5-D stacks three slices."""
        return self.num_images * self.channels * (3 if self.dims == "2.5d" else 1)

    @property
    def drawn_channels(self) -> int:
        """Return how many channels are drawn together: those of the images, and a map a class."""
        return self.input_channels + self.num_images * len(self.classes)

    @property
    def sample_size(self) -> tuple[int, ...]:
        """Return the spatial size of one training sample."""
        return self.patch_size or self.working_size

    def classes_of(self, site_id: str) -> tuple[str, ...]:
        """Return the classes that a site labels, in the order of `classes`."""
        labelled = self.labels.get(site_id, self.classes)
        return tuple(name for name in self.classes if name in labelled)

    @model_validator(mode="after")
    def _labels_fit(self) -> Self:
        for site_id, values in self.labels.items():
            unknown = sorted(values.keys() - set(self.classes))
            if unknown:
                raise ValueError(
                    f"labels.{site_id} names {unknown}, which are not among the classes "
                    f"{list(self.classes)}"
                )
            if len(set(values.values())) != len(values):
                raise ValueError(f"labels.{site_id} gives two classes one value: {values}")
        return self

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        for name in ("working_size", "patch_size"):
            size = getattr(self, name)
            if size is not None and len(size) != self.spatial_dims:
                raise ValueError(
                    f"{name} must have {self.spatial_dims} numbers for dims = '{self.dims}', "
                    f"got {list(size)}"
                )
        if self.patch_size and any(
            p > w for p, w in zip(self.patch_size, self.working_size, strict=True)
        ):
            raise ValueError(
                f"patch_size {list(self.patch_size)} is larger than "
                f"working_size {list(self.working_size)}"
            )
        if any(side % 8 or side < 16 for side in self.sample_size[:2]):
            raise ValueError(
                f"the first two sides of {list(self.sample_size)} must be multiples of 8, "
                f"at least 16"
            )
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must differ from each other, got {list(self.classes)}")
        return self


class Data(Section):
    """How each site divides its cases when it has no split.csv of its own."""

    heldout_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.25, description="share of cases kept for evaluation"
    )
    min_cases: Annotated[int, Field(ge=3)] = Field(
        3, description="a site with fewer cases is refused"
    )


class Augmentation(Section):
    """What is done to segmenter batches of every method alike."""

    flip: bool = Field(True, description="left-right flips, half of the samples")
    intensity: bool = Field(
        False, description="gamma, bias field, noise, blur, brightness, sharpening"
    )
    jitter: Annotated[float, Field(ge=0, le=MOST_JITTER)] = Field(
        0.3,
        description="how far samples are moved, scaled and turned: shares of half a side, of the "
        "size, and radians; what is learnt by heart is then less of one case",
    )


class Segmenter(Section):
    """The segmentation network and its training."""

    features: Annotated[tuple[Count, ...], Field(min_length=2, max_length=6)] = Field(
        (16, 32, 64, 96), description="channels per level"
    )
    steps: Count = Field(200, description="training steps a visit")
    batch_size: Annotated[int, Field(ge=2)] = Field(
        16, description="samples a step, replay included"
    )
    learning_rate: Rate = 4e-3


class Denoiser(Section):
    """The diffusion model that draws image and label map together under a site's prompt."""

    mode: Literal["replay", "distill", "frozen"] = Field(
        "distill",
        description="replay: trains on, half of each batch generated; distill: the previous "
        "denoiser is the teacher on generated samples; frozen: after the first site only the "
        "prompt trains",
    )
    channels: Annotated[tuple[Count, ...], Field(min_length=2, max_length=4)] = Field(
        (64, 128), description="channels per level; multiples of 16"
    )
    fold: Literal[1, 2, 4, 8, 16] = Field(
        4, description="side of the blocks of pixels folded into channels before the network"
    )
    frequencies: Annotated[int, Field(ge=1, le=16)] | None = Field(
        None,
        description="how many frequencies an axis are drawn of each such block, the slowest, for "
        "large images; all pixels where left out",
    )
    prompt_tokens: Annotated[int, Field(ge=1, le=64)] = Field(
        4, description="tokens in a site's prompt"
    )
    prompt_width: Annotated[int, Field(ge=8, le=1024)] = Field(64, description="numbers in a token")
    first_steps: Count = Field(600, description="training steps of the first visit")
    steps: Count = Field(400, description="training steps of each later visit")
    batch_size: Annotated[int, Field(ge=2)] = 8
    learning_rate: Rate = 1e-3
    prompt_learning_rate: Rate = 5e-3
    jitter: Annotated[float, Field(ge=0, le=MOST_JITTER)] = Field(
        0.2,
        description="how far its training samples are moved, scaled and turned, likewise",
    )
    ema_decay: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="running average of weights, which is what travels"
    )
    timesteps: Annotated[int, Field(ge=10, le=4000)] = Field(
        1000, description="length of the cosine noise schedule"
    )
    sampling_steps: Annotated[int, Field(ge=2, le=1000)] = Field(
        8, description="predictions that one draw takes (DPM-Solver++)"
    )

    @model_validator(mode="after")
    def _frequencies_fit(self) -> Self:
        if self.frequencies is not None and self.frequencies > self.fold:
            raise ValueError(
                f"frequencies must not be more than fold = {self.fold}, got {self.frequencies}: a "
                f"block has as many as pixels"
            )
        return self


class Replay(Section):
    """How many pairs are drawn from each earlier site's prompt, and who labels them."""

    samples_per_site: Count = 64
    keep_share: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0,
        description="share of a site's drawn pairs that the segmenter is shown: those whose drawn "
        "label agrees best with who labels them",
    )
    labels: Literal["site", "arriving", "joint"] = Field(
        "site",
        description="site: by the segmenter trained at the pair's site, which travels as the "
        "site's labeller; arriving: by the segmenter that arrives; joint: drawn with the image",
    )


class Compute(Section):
    """What makes two runs bit-equal on one kind of machine."""

    threads: Annotated[int, Field(ge=1, le=256)] = Field(
        1, description="torch threads of each training; segmenter and denoiser train side by side"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        "float32",
        description="of the denoiser's arithmetic; without bfloat16 in the processor, float32",
    )


class StudyPlan(Section):
    """One study: its task, its site sequence, its networks, its method."""

    study_id: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    sites: Annotated[tuple[SiteId, ...], Field(min_length=1, max_length=64)]
    late_sites: bool = Field(
        False, description="whether an operator may add sites that `sites` does not name"
    )
    task: Task
    data: Data = Data()
    augmentation: Augmentation = Augmentation()
    segmenter: Segmenter = Segmenter()
    denoiser: Denoiser = Denoiser()
    replay: Replay = Replay()
    registration: Registration = Registration()
    method: Method = Method()
    compute: Compute = Compute()
    audit: Audit = Audit()
    release: Release = Release()
    privacy: Privacy = Privacy()
    absence: Absence = Absence()
    simulation: Simulation = Simulation()

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        if len(set(self.sites)) != len(self.sites):
            raise ValueError(f"sites must differ from each other, got {list(self.sites)}")
        for key, named in (
            ("absence.sites", set(self.absence.sites)),
            ("task.labels", set(self.task.labels)),
            ("registration.within", set(self.registration.within)),
        ):
            unknown = sorted(named - set(self.sites))
            if unknown and not self.late_sites:
                raise ValueError(
                    f"{key} names {unknown}, which are not among the sites {list(self.sites)}"
                )
        if self.denoiser.sampling_steps > self.denoiser.timesteps:
            raise ValueError(
                f"denoiser.sampling_steps (= {self.denoiser.sampling_steps}) must not be more than "
                f"denoiser.timesteps (= {self.denoiser.timesteps})"
            )
        if self.task.kind == "registration":
            expect_registrable(self)
        if self.privacy.dp:
            self._privacy_holds()
        prompt_bytes = 4 * self.denoiser.prompt_tokens * self.denoiser.prompt_width
        image_bytes = self.task.channels * prod(self.task.working_size)
        images = self.release.prompt_images or max(1, 1024 / image_bytes)  # or the default
        most = images * image_bytes
        if prompt_bytes > most:
            raise ValueError(
                f"a prompt of 4 x prompt_tokens x prompt_width = {prompt_bytes} bytes could hold "
                f"{prompt_bytes / image_bytes:.3g} images of working_size "
                f"{list(self.task.working_size)}; release.prompt_images allows {most:g} bytes"
            )
        if any(width % 16 for width in self.denoiser.channels):
            raise ValueError(
                f"denoiser.channels must be multiples of 16, got {list(self.denoiser.channels)}"
            )
        return self

    def _privacy_holds(self) -> None:
        if self.denoiser.mode != "frozen":
            raise ValueError(
                f"privacy.dp needs denoiser.mode = 'frozen', got '{self.denoiser.mode}': a "
                f"denoiser that trains on would leave without the guarantee that its prompt has"
            )
        if self.method.name == "vae-replay":
            raise ValueError(
                "privacy.dp needs a diffusion model to train prompts for; method.name is "
                "'vae-replay', which has an autoencoder"
            )
        self.privacy.spending(self.denoiser.steps)

    @property
    def trimming_steps(self) -> int:
        """Return how many steps a visit takes at most to trim its decoder; 0 where it does not.

        The full and each narrower width are tried, and the chosen one is trained.
        """
        if self.method.name != GROWS_DECODERS or not self.method.decoder_widths:
            return 0
        return self.segmenter.steps * (2 + len(self.method.decoder_widths))

    def canonical(self) -> bytes:
        """Return the plan without `[simulation]` as canonical JSON: sorted keys, no blanks."""
        content = self.model_dump(mode="json", exclude={"simulation"})
        return json.dumps(
            content, sort_keys=True, separators=(",", ":"), ensure_ascii=False
        ).encode()

    def digest(self) -> str:
        """Return the SHA-256 of `canonical()`, lower-case hex: what a site approves."""
        return hashlib.sha256(self.canonical()).hexdigest()


def load(path: Path, overrides: tuple[str, ...] = ()) -> StudyPlan:
    """Read a plan from a TOML file, with `KEY=VALUE` overrides applied before validation.

    Args:
        path: The study file.
        overrides: Such as ``method.name="finetune"`` or ``seed=3``; the value is TOML, and a bare
            word is taken as a string.

    Raises:
        PlanError: The file cannot be read, is not TOML, or does not describe a valid plan.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PlanError(
            f"study file '{path}' cannot be read: {error.strerror}. Name an existing file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(
            f"study file '{path}' is not valid TOML: {error}. Mend that line."
        ) from error
    for override in overrides:
        apply_override(content, override)
    return parse(content, origin=str(path))


def parse(content: dict[str, Any], *, origin: str) -> StudyPlan:
    """Validate a plan that is already a dictionary.

    Args:
        content: Keys and values as TOML or JSON gives them.
        origin: Where it came from, for the message.

    Raises:
        PlanError: Naming each faulty key, its value and what is allowed.
    """
    return plan_faults.validated(StudyPlan, content, f"plan '{origin}'")
