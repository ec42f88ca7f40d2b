"""The table `[method]` of a plan: which continual-learning method, and the settings of each."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from wardround.shared.plan_section import Count, Section, Weight

# Methods with a denoiser (or what stands in its place), and a prompt for each site.
DRAWS_PAIRS = ("vae-replay", "diffusion-replay", "smd", "samcl-generated")
# The method whose networks are one encoder and a decoder for each site.
GROWS_DECODERS = "incremental-decoders"
# Methods that run in a simulation alone.
KEEPS_REAL_CASES = (
    "agem",
    "derpp",
    "exemplar-replay",
    "fish",
    "joint",
    "mer",
    "mldg",
    "sga",
    "samcl",
)
# Methods that hold on to class probabilities, which only a network that segments has.
SAYS_CLASSES = ("incremental-decoders", "ewc", "lwf", "derpp", "sga")


class Method(Section):
    """The continual-learning method and its settings; settings of other methods are left alone."""

    name: Literal[
        "finetune",
        "joint",
        "per-site",
        "incremental-decoders",
        "bigaug",
        "ewc",
        "mas",
        "si",
        "lwf",
        "exemplar-replay",
        "derpp",
        "agem",
        "mer",
        "mldg",
        "fish",
        "sga",
        "vae-replay",
        "diffusion-replay",
        "smd",
        "samcl",
        "samcl-generated",
    ] = "smd"
    alpha: Annotated[float, Field(ge=0, le=1)] = Field(
        0.1, description="length of the look-ahead step"
    )
    orientational: Weight = Field(
        1.0, description="weight of the alignment incoming -> earlier sites"
    )
    arbitrary: Weight = Field(1.0, description="weight of the alignment between groups of sites")
    groups: Literal["opposite", "random"] = Field(
        "opposite",
        description="smd: the groups of that alignment: opposite: the earlier sites, and the "
        "incoming one that judges their step; random: random groups of the sites",
    )
    outer_step: Annotated[float, Field(gt=0, le=1)] = Field(
        0.8,
        description="smd: share of the way from the weights that arrived to those trained that "
        "is gone at the end of a later visit",
    )
    shift: Literal["none", "stack", "amplitude"] | None = Field(
        None,
        description="smd, sga: other look of the samples that the alignment between groups is "
        "judged by: the intensity stack, or slow amplitudes mixed with another site's; none for "
        "smd and stack for sga where left out",
    )
    order: Literal["first", "second", "explicit"] = Field(
        "first",
        description="first, second: look ahead, second derivatives dropped or kept; explicit: no "
        "look-ahead, the inner product of the gradients itself",
    )
    clip: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        10.0, description="norm to which gradients are clipped"
    )
    exemplars: Count = Field(
        5, description="methods that keep exemplars: real cases kept of each earlier site"
    )
    ewc: Weight = Field(1e4, description="ewc: weight of the penalty")
    ewc_decay: Annotated[float, Field(ge=0, le=1)] = Field(
        1.0, description="ewc: share of the Fisher information of earlier sites that is kept"
    )
    mas: Weight = Field(1.0, description="mas: weight of the penalty")
    si: Weight = Field(1.0, description="si: weight of the penalty")
    lwf: Weight = Field(1.0, description="lwf: weight of the distillation")
    derpp: Weight = Field(0.5, description="derpp: weight of the difference from stored logits")
    derpp_labels: Weight = Field(1.0, description="derpp: weight of the loss on stored labels")
    mer_batches: Count = Field(2, description="mer: batches that a step's samples are cut into")
    mer_items: Count = Field(4, description="mer: items of a batch, one inner step each")
    mer_within: Annotated[float, Field(ge=0, le=1)] = Field(
        0.3, description="mer: share of a batch's way that is left when the next one begins"
    )
    mldg: Weight = Field(1.0, description="mldg: weight of the loss on the meta-test sites")
    sga_within: Weight = Field(
        1.0, description="sga: how much cases kept of a site must differ from each other"
    )
    sga_between: Weight = Field(
        1.0, description="sga: how much they must differ from those kept of other sites"
    )
    samcl_rho: Weight = Field(
        0.05, description="samcl: radius within which the worst loss is looked for, by weight"
    )
    samcl_buffer: Count = Field(200, description="samcl: samples that its buffer holds")
    decoder_widths: Annotated[
        tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(max_length=8)
    ] = Field(
        (0.4, 0.25, 0.15),
        description="incremental-decoders: widths to trim a decoder to, shares of the encoder's, "
        "widest first",
    )
    decoder_tolerance: Annotated[float, Field(ge=0, le=1)] = Field(
        0.01, description="incremental-decoders: how much Dice a trimmed decoder may lose"
    )
    decoder_validation: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="incremental-decoders: share of a site's training cases that tells so"
    )
    decoder_distillation: Weight = Field(
        1.0, description="incremental-decoders: weight of the difference from the full decoder"
    )
    decoder_ema: Annotated[float, Field(ge=0, lt=1)] = Field(
        0.99, description="incremental-decoders: running average of weights, which is what travels"
    )

    @model_validator(mode="after")
    def _widths_fall(self) -> Self:
        if list(self.decoder_widths) != sorted(set(self.decoder_widths), reverse=True):
            raise ValueError(
                f"decoder_widths must fall from one to the next, got {list(self.decoder_widths)}"
            )
        return self
